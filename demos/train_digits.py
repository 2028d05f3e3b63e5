"""A real model for the demo: a small Keras network, trained on scikit-learn's 1797 handwritten digits (offline)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np


def train_digits(folder: Path) -> None:
    """Train for a few seconds; write `digits.keras`, `digits-calibration.npz` and `digits-validation.npz`.

    The pictures are 8x8 grey levels of 0..16, stretched to 0..255. 898 train (200 of them calibrate), 899 judge.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.uint8)[..., None]
    order = np.random.default_rng(0).permutation(len(pixels))
    train, judge = order[:898], order[898:]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )
    model.compile(keras.optimizers.Adam(3e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pixels[train], digits.target[train], epochs=25, batch_size=32, verbose=0)
    model.save(folder / "digits.keras")
    np.savez(folder / "digits-calibration.npz", x=pixels[train[:200]])
    np.savez(folder / "digits-validation.npz", x=pixels[judge], y=digits.target[judge])


if __name__ == "__main__":
    train_digits(Path(sys.argv[1]))
