"""YOLO outputs in a real interpreter, against boxes worked out by hand and a loop over the floats."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_detectors import Out, detect, quantized, ran

from edgeinfer.errors import ModelError
from edgeinfer.model.heads import DetectionHead
from edgeinfer.postprocess.detect import DetectionOptions
from edgeinfer.results import Detections

pytestmark = pytest.mark.device

# A 64 x 64 input has 8 * 8 + 4 * 4 + 2 * 2 = 84 cells, so 84 boxes, or 252 with three a cell.
CELLS = 84
Axis = Literal["first", "last"]


def predictions(rows: dict[int, list[float]], *, numbers: int, boxes: int = CELLS) -> np.ndarray:
    """(boxes, numbers) float32, zero but for these rows."""
    table = np.zeros((boxes, numbers), np.float32)
    for row, values in rows.items():
        table[row] = values
    return table


def laid(table: np.ndarray, channels: Axis) -> np.ndarray:
    return table[None] if channels == "last" else np.ascontiguousarray(table.T)[None]


def numbers_of(found: Detections) -> list[tuple[list[float], float, int]]:
    rows = zip(found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), strict=True)
    return [(box, round(confidence, 6), class_id) for box, confidence, class_id in rows]


@pytest.mark.parametrize("channels", ["first", "last"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_boxes_are_centre_and_size_as_shares(dtype: str, channels: Axis) -> None:
    # Centre (0.5, 0.25), size (0.25, 0.5) of 64: x 24..40, y 0..32. Both are whole 256ths.
    table = predictions(
        {7: [0.5, 0.25, 0.25, 0.5, 0.125, 0.75, 0.5], 9: [0.75, 0.75, 0.25, 0.25, 0.5, 0, 0]}, numbers=7
    )
    out = (
        Out("out", laid(table, channels))
        if dtype == "float32"
        else quantized("out", laid(table, channels), dtype=dtype)
    )
    head = DetectionHead("yolo", unit="share")
    found = detect(ran([out]), DetectionOptions(head=head))
    assert numbers_of(found) == [([24.0, 0.0, 40.0, 32.0], 0.75, 1), ([40.0, 40.0, 56.0, 56.0], 0.5, 0)]
    assert (found.xyxy.dtype, found.confidence.dtype, found.class_id.dtype) == (np.float32, np.float32, np.int64)


def test_boxes_in_pixels_are_taken_as_they_are() -> None:
    table = predictions({0: [32, 16, 16, 32, 0.5, 0]}, numbers=6)
    found = detect(ran([Out("out", table[None])]), DetectionOptions(head=DetectionHead("yolo", unit="pixels")))
    assert numbers_of(found) == [([24.0, 0.0, 40.0, 32.0], 0.5, 0)]


@pytest.mark.parametrize("channels", ["first", "last"])
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_with_objectness_the_confidence_is_the_product(dtype: str, channels: Axis) -> None:
    rows = {
        0: [0.5, 0.5, 0.25, 0.25, 0.5, 0.25, 0.75],  # 0.375
        5: [0.25, 0.25, 0.25, 0.25, 0.5, 0.25, 0.25],  # 0.125: both are enough, the product is not
        9: [0.75, 0.25, 0.25, 0.25, 0.125, 0.75, 0.75],  # the objectness alone is not
    }
    table = predictions(rows, numbers=7, boxes=3 * CELLS)
    out = Out("out", laid(table, channels)) if dtype == "float32" else quantized("out", laid(table, channels))
    found = detect(ran([out]), DetectionOptions(head=DetectionHead("yolo", unit="share")))
    assert numbers_of(found) == [([24.0, 24.0, 40.0, 40.0], 0.375, 1)]


def test_logits_pass_a_sigmoid() -> None:
    # ln 3 is 3/4, minus ln 3 a quarter: just enough.
    table = predictions({}, numbers=6)
    table[:, 4:] = -20
    table[3] = [0.5, 0.5, 0.25, 0.25, -20, np.log(3)]
    table[80] = [0.25, 0.25, 0.25, 0.25, -np.log(3) + 1e-4, -20]
    table[81] = [0.75, 0.25, 0.25, 0.25, -np.log(3) - 1e-4, -20]
    head = DetectionHead("yolo", unit="share", logits=True)
    found = detect(ran([Out("out", table[None])]), DetectionOptions(head=head))
    assert found.class_id.tolist() == [1, 0]
    assert found.confidence.tolist() == pytest.approx([0.75, 0.25], abs=1e-4)


def test_each_box_answers_with_its_best_class_only() -> None:
    table = predictions({0: [0.5, 0.5, 0.25, 0.25, 0.5, 0.75]}, numbers=6)
    assert detect(ran([quantized("out", table[None])]), DetectionOptions()).class_id.tolist() == [1]


@pytest.mark.parametrize("channels", ["first", "last"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_an_error(channels: Axis, bad: float) -> None:
    table = predictions({0: [0.5, 0.5, 0.25, 0.25, 0.5, bad]}, numbers=6)
    runtime = ran([Out("out", laid(table, channels))])
    with pytest.raises(ModelError, match="not a number") as caught:
        detect(runtime, DetectionOptions(head=DetectionHead("yolo", unit="share")))
    runtime.invoke()  # the error that is kept here keeps no view of the outputs
    assert "weights are damaged" in caught.value.next_step


def test_a_threshold_that_no_score_can_reach_finds_nothing() -> None:
    table = predictions({0: [0.5, 0.5, 0.25, 0.25, 1, 1]}, numbers=6)
    found = detect(ran([quantized("out", table[None], scale=0.9 / 255)]), DetectionOptions(confidence=0.95))
    assert len(found) == 0
    assert found.xyxy.shape == (0, 4)
    assert (found.xyxy.dtype, found.confidence.dtype, found.class_id.dtype) == (np.float32, np.float32, np.int64)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["int8", "uint8"]),
    st.sampled_from(["first", "last"]),
    st.booleans(),
    st.floats(0.001, 0.9),
)
def test_the_boxes_are_those_of_a_loop_over_floats(
    seed: int, dtype: str, channels: Axis, objectness: bool, confidence: float
) -> None:
    random = np.random.default_rng(seed)
    boxes = 3 * CELLS if objectness else CELLS
    table = random.uniform(0, 1, (boxes, 9 if objectness else 8)) ** 2
    out = quantized("out", laid(table, channels), dtype=dtype, scale=float(np.float32(1.01 / 255)))
    options = DetectionOptions(confidence=confidence, suppression="none", limit=1000)
    found = detect(ran([out]), options)

    stored = out.stored[0] if channels == "last" else out.stored[0].T
    real = (stored.astype(np.float32) - np.float32(out.zero_point)) * np.float32(out.scale)
    expected = []
    for index, row in enumerate(real):
        scores = row[5:] * row[4] if objectness else row[4:]
        best = int(np.argmax(row[5 if objectness else 4 :]))
        x, y, width, height = (float(number) * 64 for number in row[:4])
        box = np.clip([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 0, 64)
        if scores[best] >= np.float32(confidence) and width > 0 and height > 0:
            expected.append((-float(scores[best]), index, box, best))
    expected.sort(key=lambda one: one[:2])
    assert found.class_id.tolist() == [one[3] for one in expected]
    np.testing.assert_allclose(found.confidence, [-one[0] for one in expected], rtol=1e-6)
    np.testing.assert_allclose(found.xyxy, np.array([one[2] for one in expected]).reshape(-1, 4), atol=1e-4)
