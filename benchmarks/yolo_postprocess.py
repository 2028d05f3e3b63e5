"""Claim: decode and suppression of an int8 YOLO head cost little more than OpenCV's suppression alone.

    python benchmarks/yolo_postprocess.py

One head, 8400 boxes of 80 classes, 350 of them above the threshold in about thirty heaps, channels first (1, 84, 8400)
and last (1, 8400, 84). Beside ours: a plain Python loop that decodes and suppresses the same and must keep the same
boxes (ours costs at most 0.05 of its time), and `cv2.dnn.NMSBoxes` alone, given lists of the candidates that are ready
(at most 5 times it with channels first, 10 times with channels last). The variants take turns; each turn is one call
after one call of warm-up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from record import versions, write_rows

from edgeinfer.model.specs import InputSpec, ModelMetadata, OutputSpec
from edgeinfer.postprocess.detect import DetectionOptions, detection_post
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.libraries import require_opencv
from edgeinfer.runtime.runtime import Tensors

SIDE, BOXES, CLASSES, CANDIDATES, HEAPS = 640, 8400, 80, 350, 30
SCALE, ZERO_POINT = 1.02 / 255, -128
CONFIDENCE, IOU, LIMIT = 0.25, 0.45, 100
ROUNDS, SLOW_EVERY = 400, 20


class Outputs:
    """One output's memory, as `Tensors` hands it out."""

    def __init__(self, memory: NDArray[np.int8]) -> None:
        self._memory = memory

    def view(self, which: int | str = 0) -> NDArray[Any]:  # noqa: ARG002 - there is one
        """Return the memory itself."""
        return self._memory


def head() -> NDArray[np.int8]:
    """Return (1, 84, 8400) int8: boxes as shares, 350 of them above the threshold in thirty heaps."""
    random = np.random.default_rng(0)
    real = np.empty((4 + CLASSES, BOXES))
    real[:4] = random.uniform(0.02, 0.98, (4, BOXES))
    real[4:] = random.uniform(0.0, 0.2, (CLASSES, BOXES))
    where = random.choice(BOXES, CANDIDATES, replace=False)
    heap = random.integers(0, HEAPS, CANDIDATES)
    centres, sides = random.uniform(0.1, 0.9, (2, HEAPS)), random.uniform(0.1, 0.3, (2, HEAPS))
    real[:2, where] = centres[:, heap] + random.normal(0, 0.006, (2, CANDIDATES))
    real[2:4, where] = sides[:, heap] * random.uniform(0.93, 1.07, (2, CANDIDATES))
    real[4 + heap * 2, where] = random.uniform(0.3, 0.98, CANDIDATES)
    return np.clip(np.round(real / SCALE) + ZERO_POINT, -128, 127).astype(np.int8)[None]


def loop(stored: list[list[int]]) -> list[tuple[float, float, float, float, float, int]]:
    """Decode and suppress as a plain loop does, box by box.

    Args:
        stored: The output's rows, one list of 84 integers a box.

    Returns:
        left, top, right, bottom, confidence, class of each box that stays, the most confident first.
    """
    boxes = []
    for row in stored:
        scores = row[4:]
        best = max(scores)
        confidence = (best - ZERO_POINT) * SCALE
        if confidence < CONFIDENCE:
            continue
        x, y, width, height = ((number - ZERO_POINT) * SCALE * SIDE for number in row[:4])
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2, confidence, scores.index(best)))
    boxes.sort(key=lambda box: -box[4])
    kept: list[tuple[float, float, float, float, float, int]] = []
    for box in boxes:
        for other in kept:
            if other[5] != box[5]:
                continue
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            inner = max(width, 0.0) * max(height, 0.0)
            area = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1])
            if inner / (area - inner) > IOU:
                break
        else:
            kept.append(box)
    return kept[:LIMIT]


def post_for(memory: NDArray[np.int8]) -> Callable[[], Any]:
    """Return a call of our post-processing on this memory."""
    picture = InputSpec("image", (1, SIDE, SIDE, 3), "int8", 1 / 255, -128)
    output = OutputSpec("boxes", memory.shape, "int8", SCALE, ZERO_POINT, activation="sigmoid")
    options = DetectionOptions(confidence=CONFIDENCE, iou=IOU, limit=LIMIT)
    post = detection_post(ModelMetadata("detection", (picture,), (output,)), options=options)
    view = View((SIDE, SIDE), (SIDE, SIDE), (1.0, 1.0), (0.0, 0.0))
    outputs = cast(Tensors, Outputs(memory))
    return lambda: post(outputs, view)


def main() -> None:
    """Measure, compare what is kept, and write one row per variant."""
    cv2 = require_opencv()
    first = head()
    last = np.ascontiguousarray(first.transpose(0, 2, 1))
    rows = last[0].tolist()
    ready = [row for row in rows if max(row[4:]) - ZERO_POINT >= CONFIDENCE / SCALE]
    decoded = [[(number - ZERO_POINT) * SCALE * SIDE for number in row[:4]] for row in ready]
    corners = [[x - w / 2, y - h / 2, w, h] for x, y, w, h in decoded]
    scores = [(max(row[4:]) - ZERO_POINT) * SCALE for row in ready]
    variants: dict[str, Callable[[], Any]] = {
        "cv2.dnn.NMSBoxes alone": lambda: cv2.dnn.NMSBoxes(corners, scores, CONFIDENCE, IOU),
        "edgeinfer, channels first": post_for(first),
        "edgeinfer, channels last": post_for(last),
        "Python loop": lambda: loop(rows),
    }
    expected = loop(rows)
    clipped = np.clip(np.array([box[:4] for box in expected]), 0, SIDE)
    for name in ("edgeinfer, channels first", "edgeinfer, channels last"):
        found = variants[name]()
        same = len(found) == len(expected) and found.class_id.tolist() == [box[5] for box in expected]
        if not same or not np.allclose(found.xyxy, clipped, atol=1e-3):
            raise SystemExit(f"{name} keeps {len(found)} boxes, the loop {len(expected)}: not the same")
    times: dict[str, list[int]] = {name: [] for name in variants}
    for number in range(ROUNDS):
        for name, call in variants.items():
            if name == "Python loop" and number % SLOW_EVERY:
                continue
            call()
            start = time.perf_counter_ns()
            call()
            times[name].append(time.perf_counter_ns() - start)
    medians = {name: float(np.median(series)) for name, series in times.items()}
    write_rows(
        "yolo-postprocess",
        [
            {
                "variant": name,
                "boxes": BOXES,
                "candidates": len(ready),
                "kept": len(expected),
                "calls": len(series),
                "median_ms": f"{medians[name] / 1e6:.3f}",
                "p95_ms": f"{np.percentile(series, 95) / 1e6:.3f}",
                "ratio_to_nmsboxes": f"{medians[name] / medians['cv2.dnn.NMSBoxes alone']:.2f}",
                "ratio_to_loop": f"{medians[name] / medians['Python loop']:.4f}",
                "versions": versions(),
            }
            for name, series in times.items()
        ],
    )


if __name__ == "__main__":
    main()
