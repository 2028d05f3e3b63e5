"""What the truth of a picture is, task by task, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_TOLERANCE_PX = 1.0  # annotation tools round, and published data has boxes that stand out by that much


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """What can be seen in one picture, and where; maybe nothing.

    Attributes:
        xyxy: (n, 4) float64, left, top, right, bottom, pixels of the picture.
        class_id: (n,) int64, index of the data's classes.
        crowd: (n,) bool: the box stands for many things, and need not be found.
    """

    xyxy: Floats
    class_id: NDArray[np.int64]
    crowd: Bools

    def __post_init__(self) -> None:
        shapes = (self.xyxy.shape, self.class_id.shape, self.crowd.shape)
        rows = len(self.class_id)
        if shapes != ((rows, 4), (rows,), (rows,)):
            raise InputError(
                "`xyxy`, `class_id` and `crowd` are one row a box.",
                received=f"shapes {shapes[0]}, {shapes[1]} and {shapes[2]}",
                expected="(n, 4), (n,) and (n,)",
            )


@dataclass(frozen=True, slots=True, eq=False)
class Bodies:
    """The bodies in one picture and their key points; maybe none.

    Attributes:
        xy: (n, k, 2) float64, pixels of the picture.
        labelled: (n, k) bool: False where nobody said where the point lies.
        xyxy: (n, 4) float64, the body's box, pixels.
        area: (n,) float64, square pixels that the body takes.
        crowd: (n,) bool, as in `Boxes`.
    """

    xy: Floats
    labelled: Bools
    xyxy: Floats
    area: Floats
    crowd: Bools

    def __post_init__(self) -> None:
        rows = len(self.xy)
        points = self.xy.shape[1] if self.xy.ndim == 3 else -1
        shapes = (self.xy.shape, self.labelled.shape, self.xyxy.shape, self.area.shape, self.crowd.shape)
        if shapes != ((rows, points, 2), (rows, points), (rows, 4), (rows,), (rows,)):
            raise InputError(
                "`xy`, `labelled`, `xyxy`, `area` and `crowd` are one row a body.",
                received=f"shapes {', '.join(str(shape) for shape in shapes)}",
                expected="(n, k, 2), (n, k), (n, 4), (n,), (n,)",
            )


@dataclass(frozen=True, slots=True, eq=False)
class DetectionData:
    """Pictures with boxes.

    Attributes:
        name: Where they came from.
        sources: What a pipeline takes: paths, bytes or arrays, one a picture.
        truth: One a picture.
        classes: The names that `Boxes.class_id` counts; empty where classes are the model's own numbers.
    """

    name: str
    sources: Sequence[Any]
    truth: Sequence[Boxes]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_count(self.name, self.sources, self.truth)
        used = [one.class_id for one in self.truth if len(one.class_id)]
        lowest, highest = (
            min((int(one.min()) for one in used), default=0),
            max((int(one.max()) for one in used), default=0),
        )
        if lowest < 0 or (self.classes and highest >= len(self.classes)):
            raise InputError(
                f"The boxes of `{self.name}` name classes that are not there.",
                received=f"{lowest} to {highest}",
                expected=f"0 to {len(self.classes) - 1}" if self.classes else "0 and more",
            )

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True, slots=True, eq=False)
class PoseData:
    """Pictures with bodies.

    Attributes:
        name: Where they came from.
        sources: As in `DetectionData`.
        truth: One a picture.
        sigmas: k numbers above 0: how exactly each point can be set, as a share of the body's size.
        names: k names of the points; empty where the data has none, which then count as the model's.
    """

    name: str
    sources: Sequence[Any]
    truth: Sequence[Bodies]
    sigmas: tuple[float, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_count(self.name, self.sources, self.truth)
        if self.names and len(self.names) != len(self.sigmas):
            raise InputError("One sigma a point.", received=f"{len(self.sigmas)}", expected=f"{len(self.names)}")
        if any(one.xy.shape[1] != len(self.sigmas) for one in self.truth) or not all(one > 0 for one in self.sigmas):
            raise InputError(
                f"The sigmas of `{self.name}` do not fit its points.",
                received=repr(self.sigmas),
                expected="a number above 0 for each point",
            )

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationData:
    """Pictures with the class of every pixel.

    Attributes:
        name: Where they came from.
        sources: As in `DetectionData`.
        truth: One a picture: a path to a class-index picture, or (height, width) uint8 or uint16, in the model's
            counting; 255 does not count.
    """

    name: str
    sources: Sequence[Any]
    truth: Sequence[Path | NDArray[np.uint8] | NDArray[np.uint16]]

    def __post_init__(self) -> None:
        _check_count(self.name, self.sources, self.truth)

    def __len__(self) -> int:
        return len(self.sources)


def _check_count(name: str, sources: Sequence[Any], truth: Sequence[Any]) -> None:
    if not len(sources):
        raise InputError(f"`{name}` holds no pictures.", expected="one picture or more")
    if len(sources) != len(truth):
        raise InputError(
            f"Every picture of `{name}` has its truth.",
            received=f"{len(sources)} pictures, {len(truth)} truths",
            expected="as many",
        )


def check_boxes(xyxy: Floats, size: tuple[int, int], where: str) -> None:
    """Refuse boxes that are turned inside out or lie outside their picture by more than a pixel.

    Args:
        xyxy: (n, 4), pixels.
        size: (width, height) of the picture.
        where: What to call the truth in an error.

    Raises:
        InputError: Such a box, or a number that is not finite.
    """
    width, height = size
    low = np.array([0.0, 0.0, 0.0, 0.0]) - _TOLERANCE_PX
    high = np.array([width, height, width, height]) + _TOLERANCE_PX
    # Comparisons with what is not a number are False.
    fine = ((xyxy >= low) & (xyxy <= high)).all(axis=1) & (xyxy[:, 2:] >= xyxy[:, :2]).all(axis=1)
    if not fine.all():
        left, top, right, bottom = (round(float(one), 2) for one in xyxy[int(np.argmin(fine))])
        raise InputError(
            f"A box of {where} does not lie in its picture.",
            received=f"({left}, {top}) to ({right}, {bottom})",
            expected=f"inside {width} x {height} pixels",
            next_step="Check that picture and annotation belong together, and that the picture was not resized.",
        )
