"""Non-maximum suppression: of boxes that show the same thing, the most confident one.

OpenCV does it where it is installed, NumPy otherwise, and both keep the same boxes. That needs care, because a
difference in the last bit of an overlap is a box more or less:

* Boxes are put on a grid of whole numbers first, 2^25 steps to the farthest coordinate (finer than the float32 that
  they come in). Areas and their sums then fit the 53 bits of a float64: they are exact in any order of arithmetic, with
  or without fused multiply-add.
* The one division is rounded alike everywhere, and NumPy repeats what OpenCV does with it: one minus the distance, in
  float32. The threshold goes the same way, so an overlap equal to the threshold is equal on both sides, and stays.
* Classes are moved apart by whole grids: boxes of two classes never overlap, and nothing is rounded by the move.

Source: `cv::dnn::NMSBoxes` (modules/dnn/src/nms.cpp) and `cv::jaccardDistance` of OpenCV 4 and 5.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import ModelError
from edgeinfer.preprocess import libraries

# Overlaps of two boxes stay below 2^53 steps of area: sides of 2^26, so coordinates of up to 2^25 either way.
_GRID_BITS = 25
_CLASS_STEP = float(2 ** (_GRID_BITS + 2))
# How far a Gaussian of the overlap reaches: the value of Bodla et al. 2017, section 4.
SOFT_SIGMA = 0.5

Rectangles = NDArray[np.float64]  # (n, 4): left, top, width, height, whole numbers


def hard_nms(
    xyxy: NDArray[np.float32], class_id: NDArray[np.int64] | None, *, iou: float, limit: int
) -> NDArray[np.intp]:
    """Return the boxes that stay: each one whose overlap with every better one that stays is at most `iou`.

    Args:
        xyxy: (n, 4) float32, any unit, finite, the most confident first; lower ones give way.
        class_id: (n,) int64, boxes of different classes do not touch each other; None suppresses across classes.
        iou: Intersection over union, 0..1. It is compared in float32 steps of the distance (6e-8).
        limit: How many may stay at most. Since it bounds the comparisons by `n * limit`, time grows with n, not with
            its square.

    Returns:
        Their indices, ascending: the most confident first.

    Raises:
        ModelError: OpenCV fails.
    """
    rectangles = _rectangles(xyxy, class_id)
    most = np.float32(1.0) - np.float32(1.0 - iou)
    cv2 = libraries.opencv()
    if cv2 is not None and hasattr(cv2, "dnn"):  # a build of one's own may leave the module out
        return _opencv(cv2, rectangles, most, limit)
    return _numpy(rectangles, most, limit)


def soft_nms(
    xyxy: NDArray[np.float32],
    confidence: NDArray[np.float32],
    class_id: NDArray[np.int64] | None,
    *,
    least: float,
    limit: int,
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the boxes that stay when overlap lowers confidence instead of ending a box.

    Whoever is most confident stays; all others lose by `confidence * exp(-overlap^2 / 0.5)`; and again, until none
    reaches `least`.

    Args:
        xyxy: As in `hard_nms`.
        confidence: (n,) float32, 0..1, descending.
        class_id: As in `hard_nms`.
        least: The confidence that a box must still have, 0..1.
        limit: How many may stay at most.

    Returns:
        Their indices and their lowered confidences, float32, descending.

    Source: Bodla et al. 2017, arXiv:1704.04503, equation 3 and figure 2.
    """
    rectangles = _rectangles(xyxy, class_id)
    rest = np.arange(len(rectangles))
    left = confidence.astype(np.float64)
    kept: list[int] = []
    lowered: list[float] = []
    while rest.size and len(kept) < limit:
        best = int(np.argmax(left))  # the first among equals, so the lower index
        kept.append(int(rest[best]))
        lowered.append(float(left[best]))
        best_rectangle = rectangles[rest[best]]
        left = np.delete(left, best)
        rest = np.delete(rest, best)
        overlap = _overlaps(rectangles[rest], best_rectangle).astype(np.float64)
        left = left * np.exp(-(overlap * overlap) / SOFT_SIGMA)
        alive = left >= least
        rest, left = rest[alive], left[alive]
    return np.array(kept, dtype=np.intp), np.array(lowered, dtype=np.float32)


def _rectangles(xyxy: NDArray[np.float32], class_id: NDArray[np.int64] | None) -> Rectangles:
    """Return boxes on the grid of whole numbers, each class in a place of its own."""
    reach = float(np.abs(xyxy).max()) if xyxy.size else 0.0
    rectangles = np.ldexp(xyxy.astype(np.float64), _GRID_BITS - math.frexp(reach)[1])
    np.rint(rectangles, out=rectangles)
    rectangles[:, 2:] -= rectangles[:, :2]
    if class_id is not None:
        rectangles[:, 0] += class_id * _CLASS_STEP
    return rectangles


def _opencv(cv2: ModuleType, rectangles: Rectangles, most: np.float32, limit: int) -> NDArray[np.intp]:
    # Lists are parsed four times as fast as arrays. Equal scores, because OpenCV sorts by them and keeps the order of
    # equals: the order is ours already.
    rows = rectangles.tolist()
    block = max(128, 2 * limit)
    kept: list[int] = []
    # What the first rows keep does not depend on later ones: block by block, until enough are kept.
    for start in range(0, len(rows), block):
        asked = [rows[one] for one in kept] + rows[start : start + block]
        try:
            answer = cv2.dnn.NMSBoxes(asked, [1.0] * len(asked), 0.0, float(most))
        except cv2.error as error:
            raise ModelError("OpenCV cannot suppress these boxes.", received=str(error)) from error
        # All of those kept before are kept again, in front: nothing stands above them.
        new = np.asarray(answer, dtype=np.intp).reshape(-1)[len(kept) :]
        kept += (new + (start - len(kept))).tolist()
        if len(kept) >= limit:
            break
    return np.array(kept[:limit], dtype=np.intp)


def _numpy(rectangles: Rectangles, most: np.float32, limit: int) -> NDArray[np.intp]:
    rest = np.arange(len(rectangles))
    kept: list[int] = []
    while rest.size and len(kept) < limit:
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        rest = rest[_overlaps(rectangles[rest], rectangles[best]) <= most]
    return np.array(kept, dtype=np.intp)


def _overlaps(rectangles: Rectangles, one: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the intersection over union of (n, 4) rectangles with one, float32; 1 where neither has an area."""
    left, top, width, height = rectangles.T
    inner_width = np.minimum(left + width, one[0] + one[2]) - np.maximum(left, one[0])
    inner_height = np.minimum(top + height, one[1] + one[3]) - np.maximum(top, one[1])
    inner = np.maximum(inner_width, 0.0) * np.maximum(inner_height, 0.0)
    both = width * height + one[2] * one[3]
    # No area at all counts as equal, as OpenCV has it.
    distance = np.where(both > 0.0, 1.0 - inner / np.maximum(both - inner, 1.0), 0.0)
    overlap: NDArray[np.float32] = np.float32(1.0) - distance.astype(np.float32)
    return overlap
