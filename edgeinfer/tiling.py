"""Small objects in large pictures: look at overlapping tiles, one by one, and merge what was found in them.

Source: Akyon, Altinuc, Temizel, "Slicing Aided Hyper Inference and Fine-tuning for Small Object Detection"
(arXiv:2202.06934), section 3: slices with an overlap, the whole picture as well, and intersection over the smaller box.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass
from edgeinfer.pipeline import Pipeline
from edgeinfer.postprocess.nms import hard_nms
from edgeinfer.preprocess.geometry import Box, Size
from edgeinfer.preprocess.image import Source, read_image
from edgeinfer.results import Detections

_SMALLEST = 16
# A detector draws the side of a cut object near its tile's border, not on it: within this share of the tile's side.
# mAP50 in the measurement below: 34.6 with 0.0, 36.6 with 0.01, 37.6 with 0.05, 36.8 with 0.1.
_NEAR = 0.05


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a picture is cut into tiles: by their size, or by their number; neither takes the model's input size.

    Attributes:
        size: (width, height) of a tile, pixels, at least 16.
        columns: How many side by side, at least 1; with `rows`, instead of `size`.
        rows: How many one below the other.
        overlap: 0..0.9, the share of a tile's side that neighbours have in common, at least. An object that is no
            larger than this lies whole in one of them. 0.2 is the paper's.
        whole: Look at the whole picture too, for objects larger than a tile.

    Example:
        >>> Tiles((640, 640)).regions((1280, 720))
        [(0, 0, 640, 640), (320, 0, 960, 640), (640, 0, 1280, 640), (0, 80, 640, 720), (320, 80, 960, 720), \
(640, 80, 1280, 720)]
    """

    size: Size | None = None
    columns: int | None = None
    rows: int | None = None
    overlap: float = 0.2
    whole: bool = True

    def __post_init__(self) -> None:
        if (self.columns is None) != (self.rows is None) or (self.size is not None and self.columns is not None):
            raise InputError(
                "Tiles have a size, or a number of columns and rows.",
                received=f"size={self.size}, columns={self.columns}, rows={self.rows}",
                expected="`size`, or both `columns` and `rows`, or none of them",
            )
        if self.size is not None and not (
            isinstance(self.size, tuple)
            and len(self.size) == 2
            and all(isinstance(one, int) and one >= _SMALLEST for one in self.size)
        ):
            raise InputError(
                "This is no size of a tile.",
                received=repr(self.size),
                expected=f"(width, height), each at least {_SMALLEST} pixels",
            )
        if self.columns is not None and self.rows is not None and min(self.columns, self.rows) < 1:
            raise InputError(
                "Columns and rows count tiles.", received=f"{self.columns} and {self.rows}", expected="1 or more"
            )
        if not 0.0 <= self.overlap <= 0.9:
            raise InputError("The overlap is a share of a tile.", received=str(self.overlap), expected="0..0.9")

    def regions(self, image_size: Size, *, model_size: Size | None = None) -> list[Box]:
        """Return the tiles of a picture, row by row, xyxy pixels: together they hold every pixel.

        Along a side of W pixels, tiles of w with a step of s = w - ceil(overlap * w) are 1 + ceil((W - w) / s), at
        least 1, evenly spread. A picture that is no larger than a tile is one tile. Columns and rows get the smallest
        tiles that reach; fewer where these would be below 16 pixels.

        Args:
            image_size: (width, height) of the picture.
            model_size: (width, height) of the model's input; only needed where `Tiles` has neither size nor number.

        Raises:
            InputError: It is needed and not there.
        """
        size = self.size or model_size
        if self.columns is not None and self.rows is not None:
            size = (
                _side_for(image_size[0], self.columns, self.overlap),
                _side_for(image_size[1], self.rows, self.overlap),
            )
        if size is None:
            raise InputError("The size of a tile is not known.", expected="`Tiles(size=...)` or `model_size`")
        across = _spans(image_size[0], size[0], self.overlap)
        down = _spans(image_size[1], size[1], self.overlap)
        return [(left, top, right, bottom) for top, bottom in down for left, right in across]


