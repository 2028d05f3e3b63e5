"""Symbolic numbers for channels: which are one and the same, which must stay, and which weights they touch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChannelIds", "Ids", "Size", "Touch"]

Ids = NDArray[np.int64]  # (channels,) one number for each position on a tensor's last axis


@dataclass(frozen=True, slots=True, eq=False)
class Touch:
    """One axis of one weight that channels stand on.

    Attributes:
        layer: Name of the layer.
        weight: Number in `layer.weights`.
        axis: Of the weight, counted from 0.
        ids: (size of the axis,) the channel at each position.
        producing: Whether the layer makes these channels there.
    """

    layer: str
    weight: int
    axis: int
    ids: Ids
    producing: bool


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """One setting of a layer that counts channels.

    Attributes:
        layer: Name of the layer.
        setting: Its key in `layer.get_config()`, or for an operation the name of the attribute.
        ids: The setting is the number of these. Where the setting is a shape, its last entry is.
    """

    layer: str
    setting: str
    ids: Ids


class ChannelIds:
    """Gives out the numbers, unites them, and keeps what was found out about them.

    Attributes:
        touches: In the order in which they were found.
        sizes: Likewise.
        reasons: (ids, reason) of everything that must stay, likewise.
    """

    def __init__(self) -> None:
        self.touches: list[Touch] = []
        self.sizes: list[Size] = []
        self.reasons: list[tuple[Ids, str]] = []
        self._parents: list[int] = []
        self._first: dict[int, Ids] = {}
        self._created: dict[int, Ids] = {}

    def fresh(self, count: int) -> Ids:
        """Return numbers that nobody has yet: (count,)."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def created(self, layer: Any, count: int) -> tuple[Ids, bool]:
        """Return the channels that a layer makes, the same ones for each call, and whether this call is the first."""
        known = id(layer) in self._created
        if not known:
            self._created[id(layer)] = self.fresh(count)
        return self._created[id(layer)], not known

    def tie_calls(self, layer: Any, ids: Ids) -> bool:
        """Unite what a layer that has only one set of weights or settings reads in its calls.

        Returns:
            Whether this is the first call.
        """
        known = self._first.setdefault(id(layer), ids)
        if known is ids:
            return True
        if known.shape == ids.shape:
            self.unite(known, ids)
        else:
            reason = f"`{layer.name}` is called on different numbers of channels"
            self.freeze(known, reason)
            self.freeze(ids, reason)
        return False

    def unite(self, first: Ids, second: Ids) -> None:
        """Make the channels at the same positions of two arrays of one length one and the same."""
        for one, other in zip(self.roots(first).tolist(), self.roots(second).tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            # The lowest number stands for all, so that units come in the order in which they were made.
            self._parents[high] = low

    def tie_groups(self, ids: Ids, groups: int) -> None:
        """Unite position k of all groups of a grouped convolution, so that the groups stay equal in size."""
        rows = ids.reshape(groups, -1)
        for row in rows[1:]:
            self.unite(rows[0], row)

    def freeze(self, ids: Ids, reason: str) -> None:
        """Note why channels must stay."""
        if ids.size:
            self.reasons.append((ids, reason))

    def touch(self, layer: Any, weight: str, axis: int, ids: Ids, *, producing: bool = False) -> None:
        """Note that channels stand on an axis (negative: from the end) of the weight of that name, if there is one."""
        for index, one in enumerate(layer.weights):
            if one.name == weight:
                self.touches.append(Touch(layer.name, index, axis % len(one.shape), ids, producing))

    def size(self, layer: Any, setting: str, ids: Ids) -> None:
        """Note that a setting of a layer counts these channels."""
        self.sizes.append(Size(layer.name, setting, ids))

    def roots(self, ids: Ids) -> Ids:
        """Return for each channel the number that stands for all that are one with it: the lowest of them."""
        unique, places = np.unique(ids, return_inverse=True)
        found = np.fromiter((self._root(one) for one in unique.tolist()), dtype=np.int64, count=len(unique))
        return found[places.reshape(ids.shape)]

    def _root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number
