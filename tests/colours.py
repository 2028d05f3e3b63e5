"""A task that a tiny network learns in a moment: which colour a picture of 8 x 8 pixels has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeinfer.dataset import Dataset

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("red", "green", "blue", "dark")
_COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.int64)


def pictures(count: int, seed: int = 4, noise: int = 120) -> tuple[Any, Any]:
    """Pictures of one colour each, in turn, with noise: (n, 8, 8, 3) uint8 and their classes (n,) int64."""
    classes = np.arange(count) % len(NAMES)
    plain = np.broadcast_to(_COLOURS[classes][:, None, None, :], (count, 8, 8, 3))
    spread = np.random.default_rng(seed).integers(-noise, noise + 1, plain.shape)
    return np.clip(plain + spread, 0, 255).astype(np.uint8), classes


def labelled(count: int, seed: int = 4) -> Dataset:
    """The same as a data set."""
    return Dataset(f"colours {seed}", *pictures(count, seed))


def floats(count: int, seed: int = 4) -> Any:
    """The pictures as the model takes them, 0..255: (n, 8, 8, 3) float32."""
    return pictures(count, seed)[0].astype(np.float32)


def network(keras: Any, channels: int = 16, seed: int = 3) -> Any:
    """A residual network that has learnt nothing yet: pixels 0..255 in, a softmax over the colours out."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    patch = keras.Input((8, 8, 3), name="patch")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(patch)
    stem = layers.Conv2D(channels, 3, padding="same", use_bias=False, name="stem")(scaled)
    stem = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(stem))
    branch = layers.Conv2D(channels, 3, padding="same", use_bias=False, name="one")(stem)
    branch = layers.ReLU(name="one_relu")(layers.BatchNormalization(name="one_norm")(branch))
    branch = layers.Conv2D(channels, 3, padding="same", use_bias=False, name="two")(branch)
    branch = layers.BatchNormalization(name="two_norm")(branch)
    merged = layers.ReLU(name="end_relu")(layers.Add(name="join")([stem, branch]))
    pooled = layers.GlobalAveragePooling2D(name="pool")(merged)
    return keras.Model(patch, layers.Dense(len(NAMES), activation="softmax", name="colour")(pooled), name="colours")


def trained(keras: Any, path: Path) -> Path:
    """Train it on 200 pictures, save it, and return where."""
    model = network(keras)
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    x, y = pictures(200)
    model.fit(x.astype(np.float32), y, epochs=6, batch_size=32, verbose=0)
    model.save(path)
    return path


def weights_of(keras: Any, path: Path) -> list[Any]:
    """The weights of a saved model, in its own order."""
    return keras.models.load_model(path, compile=False).get_weights()  # type: ignore[no-any-return]
