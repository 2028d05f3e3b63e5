"""The estimate of an int8 file's weights and biases, against counts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def model(keras: Any) -> Any:
    from converters.graph.flat import flat_model

    layers = keras.layers
    return flat_model(
        keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                layers.Conv2D(8, 3, use_bias=False, name="first"),
                layers.BatchNormalization(name="norm"),
                layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise"),
                layers.Conv2DTranspose(4, 2, use_bias=False, name="up"),
                layers.Flatten(name="flatten"),
                layers.Dense(5, name="head"),
            ]
        )
    )


def by_hand(first: int, up: int) -> dict[str, int]:
    """One byte a weight; four for the bias of each output channel, which a file has whether the layer has one or not.

    4x4 places after the first layer, 2x2 after the depthwise one, 3x3 after the transposed one.
    """
    return {
        "first": 27 * first + 4 * first,
        "norm": 0,
        "depthwise": 9 * 2 * first + 4 * 2 * first,
        "up": 4 * (2 * first) * up + 4 * up,
        "head": 9 * up * 5 + 4 * 5,
    }


@pytest.mark.parametrize("name", ["first", "norm", "depthwise", "up", "head"])
def test_a_layer_takes_a_byte_a_weight_and_four_a_bias(model: Any, name: str) -> None:
    from converters.prune.size import stored_size

    assert stored_size(model).of_layer(name) == by_hand(8, 4)[name]


def test_narrower_widths_are_priced_without_building_them(model: Any) -> None:
    from converters.graph.channels import channel_groups
    from converters.graph.surgery import remove_channels
    from converters.prune.size import stored_size

    groups = channel_groups(model)
    size = stored_size(model, groups)
    assert size({}) == sum(by_hand(8, 4).values())
    assert size({"first": 5, "up": 1}) == sum(by_hand(5, 1).values())
    built = remove_channels(model, {"first": np.arange(3), "up": np.arange(3)})
    assert stored_size(built)({}) == sum(by_hand(5, 1).values())
