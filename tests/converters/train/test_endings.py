"""What a model ends in, found out from its layers, or from its answers where they do not say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.errors import TrainingError
from converters.train.endings import find_ending, kind_on, looks_like_probabilities, without_activation

pytestmark = pytest.mark.tensorflow


def model(keras: Any, *layers: Any) -> Any:
    return keras.Sequential([keras.Input((4,)), *layers])


def endings(keras: Any) -> dict[str, tuple[Any, str]]:
    layers, ops = keras.layers, keras.ops
    inputs = keras.Input((4,))
    return {
        "dense softmax": (model(keras, layers.Dense(3, activation="softmax")), "softmax"),
        "dense sigmoid": (model(keras, layers.Dense(3, activation="sigmoid")), "sigmoid"),
        "dense": (model(keras, layers.Dense(3)), "linear"),
        "dense relu": (model(keras, layers.Dense(3, activation="relu")), "linear"),
        "softmax layer": (model(keras, layers.Dense(3), layers.Softmax()), "softmax"),
        "activation layer": (model(keras, layers.Dense(3), layers.Activation("sigmoid")), "sigmoid"),
        "operation": (keras.Model(inputs, ops.softmax(layers.Dense(3)(inputs))), "softmax"),
        "dropout behind": (model(keras, layers.Dense(3, activation="softmax"), layers.Dropout(0.1)), "softmax"),
        "reshape behind": (model(keras, layers.Dense(3, activation="softmax"), layers.Reshape((1, 3))), "softmax"),
        "nested": (model(keras, model(keras, layers.Dense(3, activation="softmax"))), "softmax"),
        "wrapped": (
            model(keras, layers.Reshape((2, 2)), layers.TimeDistributed(layers.Dense(3, activation="softmax"))),
            "softmax",
        ),
        "inner sigmoid": (model(keras, layers.Reshape((2, 2)), layers.LSTM(3, activation="sigmoid")), "linear"),
    }


def test_the_ending_is_found_wherever_it_stands(keras: Any) -> None:
    found = {name: find_ending(one).kind for name, (one, _) in endings(keras).items()}
    assert found == {name: kind for name, (_, kind) in endings(keras).items()}


def test_a_model_without_its_activation_answers_its_logits_and_has_it_back_afterwards(keras: Any) -> None:
    dense = keras.layers.Dense(3, activation="softmax")
    one = model(keras, dense)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    kernel, bias = one.get_weights()
    with without_activation(find_ending(one).layer):
        logits = np.asarray(one(x))
    assert logits == pytest.approx(x @ kernel + bias, abs=1e-6)
    assert np.asarray(one(x)).sum(axis=1) == pytest.approx(np.ones(5))


def test_a_layer_that_is_called_twice_keeps_its_activation(keras: Any) -> None:
    shared, inputs = keras.layers.Dense(4, activation="softmax"), keras.Input((4,))
    ending = find_ending(keras.Model(inputs, shared(shared(inputs))))
    assert (ending.kind, ending.layer) == ("softmax", None)


def test_a_softmax_along_another_axis_is_refused(keras: Any) -> None:
    one = model(keras, keras.layers.Reshape((2, 2)), keras.layers.Softmax(axis=1))
    with pytest.raises(TrainingError, match="last axis"):
        find_ending(one)


def test_several_outputs_are_refused(keras: Any) -> None:
    inputs = keras.Input((4,))
    one = keras.Model(inputs, [keras.layers.Dense(3)(inputs), keras.layers.Dense(2)(inputs)])
    with pytest.raises(TrainingError, match="2 outputs") as caught:
        find_ending(one)
    assert "one output" in caught.value.expected


@pytest.mark.parametrize(("activation", "kind"), [("softmax", "softmax"), ("sigmoid", "sigmoid"), ("linear", "linear")])
def test_behind_a_foreign_layer_the_answers_say_what_the_ending_is(keras: Any, activation: str, kind: str) -> None:
    class Rounded(keras.Layer):
        def call(self, inputs: Any) -> Any:
            return keras.ops.round(inputs * 256) / 256

    keras.utils.set_random_seed(0)
    one = model(keras, keras.layers.Dense(3, activation=activation), Rounded())
    ending = find_ending(one)
    assert ending.kind == "unknown"
    assert kind_on(one, ending, np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)) == kind


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=200), st.booleans())
def test_shares_count_as_probabilities_and_their_logits_do_not(logits: list[float], rounded: bool) -> None:
    shares = np.exp(logits) / np.exp(logits).sum()
    assert looks_like_probabilities([np.round(shares * 256) / 256 if rounded else shares])
    assert not looks_like_probabilities([np.asarray(logits) - 6])
    assert not looks_like_probabilities([np.full(len(logits), 0.99)])
