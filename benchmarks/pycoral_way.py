"""Claim: at most 0.6 times the way of pycoral's examples: Pillow's resize, details asked per call, decoding in Python.

    EDGEINFER_TEST_DATA=... python benchmarks/pycoral_way.py

pycoral itself has no wheel for a Python of today. What its examples do is written here on the same engine: the picture
comes as Pillow's, is resized with LANCZOS, goes in by a view of the input that is looked up by its details, and the
answer is read off the details, dequantized whole, and made into Python objects. Classifier and detector, 1280x720
array, one thread, in turns; the row for bilinear says what the filter alone costs.
"""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
from frames import camera_frame
from numpy.typing import NDArray
from record import test_data, versions, write_rows

from edgeinfer import Runtime, classifier, detector

BLOCKS, FRAMES, WARMUP = 25, 6, 2
Class = namedtuple("Class", ["id", "score"])
Box = namedtuple("Box", ["xmin", "ymin", "xmax", "ymax"])
Object = namedtuple("Object", ["id", "score", "bbox"])


def put(interpreter: Any, frame: NDArray[np.uint8], filter: str) -> tuple[float, float]:  # noqa: A002 - Pillow's word
    """Resize with Pillow, keep the aspect for detections as the examples do, and write into the input."""
    from PIL import Image

    details = interpreter.get_input_details()[0]
    _, height, width, _ = details["shape"]
    image = Image.fromarray(frame).resize((int(width), int(height)), Image.Resampling[filter])
    interpreter.tensor(details["index"])()[0][:, :] = np.asarray(image)
    return frame.shape[1], frame.shape[0]


def classes(interpreter: Any, frame: NDArray[np.uint8], filter: str) -> list[Class]:  # noqa: A002
    """Return the five best classes."""
    put(interpreter, frame, filter)
    interpreter.invoke()
    details = interpreter.get_output_details()[0]
    stored = interpreter.tensor(details["index"])().flatten()
    scale, zero_point = details["quantization"]
    scores = scale * (stored.astype(np.int64) - zero_point)
    order = np.argpartition(scores, -5)[-5:]
    found = [Class(int(one), float(scores[one])) for one in order if scores[one] >= -np.inf]
    return sorted(found, key=lambda one: one.score, reverse=True)


def objects(interpreter: Any, frame: NDArray[np.uint8], filter: str) -> list[Object]:  # noqa: A002
    """Return the boxes above a threshold."""
    width, height = put(interpreter, frame, filter)
    interpreter.invoke()
    boxes, ids, scores, count = (
        interpreter.tensor(interpreter.get_output_details()[place]["index"])()[0].copy() for place in range(4)
    )

    def make(place: int) -> Object:
        top, left, bottom, right = boxes[place]
        return Object(
            int(ids[place]),
            float(scores[place]),
            Box(int(left * width), int(top * height), int(right * width), int(bottom * height)),
        )

    return [make(place) for place in range(int(count)) if scores[place] >= 0.25]


def main() -> None:
    """Measure and write one row per task and variant."""
    data = test_data()
    frame = camera_frame(data)
    cases: dict[str, tuple[Any, Callable[..., Any], Callable[..., Any]]] = {
        "classifier": (data / "coral" / "mobilenet_v2_1.0_224_quant.tflite", classifier, classes),
        "detector": (data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite", detector, objects),
    }
    rows = []
    for task, (path, constructor, way) in cases.items():
        answer = constructor(Runtime(path, threads=1))
        theirs = Runtime(path, threads=1)
        bare = Runtime(path, threads=1)
        calls: dict[str, Callable[[], object]] = {
            "bare invoke": bare.invoke,
            "edgeinfer": lambda answer=answer: answer(frame),  # type: ignore[misc]
            "the pycoral way, LANCZOS": lambda it=theirs.interpreter, way=way: way(it, frame, "LANCZOS"),  # type: ignore[misc]
            "the pycoral way, BILINEAR": lambda it=theirs.interpreter, way=way: way(it, frame, "BILINEAR"),  # type: ignore[misc]
        }
        times: dict[str, list[int]] = {name: [] for name in calls}
        for _ in range(BLOCKS):
            for name, call in calls.items():
                for number in range(FRAMES + WARMUP):
                    start = time.perf_counter_ns()
                    call()
                    if number >= WARMUP:
                        times[name].append(time.perf_counter_ns() - start)
        ours = float(np.median(times["edgeinfer"]))
        rows += [
            {
                "task": task,
                "variant": name,
                "median_ms": f"{np.median(series) / 1e6:.3f}",
                "p95_ms": f"{np.percentile(series, 95) / 1e6:.3f}",
                "edgeinfer_to_this": f"{ours / np.median(series):.3f}",
                "frames": len(series),
                "engine": f"{bare.engine.name} {bare.engine.version}",
                "threads": 1,
                "versions": versions(),
            }
            for name, series in times.items()
        ]
    write_rows("pycoral-way", rows)


if __name__ == "__main__":
    main()
