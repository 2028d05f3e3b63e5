"""One layer for one op of the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow


def standard(model: Any) -> Any:
    from converters.quantize.standard import standard_model

    return standard_model(model)


def kinds(model: Any) -> list[tuple[str, str]]:
    return [(layer.name, type(layer).__name__) for layer in model.layers[1:]]


def test_a_softmax_of_the_last_layer_becomes_a_layer_that_keeps_the_name_of_the_output(keras: Any) -> None:
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(6, activation="relu", name="first")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="last")(hidden))
    made = standard(model)
    assert kinds(made) == [("first", "Dense"), ("last_linear", "Dense"), ("last", "Activation")]
    assert made.output_names == model.output_names == ["last"]
    sample = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert made.predict(sample, verbose=0) == pytest.approx(model.predict(sample, verbose=0), abs=1e-6)


def test_inside_the_model_the_layer_with_the_weights_keeps_the_name(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, activation="tanh", name="bent"), layers.Dense(3)])
    assert kinds(standard(model))[:2] == [("bent", "Dense"), ("bent_tanh", "Activation")]


@pytest.mark.parametrize("activation", ["relu", "sigmoid", None])
def test_a_separable_convolution_becomes_two(keras: Any, activation: str | None) -> None:
    keras.utils.set_random_seed(5)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            layers.SeparableConv2D(
                6, 3, strides=2, padding="same", depth_multiplier=2, activation=activation, name="both"
            ),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    weights = [np.random.default_rng(1).normal(size=one.shape) for one in model.get_weights()]
    model.set_weights(weights)
    made = standard(model)
    assert kinds(made)[:2] == [("both_depthwise", "DepthwiseConv2D"), ("both", "Conv2D")]
    sample = np.random.default_rng(0).normal(size=(5, 9, 9, 3)).astype(np.float32)
    assert made.predict(sample, verbose=0) == pytest.approx(model.predict(sample, verbose=0), rel=1e-4, abs=1e-4)


def test_a_shared_layer_stays_shared(keras: Any) -> None:
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(4, activation="tanh", name="again")
    model = keras.Model(inputs, keras.layers.Dense(2, name="end")(dense(dense(inputs))))
    made = standard(model)
    assert made.count_params() == model.count_params()
    sample = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert made.predict(sample, verbose=0) == pytest.approx(model.predict(sample, verbose=0), abs=1e-6)
