"""Time `draw` on a frame of 1280x720: what it adds to each picture of a camera, with OpenCV and without.

Read the column `above_copy_ms`: what it costs above the copy of the frame that it draws into (`copy=False` saves it).
Times are the processor's, with one thread: they do not grow when other programs run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from time import process_time_ns

import numpy as np
from frames import camera_frame
from record import test_data, versions, write_rows

from edgeinfer.drawing import draw
from edgeinfer.preprocess import libraries
from edgeinfer.results import Classifications, Detections, Keypoints, Mask

WIDTH, HEIGHT = 1280, 720
SIDES = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
POINTS = ("nose", *(f"{side}_{part}" for part in SIDES for side in ("left", "right")))


def boxes(count: int) -> Detections:
    """Return boxes of ten classes, their sides a tenth to four tenths of the picture's."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.6, (count, 2))
    ends = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (count, 2))], axis=1)
    pixels = (ends * (WIDTH, HEIGHT, WIDTH, HEIGHT)).astype(np.float32)
    names = tuple(f"class {index}" for index in range(10))
    sure = np.sort(rng.uniform(0.3, 1.0, count))[::-1].astype(np.float32)
    return Detections(pixels, sure, rng.integers(0, 10, count), names)


def results() -> dict[str, Classifications | Detections | Mask | Keypoints]:
    """Return one result of each kind, of a usual size."""
    areas = np.zeros((HEIGHT, WIDTH), np.uint8)
    areas[100:500, 200:800], areas[300:700, 700:1100] = 3, 15
    rng = np.random.default_rng(1)
    body = rng.uniform(0.2, 0.8, (1, len(POINTS), 2)) * (WIDTH, HEIGHT)
    classes = Classifications(np.arange(5), np.full(5, 0.2, np.float32), ("macaw", "parrot", "hen", "cock", "jay"))
    return {
        "5 classes": classes,
        "10 boxes": boxes(10),
        "100 boxes": boxes(100),
        "mask, 2 classes on 41 %": Mask(areas),
        "1 body of 17 points": Keypoints(body.astype(np.float32), np.ones((1, len(POINTS)), np.float32), POINTS),
    }


def interleaved(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, np.ndarray]:
    """Time all calls in turn, milliseconds; a tenth more as warm-up."""
    times = {name: np.empty(runs) for name in calls}
    for run in range(-(runs // 10), runs):
        for name, call in calls.items():
            start = process_time_ns()
            call()
            if run >= 0:
                times[name][run] = (process_time_ns() - start) / 1e6
    return times


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    frame = camera_frame(test_data())
    found = libraries.opencv()
    if found is not None:
        found.setNumThreads(1)
    rows: list[dict[str, object]] = []
    for opencv in [True, False] if found is not None else [False]:
        if not opencv:
            # The answer is kept by the process, so this is how to see what a machine without OpenCV does.
            libraries.opencv = lambda: None  # type: ignore[assignment]
        calls: dict[str, Callable[[], object]] = {"copy alone": frame.copy}
        calls |= {name: partial(draw, frame, result) for name, result in results().items()}
        times = interleaved(calls, arguments.runs)
        base = float(np.median(times["copy alone"]))
        for name, taken in times.items():
            median, p95 = np.percentile(taken, [50, 95])
            rows.append(
                {
                    "frame": f"{WIDTH}x{HEIGHT}",
                    "result": name,
                    "opencv": "yes" if opencv else "no",
                    "runs": arguments.runs,
                    "median_ms": f"{median:.3f}",
                    "p95_ms": f"{p95:.3f}",
                    "above_copy_ms": f"{median - base:+.3f}",
                    "versions": versions(),
                }
            )
    write_rows("draw", rows)


if __name__ == "__main__":
    main()
