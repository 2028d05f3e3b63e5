"""How the outputs of a detection model become boxes: the part of the contract that only detections need.

`edgeinfer.json` holds it as the object `head`; where a file has none, `edgeinfer.postprocess.detection_head` reads it
off the outputs, or says what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from edgeinfer.errors import MetadataError
from edgeinfer.frozen import dataclass
from edgeinfer.model.choice import one_of

Kind = Literal["finished", "anchors", "yolo", "rows", "heatmap"]
BoxOrder = Literal["yxyx", "xyxy", "cxcywh"]
Unit = Literal["share", "pixels"]
Channels = Literal["first", "last"]

_USUAL_ORDER: dict[str, BoxOrder] = {
    "finished": "yxyx",
    "anchors": "yxyx",
    "yolo": "cxcywh",
    "rows": "xyxy",
    "heatmap": "yxyx",
}


@dataclass(frozen=True, slots=True)
class AnchorGrid:
    """Anchors on the cells of several grids: grid by grid, row by row, the anchors of a cell side by side.

    A grid has `ceil(side / stride)` cells along a side of the input, and they share that side evenly: 10 cells for 300
    pixels and a stride of 32. This is how SSD, EfficientDet and MediaPipe place theirs.

    Attributes:
        strides: Input pixels per cell, one number a grid, the finest first.
        boxes: (width, height) of each anchor of a cell in input pixels, one tuple of pairs a grid.
        offset: Where in its cell an anchor's centre lies, 0..1.

    Example:
        >>> grid = AnchorGrid.of_sizes((8, 16), sizes=((32.0,), (64.0,)), ratios=(1.0, 4.0))
        >>> grid.boxes
        (((32.0, 32.0), (64.0, 16.0)), ((64.0, 64.0), (128.0, 32.0)))

    Source: Liu et al. 2016, arXiv:1512.02325, section 2.2; Tan et al. 2020, arXiv:1911.09070 (EfficientDet).
    """

    strides: tuple[int, ...]
    boxes: tuple[tuple[tuple[float, float], ...], ...]
    offset: float = 0.5

    def __post_init__(self) -> None:
        if not self.strides or len(self.strides) != len(self.boxes) or not all(self.boxes):
            raise MetadataError(
                "An anchor grid has boxes for every stride.",
                received=f"{len(self.strides)} strides, {len(self.boxes)} rows of boxes",
                expected="as many rows as strides, none empty",
            )
        pairs = [pair for row in self.boxes for pair in row]
        if any(len(pair) != 2 for pair in pairs):
            raise MetadataError("An anchor is a (width, height).", received=repr(self.boxes), expected="pairs")
        numbers = (*self.strides, *(side for pair in pairs for side in pair))
        if not all(math.isfinite(number) and number > 0 for number in numbers) or not 0 <= self.offset <= 1:
            raise MetadataError(
                "An anchor grid needs numbers above 0.", received=repr(self), expected="finite, and offset 0..1"
            )

    @staticmethod
    def of_sizes(
        strides: Sequence[int],
        *,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float] = (1.0,),
        offset: float = 0.5,
    ) -> AnchorGrid:
        """Return the grid that has every size in every ratio, the ratios of a size side by side.

        Args:
            strides: As in the class.
            sizes: Anchor sides in input pixels, one tuple a grid: the side of a square of the same area.
            ratios: Width to height, the same for all grids.
            offset: As in the class.

        Raises:
            MetadataError: A ratio or a size that is not above 0, or not one row of sizes a stride.
        """
        if not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
            raise MetadataError("A ratio is width to height.", received=repr(ratios), expected="above 0")
        roots = [math.sqrt(ratio) for ratio in ratios]
        boxes = tuple(tuple((side * root, side / root) for side in row for root in roots) for row in sizes)
        return AnchorGrid(tuple(strides), boxes, offset)


@dataclass(frozen=True, slots=True)
class DetectionHead:
    """How the outputs become boxes.

    What is None is read off the outputs when the model is loaded; what they do not show is then an error that names it.

    Attributes:
        kind: "finished": boxes, classes, scores and their count come out, suppressed already (TFLite's
            Detection_PostProcess, EfficientDet-Lite). "anchors": boxes coded against anchors, and a row of scores for
            each. "yolo": one output with box, maybe objectness, and class scores in each column or row. "rows": one
            output of finished rows, six numbers (box, score, class) or seven (picture, box, score, class). "heatmap":
            peaks of a map per class, with sizes and offsets in cells of that map (CenterNet).
        box: Order of a box's four numbers; None is the kind's usual one: "xyxy" of rows, "cxcywh" of YOLO, else "yxyx".
            For anchors and heat maps it says whether y stands before x ("yxyx") or x before y (any other).
        unit: Whether they are shares of the input's sides, or its pixels; "anchors" and "heatmap" need none.
        objectness: "yolo": whether a fifth number says how sure it is that there is anything.
        channels: "yolo": which axis holds the numbers of one box: "first" is (1, numbers, boxes).
        anchors: "anchors": where they lie.
        scaling: "anchors": what the four coded numbers (y, x, height, width) are divided by; (10, 10, 5, 5) is the
            usual one of SSD, (1, 1, 1, 1) of EfficientDet.
        background: "anchors": whether the first score is that of the background; it is no class then.
        logits: Whether the scores still need a sigmoid.

    Example:
        >>> DetectionHead("yolo", unit="share").to_json()
        {'kind': 'yolo', 'unit': 'share'}
    """

    kind: Kind
    box: BoxOrder | None = None
    unit: Unit | None = None
    objectness: bool | None = None
    channels: Channels | None = None
    anchors: AnchorGrid | None = None
    scaling: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    background: bool = False
    logits: bool = False

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(Kind))
        one_of("box", self.box, (*get_args(BoxOrder), None))
        one_of("unit", self.unit, (*get_args(Unit), None))
        one_of("objectness", self.objectness, (True, False, None))
        one_of("channels", self.channels, (*get_args(Channels), None))
        one_of("background", self.background, (True, False))
        one_of("logits", self.logits, (True, False))
        if len(self.scaling) != 4 or not all(math.isfinite(one) and one > 0 for one in self.scaling):
            raise MetadataError(
                "`scaling` is four numbers above 0.", received=repr(self.scaling), expected="(10.0, 10.0, 5.0, 5.0)"
            )
        if (self.kind == "anchors") != (self.anchors is not None):
            raise MetadataError(
                'Anchors belong to the kind "anchors", and to no other.',
                received=f'kind "{self.kind}", anchors={self.anchors!r}',
            )

    @property
    def box_order(self) -> BoxOrder:
        """The order of a box's numbers: `box`, or the kind's usual one."""
        return self.box or _USUAL_ORDER[self.kind]

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer.json` holds: everything that differs from the default, and the kind."""
        from dataclasses import fields

        usual = {one.name: one.default for one in fields(self) if one.name not in ("kind", "anchors")}
        given = {name: getattr(self, name) for name in usual if getattr(self, name) != usual[name]}
        said: dict[str, object] = {"kind": self.kind, **given}
        if "scaling" in said:
            said["scaling"] = list(self.scaling)
        if self.anchors is not None:
            boxes = [[list(pair) for pair in row] for row in self.anchors.boxes]
            said["anchors"] = {"strides": list(self.anchors.strides), "boxes": boxes, "offset": self.anchors.offset}
        return said

    @staticmethod
    def from_json(said: Mapping[str, object]) -> DetectionHead:
        """Return what `to_json` has written.

        Raises:
            MetadataError: A key or a value that is not known.
        """
        from dataclasses import fields

        known = {one.name for one in fields(DetectionHead)}
        unknown = sorted(set(said) - known)
        if unknown or "kind" not in said:
            raise MetadataError(
                "`head` in the model file has keys that are not known, or no kind.",
                received=", ".join(unknown) or "no `kind`",
                expected=", ".join(sorted(known)),
                next_step="Update edgeinfer on this machine." if unknown else "",
            )
        values = {name: _tuples(value) for name, value in said.items()}
        try:
            grid = values.get("anchors")
            if isinstance(grid, Mapping):
                values["anchors"] = AnchorGrid(**{name: _tuples(value) for name, value in grid.items()})  # type: ignore[arg-type]
            elif grid is not None:
                raise TypeError(f"`anchors` is {grid!r}, not an object")
            return DetectionHead(**values)  # type: ignore[arg-type]
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, MetadataError):
                raise
            raise MetadataError("`head` in the model file is wrong.", received=str(error)) from error


def _tuples(value: object) -> object:
    """Return a JSON value with its lists as tuples, all the way down."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
