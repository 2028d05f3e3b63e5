"""A layer made anew: what goes along with it, and what cannot be made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.graph.copies import copy_state, fresh_layer
from converters.graph.network import read_network, rebuild

pytestmark = pytest.mark.tensorflow


def test_a_new_layer_has_the_settings_but_not_the_calls(keras: Any) -> None:
    old = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")
    old(keras.Input((8, 8, 1)))
    new = fresh_layer(old, "other")
    assert (new.name, new.filters, new.strides, new.activation) == ("other", 4, (2, 2), keras.activations.relu)
    assert not new.weights
    assert old.name == "conv"


def test_settings_can_change(keras: Any) -> None:
    assert fresh_layer(keras.layers.Dense(4, use_bias=False), changes={"use_bias": True}).use_bias is True


def test_what_a_normalization_has_learned_counts_at_once(keras: Any) -> None:
    old = keras.layers.Normalization()
    old.adapt(np.array([[1.0], [3.0]]))
    new = fresh_layer(old)
    new(keras.Input((1,)))
    copy_state(old, new)
    # Mean 2, standard deviation 1.
    assert keras.ops.convert_to_numpy(new(np.array([[5.0]]))).tolist() == [[3.0]]


def test_a_frozen_layer_stays_frozen_and_its_neighbour_free(keras: Any) -> None:
    frozen = keras.layers.Dense(3, name="frozen", trainable=False)
    model = keras.Sequential([keras.Input((3,)), frozen, keras.layers.Dense(2, name="free")])
    again = rebuild(read_network(model))
    assert [one.trainable for one in again.layers if one.weights] == [False, True]
    # The weights and biases of "free".
    assert len(again.trainable_weights) == 2


def test_a_single_frozen_weight_stays_frozen(keras: Any) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="dense")])
    model.layers[0].kernel.trainable = False
    again = rebuild(read_network(model))
    assert [one.name for one in again.trainable_weights] == ["bias"]


def test_dropout_draws_on_from_where_the_old_one_stood(keras: Any) -> None:
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5, seed=5)])
    ones = np.ones((1, 64), np.float32)
    model(ones, training=True)
    again = rebuild(read_network(model))
    drawn = [keras.ops.convert_to_numpy(one(ones, training=True)) for one in (model, again)]
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_a_lambda_that_is_running_already_is_copied(keras: Any) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x, by: x * by, arguments={"by": 3.0})])
    again = rebuild(read_network(model))
    assert keras.ops.convert_to_numpy(again(np.array([[1.0, 2.0]]))).tolist() == [[3.0, 6.0]]


def test_a_layer_of_the_caller_s_own_is_copied_inside_a_wrapper_too(keras: Any) -> None:
    class Scaled(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, factor: float, **others: Any) -> None:
            super().__init__(**others)
            self.factor = factor

        def call(self, inputs: Any) -> Any:
            return inputs * self.factor

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "factor": self.factor}

    model = keras.Sequential([keras.Input((2, 1)), keras.layers.TimeDistributed(Scaled(4.0))])
    again = rebuild(read_network(model))
    assert keras.ops.convert_to_numpy(again(np.array([[[1.0], [2.0]]]))).tolist() == [[[4.0], [8.0]]]


def test_a_layer_that_keeps_its_settings_to_itself_is_named(keras: Any) -> None:
    class Silent(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, table: Any) -> None:
            super().__init__(name="silent")
            self.table = table

        def call(self, inputs: Any) -> Any:
            return inputs + self.table

    model = keras.Sequential([keras.Input((2,)), Silent(np.ones(2))])
    with pytest.raises(ConversionError, match="`silent` cannot be copied") as caught:
        rebuild(read_network(model))
    assert "get_config" in caught.value.next_step
