"""One side of `mediapipe_peer.py`: a process that loads a model, answers once and says so, and is spoken to in JSON.

It imports no more than its side needs: the time from its start to its first answer is one of the figures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def edgeinfer_worker(task: str, model: str) -> tuple[Callable[[Any], Any], Callable[[Any], int]]:
    """Return what answers for one picture, and what reads the first class off an answer."""
    import edgeinfer

    runtime = edgeinfer.Runtime(model, threads=1)
    answer = edgeinfer.classifier(runtime) if task == "classifier" else edgeinfer.detector(runtime)
    return answer, lambda found: int(found.class_id[0])


def mediapipe_worker(task: str, model: str) -> tuple[Callable[[Any], Any], Callable[[Any], int]]:
    """Return the same of MediaPipe Tasks; a numpy picture becomes its own kind of picture for each call."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    base = BaseOptions(model_asset_path=model)
    tool: Any
    if task == "classifier":
        tool = vision.ImageClassifier.create_from_options(
            vision.ImageClassifierOptions(base_options=base, max_results=5)
        )
        run = tool.classify
    else:
        tool = vision.ObjectDetector.create_from_options(
            vision.ObjectDetectorOptions(base_options=base, score_threshold=0.25)
        )
        run = tool.detect

    def answer(picture: Any) -> Any:
        return run(mp.Image(image_format=mp.ImageFormat.SRGB, data=picture))

    return answer, lambda found: int(found.classifications[0].categories[0].index)


def work(who: str, task: str, model: str, picture: str) -> None:
    """Load, answer once, say so; then answer blocks of frames, or a folder of photos, as the lines on stdin ask."""
    make = edgeinfer_worker if who == "edgeinfer" else mediapipe_worker
    frame = np.load(picture)
    answer, first = make(task, model)
    answer(frame)
    print(json.dumps({"ready": True, "peak_kib": peak_kib()}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "frames" in asked:
            times = []
            for _ in range(asked["frames"]):
                start = time.perf_counter_ns()
                answer(frame)
                times.append(time.perf_counter_ns() - start)
            print(json.dumps({"times": times, "peak_kib": peak_kib()}), flush=True)
        else:
            pictures = np.load(asked["photos"], allow_pickle=False)
            print(json.dumps({"first": [first(answer(pictures[name])) for name in pictures.files]}), flush=True)


def peak_kib() -> int:
    """Return the peak resident set of this process in KiB, as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    work(*sys.argv[1:5])
