"""Time a frame's way into the input tensor, against the bare resize that it contains.

Read the column `above_bare_resize_us`: what the library costs above `cv2.resize(dst=)`, in the same rounds of the same
process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns

import numpy as np
from record import versions, write_rows

from edgeinfer.model.metadata import InputSpec, Normalization, Resize
from edgeinfer.preprocess.tensor import Preprocessor

SIZE = 224
FRAMES = ((640, 480), (1280, 720), (1920, 1080))


def specs() -> dict[str, InputSpec]:
    """Return one input for each path through `Preprocessor`."""
    shape, unit = (1, SIZE, SIZE, 3), Normalization(0.0, 255.0)
    uint8 = InputSpec("image", shape, "uint8", normalization=unit, scale=1 / 255)
    int8 = InputSpec("image", shape, "int8", normalization=unit, scale=1 / 255, zero_point=-128)
    odd = InputSpec("image", shape, "int8", normalization=Normalization(127.5, 60.0), scale=0.02, zero_point=-3)
    real = InputSpec("image", shape, "float32", normalization=Normalization(127.5, 127.5))
    grey = InputSpec("image", (1, SIZE, SIZE, 1), "int8", scale=1 / 255, zero_point=-128, normalization=unit)
    return {
        "uint8 stretch (copy)": uint8,
        "uint8 letterbox": InputSpec("image", shape, "uint8", resize=Resize("letterbox", pad=114)),
        "uint8 crop": InputSpec("image", shape, "uint8", resize=Resize("crop")),
        "uint8 nearest": InputSpec("image", shape, "uint8", resize=Resize(filter="nearest")),
        "uint8 bilinear-antialias": InputSpec("image", shape, "uint8", resize=Resize(filter="bilinear-antialias")),
        "int8 stretch (flip)": int8,
        "int8 stretch (table)": odd,
        "float32 stretch": real,
        "int8 grey": grey,
    }  # fmt: skip


def interleaved(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, np.ndarray]:
    """Time all calls in turn, so that a disturbance meets each of them; microseconds, warm-up of a tenth left out."""
    times = {name: np.empty(runs) for name in calls}
    for run in range(-runs // 10, runs):
        for name, call in calls.items():
            start = perf_counter_ns()
            call()
            if run >= 0:
                times[name][run] = (perf_counter_ns() - start) / 1000
    return times


def main() -> None:
    """Measure and report."""
    import cv2

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--threads", type=int, nargs="*", default=[0, 1], help="OpenCV's threads; 0: its default")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    default_threads = cv2.getNumThreads()
    rows: list[dict[str, object]] = []
    for threads in arguments.threads:
        cv2.setNumThreads(threads or default_threads)
        for width, height in FRAMES:
            frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            bare = np.empty((SIZE, SIZE, 3), dtype=np.uint8)
            calls: dict[str, Callable[[], object]] = {
                "cv2.resize(dst=)": partial(cv2.resize, frame, (SIZE, SIZE), dst=bare)
            }
            for name, spec in specs().items():
                preprocess, tensor = Preprocessor(spec), np.empty(spec.shape, dtype=spec.dtype)
                calls[name] = partial(preprocess, frame, tensor)
            times = interleaved(calls, arguments.runs)
            base = float(np.median(times["cv2.resize(dst=)"]))
            for name, taken in times.items():
                median, p95 = np.percentile(taken, [50, 95])
                rows.append(
                    {
                        "frame": f"{width}x{height}",
                        "opencv_threads": cv2.getNumThreads(),
                        "path": name,
                        "runs": arguments.runs,
                        "median_us": f"{median:.1f}",
                        "p95_us": f"{p95:.1f}",
                        "above_bare_resize_us": f"{median - base:+.1f}",
                        "versions": versions(),
                    }
                )
    write_rows(f"preprocess-opencv-{cv2.__version__}", rows)


if __name__ == "__main__":
    main()
