"""Bytes that a model's int8 file needs for weights and biases: an estimate, for any widths and without building it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.graph.channels import ChannelGroup

__all__ = ["StoredSize", "stored_size"]

_BIAS_BYTES = 4
_FOLDED = ("BatchNormalization",)


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis of a weight, and how much of it goes with each unit of a group: ((group, size now, positions), ...)."""

    size: int
    parts: tuple[tuple[str, int, float], ...]

    def __call__(self, kept: Mapping[str, int]) -> float:
        gone = sum((size - kept.get(group, size)) * positions for group, size, positions in self.parts)
        return self.size - gone


@dataclass(frozen=True, slots=True)
class StoredSize:
    """Bytes by layer, as a function of the widths; made by `stored_size`.

    Attributes:
        layers: (layer name, its arrays); an array is its axes and the bytes of an element.
    """

    layers: tuple[tuple[str, tuple[tuple[tuple[_Axis, ...], int], ...]], ...]

    def of_layer(self, name: str) -> int:
        """Return the bytes of one layer as it is now, 0 for one without weights."""
        return round(sum(_bytes(arrays, {}) for layer, arrays in self.layers if layer == name))

    def __call__(self, kept: Mapping[str, int]) -> float:
        """Return the bytes when groups keep that many channels; a group that is not named keeps all."""
        return sum(_bytes(arrays, kept) for _, arrays in self.layers)


def _bytes(arrays: Sequence[tuple[tuple[_Axis, ...], int]], kept: Mapping[str, int]) -> float:
    return sum(each * math.prod(axis(kept) for axis in axes) for axes, each in arrays)


def stored_size(model: Any, groups: Sequence[ChannelGroup] = ()) -> StoredSize:
    """Return the estimate for a model: 1 byte for each weight of a kernel, 4 for each output channel's bias.

    A convolution without a bias has one in the file all the same. BatchNormalization counts nothing: it is folded into
    the layer before it. What a file holds besides (the graph, the scales of the channels, the metadata) is left out.

    Args:
        model: A flat model.
        groups: Its groups of channels.
    """
    parts: dict[tuple[str, int, int], list[tuple[str, int, float]]] = {}
    for group in groups:
        for member in group.members:
            positions = sum(len(one) for one in member.positions) / group.size
            parts.setdefault((member.layer, member.weight, member.axis), []).append((group.name, group.size, positions))
    layers = []
    for layer in model.layers:
        arrays = []
        for number, weight in enumerate(layer.weights):
            axes = tuple(
                _Axis(int(size), tuple(parts.get((layer.name, number, axis), ())))
                for axis, size in enumerate(weight.shape)
            )
            if type(layer).__name__ not in _FOLDED:
                arrays.append((axes, 1 if len(axes) > 1 else _BIAS_BYTES))
        kernels = [axes for axes, _ in arrays if len(axes) > 1]
        if kernels and len(kernels) == len(arrays):
            arrays.append((_made(kernels[-1], type(layer).__name__), _BIAS_BYTES))
        layers.append((layer.name, tuple(arrays)))
    return StoredSize(tuple(layers))


def _made(kernel: tuple[_Axis, ...], kind: str) -> tuple[_Axis, ...]:
    """Return the axes of a kernel that count its output channels."""
    if kind.startswith("Depthwise"):
        return kernel[-2:]
    return kernel[-2:-1] if kind.endswith("Transpose") else kernel[-1:]
