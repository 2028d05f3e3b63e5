"""Removed channels: the narrower model computes what the old one does with those channels unread, on every topology.

The reference of each test is the old model with zeros in the kernel rows that read the removed channels. Which rows
those are stands in the test, written down by hand for its model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from converters.graph.surgery import remove_channels

pytestmark = pytest.mark.tensorflow

# (layer, weight, axis) -> positions that are set to zero
Rows = Mapping[tuple[str, str, int], Sequence[int]]


def randomize(model: Any) -> Any:
    """Give every weight a value that shows: statistics of a fresh batch normalization would hide mistakes."""
    rng = np.random.default_rng(11)
    for layer in model.layers:
        for weight in layer.weights:
            positive = weight.name in ("gamma", "moving_variance")
            values = rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.4, weight.shape)
            weight.assign(values.astype(np.float32))
    return model


def answers(model: Any) -> list[Any]:
    rng = np.random.default_rng(5)
    inputs = [rng.normal(0, 1, (3, *one.shape[1:])).astype(np.float32) for one in model.inputs]
    made = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [np.asarray(one) for one in (made if isinstance(made, (list, tuple)) else [made])]


def zeroed(keras: Any, model: Any, rows: Rows) -> Any:
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    for (name, weight, axis), positions in rows.items():
        (variable,) = (one for one in twin.get_layer(name).weights if one.name == weight)
        values = np.moveaxis(variable.numpy().copy(), axis, 0)
        values[list(positions)] = 0
        variable.assign(np.moveaxis(values, 0, axis))
    return twin


def relative_error(got: list[Any], wanted: list[Any]) -> float:
    return max(float(np.abs(one - two).max() / np.abs(two).max()) for one, two in zip(got, wanted, strict=True))


@pytest.fixture
def check(keras: Any) -> Callable[..., Any]:
    """Remove units, compare with the zeroed model, and look at the shape of one weight for each layer named."""

    def run(model: Any, removed: Mapping[str, Sequence[int]], rows: Rows, kernels: Mapping[str, Sequence[int]]) -> Any:
        randomize(model)
        before = [one.copy() for one in model.get_weights()]
        pruned = remove_channels(model, {name: np.array(units, dtype=np.int64) for name, units in removed.items()})
        wanted = answers(zeroed(keras, model, rows))
        assert relative_error(answers(pruned), wanted) <= 1e-4
        # Without this a reference that reads none of the channels anyway would prove nothing.
        assert relative_error(answers(model), wanted) > 1e-2
        assert {name: tuple(pruned.get_layer(name).weights[0].shape) for name in kernels} == dict(kernels)
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        return pruned

    return run


def test_a_plain_chain_with_batch_normalization(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, name="a")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="bn")(y))
    y = layers.MaxPooling2D(2)(layers.ZeroPadding2D(1)(y))
    y = layers.Conv2D(5, 2, activation="relu", name="b")(layers.Dropout(0.5)(y))
    model = keras.Model(x, layers.Dense(2, name="c")(layers.GlobalAveragePooling2D()(y)))
    check(
        model,
        {"a": [1, 2], "b": [4]},
        {("b", "kernel", 2): [1, 2], ("c", "kernel", 0): [4]},
        {"a": (3, 3, 3, 2), "bn": (2,), "b": (2, 2, 2, 4), "c": (4, 2)},
    )


def test_a_residual_addition_ties_both_sides(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    first = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", name="a")(x))
    second = layers.Conv2D(4, 3, padding="same", activation="relu", name="b")(first)
    second = layers.BatchNormalization()(layers.Conv2D(4, 1, name="c")(second))
    y = layers.ReLU()(layers.Add()([first, second]))
    model = keras.Model(x, layers.Conv2D(2, 1, name="d")(y))
    check(
        model,
        {"a + c": [1], "b": [0, 3]},
        {("b", "kernel", 2): [1], ("c", "kernel", 2): [0, 3], ("d", "kernel", 2): [1]},
        {"a": (3, 3, 3, 3), "b": (3, 3, 3, 2), "c": (1, 1, 2, 3), "d": (1, 1, 3, 2)},
    )


def test_a_concatenation_shifts_positions(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((5, 5, 3))
    first = layers.Conv2D(3, 3, padding="same", name="a")(x)
    second = layers.Conv2D(5, 1, name="b")(x)
    y = layers.BatchNormalization(name="bn")(layers.Concatenate()([first, second, first]))
    model = keras.Model(x, layers.Conv2D(2, 1, name="c")(y))
    # a stands at 0..2 and 8..10, b at 3..7.
    check(
        model,
        {"a": [0], "b": [1, 4]},
        {("c", "kernel", 2): [0, 8, 4, 7]},
        {"a": (3, 3, 3, 2), "b": (1, 1, 3, 3), "bn": (7,), "c": (1, 1, 7, 2)},
    )


def test_a_concatenation_along_another_axis_ties_its_inputs(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((5, 3))
    y = layers.Concatenate(axis=1)([layers.Conv1D(4, 2, name="a")(x), layers.Conv1D(4, 3, name="b")(x)])
    model = keras.Model(x, layers.Conv1D(2, 2, name="c")(y))
    check(model, {"a + b": [2]}, {("c", "kernel", 1): [2]}, {"a": (2, 3, 3), "b": (3, 3, 3), "c": (2, 3, 2)})


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution_passes_channels_on(keras: Any, check: Any, multiplier: int) -> None:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    y = layers.ReLU()(layers.Conv2D(4, 1, name="a")(x))
    y = layers.DepthwiseConv2D(3, depth_multiplier=multiplier, name="dw")(y)
    y = layers.BatchNormalization(name="bn")(y)
    model = keras.Model(x, layers.Conv2D(2, 1, name="b")(y))
    rows = [1, 3] if multiplier == 1 else [2, 3, 6, 7]
    check(
        model,
        {"a": [1, 3]},
        {("b", "kernel", 2): rows},
        {"dw": (3, 3, 2, multiplier), "bn": (2 * multiplier,), "b": (1, 1, 2 * multiplier, 2)},
    )


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_convolution_with_a_group_for_each_channel_is_depthwise(keras: Any, check: Any, multiplier: int) -> None:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 1, activation="relu", name="a")(x)
    y = layers.Conv2D(4 * multiplier, 3, groups=4, name="dw")(y)
    model = keras.Model(x, layers.Conv2D(2, 1, name="b")(y))
    rows = [0, 3] if multiplier == 1 else [0, 1, 6, 7]
    check(model, {"a": [0, 3]}, {("b", "kernel", 2): rows}, {"a": (1, 1, 3, 2), "dw": (3, 3, 1, 2 * multiplier)})


def squeeze_excite(keras: Any, *, form: str) -> Any:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(8, 3, activation="relu", name="main")(x)
    squeezed = layers.GlobalAveragePooling2D(keepdims=form == "kept")(y)
    gate = layers.Dense(4, activation="relu", name="reduce")(squeezed)
    gate = layers.Dense(8, activation="sigmoid", name="expand")(gate)
    if form == "reshaped":
        gate = layers.Reshape((1, 1, 8))(gate)
    scaled = y * gate[:, None, None, :] if form == "sliced" else layers.Multiply()([y, gate])
    return keras.Model(x, layers.Conv2D(2, 1, name="out")(scaled))


@pytest.mark.parametrize("form", ["reshaped", "kept", "flat", "sliced"])
def test_a_squeeze_and_excite_gate_is_tied_to_what_it_scales(keras: Any, check: Any, form: str) -> None:
    check(
        squeeze_excite(keras, form=form),
        {"main + expand": [0, 5], "reduce": [1]},
        {("reduce", "kernel", 0): [0, 5], ("expand", "kernel", 0): [1], ("out", "kernel", 2): [0, 5]},
        {"main": (3, 3, 3, 6), "reduce": (6, 3), "expand": (3, 6), "out": (1, 1, 6, 2)},
    )


def test_flatten_repeats_a_channel_for_each_pixel(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((4, 5, 3))
    y = layers.Conv2D(4, 3, activation="relu", name="a")(x)  # (2, 3, 4)
    y = layers.BatchNormalization(name="bn")(layers.Flatten()(y))
    model = keras.Model(x, layers.Dense(3, name="b")(y))
    rows = [unit + 4 * pixel for pixel in range(6) for unit in (1, 2)]
    check(model, {"a": [1, 2]}, {("b", "kernel", 0): rows}, {"bn": (12,), "b": (12, 3)})


def test_a_reshape_is_given_its_new_size(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(5, 1, name="a")(x)
    y = layers.Reshape((16, 5))(y)
    y = layers.Conv1D(4, 3, activation="relu", name="b")(y)  # (14, 4)
    y = keras.ops.reshape(y, (-1, 7, 8))  # two pixels in a row: unit k at k and 4 + k
    y = layers.Conv1D(3, 1, name="c")(y)
    model = keras.Model(x, layers.Dense(2, name="d")(layers.Reshape((-1,))(y)))
    pruned = check(
        model,
        {"a": [4], "b": [0, 2], "c": [1]},
        {
            ("b", "kernel", 1): [4],
            ("c", "kernel", 1): [0, 2, 4, 6],
            ("d", "kernel", 0): [1 + 3 * place for place in range(7)],
        },
        {"b": (3, 4, 2), "c": (1, 4, 2), "d": (14, 2)},
    )
    assert [one.target_shape for one in pruned.layers if hasattr(one, "target_shape")] == [(16, 4), (-1,)]


def test_a_dense_layer_behind_a_flattened_map_is_folded_back(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((2, 2, 3))
    y = layers.Conv2D(4, 1, activation="relu", name="a")(x)
    # A tiled tensor meets one that is not: the units of "wide" are tied at k, k + 4, ...
    y = layers.Flatten()(y) + layers.Dense(16, name="wide")(layers.Flatten()(x))
    y = layers.Reshape((2, 2, 4))(y)
    model = keras.Model(x, layers.Conv2D(2, 1, name="b")(y))
    check(model, {"a + wide": [3]}, {("b", "kernel", 2): [3]}, {"a": (1, 1, 3, 3), "wide": (12, 12), "b": (1, 1, 3, 2)})


def test_a_decoder_folds_a_dense_layer_to_a_map(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((3,))
    y = layers.BatchNormalization(name="bn")(layers.Dense(2 * 3 * 4, name="a")(x))
    y = layers.Reshape((2, 3, 4))(y)
    model = keras.Model(x, layers.Conv2DTranspose(2, 2, strides=2, name="b")(y))
    # Unit k is the values k, k + 4, ... of the Dense layer: one for each pixel.
    pruned = check(model, {"a": [0, 3]}, {("b", "kernel", 3): [0, 3]}, {"a": (3, 12), "bn": (12,), "b": (2, 2, 2, 2)})
    kept = [unit + 4 * pixel for pixel in range(6) for unit in (1, 2)]
    np.testing.assert_array_equal(pruned.get_layer("a").bias, np.asarray(model.get_layer("a").bias)[kept])


def test_a_reshape_may_cut_across_pixels(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((3, 2))
    y = layers.Conv1D(4, 1, name="a")(x)
    # Three pixels of four channels become two rows of six: 0 1 2 3 0 1 and 2 3 0 1 2 3, so that 0 = 2 and 1 = 3.
    y = layers.Conv1D(5, 1, activation="relu", name="b")(layers.Reshape((2, 6))(y))
    model = keras.Model(x, layers.Dense(2, name="c")(y))
    check(model, {"a": [1]}, {("b", "kernel", 1): [1, 3, 5]}, {"a": (1, 2, 2), "b": (1, 3, 5)})


def test_a_shared_layer_has_one_width_for_all_its_calls(keras: Any, check: Any) -> None:
    layers = keras.layers
    first, second = keras.Input((5, 5, 3), name="left"), keras.Input((5, 5, 2), name="right")
    shared = keras.layers.Conv2D(6, 3, name="shared")
    norm = layers.BatchNormalization(name="bn")
    one = norm(shared(layers.Conv2D(4, 1, activation="relu", name="a")(first)))
    two = norm(shared(layers.Conv2D(4, 1, name="b")(second)))
    y = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Concatenate()([one, two])))
    model = keras.Model([first, second], layers.Dense(2, name="c")(y))
    check(
        model,
        {"b + a": [0], "shared": [2, 5]},
        {("shared", "kernel", 2): [0], ("c", "kernel", 0): [2, 5, 8, 11]},
        {"a": (1, 1, 3, 3), "b": (1, 1, 2, 3), "shared": (3, 3, 3, 4), "bn": (4,), "c": (8, 2)},
    )


def test_a_model_with_two_inputs_and_two_outputs(keras: Any, check: Any) -> None:
    layers = keras.layers
    picture, numbers = keras.Input((6, 6, 1), name="zebra"), keras.Input((4,), name="ant")
    seen = layers.GlobalMaxPooling2D()(layers.Conv2D(5, 3, activation="relu", name="a")(picture))
    joined = layers.Concatenate()([seen, layers.Dense(3, activation="tanh", name="b")(numbers), numbers])
    hidden = layers.Dense(6, activation="relu", name="c")(joined)
    model = keras.Model([picture, numbers], [layers.Dense(3, name="d")(hidden), layers.Dense(2, name="e")(joined)])
    check(
        model,
        {"a": [0], "b": [2], "c": [1, 4]},
        {("c", "kernel", 0): [0, 7], ("e", "kernel", 0): [0, 7], ("d", "kernel", 0): [1, 4]},
        {"c": (10, 4), "d": (4, 3), "e": (10, 2)},
    )


def test_the_groups_of_a_grouped_convolution_stay_equal(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(8, 1, activation="relu", name="a")(x)
    y = layers.ReLU()(layers.Conv2D(6, 3, groups=2, name="g")(y))
    model = keras.Model(x, layers.Conv2D(2, 1, name="b")(y))
    # Of `a` unit k is the channels k and 4 + k, of `g` k and 3 + k; both halves of `g` use the same kernel rows.
    check(
        model,
        {"a": [1, 2], "g": [0]},
        {("g", "kernel", 2): [1, 2], ("b", "kernel", 2): [0, 3]},
        {"a": (1, 1, 3, 4), "g": (3, 3, 2, 4), "b": (1, 1, 4, 2)},
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_transposed_convolution_has_its_kernel_the_other_way_round(keras: Any, check: Any, rank: int) -> None:
    layers = keras.layers
    x = keras.Input((4,) * rank + (3,))
    y = getattr(layers, f"Conv{rank}D")(4, 1, activation="relu", name="a")(x)
    y = getattr(layers, f"Conv{rank}DTranspose")(6, 2, strides=2, activation="relu", name="up")(y)
    model = keras.Model(x, getattr(layers, f"Conv{rank}D")(2, 1, name="b")(y))
    check(
        model,
        {"a": [3], "up": [0, 1]},
        {("up", "kernel", rank + 1): [3], ("b", "kernel", rank): [0, 1]},
        {"up": (2,) * rank + (4, 3), "b": (1,) * rank + (4, 2)},
    )


def test_a_u_net(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((8, 8, 3))
    wide = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", activation="relu", name="down")(x))
    deep = layers.Conv2D(6, 3, padding="same", activation="relu", name="deep")(layers.AveragePooling2D(2)(wide))
    up = layers.Conv2DTranspose(4, 2, strides=2, name="up")(deep)
    also = layers.UpSampling2D(interpolation="bilinear")(deep)
    y = layers.LeakyReLU()(layers.Concatenate()([wide, up, also]))
    model = keras.Model(x, layers.Conv2D(2, 1, activation="sigmoid", name="mask")(y))
    # down at 0..3, up at 4..7, deep at 8..13
    check(
        model,
        {"down": [1], "deep": [0, 5], "up": [3]},
        {("deep", "kernel", 2): [1], ("up", "kernel", 3): [0, 5], ("mask", "kernel", 2): [1, 7, 8, 13]},
        {"deep": (3, 3, 3, 4), "up": (2, 2, 3, 4), "mask": (1, 1, 10, 2)},
    )


@pytest.mark.parametrize("rank", [1, 2])
def test_a_separable_convolution_reads_depthwise_and_makes_pointwise(keras: Any, check: Any, rank: int) -> None:
    layers = keras.layers
    x = keras.Input((6,) * rank + (3,))
    y = getattr(layers, f"Conv{rank}D")(4, 1, activation="relu", name="a")(x)
    y = getattr(layers, f"SeparableConv{rank}D")(6, 3, depth_multiplier=2, activation="relu", name="s")(y)
    model = keras.Model(x, layers.Dense(2, name="b")(y))
    pruned = check(
        model,
        {"a": [1], "s": [0, 4]},
        {("s", "depthwise_kernel", rank): [1], ("b", "kernel", 0): [0, 4]},
        {"s": (3,) * rank + (3, 2), "b": (4, 2)},
    )
    assert tuple(pruned.get_layer("s").pointwise_kernel.shape) == (1,) * rank + (6, 4)


@pytest.mark.parametrize("shared_axes", [None, [1, 2], [3], [1, 2, 3]], ids=str)
def test_the_slopes_of_a_prelu_go_with_their_channels(keras: Any, check: Any, shared_axes: Any) -> None:
    layers = keras.layers
    x = keras.Input((5, 5, 3))
    y = layers.PReLU(shared_axes=shared_axes, name="slopes")(layers.Conv2D(4, 3, name="a")(x))
    model = keras.Model(x, layers.Conv2D(2, 1, name="b")(y))
    shape = [3, 3, 2]
    for axis in shared_axes or ():
        shape[axis - 1] = 1
    check(model, {"a": [0, 2]}, {("b", "kernel", 2): [0, 2]}, {"slopes": tuple(shape), "b": (1, 1, 2, 2)})


def test_the_factors_of_a_layer_scale_go_with_their_channels(keras: Any, check: Any) -> None:
    from keras.src.applications.convnext import LayerScale, StochasticDepth

    layers = keras.layers
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, name="a")(x)
    y = StochasticDepth(0.1)(LayerScale(0.5, 4, name="scale")(y))
    z = layers.Conv2D(2, 1, name="b")(y)
    check(keras.Model(x, z), {"a": [1, 2]}, {("b", "kernel", 2): [1, 2]}, {"a": (3, 3, 3, 2), "scale": (2,)})


def test_one_dimension_with_dense_layers_in_between(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((16, 2))
    y = layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu", name="a")(x)
    y = layers.DepthwiseConv1D(3, name="dw")(y)
    y = layers.Dense(5, activation="relu", name="b")(layers.BatchNormalization()(y))
    y = layers.Conv1D(3, 3, name="c")(layers.SpatialDropout1D(0.2)(y))
    model = keras.Model(x, layers.Dense(2, name="d")(layers.GlobalMaxPooling1D()(y)))
    check(
        model,
        {"a": [0], "b": [1, 3], "c": [2]},
        {("b", "kernel", 0): [0], ("c", "kernel", 1): [1, 3], ("d", "kernel", 0): [2]},
        {"dw": (3, 3, 1), "b": (3, 3), "c": (3, 3, 2), "d": (2, 2)},
    )


def test_operations_with_constants_and_reductions_pass_channels_on(keras: Any, check: Any) -> None:
    layers, ops = keras.layers, keras.ops
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, name="a")(x)
    y = ops.multiply(y, ops.relu6(1.5 - y * 0.5)) / 6.0 + np.float32(1.0)
    y = ops.pad(ops.hard_silu(layers.Rescaling(0.5, offset=0.1)(y)), ((0, 0), (1, 1), (0, 0), (0, 0)))
    y = ops.clip(ops.transpose(y, (0, 2, 1, 3)), -3.0, 3.0)
    y = ops.expand_dims(ops.mean(y, axis=(1, 2)), 1)
    model = keras.Model(x, layers.Dense(2, name="b")(y))
    check(model, {"a": [0, 3]}, {("b", "kernel", 0): [0, 3]}, {"a": (3, 3, 3, 2), "b": (2, 2)})


def test_a_map_of_one_channel_is_spread_over_all(keras: Any, check: Any) -> None:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, name="a")(x)
    gate = layers.Conv2D(1, 1, activation="sigmoid", name="gate")(y)
    model = keras.Model(x, layers.Conv2D(2, 1, name="b")(layers.Multiply()([y, gate])))
    rows = {("gate", "kernel", 2): [1], ("b", "kernel", 2): [1]}
    check(model, {"a": [1]}, rows, {"gate": (1, 1, 3, 1), "b": (1, 1, 3, 2)})


def test_sizes_that_are_only_known_when_the_model_runs_do_not_matter(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((None, None, 3))
    y = layers.Conv2D(4, 3, activation="relu", name="a")(x)
    y = layers.Reshape((-1, 4))(y)
    model = randomize(keras.Model(x, layers.Dense(2, name="b")(layers.GlobalAveragePooling1D()(y))))
    pruned = remove_channels(model, {"a": np.array([2])})
    pixels = np.random.default_rng(0).normal(size=(2, 7, 5, 3)).astype(np.float32)
    wanted = np.asarray(zeroed(keras, model, {("b", "kernel", 0): [2]})(pixels))
    np.testing.assert_allclose(np.asarray(pruned(pixels)), wanted, atol=1e-5)
    assert pruned.get_layer("a").filters == 3


def test_a_pruned_model_can_be_pruned_again(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(5, 1, name="second")(layers.Conv2D(4, 3, name="first")(x))
    chain = randomize(keras.Model(x, y))
    twice = remove_channels(remove_channels(chain, {"first": np.array([1])}), {"first": np.array([1])})
    wanted = answers(zeroed(keras, chain, {("second", "kernel", 2): [1, 2]}))
    assert relative_error(answers(twice), wanted) <= 1e-4
