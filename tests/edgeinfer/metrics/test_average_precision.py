"""Average precision against hand calculation, a plain loop, and COCO's own program where it is installed."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinfer.errors import InputError
from edgeinfer.metrics.average_precision import (
    THRESHOLDS,
    Found,
    Matches,
    Wanted,
    average_precision,
    box_iou,
    match,
    pool,
)

Box = tuple[float, float, float, float]
Answer = tuple[int, float, Box]  # class, confidence, xyxy
Truth = tuple[int, bool, Box]  # class, crowd, xyxy


def compare(answers: list[Answer], truths: list[Truth], *, most: int = 100) -> Matches:
    crowd = np.array([one[1] for one in truths], bool)
    iou = box_iou(
        np.array([one[2] for one in answers], np.float32).reshape(-1, 4),
        np.array([one[2] for one in truths], np.float64).reshape(-1, 4),
        crowd,
    )
    found = Found(np.array([one[0] for one in answers], np.int64), np.array([one[1] for one in answers], np.float32))
    return match(iou, found, Wanted(np.array([one[0] for one in truths], np.int64), crowd, crowd), most=most)


def precisions(*pictures: tuple[list[Answer], list[Truth]]) -> np.ndarray:
    """(classes, thresholds)"""
    return average_precision(pool([compare(*picture) for picture in pictures]))[0]


# --- IoU ------------------------------------------------------------------------------------------


def test_iou_is_the_shared_area_over_the_area_of_both() -> None:
    # 10 x 10 and 10 x 10, shifted by 5: 50 shared of 150.
    found = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    truth = np.array([[5, 0, 15, 10], [0, 0, 10, 10]], np.float64)
    assert box_iou(found, truth, np.zeros(2, bool)).tolist() == [[50 / 150, 1.0], [0.0, 0.0]]


def test_in_a_crowd_only_the_found_box_counts() -> None:
    found = np.array([[0, 0, 10, 10]], np.float32)
    truth = np.array([[0, 0, 100, 100], [5, 0, 100, 100]], np.float64)
    assert box_iou(found, truth, np.ones(2, bool)).tolist() == [[1.0, 0.5]]


def test_boxes_without_area_share_nothing() -> None:
    empty = np.array([[5, 5, 5, 5]], np.float64)
    assert box_iou(empty.astype(np.float32), empty, np.zeros(1, bool)).tolist() == [[0.0]]


# --- matching -------------------------------------------------------------------------------------

HERE: Box = (0, 0, 10, 10)
THERE: Box = (50, 50, 60, 60)


def test_the_thresholds_are_the_ten_of_coco() -> None:
    assert THRESHOLDS.round(6).tolist() == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def test_a_truth_is_found_once_and_by_the_most_confident() -> None:
    matches = compare([(0, 0.5, HERE), (0, 0.9, HERE)], [(0, False, HERE)])
    assert matches.confidence == pytest.approx([0.9, 0.5])
    assert matches.correct[0].tolist() == [True, False]
    assert matches.counted.all()


def test_a_box_of_another_class_finds_nothing() -> None:
    assert not compare([(1, 0.9, HERE)], [(0, False, HERE)]).correct.any()


def test_a_looser_box_is_right_at_the_lower_thresholds_only() -> None:
    # 10 x 8 of 10 x 10: an IoU of 0.8.
    matches = compare([(0, 0.9, (0, 0, 10, 8))], [(0, False, HERE)])
    assert matches.correct[:, 0].tolist() == [threshold < 0.81 for threshold in THRESHOLDS]


def test_a_crowd_takes_any_number_of_boxes_and_none_of_them_counts() -> None:
    matches = compare([(0, 0.9, HERE), (0, 0.8, HERE)], [(0, True, (0, 0, 60, 60))])
    assert not matches.correct.any()
    assert not matches.counted.any()
    assert not len(matches.wanted)


def test_a_box_takes_what_must_be_found_before_a_crowd_that_fits_better() -> None:
    matches = compare([(0, 0.9, HERE)], [(0, True, HERE), (0, False, (0, 0, 10, 6))])
    assert matches.correct[:, 0].tolist() == [threshold < 0.61 for threshold in THRESHOLDS]
    assert matches.counted[:, 0].tolist() == [threshold < 0.61 for threshold in THRESHOLDS]


def test_only_the_most_confident_of_each_class_are_looked_at() -> None:
    answers = [(0, 0.1, THERE), (0, 0.9, HERE), (1, 0.2, HERE), (0, 0.5, HERE)]
    matches = compare(answers, [(0, False, THERE)], most=2)
    assert matches.class_id.tolist() == [0, 0, 1]
    assert matches.confidence == pytest.approx([0.9, 0.5, 0.2])


# --- precision ------------------------------------------------------------------------------------


def test_everything_found_and_nothing_else_is_a_precision_of_one() -> None:
    assert precisions(([(0, 0.9, HERE)], [(0, False, HERE)])) == pytest.approx(np.ones((1, 10)))


def test_a_wrong_box_in_front_halves_the_precision() -> None:
    # One truth: the wrong box comes first, so the precision is 1/2 at every recall.
    found = precisions(([(0, 0.9, THERE), (0, 0.8, HERE)], [(0, False, HERE)]))
    assert found == pytest.approx(np.full((1, 10), 0.5))


def test_what_is_not_found_costs_the_points_of_recall_that_are_not_reached() -> None:
    # One of two: recall reaches 0.5, that is the points 0.00 to 0.50, 51 of 101.
    found = precisions(([(0, 0.9, HERE)], [(0, False, HERE), (0, False, THERE)]))
    assert found == pytest.approx(np.full((1, 10), 51 / 101))


def test_precision_is_the_highest_at_a_recall_or_a_higher_one() -> None:
    # Right, wrong, right: precisions 1, 1/2, 2/3; recall 1/2 to 51 points at 1, the other 50 at 2/3.
    answers = [(0, 0.9, HERE), (0, 0.8, (80, 0, 90, 9)), (0, 0.7, THERE)]
    found = precisions((answers, [(0, False, HERE), (0, False, THERE)]))
    assert found == pytest.approx(np.full((1, 10), (51 + 50 * 2 / 3) / 101))


def test_boxes_of_a_class_that_is_not_there_cost_nothing() -> None:
    found = precisions(([(0, 0.9, HERE), (7, 0.99, THERE)], [(0, False, HERE)]))
    assert found.shape == (1, 10)
    assert found == pytest.approx(1.0)


def test_a_picture_without_truth_can_only_be_wrong() -> None:
    found = precisions(([(0, 0.8, HERE)], [(0, False, HERE)]), ([(0, 0.9, HERE)], []))
    assert found == pytest.approx(0.5)


def test_nothing_to_find_is_refused() -> None:
    with pytest.raises(InputError, match="Nothing has to be found"):
        pool([compare([(0, 0.9, HERE)], [])])
    with pytest.raises(InputError, match="Nothing has to be found"):
        pool([])


# --- weights --------------------------------------------------------------------------------------


def test_a_weight_counts_a_picture_as_often_as_if_it_was_there() -> None:
    rng = np.random.default_rng(3)
    pictures = [compare(*random_picture(rng)) for _ in range(6)]
    times = np.array([[2, 0, 1, 1, 3, 0], [1, 1, 1, 1, 1, 1]])
    weighted = average_precision(pool(pictures), times)
    repeated = [picture for picture, count in zip(pictures, times[0], strict=True) for _ in range(count)]
    pooled = pool(pictures)
    there = np.isin(pooled.classes, pool(repeated).classes)
    assert weighted[0, there] == pytest.approx(average_precision(pool(repeated))[0], abs=1e-12)
    assert np.isnan(weighted[0, ~there]).all()
    assert weighted[1] == pytest.approx(average_precision(pooled)[0], abs=1e-12)


# --- against a plain loop and against COCO's program ----------------------------------------------

coordinates = st.integers(0, 12)
boxes = st.tuples(coordinates, coordinates, st.integers(1, 8), st.integers(1, 8)).map(
    lambda one: (float(one[0]), float(one[1]), float(one[0] + one[2]), float(one[1] + one[3]))
)
# Few places and few confidences, so that ties are common.
answer_lists = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.125, 0.25, 0.5, 0.75]), boxes), max_size=9)
truth_lists = st.lists(st.tuples(st.integers(0, 2), st.booleans(), boxes), max_size=6)
picture_lists = st.lists(st.tuples(answer_lists, truth_lists), min_size=1, max_size=4).filter(
    lambda pictures: any(not crowd for _, truths in pictures for _, crowd, _ in truths)
)


def random_picture(rng: np.random.Generator) -> tuple[list[Answer], list[Truth]]:
    """Truths of 200 x 200 pixels, answers that are shifted copies of them and some that are nothing."""

    def box() -> Box:
        left, top = rng.uniform(0, 150, 2)
        width, height = rng.uniform(20, 60, 2)
        return float(left), float(top), float(left + width), float(top + height)

    truths = [(int(rng.integers(0, 5)), bool(rng.random() < 0.1), box()) for _ in range(rng.integers(1, 12))]
    shifted = [
        (one[0], float(rng.random()), tuple((np.array(one[2]) + rng.normal(0, 2, 4)).tolist()))
        for one in truths
        for _ in range(2)
        if rng.random() < 0.8
    ]
    wrong = [(int(rng.integers(0, 5)), float(rng.random()), box()) for _ in range(rng.integers(0, 6))]
    # float32, as `Detections` has them.
    answers = [
        (number, float(np.float32(sure)), tuple(np.array(place, np.float32).tolist()))
        for number, sure, place in shifted + wrong
    ]
    return answers, truths


def plain_overlap(one: Box, other: Box, crowd: bool) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    own = (one[2] - one[0]) * (one[3] - one[1])
    return width * height / (own if crowd else own + (other[2] - other[0]) * (other[3] - other[1]) - width * height)


def plain_average_precision(pictures: list[tuple[list[Answer], list[Truth]]], number: int, threshold: float) -> float:
    """The rules in words, one box after the other; NaN for a class that is not there."""
    ranked: list[tuple[float, str]] = []
    wanted = 0
    for answers, truths in pictures:
        mine = [one for one in truths if one[0] == number]
        wanted += sum(not one[1] for one in mine)
        free = [True] * len(mine)
        for _, sure, box in sorted((one for one in answers if one[0] == number), key=lambda one: -one[1]):
            verdict = "wrong"
            for crowd in (False, True):
                best, chosen = threshold, None
                for place, (_, many, where) in enumerate(mine):
                    share = plain_overlap(box, where, many)
                    if many is crowd and (free[place] or crowd) and share >= best:
                        best, chosen = share, place
                if chosen is not None:
                    free[chosen] = False
                    verdict = "ignored" if crowd else "right"
                    break
            ranked.append((sure, verdict))
    if not wanted:
        return float("nan")
    right = wrong = 0
    curve = []
    for _, verdict in sorted(ranked, key=lambda one: -one[0]):
        right += verdict == "right"
        wrong += verdict == "wrong"
        if right + wrong:
            curve.append((right / wanted, right / (right + wrong)))
    points = np.linspace(0, 1, 101)
    return float(np.mean([max((height for reach, height in curve if reach >= point), default=0.0) for point in points]))


@settings(max_examples=60, deadline=None)
@given(picture_lists)
def test_the_figures_are_those_of_a_plain_loop(pictures: list[tuple[list[Answer], list[Truth]]]) -> None:
    pooled = pool([compare(*picture) for picture in pictures])
    found = average_precision(pooled)[0]
    for row, number in enumerate(pooled.classes.tolist()):
        expected = [plain_average_precision(pictures, number, threshold) for threshold in THRESHOLDS]
        assert found[row] == pytest.approx(expected, abs=1e-9)


def coco_precision(pictures: list[tuple[list[Answer], list[Truth]]], classes: list[int]) -> np.ndarray:
    """(classes, thresholds) of COCO's own program; NaN for a class that is not there."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed: COCO's own program is not here")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def index(rows: list[dict[str, Any]]) -> Any:
        data = COCO()
        data.dataset = {
            "images": [{"id": number} for number in range(1, len(pictures) + 1)],
            "categories": [{"id": number + 1, "name": str(number)} for number in classes],
            "annotations": [{"id": number, **row} for number, row in enumerate(rows, start=1)],
        }
        data.createIndex()
        return data

    def row(picture: int, number: int, box: Box) -> dict[str, Any]:
        left, top, right, bottom = box
        size = [left, top, right - left, bottom - top]
        return {"image_id": picture, "category_id": number + 1, "bbox": size, "area": size[2] * size[3], "iscrowd": 0}

    truths, answers = [], []
    for picture, (found, there) in enumerate(pictures, start=1):
        truths += [{**row(picture, number, box), "iscrowd": int(crowd)} for number, crowd, box in there]
        answers += [{**row(picture, number, box), "score": sure} for number, sure, box in found]
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(index(truths), index(answers), "bbox")
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, -1]  # thresholds, recall, classes; all areas, 100 boxes
    return np.where((precision > -1).all(axis=1), precision.mean(axis=1), np.nan).T


