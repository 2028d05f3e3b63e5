"""How the one output of a YOLO model is laid out, told from the number of its boxes.

A YOLO has a fixed number of boxes per cell of its grids, and its grids follow from the input's size. Ultralytics' v8
and later have one box a cell and no objectness; v5 and v7 have three boxes a cell, with objectness. So the number of
boxes says both which axis counts them and whether the fifth number is an objectness.
"""

from __future__ import annotations

from typing import NamedTuple

from edgeinfer.errors import MetadataError
from edgeinfer.model.heads import Channels, DetectionHead
from edgeinfer.model.specs import OutputSpec

# Input pixels per cell: the usual three grids, those of the "p6" and "p2" models, and the two of the "tiny" ones.
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
# Read as one box a cell without objectness, these widths have a second reading that is at least as common.
_SECOND_READINGS = {
    85: "objectness and 80 classes (YOLOX, YOLOv6)",
    56: "one class and 17 key points (a pose model)",
}


class Layout(NamedTuple):
    """Where the numbers of a box stand, and what the fifth is."""

    channels: Channels
    objectness: bool


def yolo_layout(
    spec: OutputSpec,
    sides: tuple[int, int],
    size: tuple[int, int] | None,
    declared: DetectionHead | None,
    classes: int,
) -> Layout | None:
    """Return the layout of a YOLO output, or None where it does not look like one.

    Args:
        spec: The output.
        sides: Its last two dimensions.
        size: The input's (width, height); None where it is no picture.
        declared: What is said already; None where nothing is.
        classes: How many labels there are; 0 where there are none.

    Raises:
        MetadataError: The number of classes does not fit the labels, or the output has two readings.
    """
    counts = {} if size is None else box_counts(size)
    channels = declared.channels if declared else None
    objectness = declared.objectness if declared else None
    if channels is None:
        first, last = sides[1] in counts, sides[0] in counts
        if first == last:
            return None
        channels = "first" if first else "last"
    boxes, numbers = (sides[1], sides[0]) if channels == "first" else sides
    is_said = objectness is not None
    if objectness is None:
        if boxes not in counts:
            return None
        objectness = counts[boxes]
    found = numbers - (5 if objectness else 4)
    if found < 1:
        return None
    if classes and found != classes:
        raise MetadataError(
            f"The labels do not fit `{spec.name}`.",
            received=f"{classes} labels, and {numbers} numbers a box: 4 for the box, "
            f"{'1 for objectness, ' if objectness else ''}{found} classes",
            expected="as many labels as classes",
            next_step="Hand over the right `labels`."
            if is_said
            else "Hand over the right `labels`; or, where the fifth number is an objectness, declare "
            '`DetectionHead("yolo", objectness=True)`.',
        )
    if not objectness and not is_said and not classes and numbers in _SECOND_READINGS:
        raise MetadataError(
            f"`{spec.name}` has two readings: {found} classes, or {_SECOND_READINGS[numbers]}.",
            received=f"`{spec.name}` {spec.shape} {spec.dtype}",
            expected="labels, or a declared head",
            next_step='Hand over the `labels`, or declare `DetectionHead("yolo", objectness=True or False)`.',
        )
    return Layout(channels, objectness)


def box_counts(size: tuple[int, int]) -> dict[int, bool]:
    """Return how many boxes a YOLO for this input can have, and whether one with so many has an objectness.

    Numbers that two kinds share are left out.

    Args:
        size: The input's (width, height).

    Example:
        >>> box_counts((640, 640))[8400], box_counts((640, 640))[25200]
        (False, True)
    """
    kinds: dict[int, set[bool]] = {}
    for strides in _STRIDES:
        cells = sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)
        if len(strides) > 2:  # no model with two grids goes without objectness
            kinds.setdefault(cells, set()).add(False)
        kinds.setdefault(3 * cells, set()).add(True)
    return {count: kind.pop() for count, kind in kinds.items() if len(kind) == 1}
