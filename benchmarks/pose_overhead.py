"""Claims: MoveNet's points are where its publisher says, and `pose_post` costs next to nothing.

    EDGEINFER_TEST_DATA=... python benchmarks/pose_overhead.py

* `squat.bmp` stretched to 192x192: the mean difference to Coral's reference points is at most .010 of the picture, x
  and y, all 17 points.
* A whole call on a 1280x720 array costs at most 1.08 times the bare `invoke` of the same interpreter, stretched or
  letterboxed, one thread. Variants take turns in short blocks, each after two frames of warm-up.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from record import test_data, versions, write_rows

from edgeinfer import Runtime
from edgeinfer.pipeline import Pipeline
from edgeinfer.postprocess.pose import pose_post
from edgeinfer.preprocess.image import read_image
from edgeinfer.preprocess.tensor import letterbox, stretch
from edgeinfer.results import Keypoints

BLOCKS, FRAMES, WARMUP = 40, 10, 2


def difference(pipeline: Pipeline[Keypoints], folder: Path) -> float:
    """Return the mean difference to the reference points, as a share of the picture."""
    image = read_image(folder / "squat.bmp")
    with (folder / "movenet_single_pose_lightning_ptq_reference.csv").open(newline="", encoding="utf-8") as file:
        truth = [(float(row["keypoint_x"]), float(row["keypoint_y"])) for row in csv.DictReader(file)]
    return float(np.abs(pipeline(image).xy[0] / image.shape[1::-1] - truth).mean())


def main() -> None:
    """Measure and write one row per variant."""
    folder = test_data() / "coral"
    path = folder / "movenet_single_pose_lightning_ptq.tflite"
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    bare = Runtime(path, threads=1)
    pipelines: dict[str, Pipeline[Keypoints]] = {}
    for name, pre in (("stretch", stretch), ("letterbox", letterbox)):
        runtime = Runtime(path, threads=1)
        pipelines[name] = Pipeline(runtime, pre=pre(runtime.input), post=pose_post(runtime.metadata))
    apart = difference(pipelines["stretch"], folder)
    variants: dict[str, Callable[[], object]] = {"bare invoke": bare.invoke}
    for name, pipeline in pipelines.items():
        variants[f"whole call, {name}"] = partial(pipeline, frame)
    times: dict[str, list[int]] = {name: [] for name in variants}
    for _ in range(BLOCKS):
        for name, call in variants.items():
            for number in range(FRAMES + WARMUP):
                start = time.perf_counter_ns()
                call()
                if number >= WARMUP:
                    times[name].append(time.perf_counter_ns() - start)
    base = float(np.median(times["bare invoke"]))
    rows = [
        {
            "variant": name,
            "model": path.name,
            "engine": f"{bare.engine.name} {bare.engine.version}",
            "threads": 1,
            "frames": len(series),
            "median_ms": f"{np.median(series) / 1e6:.3f}",
            "p95_ms": f"{np.percentile(series, 95) / 1e6:.3f}",
            "ratio_to_bare_invoke": f"{np.median(series) / base:.3f}",
            "mean_difference": f"{apart:.4f}" if name == "whole call, stretch" else "",
            "versions": versions(),
        }
        for name, series in times.items()
    ]
    write_rows("pose", rows)
    for name, pipeline in pipelines.items():
        print(f"{name}: {pipeline.timing}")


if __name__ == "__main__":
    main()
