"""How the outputs of a detection model become boxes: the part of the contract that only detections need.

`edgeinfer.json` holds it as the object `head`; where a file has none, `edgeinfer.postprocess.recognize` reads it off
the outputs, or says what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from edgeinfer.errors import MetadataError
from edgeinfer.model.specs import one_of

Kind = Literal["finished", "anchors", "yolo", "rows", "heatmap"]
BoxOrder = Literal["yxyx", "xyxy", "cxcywh"]
Unit = Literal["share", "pixels"]


@dataclass(frozen=True, slots=True)
class AnchorGrid:
    """Anchors on the cells of several grids, one grid a stride, row by row, the anchors of a cell side by side.

    Attributes:
        strides: Input pixels per cell, one number a grid, the finest first.
        sizes: Anchor sides in input pixels, one tuple a grid: the side of a square of the same area.
        ratios: Width to height, the same for all grids.
        offset: Where in its cell an anchor's centre lies, 0..1.

    Source: Liu et al. 2016, arXiv:1512.02325, section 2.2; Tan et al. 2020, arXiv:1911.09070 (EfficientDet).
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...] = (1.0,)
    offset: float = 0.5

    def __post_init__(self) -> None:
        numbers = (*self.strides, *self.ratios, *(side for row in self.sizes for side in row))
        if not self.strides or len(self.strides) != len(self.sizes) or not all(self.sizes) or not self.ratios:
            raise MetadataError(
                "An anchor grid has sizes for every stride.",
                received=f"{len(self.strides)} strides, {len(self.sizes)} rows of sizes, {len(self.ratios)} ratios",
                expected="as many rows as strides, none empty",
            )
        if not all(math.isfinite(number) and number > 0 for number in numbers) or not 0 <= self.offset <= 1:
            raise MetadataError(
                "An anchor grid needs numbers above 0.", received=repr(self), expected="finite, and offset 0..1"
            )


@dataclass(frozen=True, slots=True)
class DetectionHead:
    """How the outputs become boxes.

    Attributes:
        kind: "finished": boxes, classes, scores and their count come out, suppressed already (TFLite's
            Detection_PostProcess, EfficientDet-Lite). "anchors": boxes coded against anchors, and a row of scores for
            each. "yolo": one output with box, maybe objectness, and class scores in each column or row. "rows": one
            output of finished rows. "heatmap": peaks of a map per class, with sizes and offsets (CenterNet).
        box: Order of a box's four numbers.
        unit: Whether they are shares of the input's sides, or its pixels.
        objectness: "yolo": whether a fifth number says how sure it is that there is anything.
        channels: "yolo": which axis holds the numbers of one box: "first" is (1, numbers, boxes).
        anchors: "anchors": where they lie.
        scaling: "anchors": what the four coded numbers (y, x, height, width) are divided by; (10, 10, 5, 5) is the
            usual one of SSD, (1, 1, 1, 1) of EfficientDet.
        background: "anchors": whether the first score is that of the background.
        logits: Whether the scores still need a sigmoid.
        stride: "heatmap": input pixels per cell.
    """

    kind: Kind
    box: BoxOrder = "yxyx"
    unit: Unit = "share"
    objectness: bool = False
    channels: Literal["first", "last"] = "last"
    anchors: AnchorGrid | None = None
    scaling: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    background: bool = False
    logits: bool = False
    stride: int = 4

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(Kind))
        one_of("box", self.box, get_args(BoxOrder))
        one_of("unit", self.unit, get_args(Unit))
        one_of("channels", self.channels, ("first", "last"))
        if len(self.scaling) != 4 or not all(math.isfinite(one) and one > 0 for one in self.scaling):
            raise MetadataError(
                "`scaling` is four numbers above 0.", received=repr(self.scaling), expected="(10.0, 10.0, 5.0, 5.0)"
            )
        if self.stride < 1:
            raise MetadataError("`stride` counts pixels.", received=str(self.stride), expected="1 or more")
        if (self.kind == "anchors") != (self.anchors is not None):
            raise MetadataError(
                'Anchors belong to the kind "anchors", and to no other.',
                received=f'kind "{self.kind}", anchors={self.anchors!r}',
            )

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer.json` holds: everything that differs from the default, and the kind."""
        plain = {"kind": self.kind}
        usual = {one.name: one.default for one in fields(self) if one.name != "kind"}
        given = {name: getattr(self, name) for name in usual if getattr(self, name) != usual[name]}
        return {**plain, **{name: asdict(value) if name == "anchors" else value for name, value in given.items()}}

    @staticmethod
    def from_json(said: Mapping[str, object]) -> DetectionHead:
        """Return what `to_json` has written.

        Raises:
            MetadataError: A key or a value that is not known.
        """
        known = {one.name for one in fields(DetectionHead)}
        unknown = sorted(set(said) - known)
        if unknown or "kind" not in said:
            raise MetadataError(
                "`head` in the model file has keys that are not known, or no kind.",
                received=", ".join(unknown) or "no `kind`",
                expected=", ".join(sorted(known)),
                next_step="Update edgeinfer on this machine." if unknown else "",
            )
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
        try:
            grid = values.get("anchors")
            if isinstance(grid, Mapping):
                lists = {name: tuple(grid[name]) for name in ("strides", "ratios") if name in grid}
                sizes = tuple(tuple(row) for row in grid["sizes"])
                values["anchors"] = AnchorGrid(**{**grid, **lists, "sizes": sizes})
            return DetectionHead(**values)  # type: ignore[arg-type]
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, MetadataError):
                raise
            raise MetadataError("`head` in the model file is wrong.", received=str(error)) from error