@settings(max_examples=60, deadline=None)
@given(picture_lists)
def test_the_figures_are_those_of_cocos_program(pictures: list[tuple[list[Answer], list[Truth]]]) -> None:
    expected = coco_precision(pictures, [0, 1, 2])
    pooled = pool([compare(*picture) for picture in pictures])
    assert pooled.classes.tolist() == np.flatnonzero(~np.isnan(expected[:, 0])).tolist()
    assert average_precision(pooled)[0] == pytest.approx(expected[pooled.classes], abs=1e-9)


def test_many_random_boxes_have_the_figures_of_cocos_program() -> None:
    rng = np.random.default_rng(0)
    pictures = [random_picture(rng) for _ in range(60)]
    expected = coco_precision(pictures, list(range(5)))
    pooled = pool([compare(*picture) for picture in pictures])
    found = average_precision(pooled)[0]
    assert found == pytest.approx(expected, abs=1e-9)
    assert 0.1 < found.mean() < 0.9


def test_more_boxes_than_a_hundred_a_class_are_cut_as_in_cocos_program() -> None:
    rng = np.random.default_rng(1)
    truths = random_picture(rng)[1]
    answers = [one for _ in range(20) for one in random_picture(rng)[0]]
    answers += [(number, 0.9, tuple(np.array(box, np.float32).tolist())) for number, _, box in truths]
    answers = [(0, sure, box) for _, sure, box in answers]
    assert len(answers) > 150
    truths = [(0, crowd, box) for _, crowd, box in truths]
    expected = coco_precision([(answers, truths)], [0])
    assert average_precision(pool([compare(answers, truths)]))[0] == pytest.approx(expected, abs=1e-9)
