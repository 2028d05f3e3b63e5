"""Claim: a whole call on a 1280x720 array costs at most 1.08 times the bare `invoke` (segmentation 1.25 times).

    EDGEINFER_TEST_DATA=... python benchmarks/task_overhead.py [--files converted]

The five constructors and a `Pipeline` with a regression head, stretched and letterboxed, one thread. "public" are files
that this project did not make; "converted" are int8 files of its own converter: MobileNetV2 1.0 224 of keras_imagenet
with another head each, random weights in the heads (the time does not depend on them, but for the boxes that a detector
finds: its scores are such that a few do). Each pipeline takes turns with a bare interpreter of the same file that holds
the same picture, in blocks of twenty frames, as a camera's loop would see them, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from frames import camera_frame
from numpy.typing import NDArray
from record import test_data, versions, write_rows

from edgeinfer import (
    DetectionHead,
    Pipeline,
    Resize,
    Runtime,
    classifier,
    detector,
    embedder,
    poser,
    segmenter,
)
from edgeinfer.postprocess.values import values
from edgeinfer.preprocess.tensor import Preprocessor

HEAD = DetectionHead("yolo", box="cxcywh", unit="share", channels="last", objectness=False)
BLOCKS, FRAMES, WARMUP = 10, 20, 4
PIXELS = (0.0, 1.0)  # what a uint8 file without metadata takes: pixels as they are


@dataclass(frozen=True, slots=True)
class Subject:
    """A file and the constructor that makes a pipeline of it, by the way that pictures are resized."""

    task: str
    file: Path
    make: Callable[[Runtime, Resize], Pipeline[Any]]


def regression(runtime: Runtime, resize: Resize) -> Pipeline[NDArray[np.float32]]:
    """Return a pipeline whose answer is the output's numbers."""
    return Pipeline(runtime, pre=Preprocessor(runtime.input, resize=resize), post=values)


def public(data: Path) -> list[Subject]:
    """Return the shared files, each by its task."""
    coral = data / "coral"
    mobilenet = coral / "mobilenet_v2_1.0_224_quant.tflite"
    return [
        Subject("classification", mobilenet, lambda r, how: classifier(r, resize=how)),
        Subject("embedding", mobilenet, lambda r, how: embedder(r, resize=how)),
        Subject("regression", mobilenet, regression),
        Subject(
            "detection",
            data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite",
            lambda r, how: detector(r, resize=how),
        ),
        Subject(
            "segmentation",
            coral / "deeplabv3_mnv2_dm05_pascal_quant.tflite",
            lambda r, how: segmenter(r, resize=how),
        ),
        Subject("pose", coral / "movenet_single_pose_lightning_ptq.tflite", lambda r, how: poser(r, resize=how)),
    ]


