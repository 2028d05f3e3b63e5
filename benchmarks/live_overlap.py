"""Claim: capture, inference and output overlap; frames a second come to nine tenths of what the slowest stage allows.

    EDGEINFER_TEST_DATA=... python benchmarks/live_overlap.py [--rounds 5]

A 1280x720 video (the person video of the test data, enlarged, MPEG-4) is answered by mobilenet_v2 and by the SSD, one
thread, with a video file or the page as output. One after the other: read, answer, write in a plain loop. Overlapping:
`Live`. Both take turns in one run, the medians of the rounds count. The bound is the sum of the stage times over the
slowest of them, both from the plain loop of the same round; overlapping cannot win more than that.

The page has one viewer, in a process of its own that reads and throws away. In the plain loop the picture is drawn and
encoded in line, as the page does it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from record import test_data, versions, write_rows

from edgeinfer import Camera, Live, Page, Pipeline, Recording, Runtime, Shown, Status, classifier, detector, read_labels
from edgeinfer.preview.pictures import encode_jpeg

SIZE = (1280, 720)
FRAMES = 150
Sink = Callable[[Shown], object]
VIEWER = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as stream:
    while stream.read1(1 << 20):
        pass
"""


def main() -> None:
    """Measure and write one row per model and output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    data, rows = test_data(), []
    with tempfile.TemporaryDirectory() as folder:
        video = enlarged(data / "video" / "one-by-one-person-detection.mp4", Path(folder) / "street.mp4")
        for model, pipeline in models(data).items():
            for output in ("file", "page"):
                series = [one_round(video, pipeline, output, Path(folder)) for _ in range(rounds)]
                rows.append(row(model, output, pipeline, series))
                write_rows("live-overlap", rows)


def models(data: Path) -> dict[str, Pipeline[Any]]:
    """Return the pipelines, one thread each."""
    coral, detection = data / "coral", data / "detection"
    return {
        "mobilenet_v2_1.0_224": classifier(
            Runtime(coral / "mobilenet_v2_1.0_224_quant.tflite", threads=1),
            labels=read_labels(coral / "imagenet_labels.txt"),
        ),
        "ssd_mobilenet_v1": detector(
            Runtime(detection / "ssd_mobilenet_v1_coco_quant_detect.tflite", threads=1),
            labels=read_labels(detection / "COCO_labels.txt"),
        ),
    }


def enlarged(source: Path, place: Path) -> Path:
    """Write the first frames of a video anew at the size that is measured."""
    import cv2

    writer = cv2.VideoWriter(str(place), cv2.VideoWriter.fourcc(*"mp4v"), 30, SIZE)
    with Camera(source) as camera:
        for number, frame in enumerate(camera):
            if number == FRAMES:
                break
            writer.write(cv2.cvtColor(cv2.resize(frame.pixels, SIZE), cv2.COLOR_RGB2BGR))
    writer.release()
    return place


def one_round(video: Path, pipeline: Pipeline[Any], output: str, folder: Path) -> dict[str, float]:
    """Return frames a second of both ways, and the stages of the plain loop in milliseconds."""
    with plain_sink(output, folder) as sink:
        stages = in_turn(video, pipeline, sink)
    with live_sink(output, folder) as sink, Camera(video) as camera, Live(camera, pipeline) as live:
        begin = time.perf_counter()
        for shown in live:
            sink(shown)
        fps = live.status().shown / (time.perf_counter() - begin)
    return {**stages, "overlapping": fps}


def in_turn(video: Path, pipeline: Pipeline[Any], sink: Sink) -> dict[str, float]:
    """Return frames a second of the plain loop, and the mean of its stages: what they cost together."""
    sums = np.zeros(3)
    with Camera(video) as camera:
        frames, begin = 0, time.perf_counter()
        while True:
            start = time.perf_counter()
            frame = camera.read()
            if frame is None:
                break
            captured = time.perf_counter()
            result = pipeline(frame.pixels)
            answered = time.perf_counter()
            sink(Shown(frame, {"model": result}, Status()))
            sums += (captured - start, answered - captured, time.perf_counter() - answered)
            frames += 1
        fps = frames / (time.perf_counter() - begin)
    capture, inference, written = (1000 * sums / frames).tolist()
    return {"in turn": fps, "capture": capture, "inference": inference, "output": written}


@contextmanager
def plain_sink(output: str, folder: Path) -> Iterator[Sink]:
    """Yield what the plain loop does with an answered frame."""
    if output == "page":
        yield lambda shown: encode_jpeg(shown.picture(), quality=80, max_width=1280)
        return
    with Recording(folder / "plain.mp4", fps=30) as recording:
        yield recording.write


@contextmanager
def live_sink(output: str, folder: Path) -> Iterator[Sink]:
    """Yield what the overlapping loop does with an answered frame."""
    with ExitStack() as stack:
        if output == "file":
            yield stack.enter_context(Recording(folder / "live.mp4", fps=30)).write
            return
        page = stack.enter_context(Page("127.0.0.1:0", max_fps=1000))
        viewer = subprocess.Popen([sys.executable, "-c", VIEWER, f"{page.url}stream.mjpg"])
        stack.callback(viewer.wait)
        stack.callback(viewer.terminate)
        while not page.viewers:
            time.sleep(0.05)
        yield page.write


def row(model: str, output: str, pipeline: Pipeline[Any], series: list[dict[str, float]]) -> dict[str, object]:
    """Return one line of the table."""
    middle = {name: float(np.median([one[name] for one in series])) for name in series[0]}
    gains = [one["overlapping"] / one["in turn"] for one in series]
    stages = ("capture", "inference", "output")
    bounds = [sum(one[name] for name in stages) / max(one[name] for name in stages) for one in series]
    shares = [gain / bound for gain, bound in zip(gains, bounds, strict=True)]
    return {
        "model": model,
        "output": output,
        "rounds": len(series),
        "frames a round": FRAMES,
        **{f"{name} ms": f"{middle[name]:.2f}" for name in stages},
        "fps in turn": f"{middle['in turn']:.1f}",
        "fps overlapping": f"{middle['overlapping']:.1f}",
        "gain": f"{np.median(gains):.3f}",
        "bound": f"{np.median(bounds):.3f}",
        "share of bound": f"{np.median(shares):.3f}",
        "lowest share": f"{min(shares):.3f}",
        "highest share": f"{max(shares):.3f}",
        "engine": f"{pipeline.runtime.engine.name} {pipeline.runtime.engine.version}",
        "threads": 1,
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
