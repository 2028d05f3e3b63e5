"""Networks that people use, all the way: half the multiplications gone, full int8, an answer like the float one's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters import Card, Prune, Quantize, Recipe, convert
from converters.graph.cost import costs
from converters.prune.channel import prune_channels
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


@pytest.mark.parametrize("build", [mobilenet, convnext])
def test_half_of_the_multiplications_go_and_the_rest_runs_in_integers(
    keras: Any, build: Any, pictures: NDArray[np.float32]
) -> None:
    keras.utils.set_random_seed(3)
    model = build(keras)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name == "gamma":
                weight.assign(rng.uniform(0.4, 0.8, weight.shape))
            elif weight.name == "beta":
                weight.assign(rng.normal(0.5, 0.2, weight.shape))
            elif weight.name == "bias":
                weight.assign(rng.normal(0, 0.1, weight.shape))
    half = prune_channels(model, Prune(macs=0.5)).model
    assert 0.45 <= costs(half).macs / costs(model).macs <= 0.5
    for layer in half.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0  # one pass, and the statistics are those of the pictures: else all answers are alike
    half(pictures, training=True)
    recipe = Recipe((Quantize("int8"),), target="raspberrypi")
    made = convert(half, pictures, recipe=recipe, card=Card(task="tensors"))
    assert {row.name: row.ok for row in made.report.gates}["integer only"]
    runtime = Runtime(made.tflite)
    got = np.concatenate([next(iter(runtime(one).values())).copy() for one in pictures])
    wanted = np.asarray(half(pictures)).reshape(got.shape)
    # Answers that have nothing to do with each other would differ by twice their variance.
    assert ((got - wanted) ** 2).mean() < 0.5 * wanted.var(axis=0).mean()
