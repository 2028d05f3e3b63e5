"""The cost of a width without the model: to the last MAC what the pruned model costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.graph.channels import WidthCost, channel_groups
from converters.graph.cost import costs
from converters.graph.surgery import remove_channels

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def model(keras: Any) -> Any:
    """Every kind of layer that has weights, with ties between them."""
    layers = keras.layers
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(6, 3, strides=2, padding="same", name="a")(x)
    y = layers.PReLU(name="slopes")(layers.BatchNormalization()(y))
    branch = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(y)
    branch = layers.Conv2D(6, 1, use_bias=False, name="b")(branch)
    y = layers.Add()([y, branch])
    y = layers.Concatenate()([y, layers.SeparableConv2D(4, 3, padding="same", depth_multiplier=2, name="c")(y)])
    y = layers.Conv2D(8, 3, padding="same", groups=2, name="grouped")(y)
    y = layers.Conv2DTranspose(4, 2, strides=2, name="up")(y)
    y = layers.Conv2D(4, 3, padding="same", groups=4, name="own_groups")(y)
    y = layers.Dense(5, name="d")(layers.Flatten()(layers.MaxPooling2D(4)(y)))
    return keras.Model(x, layers.Dense(3, name="logits")(layers.LayerNormalization()(layers.Dense(4)(y))))


@pytest.mark.parametrize("seed", range(4))
def test_any_width_costs_what_the_pruned_model_costs(model: Any, seed: int) -> None:
    groups = channel_groups(model)
    rng = np.random.default_rng(seed)
    kept = {one.name: int(rng.integers(1, one.size + 1)) for one in groups if not one.frozen}
    removed = {
        one.name: rng.choice(one.size, one.size - kept[one.name], replace=False) for one in groups if one.name in kept
    }
    pruned = costs(remove_channels(model, removed))
    predicted = WidthCost(model, groups)
    assert (predicted.macs(kept), predicted.parameters(kept)) == (pruned.macs, pruned.parameters)
    assert pruned.parameters < costs(model).parameters


def test_a_group_that_is_not_named_keeps_all(model: Any) -> None:
    predicted, now = WidthCost(model, channel_groups(model)), costs(model)
    assert (predicted.macs({}), predicted.parameters({})) == (now.macs, now.parameters)


def test_a_small_model_by_hand(keras: Any) -> None:
    layers = keras.layers
    x = keras.Input((4, 4, 3))
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, name="a")(x))
    model = keras.Model(x, layers.Dense(2, name="b")(layers.Flatten()(y)))
    predicted = WidthCost(model, channel_groups(model))
    # 2 x 2 places, 5 channels: the convolution 3 * 3 * 3 * 5, the Dense layer 20 * 2; biases, and four vectors.
    assert predicted.macs({"a": 5}) == 4 * 135 + 40
    assert predicted.parameters({"a": 5}) == 135 + 5 + 4 * 5 + 40 + 2


@pytest.mark.parametrize("kept", [{"nobody": 1}, {"d": 0}, {"d": 6}], ids=str)
def test_a_width_that_cannot_be_is_an_error(model: Any, kept: dict[str, int]) -> None:
    predicted = WidthCost(model, channel_groups(model))
    for count in (predicted.macs, predicted.parameters):
        with pytest.raises(ConversionError, match="cannot keep that many"):
            count(kept)
