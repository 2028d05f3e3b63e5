"""Bias correction: the mean of every channel is that of the float model again, although the weights are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import CalibrationError
from converters.quantize.bias import correct_bias
from edgeinfer.progress import Progress

pytestmark = pytest.mark.tensorflow

SAMPLES = np.random.default_rng(5).uniform(0, 1, (64, 6)).astype(np.float32)


def to_int8(kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A dense kernel as the converter stores it, written out: one scale per column, 127 steps to either side."""
    made = kernel.astype(np.float64).copy()
    for column in range(made.shape[1]):
        scale = np.abs(made[:, column]).max() / 127
        made[:, column] = [scale * np.round(one / scale) for one in made[:, column]]
    return np.asarray(made)


@pytest.fixture(scope="module")
def dense(keras: Any) -> Any:
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu", name="first"),
            keras.layers.Dense(4, activation="softmax", use_bias=False, name="second"),
        ]
    )


def test_one_layer_loses_the_mean_error_that_is_calculated_by_hand(dense: Any) -> None:
    kernel, bias = dense.layers[0].get_weights()
    error = (SAMPLES @ to_int8(kernel) - SAMPLES @ kernel).mean(axis=0)
    corrected = correct_bias(dense, SAMPLES)
    assert corrected.layers[1].get_weights()[1] == pytest.approx(bias - error, abs=1e-6)
    assert np.abs(error).max() > 1e-4  # there was something to correct


def test_the_second_layer_makes_up_for_what_the_first_one_hands_on(dense: Any) -> None:
    corrected = correct_bias(dense, SAMPLES)
    first, second = corrected.layers[1:]
    hidden = np.maximum(SAMPLES @ to_int8(np.asarray(first.kernel)) + np.asarray(first.bias), 0)
    rounded = hidden @ to_int8(np.asarray(second.kernel)) + np.asarray(second.bias)
    kernel, bias = dense.layers[0].get_weights()
    exact = np.maximum(SAMPLES @ kernel + bias, 0) @ dense.layers[1].get_weights()[0]
    assert rounded.mean(axis=0) == pytest.approx(exact.mean(axis=0), abs=1e-6)


def test_the_kernels_stay_and_the_given_model_is_left_alone(dense: Any) -> None:
    before = dense.get_weights()
    corrected = correct_bias(dense, SAMPLES)
    assert all(np.array_equal(one, other) for one, other in zip(before, dense.get_weights(), strict=True))
    for layer in ("first", "second"):
        assert np.array_equal(dense.get_layer(layer).kernel, corrected.get_layer(layer).kernel)


def test_activations_are_those_of_the_model(dense: Any) -> None:
    corrected = correct_bias(dense, SAMPLES)
    assert [one.activation.__name__ for one in corrected.layers[1:]] == ["relu", "softmax"]


def test_convolutions_with_skips_have_their_means_back(keras: Any, small_models: dict[str, Any]) -> None:
    from converters.graph.flat import flat_model
    from converters.graph.fold import fold_batch_norms

    model = fold_batch_norms(flat_model(keras.models.load_model(small_models["residual"])))
    samples = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype(np.float32)
    corrected = correct_bias(model, samples)

    def mean(one: Any, coarse: bool) -> Any:
        twin = keras.models.clone_model(one)
        twin.set_weights(one.get_weights())
        for layer in twin.layers if coarse else []:
            if layer.weights:
                kernel, bias = layer.get_weights()
                flat = to_int8(kernel.reshape(-1, kernel.shape[-1])).reshape(kernel.shape)
                layer.set_weights([flat, bias])
        return np.asarray(twin(samples)).mean(axis=0)

    exact = mean(model, coarse=False)
    assert np.abs(mean(corrected, coarse=True) - exact).max() <= 1e-6
    assert np.abs(mean(model, coarse=True) - exact).max() > 1e-5


def test_a_layer_that_is_called_twice_stays_as_it_is(keras: Any) -> None:
    inputs = keras.Input((6,))
    twice = keras.layers.Dense(6, name="twice")
    model = keras.Model(inputs, keras.layers.Dense(2, name="once")(twice(twice(inputs))))
    corrected = correct_bias(model, SAMPLES)
    assert np.array_equal(corrected.get_layer("twice").bias, twice.bias)
    assert not np.array_equal(corrected.get_layer("once").bias, model.get_layer("once").bias)


def test_progress_is_reported_layer_by_layer(dense: Any) -> None:
    seen: list[Progress] = []
    correct_bias(dense, SAMPLES, progress=seen.append)
    assert [(one.done, one.total) for one in seen] == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("samples", "match"),
    [
        (np.zeros((4, 5), np.float32), "do not fit the input"),
        (np.zeros((0, 6), np.float32), "do not fit the input"),
        (np.full((4, 6), np.nan, np.float32), "not all finite"),
        ([SAMPLES, SAMPLES], "its own array"),
    ],
    ids=["wrong shape", "no samples", "not finite", "too many arrays"],
)
def test_samples_that_do_not_fit_are_refused(dense: Any, samples: Any, match: str) -> None:
    with pytest.raises(CalibrationError, match=match):
        correct_bias(dense, samples)
