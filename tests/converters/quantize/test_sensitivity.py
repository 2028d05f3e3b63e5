"""Sensitivity: the layer that int8 hurts most stands first."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.quantize.sensitivity import LayerSensitivity, Sensitivity, sensitivity, suggest_fallback
from edgeinfer.progress import Progress

SAMPLES = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


def row(name: str, error: float, agreement: float | None = 0.5) -> LayerSensitivity:
    return LayerSensitivity(name, "Dense", 10, error, agreement)


@pytest.fixture(scope="module")
def model(keras: Any) -> Any:
    keras.utils.set_random_seed(3)
    layers = keras.layers
    made = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, name="first"),
            layers.ReLU(name="first_relu"),
            layers.Dense(16, activation="relu", name="spread"),
            layers.Dense(4, name="last"),
        ]
    )
    # One channel of this layer reaches 1000 times as far as the others, and the next layer hardly reads it.
    kernel, bias = made.get_layer("spread").get_weights()
    kernel[:, 0] *= 1000
    made.get_layer("spread").set_weights([kernel, bias])
    kernel, bias = made.get_layer("last").get_weights()
    kernel[0] /= 1e6
    made.get_layer("last").set_weights([kernel, bias])
    return made


@pytest.fixture(scope="module")
def measured(model: Any) -> Sensitivity:
    return sensitivity(model, SAMPLES)


@pytest.mark.tensorflow
def test_the_layer_with_one_far_channel_is_the_most_sensitive(measured: Sensitivity) -> None:
    assert measured.layers[0].layer == "spread"
    assert {one.layer for one in measured.layers} == {"first", "spread", "last"}
    errors = [one.error for one in measured.layers]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 10 * errors[1]
    assert measured.samples == 50


@pytest.mark.tensorflow
def test_the_error_is_that_of_one_layer_rounded_by_hand(model: Any, measured: Sensitivity) -> None:
    def column(kernel: Any) -> Any:
        scale = np.abs(kernel).max(axis=0) / 127
        return np.round(kernel / scale) * scale

    def output(values: Any) -> Any:
        low, high = min(values.min(), 0), max(values.max(), 0)
        scale = (high - low) / 255
        return np.round(values / scale) * scale  # rounding to a grid through zero; nothing lies outside

    hidden = SAMPLES
    for layer in model.layers[:3]:
        hidden = np.asarray(layer(hidden))
    kernel, bias = model.get_layer("last").get_weights()
    exact = hidden @ kernel + bias
    error = np.sqrt(np.square(output(hidden @ column(kernel) + bias) - exact).mean() / np.square(exact).mean())
    assert {one.layer: one.error for one in measured.layers}["last"] == pytest.approx(error, rel=0.15)


@pytest.mark.tensorflow
def test_the_relu_behind_a_layer_is_rounded_with_it(keras: Any) -> None:
    # With weights of 1 and 127 the kernel is exact in int8, so all that is lost is lost behind the ReLU.
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, use_bias=False, name="exact"),
            keras.layers.ReLU(),
        ]
    )
    model.layers[0].set_weights([np.array([[127.0, 1.0], [1.0, 127.0]], np.float32)])
    samples = np.random.default_rng(1).uniform(0, 1, (200, 2)).astype(np.float32)
    (only,) = sensitivity(model, samples).layers
    exact = np.maximum(samples @ model.layers[0].get_weights()[0], 0)
    # Rounding to steps of max / 255 is off by step / sqrt(12) on average.
    expected = exact.max() / 255 / np.sqrt(12) / np.sqrt(np.square(exact).mean())
    assert only.error == pytest.approx(expected, rel=0.1)


@pytest.mark.tensorflow
def test_agreement_is_missing_where_there_are_no_classes(keras: Any, small_models: dict[str, Any]) -> None:
    model = keras.models.load_model(small_models["two_inputs"])
    random = np.random.default_rng(0)
    samples = [random.normal(size=(5, *one.shape[1:])).astype(np.float32) for one in model.inputs]
    result = sensitivity(model, samples)
    assert {one.agreement for one in result.layers} == {None}
    assert len(result.layers) == 3


@pytest.mark.tensorflow
def test_the_given_model_is_left_alone(model: Any) -> None:
    before = model.get_weights()
    seen: list[Progress] = []
    sensitivity(model, SAMPLES[:5], progress=seen.append)
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    assert [(one.done, one.total) for one in seen] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.tensorflow
def test_a_model_that_says_nothing_cannot_be_measured(keras: Any) -> None:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, kernel_initializer="zeros")])
    with pytest.raises(ConversionError, match="say nothing"):
        sensitivity(model, SAMPLES)


def test_the_table_has_one_line_a_layer_and_says_what_was_measured() -> None:
    lines = str(Sensitivity((row("stem", 0.25), row("a_long_name", 0.125, None)), 40)).splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["stem", "Dense", "10", "0.25000", "0.5000"]
    assert lines[2].split() == ["a_long_name", "Dense", "10", "0.12500", "-"]
    assert "40 samples" in lines[3]


def test_the_json_holds_every_number() -> None:
    read = json.loads(json.dumps(Sensitivity((row("stem", 0.25),), 40).to_json()))
    assert read == {
        "samples": 40,
        "layers": [{"layer": "stem", "kind": "Dense", "parameters": 10, "error": 0.25, "agreement": 0.5}],
    }


def test_the_fewest_layers_that_bring_the_error_down_are_suggested() -> None:
    # Squares 100, 9, 9, 9: without the first, sqrt(27 / 127) = 0.46 of the error is left.
    result = Sensitivity((row("a", 10), row("b", 3), row("c", 3), row("d", 3)), 1)
    assert suggest_fallback(result) == (("a", "float32"),)
    # Without two of them sqrt(18 / 127) = 0.376.
    assert suggest_fallback(result, remaining=0.4) == (("a", "float32"), ("b", "float32"))


def test_nothing_is_suggested_where_all_layers_are_alike() -> None:
    result = Sensitivity(tuple(row(str(number), 1.0) for number in range(20)), 1)
    assert suggest_fallback(result) == ()


def test_a_suggested_pattern_matches_its_layer_alone() -> None:
    from fnmatch import fnmatchcase

    ((pattern, _),) = suggest_fallback(Sensitivity((row("odd[1]*", 1.0), row("odd1x", 0.0)), 1))
    assert fnmatchcase("odd[1]*", pattern)
    assert not fnmatchcase("odd1x", pattern)


@pytest.mark.parametrize(("remaining", "most"), [(0.0, 1), (1.0, 1), (0.5, 0)])
def test_settings_that_choose_nothing_are_refused(remaining: float, most: int) -> None:
    with pytest.raises(ConversionError, match="choose no layers"):
        suggest_fallback(Sensitivity((row("a", 1.0),), 1), remaining=remaining, most=most)
