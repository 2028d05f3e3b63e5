"""Suppression, by OpenCV and by NumPy, against a loop in plain Python."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinfer.postprocess.nms import hard_nms, soft_nms
from edgeinfer.preprocess import libraries

pytestmark = pytest.mark.device

Boxes = list[tuple[float, float, float, float]]


@pytest.fixture(params=["opencv", "numpy"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "opencv":
        pytest.importorskip("cv2")
    else:
        monkeypatch.setattr(libraries, "opencv", lambda: None)
    return str(request.param)


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> Fraction:
    """Intersection over union, exactly."""
    width = Fraction(min(one[2], other[2])) - Fraction(max(one[0], other[0]))
    height = Fraction(min(one[3], other[3])) - Fraction(max(one[1], other[1]))
    inner = max(width, Fraction(0)) * max(height, Fraction(0))
    areas = [(Fraction(box[2]) - Fraction(box[0])) * (Fraction(box[3]) - Fraction(box[1])) for box in (one, other)]
    return inner / (sum(areas) - inner)


def oracle(boxes: Boxes, classes: list[int] | None, iou: Fraction, limit: int) -> list[int]:
    kept: list[int] = []
    for index, box in enumerate(boxes):
        rivals = [other for other in kept if classes is None or classes[other] == classes[index]]
        if all(overlap(box, boxes[other]) <= iou for other in rivals):
            kept.append(index)
    return kept[:limit]


def of(boxes: Boxes) -> np.ndarray:
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def both(boxes: np.ndarray, classes: np.ndarray | None, *, iou: float, limit: int) -> tuple[list[int], list[int]]:
    """What OpenCV keeps (where it is installed) and what NumPy keeps."""
    by_opencv = hard_nms(boxes, classes, iou=iou, limit=limit).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libraries, "opencv", lambda: None)
        return by_opencv, hard_nms(boxes, classes, iou=iou, limit=limit).tolist()


# --- by hand ---------------------------------------------------------------------------------------


def test_the_better_of_two_that_overlap_stays(library: str) -> None:
    boxes = of([(0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60)])
    assert hard_nms(boxes, None, iou=0.5, limit=10).tolist() == [0, 2]


def test_another_class_is_no_rival(library: str) -> None:
    boxes = of([(0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 10)])
    assert hard_nms(boxes, np.array([0, 7, 0]), iou=0.5, limit=10).tolist() == [0, 1]
    assert hard_nms(boxes, None, iou=0.5, limit=10).tolist() == [0]


def test_what_is_suppressed_suppresses_nothing(library: str) -> None:
    # The second overlaps the first by 6 of 14 and goes; the third overlaps only the second.
    boxes = of([(0, 0, 10, 1), (4, 0, 14, 1), (8, 0, 18, 1)])
    assert hard_nms(boxes, None, iou=0.4, limit=10).tolist() == [0, 2]


@pytest.mark.parametrize(("inner", "union"), [(1, 2), (1, 3), (1, 4), (9, 20), (7, 20), (3, 5), (7, 10)])
def test_an_overlap_equal_to_the_threshold_stays(library: str, inner: int, union: int) -> None:
    # Boxes of height 1 that share `inner` columns of `union`: both are (inner + union) / 2 wide.
    width = (inner + union) / 2
    boxes = of([(0, 0, width, 1), (union - width, 0, union, 1)])
    assert hard_nms(boxes, None, iou=inner / union, limit=10).tolist() == [0, 1]
    assert hard_nms(boxes, None, iou=inner / union - 1e-6, limit=10).tolist() == [0]


def test_half_pixels_count(library: str) -> None:
    # 0.5 of 1.5: a third. Rounded to whole pixels they would be the same box, or none.
    boxes = of([(0.0, 0.0, 1.0, 1.0), (0.5, 0.0, 1.5, 1.0)])
    assert hard_nms(boxes, None, iou=0.34, limit=10).tolist() == [0, 1]
    assert hard_nms(boxes, None, iou=0.33, limit=10).tolist() == [0]


def test_shares_are_as_good_as_pixels(library: str) -> None:
    boxes = of([(0.0, 0.0, 0.1, 0.1), (0.01, 0.0, 0.11, 0.1), (0.5, 0.5, 0.6, 0.6)])
    assert hard_nms(boxes, np.array([3, 3, 3]), iou=0.5, limit=10).tolist() == [0, 2]


def test_no_boxes_are_no_boxes(library: str) -> None:
    empty = np.empty((0, 4), np.float32)
    kept = hard_nms(empty, np.empty(0, np.int64), iou=0.5, limit=10)
    assert kept.shape == (0,)
    indices, lowered = soft_nms(empty, np.empty(0, np.float32), None, least=0.1, limit=10)
    assert indices.shape == lowered.shape == (0,)
    assert lowered.dtype == np.float32


def test_the_limit_keeps_the_first(library: str) -> None:
    boxes = of([(20.0 * index, 0, 20 * index + 10, 10) for index in range(300)])
    assert hard_nms(boxes, None, iou=0.5, limit=7).tolist() == list(range(7))


@pytest.mark.slow
def test_many_blocks_answer_as_one(library: str) -> None:
    # More boxes than go to OpenCV at once, each thing found four times.
    random = np.random.default_rng(5)
    corners = np.repeat(random.integers(0, 2000, (250, 2)), 4, axis=0) + random.integers(0, 3, (1000, 2))
    boxes = np.concatenate([corners, corners + 40], axis=1).astype(np.float32)[random.permutation(1000)]
    rows = [tuple(row) for row in boxes.tolist()]
    classes = random.integers(0, 2, 1000)
    expected = oracle(rows, classes.tolist(), Fraction(1, 2), 100)  # type: ignore[arg-type]
    assert hard_nms(boxes, classes, iou=0.5, limit=100).tolist() == expected


# --- against a loop --------------------------------------------------------------------------------

whole_numbers = st.integers(0, 12)
sides = st.integers(1, 6)
whole_boxes = st.lists(
    st.builds(lambda x, y, w, h: (float(x), float(y), float(x + w), float(y + h)), *[whole_numbers] * 2, sides, sides),
    max_size=14,
)


@settings(max_examples=150)
@given(whole_boxes, st.integers(1, 19), st.integers(1, 20), st.randoms(use_true_random=False))
def test_kept_are_those_of_the_loop(boxes: Boxes, twentieths: int, limit: int, random: object) -> None:
    # Whole numbers on purpose: overlaps equal to the threshold, and equal boxes, come often.
    classes = [random.randrange(3) for _ in boxes]  # type: ignore[attr-defined]
    by_opencv, by_numpy = both(of(boxes), np.array(classes, np.int64), iou=twentieths / 20, limit=limit)
    assert by_opencv == by_numpy == oracle(boxes, classes, Fraction(twentieths, 20), limit)


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0, 1), st.sampled_from([1.0, 640.0, 30_000.0]))
def test_opencv_and_numpy_keep_the_same(seed: int, count: int, iou: float, side: float) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(-0.1, 0.9, (count, 2))
    boxes = (np.concatenate([corners, corners + random.uniform(0.01, 0.5, (count, 2))], axis=1) * side).astype("f")
    for classes in (None, random.integers(0, 90, count)):
        by_opencv, by_numpy = both(boxes, classes, iou=iou, limit=100)
        assert by_opencv == by_numpy


# --- soft ------------------------------------------------------------------------------------------


def test_soft_suppression_lowers_by_the_gaussian_of_the_overlap() -> None:
    # Overlap 1/3 of 10x10 boxes that share half: 0.8 * exp(-(1/9) / 0.5).
    boxes = of([(0, 0, 10, 10), (5, 0, 15, 10), (100, 100, 110, 110)])
    kept, lowered = soft_nms(boxes, np.array([0.9, 0.8, 0.7], np.float32), None, least=0.1, limit=10)
    assert kept.tolist() == [0, 2, 1]
    assert lowered.tolist() == pytest.approx([0.9, 0.7, 0.8 * math.exp(-2 / 9)], rel=1e-6)


def test_soft_suppression_ends_what_falls_below_the_threshold() -> None:
    # The same box again: exp(-1 / 0.5) leaves 0.135 of it.
    boxes = of([(0, 0, 10, 10), (0, 0, 10, 10)])
    kept, _ = soft_nms(boxes, np.array([0.9, 0.8], np.float32), None, least=0.25, limit=10)
    assert kept.tolist() == [0]


def test_soft_suppression_leaves_other_classes_alone() -> None:
    boxes = of([(0, 0, 10, 10), (0, 0, 10, 10)])
    kept, lowered = soft_nms(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 1]), least=0.25, limit=10)
    assert kept.tolist() == [0, 1]
    assert lowered.tolist() == pytest.approx([0.9, 0.8], rel=1e-6)


@settings(max_examples=60)
@given(whole_boxes, st.integers(0, 2**32 - 1), st.integers(1, 15))
def test_soft_suppression_is_that_of_the_paper(boxes: Boxes, seed: int, limit: int) -> None:
    confidence = np.sort(np.random.default_rng(seed).uniform(0.05, 1, len(boxes)).astype(np.float32))[::-1]
    left = dict(enumerate(confidence.astype(np.float64).tolist()))
    expected: list[tuple[int, float]] = []
    while left and len(expected) < limit:
        best = max(left, key=lambda index: (left[index], -index))
        expected.append((best, left.pop(best)))
        for index in left:
            left[index] *= math.exp(-(float(overlap(boxes[index], boxes[best])) ** 2) / 0.5)
        left = {index: score for index, score in left.items() if score >= 0.05}
    kept, lowered = soft_nms(of(boxes), confidence, None, least=0.05, limit=limit)
    # Scores that are equal but for the last place may change places.
    assert lowered.tolist() == pytest.approx([score for _, score in expected], rel=1e-5)
    if len({round(score, 5) for _, score in expected}) == len(expected):
        assert kept.tolist() == [index for index, _ in expected]
