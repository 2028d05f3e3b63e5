"""Networks that people use, all the way: half the multiplications gone, full int8, an answer like the float one's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters import Card, Prune, Quantize, Recipe, convert
from converters.graph.cost import costs
from converters.prune.channel import prune_channels
from converters.target_check import check_file
from converters.targets import TARGETS, target
from edgeinfer.errors import UnsupportedOpError
from edgeinfer.runtime.runtime import Runtime

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]
SIZE = 32


def mobilenet(keras: Any) -> Any:
    settings: dict[str, Any] = {"include_preprocessing": False, "classifier_activation": None}
    return keras.applications.MobileNetV3Small((SIZE, SIZE, 3), weights=None, classes=5, **settings)


def convnext(keras: Any) -> Any:
    """Two stages of a ConvNeXt of one block each, built as Keras builds them."""
    from keras.src.applications.convnext import LayerScale

    layers = keras.layers
    x = inputs = keras.Input((SIZE, SIZE, 3))
    for stage, width in enumerate((24, 40)):
        if stage == 0:
            x = layers.Conv2D(width, 4, strides=4, name="stem")(x)
            x = layers.LayerNormalization(epsilon=1e-6)(x)
        else:
            x = layers.LayerNormalization(epsilon=1e-6)(x)
            x = layers.Conv2D(width, 2, strides=2)(x)
        y = layers.DepthwiseConv2D(7, padding="same")(x)
        y = layers.LayerNormalization(epsilon=1e-6)(y)
        y = layers.Activation("gelu")(layers.Dense(4 * width)(y))
        x = layers.Add()([x, LayerScale(0.3, width)(layers.Dense(width)(y))])
    x = layers.LayerNormalization(epsilon=1e-6)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(5, name="logits")(x))


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float32]:
    """(24, 32, 32, 3) of numbers near -1..1; every picture has a contrast and a colour of its own."""
    rng = np.random.default_rng(1)
    coarse = rng.normal(size=(24, 4, 4, 3)) * rng.uniform(0.1, 0.6, (24, 1, 1, 1)) + rng.normal(0, 0.3, (24, 1, 1, 3))
    return np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.float32)


def stir(model: Any) -> None:
    """Give vectors of weights values around those that Keras begins with."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name == "gamma":
                weight.assign(rng.uniform(0.4, 0.8, weight.shape))
            elif weight.name == "beta":
                weight.assign(rng.normal(0.5, 0.2, weight.shape))
            elif weight.name == "bias":
                weight.assign(rng.normal(0, 0.1, weight.shape))


def settle(model: Any, pictures: NDArray[np.float32]) -> None:
    """One pass, and the statistics are those of the pictures: else all answers are alike."""
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
    model(pictures, training=True)


@pytest.mark.parametrize("build", [mobilenet, convnext])
def test_half_of_the_multiplications_go_and_the_rest_runs_in_integers(
    keras: Any, build: Any, pictures: NDArray[np.float32]
) -> None:
    keras.utils.set_random_seed(3)
    model = build(keras)
    stir(model)
    half = prune_channels(model, Prune(macs=0.5)).model
    assert 0.45 <= costs(half).macs / costs(model).macs <= 0.5
    settle(half, pictures)
    recipe = Recipe((Quantize("int8"),), target="raspberrypi-tflite")
    made = convert(half, pictures, recipe=recipe, card=Card(task="tensors"))
    assert {row.name: row.ok for row in made.report.gates}["integer only"]
    runtime = Runtime(made.tflite)
    got = np.concatenate([next(iter(runtime(one).values())).copy() for one in pictures])
    wanted = np.asarray(half(pictures)).reshape(got.shape)
    # Answers that have nothing to do with each other would differ by twice their variance.
    assert ((got - wanted) ** 2).mean() < 0.5 * wanted.var(axis=0).mean()


# Targets that take the same file share its conversion, as in benchmarks/target_applications.py.
MAKERS = {
    "edgetpu": ("edgetpu",),
    "android": ("android", "android-gpu"),
    "raspberrypi-tflite": ("cpu", "raspberrypi", "raspberrypi32", "raspberrypi-tflite"),
}


def test_every_target_has_a_file_that_is_made_for_it() -> None:
    assert {name for names in MAKERS.values() for name in names} == {one.name for one in TARGETS}


@pytest.mark.usefixtures("shared_child")
@pytest.mark.parametrize("build", [mobilenet, convnext])
@pytest.mark.parametrize("maker", MAKERS)
def test_a_network_in_full_integers_runs_on_a_target_or_a_layer_is_named(
    keras: Any, build: Any, maker: str, pictures: NDArray[np.float32], tmp_path: Path
) -> None:
    keras.utils.set_random_seed(3)
    model = build(keras)
    recipe = Recipe((Quantize("int8"),), target=maker)
    if (build, maker) == (convnext, "edgetpu"):
        with pytest.raises(UnsupportedOpError, match="the layer `layer_normalization") as caught:
            convert(model, pictures, recipe=recipe, card=Card(task="tensors"))
        assert "BatchNormalization" in caught.value.next_step
        return
    made = convert(model, pictures, recipe=recipe, card=Card(task="tensors"))
    for name in MAKERS[maker]:
        found = check_file(made.tflite, target(name))
        assert found.good, f"{name}: {found.reasons()}"
    device_python = os.environ.get("EDGEINFER_DEVICE_PYTHON")
    if device_python:
        made.save(tmp_path / "m.tflite")
        code = (
            "import numpy as np; from edgeinfer.runtime.runtime import Runtime; "
            f"runtime = Runtime({str(tmp_path / 'm.tflite')!r}); "
            f"runtime(np.zeros((1, {SIZE}, {SIZE}, 3), np.float32)); print(runtime.engine.name)"
        )
        said = subprocess.run([device_python, "-c", code], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == "tflite-runtime"


@pytest.mark.usefixtures("shared_child")
def test_what_is_replaced_for_an_edge_tpu_answers_as_the_network_does(
    keras: Any, pictures: NDArray[np.float32]
) -> None:
    keras.utils.set_random_seed(3)
    model = mobilenet(keras)
    stir(model)
    settle(model, pictures)
    made = convert(model, pictures, recipe=Recipe((Quantize("int8"),), target="edgetpu"), card=Card(task="tensors"))
    assert any("relu6" in sentence for sentence in made.report.replaced)
    assert made.report.check is not None
    assert set(made.report.check.counts) == {"edgetpu"}
    runtime = Runtime(made.tflite)
    got = np.concatenate([next(iter(runtime(one).values())).copy() for one in pictures])
    wanted = np.asarray(model(pictures)).reshape(got.shape)
    assert ((got - wanted) ** 2).mean() < 0.5 * wanted.var(axis=0).mean()
