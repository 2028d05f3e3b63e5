"""A group of channels that can only be removed together, as a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChannelGroup", "Member"]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One axis of one weight on which the units of a group stand.

    Attributes:
        layer: Name of the layer.
        weight: Number in `layer.weights`.
        axis: Of the weight, from 0.
        positions: For each unit its places on the axis, (places,) int64, ascending. All units have as many. Behind a
            Flatten it is one for each pixel, behind a Concatenate they start with an offset.
        producing: Whether the layer makes the channels there (its kernel's output axis, its bias); else they are read,
            or go through, as in a batch normalization.
    """

    layer: str
    weight: int
    axis: int
    positions: tuple[NDArray[np.int64], ...]
    producing: bool


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ChannelGroup:
    """Channels that several layers share, unit by unit.

    Attributes:
        name: The layers that make the channels, in the model's order: "conv2d_3 + conv2d_5". Unique: where several
            groups have the same makers, the later ones get a number, "conv2d_3 (2)".
        size: Number of units. Each can be removed by itself, but one must stay.
        members: Every axis of every weight that the units stand on.
        frozen: "", or why no unit may go: "model output `probabilities`".
    """

    name: str
    size: int
    members: tuple[Member, ...]
    frozen: str = ""

    @property
    def producers(self) -> tuple[str, ...]:
        """The names of the layers that make the channels."""
        return tuple(dict.fromkeys(one.layer for one in self.members if one.producing))

    def __str__(self) -> str:
        others = tuple(dict.fromkeys(one.layer for one in self.members if not one.producing))
        lines = [
            f"{self.size} {'unit' if self.size == 1 else 'units'}{', frozen: ' + self.frozen if self.frozen else ''}",
            f"  made by {', '.join(self.producers)}",
        ]
        return "\n".join([*lines, f"  go to {', '.join(others)}"] if others else lines)

    def __repr__(self) -> str:
        """Return what `str` does: the arrays of the members fill pages."""
        return str(self)
