"""Small Keras models on disk, made once, and one converter process that the tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import colours
import numpy as np
import pytest

if TYPE_CHECKING:
    from converters.tflite.process import ConverterProcess


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras 3 in this process: for the reference only, the code under test has its own in the child."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    return pytest.importorskip("keras")


@pytest.fixture(scope="session")
def small_models(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of small models: "rescaled" (16, 16, 3), "residual" (8, 8, 3), "two_inputs" (8, 8, 1) and (4,)."""
    folder = tmp_path_factory.mktemp("models")
    layers = keras.layers
    keras.utils.set_random_seed(7)
    rescaled = keras.Sequential(
        [
            keras.Input((16, 16, 3), name="photo"),
            layers.Rescaling(1 / 127.5, offset=-1.0, name="to_range"),
            layers.Conv2D(4, 3, activation="relu", name="stem"),
            layers.DepthwiseConv2D(3),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(5, activation="softmax", name="kinds"),
        ],
        name="small",
    )
    inputs = keras.Input((8, 8, 3), name="patch")
    first = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    second = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(first))
    merged = layers.ReLU()(layers.Add()([first, second]))
    residual = keras.Model(inputs, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(merged)))
    # The names stand against the alphabet on purpose: sorting them would swap the inputs.
    picture, numbers = keras.Input((8, 8, 1), name="zebra"), keras.Input((4,), name="ant")
    joined = layers.Concatenate()([layers.Flatten()(layers.Conv2D(2, 3)(picture)), numbers])
    two = keras.Model([picture, numbers], [layers.Dense(3, name="zeta")(joined), layers.Dense(2, name="alpha")(joined)])
    paths = {}
    for name, model in (("rescaled", rescaled), ("residual", residual), ("two_inputs", two)):
        paths[name] = folder / f"{name}.keras"
        model.save(paths[name])
    return paths


@pytest.fixture(scope="session")
def converter() -> Iterator[ConverterProcess]:
    """A converter that is running. A test that lets it end must start its own."""
    from converters.tflite.process import ConverterProcess

    with ConverterProcess(timeout=240.0) as process:
        yield process


@pytest.fixture
def pixels(tmp_path: Path) -> Path:
    """Twelve random pictures for the model "rescaled": (12, 16, 16, 3) uint8, with both ends of the range."""
    array = np.random.default_rng(3).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    array[0, 0, 0, 0], array[0, 0, 0, 1] = 0, 255
    np.save(tmp_path / "pixels.npy", array)
    return tmp_path / "pixels.npy"


@pytest.fixture(scope="session")
def colour_model(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of `colours`, trained: it is right on every picture of that task."""
    return colours.trained(keras, tmp_path_factory.mktemp("colours") / "colours.keras")


@pytest.fixture
def shared_child(converter: ConverterProcess, monkeypatch: pytest.MonkeyPatch) -> ConverterProcess:
    """Let `convert()` use the converter that is running: a new one takes its time to load TensorFlow."""

    class Shared:
        def __enter__(self) -> ConverterProcess:
            return converter

        def __exit__(self, *error: object) -> None:
            pass

    # By name it would be the function: the package exports one of the same name.
    monkeypatch.setattr(import_module("converters.convert"), "ConverterProcess", Shared)
    return converter
