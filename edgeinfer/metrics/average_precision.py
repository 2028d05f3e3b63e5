"""Average precision by COCO's rules: who found what, and the area under precision over recall.

The work has two steps. `match` compares one picture's answers with its truth; `average_precision` ranks the answers
of all pictures by confidence and sums up. So the second step alone can be repeated for resampled pictures.

Source: Lin et al. 2014, "Microsoft COCO: common objects in context", arXiv:1405.0312, and the rules of its evaluation
(cocodataset.org, "Detection evaluate"): ten thresholds, 101 points of recall, at most 100 answers a class and picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
MOST_BOXES = 100  # a class and picture; the rest would hardly count, since precision is low there
_RECALL: Floats = np.linspace(0.0, 1.0, 101)
# A perfect fit counts at every threshold, rounding or not; the division by nothing found is 0. Both are COCO's.
_HIGHEST_THRESHOLD = 1 - 1e-10
_SMALLEST = np.spacing(1)
_CHUNK = 2**20  # numbers at once, 8 MiB: a small device resamples too


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a model found in one picture, in any order.

    Attributes:
        class_id: (d,) int64.
        confidence: (d,) float32 or float64.
    """

    class_id: NDArray[np.int64]
    confidence: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What there is to find in one picture.

    Attributes:
        class_id: (g,) int64.
        crowd: (g,) bool: stands for many, so that any number of answers may fall on it.
        ignored: (g,) bool: need not be found, and whoever finds it is neither right nor wrong. Crowds are ignored.
    """

    class_id: NDArray[np.int64]
    crowd: Bools
    ignored: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """One picture's answers after the comparison.

    Attributes:
        class_id: (n,) int64, of the answers that are counted or ignored; falling confidence.
        confidence: (n,) floats.
        correct: (thresholds, n) bool: has found something that nobody more confident has found.
        counted: (thresholds, n) bool: False where it fell on something ignored.
        wanted: (m,) int64, the class of everything that had to be found.
    """

    class_id: NDArray[np.int64]
    confidence: NDArray[np.floating[Any]]
    correct: Bools
    counted: Bools
    wanted: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """The answers of all pictures, class by class, each by falling confidence; only classes that had to be found.

    Attributes:
        classes: (k,) int64, rising.
        bounds: (k + 1,) int64: the answers of class i are `bounds[i]` to `bounds[i + 1]`.
        picture: (n,) int64, where each answer was given.
        correct: (thresholds, n) bool.
        counted: (thresholds, n) bool.
        wanted: (pictures, k) float64: how many of each class each picture holds.
    """

    classes: NDArray[np.int64]
    bounds: NDArray[np.int64]
    picture: NDArray[np.int64]
    correct: Bools
    counted: Bools
    wanted: Floats


def box_iou(found: NDArray[np.floating[Any]], truth: Floats, crowd: Bools) -> Floats:
    """Return how much of their union boxes share; for a crowd, how much of the found box lies in it.

    Args:
        found: (d, 4) xyxy, pixels.
        truth: (g, 4) xyxy, pixels.
        crowd: (g,) bool.

    Returns:
        (d, g) float64, 0..1; 0 where nothing is shared.
    """
    boxes = found.astype(np.float64)
    sides = np.minimum(boxes[:, None, 2:], truth[None, :, 2:]) - np.maximum(boxes[:, None, :2], truth[None, :, :2])
    shared: Floats = np.maximum(sides[..., 0], 0) * np.maximum(sides[..., 1], 0)
    area = _area(boxes)[:, None]
    whole = np.where(crowd, area, area + _area(truth) - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def _area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def match(similarity: Floats, found: Found, wanted: Wanted, *, most: int = MOST_BOXES) -> Matches:
    """Give each answer of one picture, the most confident first, the truth that it fits best and that is still free.

    An answer takes what must be found before what is ignored, and of equals the last.

    Args:
        similarity: (d, g) float64, 0..1: IoU or key point similarity of every answer with every truth.
        found: The d answers.
        wanted: The g truths.
        most: How many answers of a class are looked at, the most confident ones.
    """
    order = np.argsort(-found.confidence, kind="stable")
    order = order[_leading(found.class_id[order], most)]
    class_id = found.class_id[order]
    alike = class_id[:, None] == wanted.class_id
    fit = np.where(alike, similarity[order], -1.0)
    limits = np.minimum(THRESHOLDS, _HIGHEST_THRESHOLD)
    correct = np.zeros((len(limits), len(order)), dtype=np.bool_)
    counted = np.ones_like(correct)
    free = np.ones((len(limits), len(wanted.class_id)), dtype=np.bool_)
    # Most answers fit nothing, and need no turn of their own.
    for row in np.flatnonzero((fit >= limits[0]).any(axis=1)).tolist():
        near = np.flatnonzero(fit[row] >= limits[0])
        fits = free[:, near] & (fit[row, near] >= limits[:, None])
        must = fits & ~wanted.ignored[near]
        fits = np.where(must.any(axis=1, keepdims=True), must, fits)
        levels = np.flatnonzero(fits.any(axis=1))
        values = np.where(fits[levels], fit[row, near], -1.0)
        best = near[len(near) - 1 - np.argmax(values[:, ::-1], axis=1)]
        correct[levels, row] = ~wanted.ignored[best]
        counted[levels, row] = ~wanted.ignored[best]
        free[levels, best] = wanted.crowd[best]
    return Matches(class_id, found.confidence[order], correct, counted, wanted.class_id[~wanted.ignored])


def _leading(class_id: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the indices of the first `most` of each class, rising."""
    if len(class_id) <= most:
        return np.arange(len(class_id))
    by_class = np.argsort(class_id, kind="stable")
    ordered = class_id[by_class]
    place = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    return np.sort(by_class[place < most])


