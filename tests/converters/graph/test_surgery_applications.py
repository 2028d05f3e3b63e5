"""Networks that people use: they can be made half as wide, and compute what the wide one does with half unread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.graph.blocks import remove_blocks, residual_blocks
from converters.graph.channels import WidthCost, channel_groups
from converters.graph.cost import costs
from converters.graph.flat import flat_model
from converters.graph.surgery import remove_channels

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

BUILD = {
    "MobileNetV3Small": lambda keras: keras.applications.MobileNetV3Small((32, 32, 3), weights=None, classes=5),
    "ResNet50": lambda keras: keras.applications.ResNet50(input_shape=(32, 32, 3), weights=None, classes=5),
}


@pytest.fixture(scope="module", params=list(BUILD))
def model(keras: Any, request: Any) -> Any:
    """Random weights of a size that keeps the values in range down to the last layer."""
    made = flat_model(BUILD[request.param](keras))
    rng = np.random.default_rng(0)
    for layer in made.layers:
        for weight in layer.weights:
            shape = tuple(weight.shape)
            if weight.name in ("gamma", "moving_variance"):
                values = rng.uniform(0.5, 1.5, shape)
            elif len(shape) == 1:
                values = rng.normal(0, 0.1, shape)
            else:
                reads = np.prod(shape[:2]) if "Depthwise" in type(layer).__name__ else np.prod(shape[:-1])
                values = rng.normal(0, 1.4 / np.sqrt(reads), shape)
            weight.assign(values.astype(np.float32))
    return made


def answers(model: Any) -> Any:
    return np.asarray(model(np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)))


def silenced(model: Any, gone: dict[str, Any]) -> Any:
    """A copy with zeros where kernels read what is gone. These members are proven by the small models' tests."""
    twin = flat_model(model)
    for group in channel_groups(model):
        for member in group.members if group.name in gone else ():
            layer = twin.get_layer(member.layer)
            weight = layer.weights[member.weight]
            if member.producing or weight.name != "kernel" or "Depthwise" in type(layer).__name__:
                continue
            values = np.moveaxis(weight.numpy().copy(), member.axis, 0)
            values[np.concatenate([member.positions[unit] for unit in gone[group.name]])] = 0
            weight.assign(np.moveaxis(values, 0, member.axis))
    return twin


def test_half_of_all_channels_can_go(model: Any) -> None:
    groups = channel_groups(model)
    rng = np.random.default_rng(3)
    gone = {one.name: rng.choice(one.size, one.size // 2, replace=False) for one in groups if not one.frozen}
    assert [one.producers for one in groups if one.frozen] in ([("logits",)], [("predictions",)])
    half = remove_channels(model, gone)
    wanted = answers(silenced(model, gone))
    assert np.abs(answers(half) - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert np.abs(answers(model) - wanted).max() > 1e-2 * np.abs(wanted).max()
    now, predicted = costs(half), WidthCost(model, groups)
    kept = {one.name: one.size - len(gone[one.name]) for one in groups if one.name in gone}
    assert (predicted.macs(kept), predicted.parameters(kept)) == (now.macs, now.parameters)
    assert now.macs < 0.35 * costs(model).macs


def test_all_residual_blocks_can_go(model: Any) -> None:
    blocks = residual_blocks(model)
    shorter = remove_blocks(model, [one.name for one in blocks])
    # Four stages of ResNet-50 have 3, 4, 6 and 3 blocks, the first of each with a convolution on its skip;
    # MobileNetV3-Small (table 2 of its paper) has 6 rows with stride 1 and equal widths.
    assert len(blocks) == {"resnet50": 12}.get(model.name, 6)
    assert costs(shorter).macs == costs(model).macs - sum(one.macs for one in blocks)
    assert np.isfinite(answers(shorter)).all()
