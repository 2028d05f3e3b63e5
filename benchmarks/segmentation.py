"""Claims: `segmentation_post` costs little, and its mask agrees with the published one.

    EDGEINFER_TEST_DATA=... python benchmarks/segmentation.py

* DeepLab v3 (MobileNetV2 0.5, 513x513, argmax in the graph) finds the bird: at least .955 of the pixels of Coral's
  mask.
* A whole call on a 1280x720 array costs at most 1.25 times the bare `invoke` of the same interpreter, stretched or
  letterboxed, one thread. Variants take turns in short blocks, each after two frames of warm-up.
* `argmax` over scores that left the graph, against `np.argmax`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from record import test_data, versions, write_rows

from edgeinfer import Runtime
from edgeinfer.pipeline import Pipeline
from edgeinfer.postprocess.segment import argmax, segmentation_post
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.image import read_image
from edgeinfer.preprocess.tensor import letterbox, stretch
from edgeinfer.results import Mask

BLOCKS, FRAMES, WARMUP = 20, 5, 2


def in_turns(variants: Mapping[str, Callable[[], object]]) -> dict[str, list[int]]:
    """Return the nanoseconds of each call, the variants in turns."""
    times: dict[str, list[int]] = {name: [] for name in variants}
    for _ in range(BLOCKS):
        for name, call in variants.items():
            for number in range(FRAMES + WARMUP):
                start = time.perf_counter_ns()
                call()
                if number >= WARMUP:
                    times[name].append(time.perf_counter_ns() - start)
    return times


def overhead() -> None:
    """Write the mask's agreement and one row per variant."""
    folder = test_data() / "coral"
    path = folder / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    bare = Runtime(path, threads=1)
    pipelines: dict[str, Pipeline[Mask]] = {}
    for name, pre in (("stretch", stretch), ("letterbox", letterbox)):
        runtime = Runtime(path, threads=1)
        pipelines[name] = Pipeline(runtime, pre=pre(runtime.input), post=segmentation_post(runtime.metadata))
    truth = read_image(folder / "bird_segmentation_mask.bmp")[:, :, 0]
    agreement = (pipelines["stretch"](folder / "bird_segmentation.bmp").class_id == truth).mean()
    variants: dict[str, Callable[[], object]] = {"bare invoke": bare.invoke}
    for name, pipeline in pipelines.items():
        variants[f"whole call, {name}"] = partial(pipeline, frame)
    times = in_turns(variants)
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
            "pixel_agreement": f"{agreement:.4f}" if name == "whole call, stretch" else "",
            "versions": versions(),
        }
        for name, series in times.items()
    ]
    write_rows("segmentation", rows)
    for name, pipeline in pipelines.items():
        print(f"{name}: {pipeline.timing}")


def argmaxes() -> None:
    """Write one row per shape and type."""
    rows = []
    rng = np.random.default_rng(0)
    for side, classes, dtype in ((257, 21, "int8"), (257, 21, "float32"), (513, 21, "int8"), (256, 150, "int8")):
        scores = rng.integers(-128, 128, (side, side, classes)).astype(dtype)
        times = in_turns(
            {
                "numpy": partial(np.argmax, scores, axis=2),
                "ours": partial(argmax, scores),
                "ours_without_opencv": partial(without_opencv, scores),
            }
        )
        medians = {name: float(np.median(series)) / 1e6 for name, series in times.items()}
        rows.append(
            {
                "scores": f"{side}x{side}x{classes}",
                "dtype": dtype,
                **{f"{name}_ms": f"{median:.2f}" for name, median in medians.items()},
                "ratio": f"{medians['ours'] / medians['numpy']:.2f}",
                "ratio_without_opencv": f"{medians['ours_without_opencv'] / medians['numpy']:.2f}",
                "calls": len(times["ours"]),
                "versions": versions(),
            }
        )
    write_rows("argmax", rows)


def without_opencv(scores: NDArray[Any]) -> object:
    """Return the classes as a machine without OpenCV finds them."""
    with mock.patch.object(libraries, "opencv", return_value=None):
        return argmax(scores)


if __name__ == "__main__":
    overhead()
    argmaxes()
