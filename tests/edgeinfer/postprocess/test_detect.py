"""From candidates to `Detections`: thresholds, suppression, the way back to the picture, what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_detectors import Out, detect, ran, whole

from edgeinfer.errors import InputError
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.metadata import Resize
from edgeinfer.postprocess.detect import DetectionOptions, detection_post
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import View, place
from edgeinfer.runtime.runtime import Runtime

pytestmark = pytest.mark.device

# Rows of a YOLO with two classes and boxes in pixels of a 64 x 64 input: x, y, width, height, two scores.
HEAD = DetectionHead("yolo", box="xyxy", unit="pixels", channels="last", objectness=False)


def model(*rows: list[float], boxes: int = 84) -> Runtime:
    table = np.zeros((1, boxes, len(rows[0]) if rows else 6), np.float32)
    for index, row in enumerate(rows):
        table[0, index] = row
    return ran([Out("out", table)])


def options(**said: object) -> DetectionOptions:
    return DetectionOptions(head=HEAD, **said)  # type: ignore[arg-type]


@pytest.fixture(params=["opencv", "numpy"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "opencv":
        pytest.importorskip("cv2")
    else:
        monkeypatch.setattr(libraries, "opencv", lambda: None)
    return str(request.param)


# --- what comes out --------------------------------------------------------------------------------


def test_no_box_is_an_empty_answer_of_the_right_kinds(library: str) -> None:
    found = detect(model(), options(), labels=("cat", "dog"))
    assert (found.xyxy.shape, found.confidence.shape, found.class_id.shape) == ((0, 4), (0,), (0,))
    assert (found.xyxy.dtype, found.confidence.dtype, found.class_id.dtype) == (np.float32, np.float32, np.int64)
    assert found.labels == ("cat", "dog")
    assert list(found) == []


def test_the_most_confident_comes_first_and_equals_as_the_model_has_them() -> None:
    found = detect(
        model([0, 0, 9, 9, 0.5, 0], [20, 0, 29, 9, 0, 0.75], [40, 0, 49, 9, 0.5, 0], [0, 20, 9, 29, 0.75, 0]), options()
    )
    assert found.xyxy[:, :2].tolist() == [[20, 0], [0, 20], [0, 0], [40, 0]]


def test_a_class_suppresses_its_own(library: str) -> None:
    runtime = model([0, 0, 10, 10, 0.9, 0], [1, 0, 11, 10, 0.8, 0], [0, 1, 10, 11, 0, 0.7])
    assert detect(runtime, options()).class_id.tolist() == [0, 1]
    assert detect(runtime, options(class_agnostic=True)).class_id.tolist() == [0]
    assert len(detect(runtime, options(suppression="none"))) == 3


def test_soft_suppression_lowers_confidence() -> None:
    # Nine tenths of ten: overlap 9/11, 0.8 * exp(-(9/11)^2 / 0.5).
    runtime = model([0, 0, 10, 10, 0.9, 0], [1, 0, 11, 10, 0.8, 0])
    found = detect(runtime, options(suppression="soft", confidence=0.2))
    assert found.confidence.tolist() == pytest.approx([0.9, 0.8 * np.exp(-((9 / 11) ** 2) / 0.5)], rel=1e-5)
    assert len(detect(runtime, options(suppression="soft", confidence=0.25))) == 1


@pytest.mark.parametrize("suppression", ["hard", "soft", "none"])
def test_the_limit_keeps_the_most_confident(suppression: str) -> None:
    rows = [[x, y, x + 3, y + 3, 0.3 + 0.01 * (x + y) / 4, 0] for x in range(0, 24, 4) for y in range(0, 24, 4)]
    found = detect(model(*rows), options(suppression=suppression, limit=5))
    best = sorted((row[4] for row in rows), reverse=True)[:5]
    assert found.confidence.tolist() == pytest.approx(best, rel=1e-6)


def test_classes_are_chosen_by_number_or_name() -> None:
    runtime = model([0, 0, 9, 9, 0.5, 0], [20, 0, 29, 9, 0, 0.75])
    labels = ("cat", "dog")
    assert detect(runtime, options(classes=(0,))).class_id.tolist() == [0]
    assert detect(runtime, options(classes=("dog",)), labels=labels).class_id.tolist() == [1]
    assert detect(runtime, options(classes=("dog", 0)), labels=labels).class_id.tolist() == [1, 0]


def test_a_class_that_is_not_there_is_an_error_that_guesses() -> None:
    with pytest.raises(InputError, match="no class `dgo`") as caught:
        detect(model(), options(classes=("dgo",)), labels=("cat", "dog"))
    assert caught.value.next_step == "Did you mean `dog`?"


# --- back to the picture ---------------------------------------------------------------------------


def test_letterbox_bars_are_undone() -> None:
    # 128 x 64 in 64 x 64: half the size, 16 pixels of bar above.
    view = place(Resize("letterbox"), (128, 64), (64, 64)).view
    found = detect(model([16, 24, 32, 40, 0.5, 0]), options(), view=view)
    assert found.xyxy.tolist() == [[32, 16, 64, 48]]


def test_a_stretched_picture_is_stretched_back() -> None:
    view = place(Resize("stretch"), (640, 128), (64, 64)).view
    assert detect(model([16, 24, 32, 40, 0.5, 0]), options(), view=view).xyxy.tolist() == [[160, 48, 320, 80]]


def test_a_cropped_picture_has_its_left_part_again() -> None:
    # 128 x 64 cut to 64 x 64 about its centre: 32 pixels are gone on the left.
    view = place(Resize("crop"), (128, 64), (64, 64)).view
    assert detect(model([16, 24, 32, 40, 0.5, 0]), options(), view=view).xyxy.tolist() == [[48, 24, 64, 40]]


def test_a_region_lies_in_its_picture() -> None:
    view = whole().within((1000, 1000), (100, 200, 164, 264))
    assert detect(model([16, 24, 32, 40, 0.5, 0]), options(), view=view).xyxy.tolist() == [[116, 224, 132, 240]]


def test_a_box_beyond_the_border_is_cut_off() -> None:
    found = detect(model([-10, -20, 30, 40, 0.5, 0], [50, 50, 90, 100, 0.4, 0]), options())
    assert found.xyxy.tolist() == [[0, 0, 30, 40], [50, 50, 64, 64]]


@pytest.mark.parametrize(
    "nothing",
    [[-20, 5, -1, 20], [70, 5, 80, 20], [5, 5, 5, 20], [20, 5, 10, 30]],
    ids=["left of it", "right of it", "a line", "inside out"],
)
def test_a_box_without_an_area_in_the_picture_is_none(nothing: list[float]) -> None:
    found = detect(model([*nothing, 0.9, 0], [1, 1, 9, 9, 0.5, 0]), options(limit=1))
    assert found.xyxy.tolist() == [[1, 1, 9, 9]]


def test_a_box_in_a_letterbox_bar_is_none() -> None:
    view = place(Resize("letterbox"), (128, 64), (64, 64)).view
    assert len(detect(model([10, 2, 30, 14, 0.9, 0]), options(), view=view)) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(["stretch", "letterbox"]))
def test_boxes_lie_within_any_picture_and_fall_in_confidence(seed: int, width: int, height: int, mode: str) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(-20, 80, (84, 4)).astype(np.float32)
    table = np.concatenate([corners, random.uniform(0, 1, (84, 2)).astype(np.float32)], axis=1)
    view = place(Resize(mode), (width, height), (64, 64)).view  # type: ignore[arg-type]
    found = detect(ran([Out("out", table[None])]), options(), view=view)
    left, top, right, bottom = found.xyxy.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= width).all()
    assert (bottom <= height).all()
    assert (right > left).all()
    assert (bottom > top).all()
    assert (np.diff(found.confidence) <= 0).all()


def test_the_answer_stays_when_the_model_runs_again() -> None:
    runtime = model([0, 0, 9, 9, 0.5, 0])
    post = detection_post(runtime.metadata, options=options())
    first = post(runtime.tensors, whole())
    runtime.invoke()  # and no view is left that would forbid it
    assert first.xyxy.tolist() == post(runtime.tensors, whole()).xyxy.tolist()


def test_a_picture_of_one_pixel_can_have_a_box() -> None:
    view = View((1, 1), (64, 64), (64.0, 64.0), (0.0, 0.0))
    assert detect(model([0, 0, 64, 64, 0.5, 0]), options(), view=view).xyxy.tolist() == [[0, 0, 1, 1]]


# --- the options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence": -0.1},
        {"confidence": 1.5},
        {"confidence": float("nan")},
        {"iou": 2.0},
        {"limit": 0},
        {"suppression": "harder"},
        {"classes": "person"},
        {"classes": (-1,)},
    ],
    ids=str,
)
def test_a_number_out_of_range_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        DetectionOptions(**wrong)  # type: ignore[arg-type]
    assert next(iter(wrong)) in caught.value.message