@dataclass(frozen=True, slots=True)
class Merge:
    """When two boxes of one class are one object.

    Attributes:
        iou: 0..1; both boxes whole: above this intersection over union the less sure one goes.
        limit: How many boxes come out at most, the most confident ones, whatever the detector's own limit is: that
            one counts for each tile.
        smaller: 0..1; one of them cut by the border of a tile: from this intersection over the smaller box on. A piece
            lies within the whole object's box and is small, so over the union it would count for little.
    """

    iou: float = 0.45
    smaller: float = 0.5
    limit: int = 300

    def __post_init__(self) -> None:
        if not (0.0 < self.iou <= 1.0 and 0.0 < self.smaller <= 1.0):
            raise InputError("These are shares.", received=f"iou={self.iou}, smaller={self.smaller}", expected="0..1")
        if self.limit < 1:
            raise InputError("`limit` counts boxes.", received=str(self.limit), expected="1 or more")


def tiled(
    pipeline: Pipeline[Detections], tiles: Tiles | None = None, *, merge: Merge | None = None
) -> Callable[[Source], Detections]:
    """Return a function that detects in the tiles of a picture and merges what it finds.

    It costs one call of the pipeline a tile, and one for the whole picture (`Tiles.whole`), which is left out where one
    tile is the picture.

    Args:
        pipeline: Of `detector`; it stays usable by itself, and its `timing` counts each tile as a frame.
        tiles: None is `Tiles()`: tiles of the model's input size, so that no pixel is lost.
        merge: None is `Merge()`.

    Raises:
        InputError: When it is called: the source is no picture.

    Example:
        find = tiled(detector("ssd.tflite"), Tiles(size=(640, 640)))
        print(len(find("harbour.jpg")))
    """
    plan, rule = tiles or Tiles(), merge or Merge()
    model_size = pipeline.runtime.input.size

    def detect(source: Source) -> Detections:
        image = read_image(source)
        size = (image.shape[1], image.shape[0])
        regions = plan.regions(size, model_size=model_size)
        if plan.whole and len(regions) > 1:
            regions.append((0, 0, *size))
        found = [(pipeline(image, region=region), region) for region in regions]
        if len(found) == 1:
            return found[0][0]
        return merge_tiles(found, size, merge=rule)

    return detect


def merge_tiles(found: list[tuple[Detections, Box]], image_size: Size, *, merge: Merge | None = None) -> Detections:
    """Return the boxes of several regions as one result, each object once.

    Class by class: of whole boxes that overlap, the surest stays. A box that is cut by a border says less than a whole
    one, however sure, so a piece that overlaps a whole box goes. Of the others, the surest piece takes in those that
    overlap it, and becomes the box around them all.

    With SSD MobileNet v1 on the 128 shared COCO pictures (`benchmarks/tiles_growth.py --accuracy`) the whole picture
    alone has a mAP50 of 33.1; with 2 x 2 tiles it falls to 32.2 by IoU alone, and rises to 37.6 in this way.

    Args:
        found: At least one, each with the region that it was found in; all in pixels of the whole picture.
        image_size: (width, height) of the whole picture.
        merge: None is `Merge()`.

    Raises:
        InputError: There is nothing to merge.
    """
    if not found:
        raise InputError("There is no result to merge.", expected="at least one")
    rule = merge or Merge()
    xyxy = np.concatenate([one.xyxy for one, _ in found])
    confidence = np.concatenate([one.confidence for one, _ in found])
    class_id = np.concatenate([one.class_id for one, _ in found])
    is_cut = np.concatenate([_is_cut(one.xyxy, region, image_size) for one, region in found])
    order = np.argsort(-confidence, kind="stable")
    whole, pieces = order[~is_cut[order]], order[is_cut[order]]
    whole = whole[hard_nms(xyxy[whole], class_id[whole], iou=rule.iou, limit=rule.limit)]
    left = np.concatenate([whole, pieces])
    one, other = _pairs(xyxy[left], class_id[left], rule.smaller)
    # Rows of `left`: the whole boxes come first.
    is_whole = np.arange(len(left)) < len(whole)
    gone = np.zeros(len(left), np.bool_)
    gone[other[is_whole[one] & ~is_whole[other]]] = True
    meet = ~is_whole[one] & ~is_whole[other] & ~gone[one] & ~gone[other]
    for first, second in zip(one[meet].tolist(), other[meet].tolist(), strict=True):
        if not (gone[first] or gone[second]):
            gone[second] = True
            _grow(xyxy[left[first]], xyxy[left[second]])
    ranked = left[~gone]
    ranked = ranked[np.lexsort((ranked, -confidence[ranked]))][: rule.limit]
    return Detections(xyxy[ranked], confidence[ranked], class_id[ranked], found[0][0].labels)


