"""Counts what a frame costs in the guest, whose clock counts instructions: one nanosecond is one.

Prints a JSON object a line, each a row of a table: what was counted, and the fewest of several times, because all that
the processor does meanwhile counts too, interrupts included.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import classifier, detector, read_labels
from edgeinfer.pipeline import Pipeline
from edgeinfer.runtime.engines import find_engine

DATA = Path("/luggage/data")
SIZES = ((640, 480), (1280, 720))
FRAMES = 6


def tell(**row: object) -> None:
    """Print one row."""
    print(json.dumps(row), flush=True)


def count(call: Callable[[], object], times: int = FRAMES) -> int:
    """Return the fewest instructions of several calls, of which the first does not count."""
    counts = []
    for _ in range(times):
        start = time.perf_counter_ns()
        call()
        counts.append(time.perf_counter_ns() - start)
    return min(counts[1:])


def bare_interpreter(path: Path) -> Any:
    """Return the engine's own interpreter, opened as its documentation shows."""
    if find_engine().name == "tflite-runtime":
        from tflite_runtime.interpreter import Interpreter
    else:
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def frames(pipeline: Pipeline[Any], model: str) -> None:
    """Count a whole frame and its stages, on arrays of a camera's sizes."""
    for width, height in SIZES:
        frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        stages: list[dict[str, float]] = []

        def answer(frame: Any = frame, stages: list[dict[str, float]] = stages) -> None:
            pipeline(frame)
            stages.append(pipeline.latest_ms())

        whole = count(answer)
        for stage in ("pre", "invoke", "post"):
            fewest = min(one[stage] for one in stages[1:])
            tell(what="frame", model=model, frame=f"{width}x{height}", stage=stage, instructions=round(fewest * 1e6))
        tell(what="frame", model=model, frame=f"{width}x{height}", stage="whole", instructions=whole)


def main() -> None:
    """Count frames of two classifiers and a detector."""
    classifiers = ("mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v2_1.0_224_quant.tflite")
    ssd = DATA / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite"
    labels = read_labels(DATA / "detection" / "COCO_labels.txt")
    for path in (*(DATA / "coral" / name for name in classifiers), ssd):
        interpreter = bare_interpreter(path)
        tell(what="frame", model=path.name, stage="bare invoke", instructions=count(interpreter.invoke))
        pipeline: Pipeline[Any] = (
            detector(path, labels=labels, threads=1) if path == ssd else classifier(path, threads=1)
        )
        frames(pipeline, path.name)


if __name__ == "__main__":
    main()
