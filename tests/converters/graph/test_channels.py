"""Groups of channels: who is tied to whom, what is frozen, and what the reader is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.graph.channels import ChannelGroup, channel_groups

pytestmark = pytest.mark.tensorflow


def by_name(model: Any) -> dict[str, ChannelGroup]:
    groups = channel_groups(model)
    assert len({one.name for one in groups}) == len(groups)
    return {one.name: one for one in groups}


def test_a_group_lists_every_axis_that_its_channels_stand_on(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    y = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, name="a")(x))
    y = layers.Concatenate()([layers.Conv2D(2, 3, use_bias=False, name="b")(x), y])
    model = keras.Model(x, layers.Dense(3, name="c")(layers.Flatten()(layers.MaxPooling2D(2)(y))))
    groups = by_name(model)
    assert {name: (one.size, one.frozen) for name, one in groups.items()} == {
        "a": (4, ""),
        "b": (2, ""),
        "c": (3, "model output `c`"),
    }
    members = {(one.layer, one.weight, one.axis): one for one in groups["a"].members}
    assert {key: one.producing for key, one in members.items()} == {
        ("a", 0, 3): True,
        ("a", 1, 0): True,
        ("bn", 0, 0): False,
        ("bn", 1, 0): False,
        ("bn", 2, 0): False,
        ("bn", 3, 0): False,
        ("c", 0, 0): False,
    }
    # Two channels of b stand before the four of a, for each of the 2 x 2 pixels.
    assert [one.tolist() for one in members["c", 0, 0].positions] == [
        [2 + unit + 6 * pixel for pixel in range(4)] for unit in range(4)
    ]
    assert [one.tolist() for one in members["a", 0, 3].positions] == [[0], [1], [2], [3]]


def test_printed_a_group_names_the_layers_that_it_couples(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((6, 6, 3))
    first = layers.Conv2D(4, 1, name="a")(x)
    y = layers.Add()([first, layers.Conv2D(4, 1, name="b")(layers.BatchNormalization(name="bn")(first))])
    model = keras.Model(x, layers.Conv2D(2, 1, name="c")(y))
    tied, last = channel_groups(model)
    assert str(tied) == "4 units\n  made by a, b\n  go to bn, b, c"
    assert tied.producers == ("a", "b")
    assert "b" in {one.layer for one in tied.members if not one.producing}
    assert str(last) == "2 units, frozen: model output `c`\n  made by c"


def freezing(keras: Any, case: str) -> Any:
    """A model with the layers "a" (8 channels), what the case says, and "b" behind it."""
    layers, ops = keras.layers, keras.ops

    class Odd(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    class Conv2D(keras.layers.Conv2D):
        pass

    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(8, 3, name="a", activation="softmax" if case == "activation" else None)(x)
    rows = layers.Reshape((16, 8), name="rows")(y) if case in ("attention", "lstm", "einsum") else y
    made = {
        "layer norm": lambda: layers.LayerNormalization(name="it")(y),
        "group norm": lambda: layers.GroupNormalization(2, name="it")(y),
        "batch norm of rows": lambda: layers.BatchNormalization(axis=1, name="it")(y),
        "softmax": lambda: layers.Softmax(name="it")(y),
        "softmax as activation": lambda: layers.Activation("softmax", name="it")(y),
        "own activation": lambda: layers.Activation(lambda z: z[..., ::-1], name="it")(y),
        "attention": lambda: layers.MultiHeadAttention(2, 4, name="it")(rows, rows),
        "lstm": lambda: layers.LSTM(4, return_sequences=True, name="it")(rows),
        "einsum": lambda: layers.EinsumDense("abc,cd->abd", (None, 4), name="it")(rows),
        "lambda": lambda: layers.Lambda(lambda z: z, output_shape=(4, 4, 8), name="it")(y),
        "own layer": lambda: Odd(name="it")(y),
        "own layer of a known name": lambda: Conv2D(8, 1, name="it")(y),
        "channels first": lambda: layers.UpSampling2D(data_format="channels_first", name="it")(y),
        "permuted": lambda: layers.Permute((3, 1, 2), name="it")(y),
        "channels to rows": lambda: layers.Reshape((4, 2, 16), name="it")(layers.Permute((1, 3, 2), name="swap")(y)),
        "rescaled channel by channel": lambda: layers.Rescaling([float(one) for one in range(8)], name="it")(y),
        "normalized channel by channel": lambda: layers.Normalization(mean=[1.0] * 8, variance=[2.0] * 8, name="it")(y),
        "constants": lambda: y + np.arange(8, dtype=np.float32),
        "sliced": lambda: y[..., :4],
        "sliced to the last axis": lambda: y[:, :, :, 1:],
        "one channel taken": lambda: y[:, :, 0, 3:4],
        "mean of channels": lambda: ops.mean(y, axis=-1, keepdims=True),
        "padded channels": lambda: ops.pad(y, ((0, 0), (0, 0), (0, 0), (1, 1))),
        "channels to an axis": lambda: layers.Reshape((4, 4, 8, 1), name="it")(y),
        "wrapped": lambda: layers.TimeDistributed(layers.Dense(4), name="it")(y),
        "activation": lambda: y,
    }[case]()
    return keras.Model(x, layers.Dense(2, name="b")(made))


@pytest.mark.parametrize(
    "case",
    [
        "layer norm",
        "group norm",
        "batch norm of rows",
        "softmax",
        "softmax as activation",
        "own activation",
        "attention",
        "lstm",
        "einsum",
        "lambda",
        "own layer",
        "own layer of a known name",
        "channels first",
        "permuted",
        "channels to an axis",
        "rescaled channel by channel",
        "normalized channel by channel",
        "wrapped",
    ],
)
def test_what_computes_across_channels_freezes_them_and_is_named(keras: Any, case: str) -> None:
    assert "layer `it`" in by_name(freezing(keras, case))["a"].frozen


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("constants", "constant for each channel"),
        ("sliced", "(GetItem) takes out a part of the channels"),
        ("sliced to the last axis", "(GetItem) takes out a part of the channels"),
        ("one channel taken", "(GetItem) takes out a part of the channels"),
        ("mean of channels", "(Mean) computes across the channels"),
        ("padded channels", "(Pad) adds channels"),
        ("channels to rows", "layer `swap` (Permute) moves channels to another axis"),
        ("activation", "activation `softmax` of layer `a`"),
    ],
)
def test_operations_say_why_they_freeze(keras: Any, case: str, words: str) -> None:
    assert words in by_name(freezing(keras, case))["a"].frozen


def test_a_dense_layer_with_softmax_freezes_its_own_channels_only(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((4,))
    y = layers.Dense(5, activation="softmax", name="b")(layers.Dense(6, name="a")(x))
    groups = by_name(keras.Model(x, layers.Dense(2, name="c")(y)))
    assert (groups["a"].frozen, groups["b"].frozen) == ("", "activation `softmax` of layer `b`")


def test_channels_that_meet_the_model_input_stay(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((4, 4, 3), name="picture")
    y = layers.Add()([x, layers.Conv2D(3, 1, name="a")(x)])
    assert by_name(keras.Model(x, layers.Conv2D(2, 1, name="b")(y)))["a"].frozen == "model input `picture`"


def test_one_channel_that_is_spread_over_many_stays(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(6, 1, name="a")(x)
    y = layers.Multiply(name="spread")([y, layers.Conv2D(1, 1, name="gate")(y)])
    groups = by_name(keras.Model(x, layers.Conv2D(2, 1, name="b")(y)))
    assert (groups["a"].frozen, groups["gate"].frozen) == ("", "layer `spread` spreads its one channel over 6")


def test_a_layer_that_is_partly_frozen_makes_two_groups(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((4, 4, 3), name="picture")
    side = layers.Concatenate()([x, layers.Conv2D(5, 1, name="b")(x)])
    y = layers.Add()([layers.Conv2D(8, 1, name="a")(x), side])
    groups = channel_groups(keras.Model(x, layers.Conv2D(2, 1, name="c")(y)))
    assert {frozenset(one.producers): (one.size, one.frozen) for one in groups if one.name != "c"} == {
        frozenset({"a"}): (3, "model input `picture`"),
        frozenset({"a", "b"}): (5, ""),
    }


def test_units_that_stand_on_different_numbers_of_places_are_in_different_groups(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((4, 4, 3))
    a, b, c = (layers.Conv2D(width, 1, name=name)(x) for name, width in (("a", 2), ("b", 3), ("c", 2)))
    # a0 a1 b0 b1 b2 meets b0 b1 b2 c0 c1, so that a0 = b0 = b2 = c1 and a1 = b1 = c0.
    y = layers.Add()([layers.Concatenate()([a, b]), layers.Concatenate()([b, c])])
    groups = [one for one in channel_groups(keras.Model(x, layers.Conv2D(2, 1, name="d")(y))) if not one.frozen]
    assert [one.size for one in groups] == [1, 1]
    assert {one.name for one in groups} == {groups[0].name, f"{groups[0].name} (2)"}
    places = {
        tuple(sorted((one.layer, tuple(one.positions[0].tolist())) for one in group.members if one.weight == 0))
        for group in groups
    }
    assert places == {
        (("a", (0,)), ("b", (0, 2)), ("c", (1,)), ("d", (0, 2, 4))),
        (("a", (1,)), ("b", (1,)), ("c", (0,)), ("d", (1, 3))),
    }


def test_a_nested_model_is_refused(keras: Any) -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="inner")
    x = keras.Input((4,))
    with pytest.raises(ConversionError, match="inner"):
        channel_groups(keras.Model(x, keras.layers.Dense(2)(inner(x))))
