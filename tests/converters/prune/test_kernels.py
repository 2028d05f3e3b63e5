"""Which weights of a model can go, and on which axis their inputs stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.prune.kernels import prunable_kernels
from converters.prune.sparsity import sparsity_of

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda layers: layers.Dense(4), (6,)),
        (lambda layers: layers.Conv1D(4, 3), (9, 6)),
        (lambda layers: layers.Conv2D(4, 3), (9, 9, 6)),
        (lambda layers: layers.Conv3D(4, 2), (4, 4, 4, 6)),
        (lambda layers: layers.Conv1DTranspose(4, 3), (9, 6)),
        (lambda layers: layers.Conv2DTranspose(4, 3), (9, 9, 6)),
        (lambda layers: layers.Conv3DTranspose(4, 2), (4, 4, 4, 6)),
        (lambda layers: layers.SeparableConv1D(4, 3), (9, 6)),
        (lambda layers: layers.SeparableConv2D(4, 3), (9, 9, 6)),
    ],
    ids=["dense", "conv1", "conv2", "conv3", "trans1", "trans2", "trans3", "sep1", "sep2"],
)
def test_zeros_at_one_place_of_the_input_axis_make_the_layer_deaf_to_that_channel(
    keras: Any, make: Any, shape: tuple[int, ...]
) -> None:
    model = keras.Sequential([keras.Input(shape), make(keras.layers)])
    (kernel,) = prunable_kernels(model)
    values = kernel.values()
    assert values.shape[kernel.axis] == 6
    np.moveaxis(values, kernel.axis, 0)[2] = 0
    kernel.variable.assign(values)
    inputs = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    changed, other = inputs.copy(), inputs.copy()
    changed[..., 2] += 1
    other[..., 3] += 1
    answer = np.asarray(model(inputs))
    assert np.array_equal(np.asarray(model(changed)), answer)
    assert not np.array_equal(np.asarray(model(other)), answer)


def test_depthwise_normalization_recurrent_and_attention_layers_are_left_alone(keras: Any) -> None:
    layers = keras.layers
    inputs = keras.Input((8, 8, 4))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3)(inputs))
    x = layers.LSTM(3, return_sequences=True)(layers.Reshape((36, 4))(x))
    x = layers.MultiHeadAttention(1, 2)(x, x)
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    assert [one.layer for one in prunable_kernels(model)] == ["last"]


def test_layers_in_wrappers_and_nested_models_carry_the_outer_names_and_come_once(keras: Any) -> None:
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8, 4)), layers.Conv1D(4, 3, padding="same", name="deep")], name="inner")
    inputs = keras.Input((8, 4))
    twice = inner(inner(inputs))
    model = keras.Model(inputs, layers.TimeDistributed(layers.Dense(2, name="wrapped"), name="outer")(twice))
    assert [one.names for one in prunable_kernels(model)] == [("inner", "deep"), ("outer", "wrapped")]


def test_the_account_of_zeros_counts_by_layer_and_prints_a_table(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="first"), layers.Dense(2, name="second")])
    first, second = np.ones((4, 5), np.float32), np.ones((5, 2), np.float32)
    first[0], second[:, 0] = 0, 0
    model.set_weights([first, np.zeros(5), second, np.zeros(2)])
    sparsity = sparsity_of(model)
    assert [(one.name, one.zeros, one.weights, one.share) for one in sparsity.layers] == [
        ("first", 5, 20, 0.25),
        ("second", 5, 10, 0.5),
    ]
    assert (sparsity.zeros, sparsity.weights, sparsity.total, sparsity.parameters) == (10, 30, 10 / 30, 37)
    assert str(sparsity).splitlines() == [
        "layer        kind   zeros  weights  share",
        "first        Dense      5       20  25.0%",
        "second       Dense      5       10  50.0%",
        "all kernels            10       30  33.3%",
        "The model has 37 parameters, zeros among them.",
    ]


def test_a_model_without_kernels_has_no_zeros(keras: Any) -> None:
    sparsity = sparsity_of(keras.Sequential([keras.Input((4,)), keras.layers.ReLU()]))
    assert (sparsity.layers, sparsity.total) == ((), 0.0)


def test_a_layer_that_is_called_alone_and_in_a_wrapper_is_counted_once(keras: Any) -> None:
    shared = keras.layers.Dense(4, name="shared")
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, keras.layers.TimeDistributed(shared)(shared(inputs)))
    assert len(prunable_kernels(model)) == 1
