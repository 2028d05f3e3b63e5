"""Which tensors get a scale of their own."""

from __future__ import annotations

from typing import Any

import pytest

from converters.errors import ConversionError

pytestmark = pytest.mark.tensorflow


def scales_of(model: Any) -> Any:
    from converters.graph.network import read_network
    from converters.quantize.scales import read_scales

    return read_scales(read_network(model))


def test_a_relu_behind_a_convolution_stands_for_both(keras: Any) -> None:
    inputs = keras.Input((8, 8, 3), name="patch")
    hidden = keras.layers.ReLU(name="relu")(keras.layers.Dropout(0.1)(keras.layers.Conv2D(4, 3, name="conv")(inputs)))
    assert scales_of(keras.Model(inputs, hidden)).names == ("patch", "relu")


@pytest.mark.parametrize("twice", [True, False])
def test_a_relu_stays_an_op_where_somebody_else_reads_what_goes_in(keras: Any, twice: bool) -> None:
    inputs = keras.Input((8, 8, 3), name="patch")
    before = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    after = keras.layers.ReLU(name="relu")(before)
    end = keras.layers.Add(name="sum")([before, after]) if twice else [before, after]
    assert scales_of(keras.Model(inputs, end)).names[:3] == ("patch", "conv", "relu")


def test_a_leaky_relu_is_no_part_of_the_kernel(keras: Any) -> None:
    inputs = keras.Input((8, 8, 3), name="patch")
    hidden = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU(negative_slope=0.1, name="leaky")(hidden))
    assert scales_of(model).names == ("patch", "conv", "leaky")


def test_what_only_moves_numbers_has_the_scale_of_what_it_moves(keras: Any) -> None:
    layers = keras.layers
    inputs = keras.Input((8, 8, 3), name="patch")
    left = layers.MaxPooling2D(name="largest")(layers.Conv2D(4, 1, name="left")(inputs))
    right = layers.AveragePooling2D(2, name="mean")(layers.Conv2D(4, 1, name="right")(inputs))
    both = layers.Flatten(name="flat")(layers.Concatenate(name="both")([left, right]))
    scales = scales_of(keras.Model(inputs, layers.Dense(2, name="end")(both)))
    assert set(scales.names) == {"patch", "left", "right", "end"}
    assert scales.groups["left"] == scales.groups["right"] != scales.groups["end"]


def test_aligned_ranges_are_the_union_of_those_that_share_a_scale_and_hold_zero(keras: Any) -> None:
    from converters.quantize.scales import aligned_ranges

    layers = keras.layers
    inputs = keras.Input((8, 8, 3), name="patch")
    both = layers.Concatenate(name="both")(
        [layers.Conv2D(4, 1, name="left")(inputs), layers.ReLU(name="right")(inputs)]
    )
    scales = scales_of(keras.Model(inputs, both))
    given = [("left", -3.0, -1.0), ("right", 2.0, 5.0), ("both", -9.0, 9.0), ("patch", 0.5, 1.0)]
    # `both` has no scale of its own, so its range says nothing.
    assert sorted(aligned_ranges(scales, given)) == [("left", -3.0, 5.0), ("patch", 0.0, 1.0), ("right", -3.0, 5.0)]
    with pytest.raises(ConversionError, match="no layer `lft`") as caught:
        aligned_ranges(scales, [("lft", 0.0, 1.0)])
    assert "`left`" in caught.value.next_step


def test_behind_a_rescaling_at_the_front_the_input_goes_by_its_name(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="photo"),
            layers.Rescaling(1 / 255, name="to_one"),
            layers.Conv2D(4, 3, activation="relu", name="stem"),
        ]
    )
    scales = scales_of(model)
    assert scales.names == ("to_one", "stem")
    assert scales.inputs == {"to_one"}


def test_softmax_and_what_moves_its_output_have_the_scale_of_the_specification(keras: Any) -> None:
    layers = keras.layers
    inputs = keras.Input((6,), name="row")
    shares = layers.Reshape((2, 2), name="square")(layers.Softmax(name="shares")(layers.Dense(4, name="dense")(inputs)))
    scales = scales_of(keras.Model(inputs, shares))
    assert scales.names == ("row", "dense")
    # 1/256 a step from 0 on.
    assert set(scales.fixed.values()) == {(0.0, 255 / 256)}
    assert len(scales.fixed) == 2


def test_a_shared_layer_has_one_range_for_all_its_calls(keras: Any) -> None:
    inputs = keras.Input((6,), name="row")
    dense = keras.layers.Dense(6, name="dense")
    scales = scales_of(keras.Model(inputs, dense(dense(inputs))))
    assert scales.names == ("row", "dense")
    assert len({scales.tensors[one] for one in scales.sources}) == 2


def test_a_layer_that_becomes_several_ops_is_named(keras: Any) -> None:
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.LayerNormalization(name="norm")(inputs))
    (note,) = scales_of(model).notes
    assert "`norm` (LayerNormalization)" in note


def test_whole_numbers_that_go_in_have_no_range(keras: Any) -> None:
    inputs = keras.Input((4,), dtype="int32", name="tokens")
    model = keras.Model(inputs, keras.layers.Embedding(10, 3, name="words")(inputs))
    assert scales_of(model).names == ("words",)
