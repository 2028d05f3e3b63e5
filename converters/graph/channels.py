"""Which channels of a model hang together, and can only be removed together.

Every channel of every tensor has a symbolic number. Layers that make channels give out new ones; an addition unites
those of its inputs; Concatenate appends; Flatten repeats. What has one number in the end is one unit: it is removed
from all weights that it stands on, or from none. Units that stand on the same weights in the same way form a group, and
one of them is as good as another.

Source: Fang et al. 2023, arXiv:2301.12900, section 3 (dependencies between layers, and groups of them).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converters.graph.channel_group import ChannelGroup, Member
from converters.graph.channel_ids import ChannelIds, Ids, Touch
from converters.graph.channel_trace import trace_channels
from converters.graph.network import Network, read_network
from converters.graph.width_cost import WidthCost

__all__ = ["ChannelGroup", "GroupedChannels", "Member", "WidthCost", "channel_groups", "group_channels"]


@dataclass(frozen=True, slots=True, eq=False)
class GroupedChannels:
    """The groups of a network, and what it takes to remove units from them.

    Attributes:
        network: That was traced.
        channels: The trace.
        groups: In the order in which the model makes their first units.
        units: For each group the numbers of its units: (size,) of `channels.roots`.
    """

    network: Network
    channels: ChannelIds
    groups: tuple[ChannelGroup, ...]
    units: tuple[Ids, ...]


def channel_groups(model: Any) -> tuple[ChannelGroup, ...]:
    """Return the groups of channels that can only be removed together.

    Args:
        model: A flat Keras model, see `converters.graph.flat.flat_model`.

    Returns:
        In the order in which the model makes them, frozen ones included. Channels that no layer with weights makes (the
        model's inputs, what an unknown layer returns) are in none.

    Raises:
        ConversionError: The model is not flat, or subclassed.
    """
    return group_channels(read_network(model)).groups


def group_channels(network: Network) -> GroupedChannels:
    """Trace a network and sort its channels into groups, see `channel_groups`."""
    channels = trace_channels(network)
    touches = [(touch, channels.roots(touch.ids)) for touch in channels.touches]
    reasons: dict[int, list[str]] = {}
    for ids, reason in channels.reasons:
        for root in np.unique(channels.roots(ids)).tolist():
            reasons.setdefault(root, []).append(reason)
    # By unit: on which touch it stands, how often.
    stands: dict[int, list[tuple[int, int]]] = {}
    made: set[int] = set()
    for number, (touch, roots) in enumerate(touches):
        unique, counts = np.unique(roots, return_counts=True)
        made.update(unique.tolist() if touch.producing else ())
        for root, count in zip(unique.tolist(), counts.tolist(), strict=True):
            stands.setdefault(root, []).append((number, count))
    gathered: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for root in sorted(made):
        gathered.setdefault(tuple(stands[root]), []).append(root)
    groups, taken = [], _Names()
    for standing, roots_of_units in gathered.items():
        own = [touches[number] for number, _ in standing]
        groups.append(
            ChannelGroup(
                name=taken.unique(" + ".join(dict.fromkeys(one.layer for one, _ in own if one.producing))),
                size=len(roots_of_units),
                members=tuple(_member(touch, roots, roots_of_units) for touch, roots in own),
                frozen=", ".join(dict.fromkeys(one for root in roots_of_units for one in reasons.get(root, ()))),
            )
        )
    units = tuple(np.array(roots, dtype=np.int64) for roots in gathered.values())
    return GroupedChannels(network, channels, tuple(groups), units)


def _member(touch: Touch, roots: Ids, units: Iterable[int]) -> Member:
    order = np.argsort(roots, kind="stable")
    sorted_roots = roots[order]
    wanted = np.fromiter(units, dtype=np.int64)
    starts, ends = (np.searchsorted(sorted_roots, wanted, side=side) for side in ("left", "right"))
    positions = tuple(order[start:end] for start, end in zip(starts, ends, strict=True))
    return Member(touch.layer, touch.weight, touch.axis, positions, touch.producing)


@dataclass(slots=True)
class _Names:
    taken: set[str] = field(default_factory=set)

    def unique(self, name: str) -> str:
        chosen, number = name, 1
        while chosen in self.taken:
            number += 1
            chosen = f"{name} ({number})"
        self.taken.add(chosen)
        return chosen
