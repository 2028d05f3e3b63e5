"""Removed channels on random graphs: the narrower model equals the old one behind masks.

The test draws a program, and runs it twice with the same weights: once plainly, and once with each tensor multiplied by
a mask of its channels before a layer with weights reads it. Which channels of which tensor are the same one, the test
finds out in its own way: a channel is the set of (layer, number) that flow into it, and sets that meet are joined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.graph.channels import channel_groups
from converters.graph.surgery import remove_channels

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

KINDS = ("conv", "norm", "depthwise", "add", "join", "gate", "act", "pixels", "separable")
Channel = tuple[str, int]


class Joined:
    """Channels that are one, as sets that are merged whole."""

    def __init__(self) -> None:
        self.sets: dict[Channel, frozenset[Channel]] = {}

    def of(self, channel: Channel) -> frozenset[Channel]:
        return self.sets.get(channel, frozenset([channel]))

    def join(self, one: Channel, other: Channel) -> None:
        merged = self.of(one) | self.of(other)
        self.sets.update(dict.fromkeys(merged, merged))


class Builder:
    """Runs a program: steps of (kind, operand, operand, width), each on tensors that are there already.

    Attributes:
        gone: Channels to silence.
        labels: By layer or tensor: its channels.
    """

    def __init__(self, keras: Any, joined: Joined, gone: frozenset[Channel] = frozenset()) -> None:
        self.keras, self.joined, self.gone = keras, joined, gone

    def read(self, tensor: Any, labels: list[Channel]) -> Any:
        """What a layer with weights gets: the tensor, without the silenced channels."""
        mask = np.array([not (self.joined.of(one) & self.gone) for one in labels], dtype=np.float32)
        return tensor if mask.all() else tensor * mask

    def build(self, program: list[tuple[str, int, int, int]]) -> Any:
        layers = self.keras.layers
        x = self.keras.Input((4, 4, 2))
        start = layers.Conv2D(4, 3, padding="same", name="start")(x)
        tensors = [(start, [("start", one) for one in range(4)])]
        for number, (kind, first, second, width) in enumerate(program):
            tensors.append(self.step(f"{kind}_{number}", kind, tensors[first % len(tensors)], tensors, second, width))
        # All tensors reach the output, so that none of them is idle.
        heads = []
        for number, (tensor, labels) in enumerate(tensors):
            read = self.read(layers.Flatten()(tensor), labels * 16)
            heads.append(layers.Dense(2, name=f"head_{number}")(read))
        return self.keras.Model(x, layers.Add()(heads) if len(heads) > 1 else heads[0])

    def step(self, name: str, kind: str, source: Any, tensors: list[Any], second: int, width: int) -> Any:
        layers = self.keras.layers
        tensor, labels = source
        other, other_labels = tensors[second % len(tensors)]
        made = [(name, one) for one in range(width)]
        if kind == "conv":
            return layers.Conv2D(width, 1, activation="tanh", name=name)(self.read(tensor, labels)), made
        if kind == "separable":
            layer = layers.SeparableConv2D(width, 3, padding="same", depth_multiplier=2, name=name)
            return layer(self.read(tensor, labels)), made
        if kind == "norm":
            return layers.BatchNormalization(name=name)(tensor), labels
        if kind == "act":
            return layers.Activation("sigmoid", name=name)(tensor), labels
        if kind == "depthwise":
            layer = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name=name)
            return layer(tensor), [one for one in labels for _ in range(2)]
        if kind == "pixels":
            flat = layers.Dense(16 * width, name=name)(layers.Flatten()(self.read(tensor, labels)))
            for place in range(16 * width):
                self.joined.join((name, place), (name, place % width))
            return layers.Reshape((4, 4, width), name=f"{name}_back")(flat), made
        if kind == "join":
            return layers.Concatenate(name=name)([tensor, other]), labels + other_labels
        if kind == "gate":
            gate = layers.GlobalAveragePooling2D(keepdims=True)(self.read(tensor, labels))
            gate = layers.Dense(len(labels), activation="sigmoid", name=name)(gate)
            return self.meet(layers.Multiply(), tensor, labels, gate, [(name, one) for one in range(len(labels))])
        if len(labels) != len(other_labels):
            wanted = layers.Conv2D(len(labels), 1, name=name)(self.read(other, other_labels))
            return self.meet(layers.Add(), tensor, labels, wanted, [(name, one) for one in range(len(labels))])
        return self.meet(layers.Add(), tensor, labels, other, other_labels)

    def meet(self, layer: Any, tensor: Any, labels: list[Channel], other: Any, other_labels: list[Channel]) -> Any:
        for one, two in zip(labels, other_labels, strict=True):
            self.joined.join(one, two)
        return layer([tensor, other]), labels


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    program=st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 7), st.integers(0, 7), st.integers(2, 5)),
        min_size=1,
        max_size=7,
    ),
    seed=st.integers(0, 1000),
)
def test_random_graphs_are_exact(keras: Any, program: list[tuple[str, int, int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    joined = Joined()
    model = Builder(keras, joined).build(program)
    for layer in model.layers:
        for weight in layer.weights:
            positive = weight.name in ("gamma", "moving_variance")
            values = rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.3, weight.shape)
            weight.assign(values.astype(np.float32))
    removed, gone = {}, set()
    for group in channel_groups(model):
        # The test names a unit by one channel that a layer makes; all that is tied to it goes with it.
        maker = next(one for one in group.members if one.producing)
        sets = [joined.of((maker.layer, int(positions[0]))) for positions in maker.positions]
        assert len(set(sets)) == group.size
        if group.frozen or group.size < 2:
            continue
        units = rng.choice(group.size, int(rng.integers(1, group.size)), replace=False)
        removed[group.name] = units
        gone.update(channel for unit in units for channel in sets[unit])
    pruned = remove_channels(model, removed)
    masked = Builder(keras, joined, frozenset(gone)).build(program)
    for layer in masked.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    pixels = rng.normal(size=(2, 4, 4, 2)).astype(np.float32)
    wanted = np.asarray(masked(pixels, training=False))
    np.testing.assert_allclose(
        np.asarray(pruned(pixels, training=False)), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max()
    )
    assert {name for name, _ in gone} == {
        layer.name
        for layer in pruned.layers
        if layer.name.split("_")[0] in ("start", "conv", "separable", "gate", "add", "pixels")
        and hasattr(layer, "bias")
        and layer.bias.shape != model.get_layer(layer.name).bias.shape
    }
