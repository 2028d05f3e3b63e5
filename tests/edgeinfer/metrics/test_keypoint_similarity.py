"""Key point similarity by hand, and against COCO's own program where it is installed."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import numpy as np
import pytest

from edgeinfer.metrics.average_precision import Found, Wanted, average_precision, match, pool
from edgeinfer.metrics.keypoint_similarity import COCO_SIGMAS, MOST_BODIES, keypoint_similarity

SIGMAS = tuple(COCO_SIGMAS.values())


def similarity(found: Any, truth: Any, labelled: Any, *, area: float = 100.0, sigmas: Any = (0.1, 0.1)) -> float:
    result = keypoint_similarity(
        np.array([found], np.float32),
        np.array([truth], np.float64),
        labelled=np.array([labelled], bool),
        area=np.array([area]),
        boxes=np.array([[0.0, 0.0, 10.0, 10.0]]),
        sigmas=sigmas,
    )
    assert result.shape == (1, 1)
    return float(result[0, 0])


def test_points_that_lie_right_are_fully_alike() -> None:
    assert similarity([(1, 2), (3, 4)], [(1, 2), (3, 4)], [1, 1]) == 1.0


def test_the_similarity_falls_with_the_distance_by_the_bodys_size() -> None:
    # exp(-d² / (2 · area · (2 · sigma)²)) with d = 2, area 100, sigma 0.1: exp(-4 / 8); the other point is right.
    assert similarity([(3, 2), (3, 4)], [(1, 2), (3, 4)], [1, 1]) == pytest.approx((math.exp(-0.5) + 1) / 2)
    # A body of four times the area forgives twice the distance.
    assert similarity([(5, 2), (3, 4)], [(1, 2), (3, 4)], [1, 1], area=400) == pytest.approx((math.exp(-0.5) + 1) / 2)


def test_points_that_nobody_labelled_do_not_count() -> None:
    assert similarity([(1, 2), (90, 90)], [(1, 2), (0, 0)], [1, 0]) == 1.0


def test_a_body_without_points_is_compared_by_its_widened_box() -> None:
    # The box is 10 wide, so widened it reaches from -10 to 20; (21, 5) lies 1 outside: exp(-1 / 8).
    assert similarity([(-10, 20), (5, 5)], [(0, 0), (0, 0)], [0, 0]) == 1.0
    assert similarity([(21, 5), (5, 5)], [(0, 0), (0, 0)], [0, 0]) == pytest.approx((math.exp(-1 / 8) + 1) / 2)


def test_no_bodies_have_no_similarity() -> None:
    empty = np.zeros((0, 2, 2))
    result = keypoint_similarity(
        np.zeros((3, 2, 2), np.float32),
        empty,
        labelled=np.zeros((0, 2), bool),
        area=np.zeros(0),
        boxes=np.zeros((0, 4)),
        sigmas=(0.1, 0.1),
    )
    assert result.shape == (3, 0)


def test_coco_has_seventeen_points() -> None:
    assert len(COCO_SIGMAS) == 17
    assert next(iter(COCO_SIGMAS)) == "nose"


def random_bodies(rng: np.random.Generator) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Truths and answers of one picture, as COCO's files have them."""
    truths, answers = [], []
    for _ in range(rng.integers(1, 6)):
        left, top, width, height = *rng.uniform(0, 300, 2), *rng.uniform(20, 120, 2)
        points = rng.uniform((left, top), (left + width, top + height), (17, 2))
        visible = rng.integers(0, 3, 17) * (rng.random() < 0.8)
        rows = np.column_stack([points, visible])
        truths.append(
            {
                "bbox": [left, top, width, height],
                "area": width * height * 0.6,
                "iscrowd": int(rng.random() < 0.1),
                "keypoints": rows.reshape(-1).tolist(),
                "num_keypoints": int((visible > 0).sum()),
            }
        )
        for _ in range(rng.integers(0, 3)):
            moved = np.float32(points + rng.normal(0, rng.uniform(0, 6), (17, 2))).astype(np.float64)
            answers.append(
                {
                    "keypoints": np.column_stack([moved, np.ones(17)]).reshape(-1).tolist(),
                    "score": float(np.float32(rng.random())),
                    "area": 1.0,
                    "iscrowd": 0,
                }
            )
    return truths, answers


def test_random_bodies_have_the_figures_of_cocos_program() -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed: COCO's own program is not here")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    pictures = [random_bodies(rng) for _ in range(40)]

    def index(which: int) -> Any:
        data = COCO()
        rows = [{"image_id": number, **row} for number, picture in enumerate(pictures, 1) for row in picture[which]]
        data.dataset = {
            "images": [{"id": number} for number in range(1, len(pictures) + 1)],
            "categories": [{"id": 1, "name": "person"}],
            "annotations": [{"id": number, "category_id": 1, **row} for number, row in enumerate(rows, 1)],
        }
        data.createIndex()
        return data

    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(index(0), index(1), "keypoints")
        run.evaluate()
        run.accumulate()
    expected = run.eval["precision"][:, :, 0, 0, -1].mean(axis=1)

    matches = []
    for number, (truths, answers) in enumerate(pictures, 1):
        true = np.array([row["keypoints"] for row in truths]).reshape(-1, 17, 3)
        boxes = np.array([row["bbox"] for row in truths])
        boxes[:, 2:] += boxes[:, :2]
        result = keypoint_similarity(
            np.array([row["keypoints"] for row in answers]).reshape(-1, 17, 3)[..., :2],
            true[..., :2],
            labelled=true[..., 2] > 0,
            area=np.array([row["area"] for row in truths]),
            boxes=boxes,
            sigmas=SIGMAS,
        )
        scores = np.array([row["score"] for row in answers])
        order = np.argsort(-scores, kind="stable")
        if answers:
            assert result[order] == pytest.approx(np.asarray(run.ious[number, 1]), abs=1e-12)
        crowd = np.array([row["iscrowd"] for row in truths], bool)
        ignored = crowd | np.array([row["num_keypoints"] == 0 for row in truths])
        found = Found(np.zeros(len(scores), np.int64), scores)
        wanted = Wanted(np.zeros(len(crowd), np.int64), crowd, ignored)
        matches.append(match(result, found, wanted, most=MOST_BODIES))
    found_precision = average_precision(pool(matches))[0, 0]
    assert found_precision == pytest.approx(expected, abs=1e-9)
    assert 0.1 < found_precision.mean() < 0.9
