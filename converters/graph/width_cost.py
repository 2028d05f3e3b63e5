"""What a model costs at other widths, without building it: one multiplication for each weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.errors import ConversionError
from converters.graph.channel_group import ChannelGroup
from converters.graph.cost import costs

__all__ = ["WidthCost"]

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


@dataclass(frozen=True, slots=True)
class _Weight:
    """One weight of a layer that channels stand on.

    Attributes:
        macs: Multiply-accumulates for each of its elements.
        axes: For each axis the size that no group changes, and (group, places of one unit) of those that do.
    """

    macs: int
    axes: tuple[tuple[int, tuple[tuple[str, int], ...]], ...]

    def elements(self, widths: Mapping[str, int]) -> int:
        """Return the number of elements where the groups are that wide."""
        return math.prod(rest + sum(places * widths[group] for group, places in parts) for rest, parts in self.axes)


class WidthCost:
    """MACs and parameters of a model as a function of the units that each group keeps.

    They are those that `converters.graph.cost.costs` counts on the pruned model, to the last one. Which units go does
    not matter: all units of a group stand on as many places.

    Args:
        model: A flat Keras model. It is read once and not kept.
        groups: All of its groups, from `channel_groups(model)`.

    Raises:
        ConversionError: The model is not flat, or a size that the MACs depend on is not fixed.
    """

    def __init__(self, model: Any, groups: Sequence[ChannelGroup]) -> None:
        spans: dict[tuple[str, int], dict[int, list[tuple[str, int]]]] = {}
        for group in groups:
            for member in group.members:
                axes = spans.setdefault((member.layer, member.weight), {})
                axes.setdefault(member.axis, []).append((group.name, len(member.positions[0])))
        self._sizes = {group.name: group.size for group in groups}
        self._weights: list[_Weight] = []
        self._fixed_macs = self._fixed_parameters = 0
        touched = {layer for layer, _ in spans}
        for row in costs(model).layers:
            if row.name not in touched:
                self._fixed_macs += row.macs
                self._fixed_parameters += row.parameters
                continue
            weights = model.get_layer(row.name).weights
            kernel_elements = sum(math.prod(one.shape) for one in weights if one.name in _KERNELS)
            # A kernel's element is used once at each place of the output, so the MACs follow the number of elements.
            each = row.macs // kernel_elements if row.macs else 0
            for index, one in enumerate(weights):
                axes = spans.get((row.name, index), {})
                self._weights.append(
                    _Weight(
                        each if one.name in _KERNELS else 0,
                        tuple(self._axis(int(size), axes.get(axis, ())) for axis, size in enumerate(one.shape)),
                    )
                )

    def macs(self, kept: Mapping[str, int]) -> int:
        """Return the multiply-accumulates with batch 1.

        Args:
            kept: Name of a group -> units that stay, 1..size. A group that is not named keeps all.

        Raises:
            ConversionError: A group does not exist, or cannot keep that many.
        """
        widths = self._widths(kept)
        return self._fixed_macs + sum(one.macs * one.elements(widths) for one in self._weights if one.macs)

    def parameters(self, kept: Mapping[str, int]) -> int:
        """Return the number of weights, trained or not; see `macs`."""
        widths = self._widths(kept)
        return self._fixed_parameters + sum(one.elements(widths) for one in self._weights)

    def _axis(self, size: int, parts: Sequence[tuple[str, int]]) -> tuple[int, tuple[tuple[str, int], ...]]:
        return size - sum(places * self._sizes[group] for group, places in parts), tuple(parts)

    def _widths(self, kept: Mapping[str, int]) -> dict[str, int]:
        for name, count in kept.items():
            if name not in self._sizes or not 1 <= count <= self._sizes[name]:
                raise ConversionError(
                    "A group of channels cannot keep that many.",
                    received=f"{name!r}: {count}",
                    expected=f"1..{self._sizes[name]}" if name in self._sizes else "the name of a group of this model",
                )
        return {**self._sizes, **kept}
