"""Detections that come out of the graph finished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_detectors import Out, detect, quantized, ran, whole

from edgeinfer.errors import ModelError
from edgeinfer.model.heads import DetectionHead
from edgeinfer.postprocess.detect import DetectionOptions, detection_post
from edgeinfer.runtime.runtime import Runtime

pytestmark = pytest.mark.device


def four(
    *, boxes: list[list[float]], classes: list[float], scores: list[float], count: float | None = None
) -> list[Out]:
    # Not in the order of the op: names tell them apart.
    return [
        Out("detection_scores", np.array([scores], np.float32)),
        Out("detection_boxes", np.array([boxes], np.float32)),
        Out("num_detections", np.array([len(scores) if count is None else count], np.float32)),
        Out("detection_classes", np.array([classes], np.float32)),
    ]


BOXES = [[0.25, 0.5, 0.75, 1.0], [0, 0, 0.5, 0.25]]


def test_boxes_are_top_left_bottom_right_as_shares() -> None:
    found = detect(ran(four(boxes=BOXES, classes=[3, 0], scores=[0.5, 0.75])), DetectionOptions())
    assert found.xyxy.tolist() == [[0, 0, 16, 32], [32, 16, 64, 48]]
    assert found.class_id.tolist() == [0, 3]
    assert found.confidence.tolist() == [0.75, 0.5]


def test_the_class_counts_as_the_model_counts() -> None:
    labels = ("person", "???", "dog")
    found = detect(ran(four(boxes=BOXES, classes=[2, 0], scores=[0.5, 0.75])), DetectionOptions(), labels=labels)
    assert [one.label for one in found] == ["person", "dog"]


def test_what_stands_behind_the_count_is_nothing() -> None:
    outs = four(boxes=BOXES, classes=[3, np.nan], scores=[0.5, np.nan], count=1)
    assert len(detect(ran(outs), DetectionOptions())) == 1


@pytest.mark.parametrize(("count", "rows"), [(-1, 0), (0, 0), (99, 2)])
def test_a_count_beyond_the_rows_is_cut(count: float, rows: int) -> None:
    outs = four(boxes=BOXES, classes=[3, 0], scores=[0.5, 0.75], count=count)
    assert len(detect(ran(outs), DetectionOptions())) == rows


def test_what_is_finished_is_not_suppressed_again() -> None:
    outs = four(boxes=[BOXES[0], BOXES[0]], classes=[3, 3], scores=[0.5, 0.75])
    assert len(detect(ran(outs), DetectionOptions(iou=0.1))) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        four(boxes=BOXES, classes=[3, 0], scores=[0.5, np.nan]),
        four(boxes=BOXES, classes=[3, np.nan], scores=[0.5, 0.75]),
        four(boxes=[BOXES[0], [np.nan] * 4], classes=[3, 0], scores=[0.5, 0.75]),
        four(boxes=BOXES, classes=[3, 0], scores=[0.5, 0.75], count=np.nan),
    ],
    ids=["score", "class", "box", "count"],
)
def test_what_is_no_number_is_an_error(wrong: list[Out]) -> None:
    with pytest.raises(ModelError, match="not a number"):
        detect(ran(wrong), DetectionOptions())


def test_outputs_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ModelError, match="do not belong together") as caught:
        detect(ran(four(boxes=BOXES, classes=[3, 0, 1], scores=[0.5, 0.75])), DetectionOptions())
    assert caught.value.received == "8 numbers of boxes, 3 classes, 2 scores"


def test_rows_of_six_are_box_score_and_class() -> None:
    rows = np.zeros((1, 20, 6), np.float32)
    rows[0, :3] = [[8, 16, 24, 32, 0.5, 7], [0, 0, 8, 8, 0.1, 1], [1, 2, 3, 4, 0.9, 0]]
    found = detect(ran([Out("out", rows)]), DetectionOptions(head=DetectionHead("rows", unit="pixels")))
    assert found.xyxy.tolist() == [[1, 2, 3, 4], [8, 16, 24, 32]]
    assert found.class_id.tolist() == [0, 7]


def test_rows_of_seven_begin_with_the_picture() -> None:
    rows = np.zeros((1, 20, 7), np.float32)
    rows[0, 0] = [0, 0.25, 0.125, 0.5, 0.375, 0.75, 2]
    head = DetectionHead("rows", box="yxyx", unit="share")
    found = detect(ran([Out("out", rows)]), DetectionOptions(head=head))
    assert found.xyxy.tolist() == [[8, 16, 24, 32]]
    assert found.class_id.tolist() == [2]


def test_quantized_rows_are_read_by_their_scale() -> None:
    # int16, 1/256 a step: classes up to 127 and scores in one tensor.
    rows = np.zeros((1, 20, 6), np.float32)
    rows[0, 0] = [0.125, 0.25, 0.375, 0.5, 0.75, 77]
    out = Out("out", (rows * 256).astype(np.int16), 1 / 256, 0)
    found = detect(ran([out]), DetectionOptions(head=DetectionHead("rows", unit="share")))
    assert found.xyxy.tolist() == [[8, 16, 24, 32]]
    assert (found.class_id.tolist(), found.confidence.tolist()) == ([77], [0.75])


def test_a_row_that_is_no_number_is_an_error() -> None:
    rows = np.zeros((1, 20, 6), np.float32)
    rows[0, 0] = [8, 16, 24, 32, np.nan, 7]
    with pytest.raises(ModelError, match="not a number in `out`"):
        detect(ran([Out("out", rows)]), DetectionOptions(head=DetectionHead("rows", unit="pixels")))


def test_quantized_scores_are_judged_by_their_floats() -> None:
    outs = four(boxes=BOXES, classes=[3, 0], scores=[0.5, 0.75])
    outs[0] = quantized("detection_scores", np.array([[0.5, 0.75]]), dtype="uint8")
    assert detect(ran(outs), DetectionOptions(confidence=0.75)).class_id.tolist() == [0]


def test_a_real_ssd_finds_what_its_op_has_found(test_data: Path) -> None:
    from PIL import Image

    runtime = Runtime(test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite", threads=1)
    picture = Image.open(sorted((test_data / "coco128" / "images").rglob("*.jpg"))[3]).convert("RGB").resize((300, 300))
    runtime.input_view()[0] = np.asarray(picture)
    runtime.invoke()
    found = detection_post(runtime.metadata, options=DetectionOptions(confidence=0.5))(
        runtime.tensors, whole((300, 300))
    )
    boxes, classes, scores, count = (runtime.raw_output(index) for index in range(4))
    expected = [row for row in range(int(count[0])) if scores[0, row] >= 0.5]
    assert expected
    assert found.confidence.tolist() == scores[0, expected].tolist()
    assert found.class_id.tolist() == classes[0, expected].astype(int).tolist()
    top, left, bottom, right = boxes[0, expected].T * 300
    np.testing.assert_allclose(found.xyxy, np.clip(np.stack([left, top, right, bottom], axis=1), 0, 300), rtol=1e-5)