def pool(matches: Sequence[Matches]) -> Pooled:
    """Rank the answers of all pictures; equals keep the order of the pictures.

    Raises:
        InputError: Nothing has to be found in any picture, so there is nothing to measure.
    """
    wanted = np.concatenate([one.wanted for one in matches]) if matches else np.zeros(0, dtype=np.int64)
    if not wanted.size:
        raise InputError("Nothing has to be found in these pictures.", expected="pictures with something in them")
    classes = np.unique(wanted)
    counts = np.zeros((len(matches), len(classes)))
    owner = np.repeat(np.arange(len(matches)), [len(one.wanted) for one in matches])
    np.add.at(counts, (owner, np.searchsorted(classes, wanted)), 1)
    class_id = np.concatenate([one.class_id for one in matches])
    confidence = np.concatenate([one.confidence for one in matches])
    order = np.lexsort((-confidence, class_id))
    order = order[np.isin(class_id[order], classes)]
    picture = np.repeat(np.arange(len(matches)), [len(one.class_id) for one in matches])
    return Pooled(
        classes,
        np.append(np.searchsorted(class_id[order], classes), len(order)),
        picture[order],
        np.concatenate([one.correct for one in matches], axis=1)[:, order],
        np.concatenate([one.counted for one in matches], axis=1)[:, order],
        counts,
    )


def average_precision(pooled: Pooled, weights: NDArray[np.integer[Any]] | None = None) -> Floats:
    """Return the average precision of every class at every threshold.

    It is the mean, over 101 points of recall, of the highest precision at that recall or a higher one.

    Args:
        pooled: From `pool`.
        weights: (r, pictures) whole numbers: how often each picture counts in each of r samples; None counts each
            once, in one sample.

    Returns:
        (r, k, thresholds) float64, 0..1; NaN where a sample has nothing of a class.
    """
    pictures = len(pooled.wanted)
    times = np.ones((1, pictures)) if weights is None else weights
    result = np.full((len(times), len(pooled.classes), len(THRESHOLDS)), np.nan)
    for index in range(len(pooled.classes)):
        answers = slice(int(pooled.bounds[index]), int(pooled.bounds[index + 1]))
        picture, correct, counted = pooled.picture[answers], pooled.correct[:, answers], pooled.counted[:, answers]
        step = max(1, _CHUNK // (picture.size + correct[:, correct.any(axis=0)].size + 1))
        for start in range(0, len(times), step):
            some = times[start : start + step].astype(np.float64)
            wanted = some @ pooled.wanted[:, index]
            result[start : start + step, index] = _area_under(some[:, picture], correct, counted, wanted)
    return result


def _area_under(weights: Floats, correct: Bools, counted: Bools, wanted: Floats) -> Floats:
    """Return (r, thresholds) for the ranked answers of one class: weights (r, n), wanted (r,)."""
    # Precision only falls between two right answers, so nothing but these decides; most answers are wrong.
    ends = np.flatnonzero(correct.any(axis=0))
    right = np.cumsum(weights[:, None, ends] * correct[:, ends], axis=2)
    not_counted = np.flatnonzero(~counted.all(axis=0))
    left_out = np.cumsum(weights[:, None, not_counted] * ~counted[:, not_counted], axis=2)
    left_out = np.concatenate([np.zeros((*left_out.shape[:2], 1)), left_out], axis=2)
    all_of_them = np.cumsum(weights, axis=1)[:, None, ends] - left_out[..., np.searchsorted(not_counted, ends, "right")]
    with np.errstate(invalid="ignore"):  # 0 of 0: a sample without this class, NaN below
        recall = right / wanted[:, None, None]
    precision = right / (all_of_them + _SMALLEST)
    highest = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    reached = np.searchsorted(_RECALL, recall, side="right")
    points = np.diff(reached, axis=2, prepend=0)
    area: Floats = (points * highest).sum(axis=2) / len(_RECALL)
    area[wanted == 0] = np.nan
    return area
