"""Claim: detection post-processing grows no faster than n log n with the number of candidates.

    python benchmarks/detection_growth.py

An int8 YOLO head of 10 000 boxes, channels first, of which 1 to 10 000 are above the threshold. Two scenes, because
suppression compares candidates with what is kept: "apart" are small boxes all over the picture, few of which overlap
(many are kept, up to the limit of 100); "heaps" are thirty things, each found again and again (few are kept). With
OpenCV, without it, and with soft suppression. A step is measured against the one before: `worse_than_nlogn` is how many
times more it grew than n log n did; values up to 1 hold the claim. Times are the thread's own processor time, because a
busy machine would otherwise add its waits to the long calls only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from record import versions, write_rows
from yolo_postprocess import Outputs

from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.specs import InputSpec, ModelMetadata, OutputSpec
from edgeinfer.postprocess.detect import DetectionOptions, detection_post
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import View
from edgeinfer.runtime.runtime import Tensors

SIDE, BOXES, CLASSES = 640, 10_000, 80
SCALE, ZERO_POINT = 1.02 / 255, -128
STEPS = (1, 10, 100, 1000, 10_000)
ROUNDS = 15


def head(candidates: int, *, heaps: bool) -> NDArray[np.int8]:
    """Return (1, 84, 10000) int8, boxes as shares, so many of them above a quarter."""
    random = np.random.default_rng(candidates)
    real = np.zeros((4 + CLASSES, BOXES))
    where = random.choice(BOXES, candidates, replace=False)
    if heaps:
        heap = random.integers(0, 30, candidates)
        centres, sides = random.uniform(0.1, 0.9, (2, 30)), random.uniform(0.1, 0.3, (2, 30))
        real[:2, where] = centres[:, heap] + random.normal(0, 0.006, (2, candidates))
        real[2:4, where] = sides[:, heap] * random.uniform(0.93, 1.07, (2, candidates))
        classes = heap * 2
    else:
        real[:2, where] = random.uniform(0.02, 0.98, (2, candidates))
        real[2:4, where] = random.uniform(0.02, 0.04, (2, candidates))
        classes = random.integers(0, CLASSES, candidates)
    real[4 + classes, where] = random.uniform(0.3, 0.98, candidates)
    return np.clip(np.round(real / SCALE) + ZERO_POINT, -128, 127).astype(np.int8)[None]


def call_for(memory: NDArray[np.int8], suppression: Literal["hard", "soft"]) -> Callable[[], Any]:
    """Return a call of our post-processing on this memory."""
    picture = InputSpec("image", (1, SIDE, SIDE, 3), "int8", 1 / 255, -128)
    output = OutputSpec("boxes", memory.shape, "int8", SCALE, ZERO_POINT, activation="sigmoid")
    said = DetectionHead("yolo", unit="share", channels="first", objectness=False)
    options = DetectionOptions(suppression=suppression, head=said)
    post = detection_post(ModelMetadata("detection", (picture,), (output,)), options=options)
    view = View((SIDE, SIDE), (SIDE, SIDE), (1.0, 1.0), (0.0, 0.0))
    outputs = cast(Tensors, Outputs(memory))
    return lambda: post(outputs, view)


def main() -> None:
    """Measure and write one row per scene, way and number of candidates."""
    opencv = libraries.opencv
    ways: dict[str, tuple[Literal["hard", "soft"], bool]] = {"hard, NumPy": ("hard", False), "soft": ("soft", False)}
    if opencv() is not None:
        ways = {"hard, OpenCV": ("hard", True), **ways}
    rows: list[dict[str, object]] = []
    for scene in ("apart", "heaps"):
        memories = {count: head(count, heaps=scene == "heaps") for count in STEPS}
        for way, (suppression, with_opencv) in ways.items():
            # The suppression asks for OpenCV once a frame; without it, it takes its own way.
            libraries.opencv = opencv if with_opencv else (lambda: None)  # type: ignore[assignment]
            calls = {count: call_for(memory, suppression) for count, memory in memories.items()}
            times: dict[int, list[int]] = {count: [] for count in STEPS}
            for _ in range(ROUNDS):
                for count, call in calls.items():
                    call()
                    start = time.thread_time_ns()
                    call()
                    times[count].append(time.thread_time_ns() - start)
            before = 0
            for count in STEPS:
                median = float(np.median(times[count]))
                allowed = count * math.log2(count + 1) / (before * math.log2(before + 1)) if before else math.inf
                grown = median / float(np.median(times[before])) if before else 0.0
                rows.append(
                    {
                        "scene": scene,
                        "suppression": way,
                        "candidates": count,
                        "kept": len(calls[count]()),
                        "median_ms": f"{median / 1e6:.3f}",
                        "p95_ms": f"{np.percentile(times[count], 95) / 1e6:.3f}",
                        "worse_than_nlogn": f"{grown / allowed:.2f}",
                        "versions": versions(),
                    }
                )
                before = count
    libraries.opencv = opencv
    write_rows("detection-growth", rows)


if __name__ == "__main__":
    main()
