"""MACs and parameters, against counts by hand and against the converter's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from converters.errors import ConversionError
from converters.graph.cost import Costs, LayerCost, costs
from edgeinfer.model.summary import summarize

pytestmark = pytest.mark.tensorflow

# Input shape, class, settings, MACs, parameters; all counted by hand.
CASES: list[tuple[tuple[int, ...], str, dict[str, Any], int, int]] = [
    # 6 places x 3 taps x 2 channels x 5
    ((8, 2), "Conv1D", {"filters": 5, "kernel_size": 3}, 6 * 3 * 2 * 5, 3 * 2 * 5 + 5),
    # Stride 2, "same": 4 x 4 places.
    ((8, 8, 3), "Conv2D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}, 16 * 27 * 4, 27 * 4 + 4),
    # Dilation 2 makes a 3-tap window 5 wide: (8 - 4)^2 places.
    ((8, 8, 3), "Conv2D", {"filters": 4, "kernel_size": 3, "dilation_rate": 2}, 16 * 27 * 4, 27 * 4 + 4),
    # Each of 6 filters sees the 2 channels of its group.
    ((8, 8, 4), "Conv2D", {"filters": 6, "kernel_size": 1, "groups": 2, "use_bias": False}, 64 * 2 * 6, 2 * 6),
    ((4, 4, 4, 2), "Conv3D", {"filters": 3, "kernel_size": (1, 2, 3)}, 4 * 3 * 2 * 6 * 2 * 3, 6 * 2 * 3 + 3),
    # Two outputs for each of 3 channels, 6 x 6 places, 9 taps.
    ((8, 8, 3), "DepthwiseConv2D", {"kernel_size": 3, "depth_multiplier": 2}, 36 * 6 * 9, 54 + 6),
    ((8, 3), "DepthwiseConv1D", {"kernel_size": 3}, 6 * 3 * 3, 9 + 3),
    # Depthwise 36 x 3 x 9, then pointwise 36 x 3 x 5.
    ((8, 8, 3), "SeparableConv2D", {"filters": 5, "kernel_size": 3}, 36 * 3 * 9 + 36 * 3 * 5, 27 + 15 + 5),
    ((8, 3), "SeparableConv1D", {"filters": 5, "kernel_size": 3}, 6 * 3 * 3 + 6 * 3 * 5, 9 + 15 + 5),
    # Each of 4 x 4 x 3 numbers meets 9 taps of 2 outputs.
    (
        (4, 4, 3),
        "Conv2DTranspose",
        {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"},
        48 * 9 * 2,
        9 * 6 + 2,
    ),
    ((4, 3), "Conv1DTranspose", {"filters": 2, "kernel_size": 3}, 12 * 3 * 2, 3 * 6 + 2),
    ((7,), "Dense", {"units": 3}, 21, 24),
    # 5 x 2 rows of 7 numbers.
    ((5, 2, 7), "Dense", {"units": 3}, 10 * 21, 24),
    ((8, 8, 3), "BatchNormalization", {}, 0, 12),
    ((8, 8, 3), "MaxPooling2D", {}, 0, 0),
]


@pytest.mark.parametrize(("shape", "kind", "settings", "macs", "parameters"), CASES)
def test_a_layer_costs_what_a_count_by_hand_says(
    keras: Any, shape: tuple[int, ...], kind: str, settings: dict[str, Any], macs: int, parameters: int
) -> None:
    model = keras.Sequential([keras.Input(shape), getattr(keras.layers, kind)(**settings, name="one")])
    assert costs(model).layers == (LayerCost("one", kind, macs, parameters),)


def test_a_layer_that_is_called_twice_computes_twice_and_is_stored_once(keras: Any) -> None:
    shared, inputs = keras.layers.Dense(4, name="shared"), keras.Input((4,))
    found = costs(keras.Model(inputs, shared(shared(inputs))))
    assert found.layers == (LayerCost("shared", "Dense", 32, 20),)
    assert (found.macs, found.parameters) == (32, 20)


def test_models_within_the_model_are_counted(keras: Any) -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2)])
    assert (costs(model).macs, costs(model).parameters) == (12 + 6, 15 + 8)


def test_a_fixed_batch_does_not_count(keras: Any) -> None:
    inputs = keras.Input(batch_shape=(8, 4))
    assert costs(keras.Model(inputs, keras.layers.Dense(3)(inputs))).macs == 12


def test_a_size_that_is_not_fixed_is_refused_with_the_layer_s_name(keras: Any) -> None:
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3, name="stem")])
    with pytest.raises(ConversionError, match="`stem`") as caught:
        costs(model)
    assert "(None, None, None, 4)" in caught.value.received


def test_resnet_8_costs_what_its_converted_file_does(keras: Any, resnet: Path) -> None:
    found = costs(keras.models.load_model(resnet, compile=False))
    file = summarize(resnet.with_suffix(".tflite").read_bytes())
    assert found.macs == file.macs == 12_501_632
    # The converter folds the four numbers of each normalized channel: 3 x 16, 2 x 32 and 2 x 64 of them.
    assert found.parameters == file.parameters + 4 * (3 * 16 + 2 * 32 + 2 * 64)


def test_printing_shows_what_costs_something_and_the_sum() -> None:
    lines = str(Costs((LayerCost("stem", "Conv2D", 1_234_567, 448), LayerCost("pool", "MaxPooling2D", 0, 0)))).split(
        "\n"
    )
    assert [line.split() for line in lines] == [
        ["layer", "kind", "MACs", "parameters"],
        ["stem", "Conv2D", "1,234,567", "448"],
        ["total", "1,234,567", "448"],
    ]
    assert len({len(line) for line in lines}) == 1