def _grow(box: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    """Make a box the one around itself and another, in place."""
    np.minimum(box[:2], other[:2], out=box[:2])
    np.maximum(box[2:], other[2:], out=box[2:])


def _pairs(
    xyxy: NDArray[np.float32], class_id: NDArray[np.int64], smaller: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs of boxes of one class that share so much of the smaller one, the lower row first, sorted.

    Only boxes that overlap from left to right are compared at all.
    """
    order = np.lexsort((xyxy[:, 0], class_id))
    lefts, kinds = xyxy[order, 0], class_id[order]
    # Classes lie apart on one axis, so that one search finds the end of each box among those that begin after it.
    width = float(np.ptp(xyxy[:, [0, 2]])) + 1.0 if len(xyxy) else 1.0
    places = lefts.astype(np.float64) - float(lefts.min(initial=0.0)) + kinds * width
    ends = places + (xyxy[order, 2] - lefts)
    counts = np.maximum(np.searchsorted(places, ends, side="left") - np.arange(len(order)) - 1, 0)
    first = np.repeat(np.arange(len(order)), counts)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    one, other = order[first], order[second]
    one, other = np.minimum(one, other), np.maximum(one, other)
    shared = _shared(xyxy[one], xyxy[other], smaller)
    one, other = one[shared], other[shared]
    sorting = np.lexsort((other, one))
    return one[sorting], other[sorting]


def _shared(some: NDArray[np.float32], others: NDArray[np.float32], smaller: float) -> NDArray[np.bool_]:
    """Say which pairs, row by row, share so much of the smaller of both, (n,) bool."""
    sides = np.minimum(some[:, 2:], others[:, 2:]) - np.maximum(some[:, :2], others[:, :2])
    both = np.prod(np.maximum(sides, 0.0), axis=1)
    least = np.minimum(np.prod(some[:, 2:] - some[:, :2], axis=1), np.prod(others[:, 2:] - others[:, :2], axis=1))
    # A product instead of a quotient: a box without area divides nothing.
    enough: NDArray[np.bool_] = (both > 0.0) & (both >= smaller * least)
    return enough


def _is_cut(xyxy: NDArray[np.float32], region: Box, image_size: Size) -> NDArray[np.bool_]:
    """Say which boxes reach a border of their region that is none of the picture."""
    left, top, right, bottom = region
    near_x, near_y = _NEAR * (right - left), _NEAR * (bottom - top)
    cut = np.zeros(len(xyxy), np.bool_)
    if left > 0:
        cut |= xyxy[:, 0] <= left + near_x
    if top > 0:
        cut |= xyxy[:, 1] <= top + near_y
    if right < image_size[0]:
        cut |= xyxy[:, 2] >= right - near_x
    if bottom < image_size[1]:
        cut |= xyxy[:, 3] >= bottom - near_y
    return cut


def _step(side: int, overlap: float) -> int:
    # The subtrahend keeps what floats add to a whole number (0.1 * 30) from becoming one pixel more.
    return side - math.ceil(overlap * side - 1e-9)


def _spans(length: int, side: int, overlap: float) -> list[tuple[int, int]]:
    """Return the first and the end pixel of the tiles along one side."""
    if length <= side:
        return [(0, length)]
    gaps = -(-(length - side) // _step(side, overlap))
    starts = [index * (length - side) // gaps for index in range(gaps + 1)]
    return [(start, start + side) for start in starts]


def _side_for(length: int, count: int, overlap: float) -> int:
    """Return the smallest side of `count` tiles that reach over a length; at least 16 pixels."""
    side = max(_SMALLEST, math.floor(length / (1 + (count - 1) * (1 - overlap))))
    while side < length and side + (count - 1) * _step(side, overlap) < length:
        side += 1
    return side
