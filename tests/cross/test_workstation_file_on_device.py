"""The file that the workstation's environment wrote answers in the device's environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

COLOURS = {"red": (250, 20, 10), "green": (15, 240, 30), "blue": (5, 25, 245)}


@pytest.fixture(scope="module")
def device_python() -> str:
    python = os.environ.get("EDGEINFER_DEVICE_PYTHON")
    if not python or not Path(python).exists():
        pytest.skip("EDGEINFER_DEVICE_PYTHON names no interpreter of a device's environment")
    return python


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Noisy pictures whose strongest channel is known."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    paths = {}
    for name, colour in COLOURS.items():
        noise = random.integers(-30, 31, (48, 64, 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        paths[name] = folder / f"{name}.png"
        Image.fromarray(pixels).save(paths[name])
    return paths


@pytest.fixture(scope="module", params=["int8", "uint8", "float32"])
def tflite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, Path]) -> Path:
    """A model whose answer can be said by hand: the mean of each channel, ten times apart, then softmax."""
    import keras

    from converters import Card, Quantize, Recipe, Verify, convert

    inputs = keras.Input((16, 16, 3))
    values = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    values = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU(max_value=6.0)(values))
    dense = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(inputs, dense(values), name="strongest")
    dense.set_weights([10 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32)])
    recipe = Recipe((Quantize("int8", io=request.param), Verify()), target="raspberrypi-tflite")
    result = convert(model, pictures["red"].parent, recipe=recipe, card=Card(labels=tuple(COLOURS)))
    path = tmp_path_factory.mktemp("cross") / f"strongest-{request.param}.tflite"
    result.save(path)
    return path


def on_device(python: str, *arguments: str | Path) -> str:
    line = [python, "-m", "edgeinfer", *map(str, arguments), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_device_has_no_tensorflow_and_no_litert(device_python: str) -> None:
    checks = json.loads(on_device(device_python, "doctor"))["checks"]
    engine = next(check for check in checks if check["name"] == "engine")
    if "litert" in engine["found"]:
        pytest.skip("this Python has no tflite-runtime: the device environment took LiteRT")
    assert engine["found"].startswith("tflite-runtime 2.14.0")
    assert "tensorflow" not in engine["found"]


def test_the_device_names_the_strongest_colour(device_python: str, tflite: Path, pictures: dict[str, Path]) -> None:
    lines = on_device(device_python, "run", tflite, *pictures.values()).splitlines()
    assert [json.loads(line)["results"][0]["label"] for line in lines] == list(COLOURS)


def test_both_environments_answer_with_the_same_confidence(
    device_python: str, tflite: Path, pictures: dict[str, Path]
) -> None:
    from edgeinfer import classifier

    classify = classifier(tflite)
    for name, path in pictures.items():
        there = json.loads(on_device(device_python, "run", tflite, path))["results"]
        here = classify(path)
        # One step of an 8-bit softmax is 1/256; the two engines round their sums differently.
        assert abs(there[0]["confidence"] - float(here.confidence[0])) <= 3 / 256, name


def test_the_labels_and_the_normalization_travel_in_the_file(device_python: str, tflite: Path) -> None:
    said = json.loads(on_device(device_python, "inspect", tflite))
    assert said["outputs"][0]["labels"] == list(COLOURS)
    assert said["inputs"][0]["normalization"] == {"mean": 127.5, "std": 127.5}
    assert said["metadata"]["made"]["recipe"]["steps"][0]["step"] == "quantize"
