"""A rescaling at the front: what counts as one, and that nothing else changes when it goes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.graph.leading import Leading, take_off_leading

NUMBERS = st.floats(-1e3, 1e3, allow_nan=False)
pytestmark = pytest.mark.tensorflow


def difference(model: Any, body: Any, leading: Leading) -> float:
    """The largest difference between the model on x and the body on x * scale + offset."""
    own = np.random.default_rng(0).uniform(0, 255, (4, *model.input_shape[1:])).astype(np.float32)
    tensor = (own * leading.scale + leading.offset).astype(np.float32)
    answers = [np.asarray(one(x, training=False)) for one, x in ((model, own), (body, tensor))]
    return float(np.abs(answers[0] - answers[1]).max())


def network(keras: Any, *front: Any) -> Any:
    layers = keras.layers
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            *front,
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


@given(first=st.tuples(NUMBERS, NUMBERS), second=st.tuples(NUMBERS, NUMBERS), x=NUMBERS)
def test_two_maps_in_a_row_are_one_map(first: tuple[float, float], second: tuple[float, float], x: float) -> None:
    one = Leading(*first, ("a",)).then(Leading(*second, ("b",)))
    by_hand = (x * first[0] + first[1]) * second[0] + second[1]
    assert math.isclose(x * one.scale + one.offset, by_hand, rel_tol=1e-6, abs_tol=1e-3)
    assert one.layers == ("a", "b")


def test_a_rescaling_is_taken_off_and_the_rest_gives_the_same_answers(keras: Any) -> None:
    model = network(keras, keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="front"))
    body, leading, staying = take_off_leading(model)
    assert leading == Leading(1 / 127.5, -1.0, ("front",))
    assert staying == ()
    assert difference(model, body, leading) <= 1e-6


def test_a_normalization_with_one_mean_and_variance_is_a_rescaling(keras: Any) -> None:
    model = network(keras, keras.layers.Normalization(axis=None, mean=120.0, variance=64.0**2))
    body, leading, _ = take_off_leading(model)
    assert leading is not None
    assert (leading.scale, leading.offset) == pytest.approx((1 / 64, -120 / 64))
    assert difference(model, body, leading) <= 1e-6


def test_an_inverted_normalization_multiplies_by_the_deviation(keras: Any) -> None:
    _, leading, _ = take_off_leading(
        network(keras, keras.layers.Normalization(axis=None, mean=3.0, variance=4.0, invert=True))
    )
    assert leading is not None
    assert (leading.scale, leading.offset) == pytest.approx((2.0, 3.0))


def test_two_rescalings_in_a_row_come_off_together(keras: Any) -> None:
    model = network(keras, keras.layers.Rescaling(1 / 255), keras.layers.Rescaling(2.0, offset=-1.0))
    body, leading, _ = take_off_leading(model)
    assert leading is not None
    assert (leading.scale, leading.offset) == pytest.approx((2 / 255, -1.0))
    assert difference(model, body, leading) <= 1e-6


def test_layers_that_do_nothing_at_inference_go_with_it(keras: Any) -> None:
    model = network(keras, keras.layers.RandomFlip("horizontal"), keras.layers.Rescaling(1 / 255))
    body, leading, _ = take_off_leading(model)
    assert leading is not None
    assert leading.scale == pytest.approx(1 / 255)
    assert difference(model, body, leading) <= 1e-6


def test_the_front_of_a_nested_model_is_searched_too(keras: Any) -> None:
    inputs = keras.Input((8, 8, 3), name="photo")
    inner = network(keras, keras.layers.Rescaling(1 / 255, name="inside"))
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(inputs)))
    body, leading, _ = take_off_leading(model)
    assert leading is not None
    assert leading.layers == ("inside",)
    assert difference(model, body, leading) <= 1e-6


def test_the_model_that_was_given_stays_usable(keras: Any) -> None:
    model = network(keras, keras.layers.Rescaling(1 / 255))
    own = np.full((1, 8, 8, 3), 200, np.float32)
    before = np.asarray(model(own))
    take_off_leading(model)
    assert np.array_equal(np.asarray(model(own)), before)


@pytest.mark.parametrize("layer", ["normalization", "inverted", "rescaling"])
def test_a_map_per_channel_is_reported_and_stays(keras: Any, layer: str) -> None:
    layers = keras.layers
    # By hand: (x - mean) / deviation, x * deviation + mean, and x * scale + offset.
    front, maps = {
        "normalization": (
            layers.Normalization(mean=[1.0, 2.0, 30.0], variance=[1.0, 4.0, 100.0]),
            [(0.1, -3.0), (1.0, -1.0)],
        ),
        "inverted": (
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0], invert=True),
            [(1.0, 1.0), (3.0, 3.0)],
        ),
        "rescaling": (layers.Rescaling([1.0, 2.0, 3.0], offset=-1.0), [(1.0, -1.0), (3.0, -1.0)]),
    }[layer]
    model = network(keras, front)
    body, leading, staying = take_off_leading(model)
    assert body is model
    assert leading is None
    found = [number for one in staying for number in (one.scale, one.offset)]
    assert found == pytest.approx([number for pair in maps for number in pair])


def test_a_map_per_channel_behind_one_that_comes_off_is_reported_too(keras: Any) -> None:
    model = network(keras, keras.layers.Rescaling(1 / 255), keras.layers.Rescaling([1.0, 2.0, 3.0]))
    _, leading, staying = take_off_leading(model)
    assert leading is not None
    assert [(one.scale, one.offset) for one in staying] == [(1.0, 0.0), (3.0, 0.0)]


def test_a_rescaling_that_turns_the_range_around_stays(keras: Any) -> None:
    _, leading, staying = take_off_leading(network(keras, keras.layers.Rescaling(-1.0, offset=255.0)))
    assert leading is None
    assert [(one.scale, one.offset) for one in staying] == [(-1.0, 255.0)]


def test_an_input_that_two_layers_read_keeps_its_rescaling(keras: Any) -> None:
    inputs = keras.Input((8, 8, 3))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    model = keras.Model(inputs, keras.layers.Concatenate()([scaled, inputs]))
    body, leading, staying = take_off_leading(model)
    assert body is model
    assert (leading, staying) == (None, ())


def test_a_rescaling_that_two_layers_read_comes_off(keras: Any) -> None:
    inputs = keras.Input((8, 8, 3))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    branches = [keras.layers.Conv2D(2, 3)(scaled), keras.layers.Conv2D(2, 3)(scaled)]
    model = keras.Model(inputs, keras.layers.Add()(branches))
    body, leading, _ = take_off_leading(model)
    assert leading is not None
    assert difference(model, body, leading) <= 1e-6


def test_a_model_of_several_inputs_keeps_everything(keras: Any) -> None:
    one, other = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([one, other], keras.layers.Add()([keras.layers.Rescaling(0.5)(one), other]))
    assert take_off_leading(model) == (model, None, ())


def test_a_model_that_is_nothing_but_a_rescaling_keeps_it(keras: Any) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(0.5)])
    body, leading, staying = take_off_leading(model)
    assert body is model
    assert leading is None
    assert [(one.scale, one.offset) for one in staying] == [(0.5, 0.0)]


def test_a_subclass_of_rescaling_may_do_something_else_and_stays(keras: Any) -> None:
    class Clipped(keras.layers.Rescaling):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return keras.ops.clip(super().call(inputs), 0, 1)

    _, leading, staying = take_off_leading(network(keras, Clipped(1 / 255)))
    assert (leading, staying) == (None, ())