def converted(data: Path) -> list[Subject]:
    """Return int8 files of this project's converter, made once and kept in the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeinfer" / "task-overhead"
    files = {task: cache / f"{task}.tflite" for task in HEADS}
    missing = {task: file for task, file in files.items() if not file.exists()}
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        _convert_all(data, missing)
    makers: dict[str, Callable[[Runtime, Resize], Pipeline[Any]]] = {
        "classification": lambda r, how: classifier(r, resize=how),
        "embedding": lambda r, how: embedder(r, resize=how),
        "regression": regression,
        "detection": lambda r, how: detector(r, resize=how),
        "segmentation": lambda r, how: segmenter(r, resize=how),
        "pose": lambda r, how: poser(r, resize=how),
    }
    return [Subject(task, files[task], make) for task, make in makers.items()]


def _row(features: Any, units: int, activation: str | None = None) -> Any:
    import keras

    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return keras.layers.Dense(units, activation=activation)(pooled) if units else pooled


def _boxes(features: Any) -> Any:
    """80 classes and a box for 6 anchors on each of 7 x 7 cells: (1, 294, 84), a few scores above a quarter."""
    import keras

    low, narrow = keras.initializers.Constant(-4.0), keras.initializers.RandomNormal(stddev=0.02)
    scores = keras.layers.Conv2D(6 * 84, 1, activation="sigmoid", bias_initializer=low, kernel_initializer=narrow)(
        features
    )
    return keras.layers.Reshape((7 * 7 * 6, 84))(scores)


def _map(features: Any) -> Any:
    import keras

    scores = keras.layers.Conv2D(21, 1)(features)
    return keras.layers.UpSampling2D(8, interpolation="bilinear")(scores)


def _points(features: Any) -> Any:
    import keras

    heat = keras.layers.Conv2D(17, 1, activation="sigmoid", name="heatmap")(features)
    return [heat, keras.layers.Conv2D(34, 1, name="offsets")(features)]


HEADS: dict[str, Callable[[Any], Any]] = {
    "classification": lambda features: _row(features, 1001, "softmax"),
    "embedding": lambda features: _row(features, 0),
    "regression": lambda features: _row(features, 1),
    "detection": _boxes,
    "segmentation": _map,
    "pose": _points,
}


def _convert_all(data: Path, files: dict[str, Path]) -> None:
    import keras

    from converters import Card, Quantize, Recipe, convert
    from converters.load import model_kind, read_keras

    published = data / "keras_imagenet" / "mobilenet_v2_1.0_224_from_tflite.h5"
    whole = read_keras(published, model_kind(published))
    pooling = next(layer for layer in whole.layers if "pool" in layer.name and len(layer.input.shape) == 4)
    for task, file in files.items():
        keras.utils.set_random_seed(0)
        model = keras.Model(whole.input, HEADS[task](pooling.input), name=task)
        head = HEAD if task == "detection" else None
        card = Card(task="tensors" if task == "regression" else task, normalization=(127.5, 127.5), head=head)  # type: ignore[arg-type]
        recipe = Recipe((Quantize("int8", samples=20),))
        convert(model, data / "imagenet_sample", recipe=recipe, card=card).save(file)


def main() -> None:
    """Measure and write one row per file and way of resizing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", choices=("public", "converted"), default="public")
    chosen = parser.parse_args().files
    data = test_data()
    frame = camera_frame(data)
    rows = []
    for subject in public(data) if chosen == "public" else converted(data):
        for mode in ("stretch", "letterbox"):
            resize = Resize(mode)
            answer = subject.make(Runtime(subject.file, threads=1), resize)
            bare = Runtime(subject.file, threads=1)
            Preprocessor(bare.input, resize=resize)(frame, bare.input_view())
            times: dict[str, list[int]] = {"bare": [], "whole": []}
            for _ in range(BLOCKS):
                for name, call in (("bare", bare.invoke), ("whole", lambda: answer(frame))):  # noqa: B023
                    for number in range(FRAMES + WARMUP):
                        start = time.perf_counter_ns()
                        call()
                        if number >= WARMUP:
                            times[name].append(time.perf_counter_ns() - start)
            base, total = (float(np.median(times[name])) for name in ("bare", "whole"))
            stages = answer.timing
            rows.append(
                {
                    "files": chosen,
                    "task": subject.task,
                    "model": subject.file.name,
                    "resize": mode,
                    "bare_median_ms": f"{base / 1e6:.3f}",
                    "bare_p95_ms": f"{np.percentile(times['bare'], 95) / 1e6:.3f}",
                    "whole_median_ms": f"{total / 1e6:.3f}",
                    "whole_p95_ms": f"{np.percentile(times['whole'], 95) / 1e6:.3f}",
                    "ratio_to_bare_invoke": f"{total / base:.3f}",
                    "found": len(answer(frame)) if subject.task in ("detection", "pose") else "",
                    "pre_ms": f"{stages.pre.p50:.3f}",
                    "post_ms": f"{stages.post.p50:.3f}",
                    "frames": BLOCKS * FRAMES,
                    "engine": f"{bare.engine.name} {bare.engine.version}",
                    "threads": 1,
                    "versions": versions(),
                }
            )
    write_rows(f"task-overhead-{chosen}", rows)


if __name__ == "__main__":
    main()
