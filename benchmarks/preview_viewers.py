"""Claim: with 20 viewers on the page, one of them stalled, the models keep at least 95 % of their rate.

    EDGEINFER_TEST_DATA=... python benchmarks/preview_viewers.py [--blocks 80] [--seconds 0.5]

Frames of 1280x720 from memory (the person video of the test data, enlarged) are answered by the SSD and by
mobilenet_v2, one thread, as fast as the model can. Short blocks take turns: one in which the frames are written to a
page with 20 viewers, one in which they are written to a page that nobody looks at. A block's rate is set against the
mean of the two beside it, and the median of these ratios counts, with its bootstrapped interval: so what else the
machine does falls on both. "without to without" is what two neighbours without viewers make of each other.

The viewers are one other process on the same machine: 19 streams that are read and thrown away, and one that is never
read (the page drops it after ten seconds, and the next one comes). "page" is the default of at most 15 pictures a
second; "every" draws and encodes every answered frame, which no page has to.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from record import test_data, versions, write_rows

from edgeinfer import Camera, Frame, Image, Live, Page, Pipeline, Runtime, classifier, detector, read_labels

SIZE = (1280, 720)
FRAMES = 60
VIEWERS = 20
WARM_UP_S = 0.5
RATES = {"page": 15.0, "every": 1000.0}
# Reads all streams but one, opens that one anew when it is dropped, and at the end of its input says how many pictures
# the others got.
READER = """
import select, socket, sys

def opened():
    stream = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    stream.sendall(b"GET /stream.mjpg HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    return stream

poll, pictures = select.epoll(), 0
streams = {stream.fileno(): stream for stream in (opened() for _ in range(int(sys.argv[2]) - 1))}
for number in streams:
    poll.register(number, select.EPOLLIN)
stalled = opened()
poll.register(stalled, select.EPOLLRDHUP)
poll.register(sys.stdin, select.EPOLLIN)
while True:
    for number, _ in poll.poll():
        if number in streams:
            pictures += streams[number].recv(1 << 20).count(b"--edgeinfer-picture")
        elif number == stalled.fileno():
            poll.unregister(stalled)
            stalled.close()
            stalled = opened()
            poll.register(stalled, select.EPOLLRDHUP)
        else:
            print(pictures)
            sys.exit()
"""


class Memory:
    """A `FrameSource` that gives the same frames again and again, each time as memory of its own."""

    live, name, trouble = False, "memory", ""

    def __init__(self, images: list[Image]) -> None:
        self._images = images
        self._numbers = count()

    def read(self) -> Frame | None:
        """Return the next frame."""
        number = next(self._numbers)
        return Frame(self._images[number % len(self._images)].copy(), number, time.monotonic_ns())

    def close(self) -> None:
        """There is nothing to close."""


def main() -> None:
    """Measure and write one row per model and rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--blocks", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    data, rows = test_data(), []
    images = enlarged(data / "video" / "one-by-one-person-detection.mp4")
    for model, pipeline in models(data).items():
        for name, max_fps in RATES.items():
            series = measured(images, pipeline, max_fps, blocks=options.blocks, seconds=options.seconds)
            rows.append(row(model, name, pipeline, series))
    write_rows("preview-viewers", rows)


def models(data: Path) -> dict[str, Pipeline[Any]]:
    """Return the pipelines, one thread each."""
    coral, detection = data / "coral", data / "detection"
    return {
        "ssd_mobilenet_v1": detector(
            Runtime(detection / "ssd_mobilenet_v1_coco_quant_detect.tflite", threads=1),
            labels=read_labels(detection / "COCO_labels.txt"),
        ),
        "mobilenet_v2_1.0_224": classifier(
            Runtime(coral / "mobilenet_v2_1.0_224_quant.tflite", threads=1),
            labels=read_labels(coral / "imagenet_labels.txt"),
        ),
    }


def enlarged(video: Path) -> list[Image]:
    """Return frames of a video at the size that is measured: every tenth, in which somebody walks by."""
    import cv2

    with Camera(video) as camera:
        chosen = [frame.pixels for frame, _ in zip(camera, range(10 * FRAMES), strict=False) if frame.number % 10 == 0]
    return [cv2.resize(pixels, SIZE) for pixels in chosen]


def measured(
    images: list[Image], pipeline: Pipeline[Any], max_fps: float, *, blocks: int, seconds: float
) -> dict[str, list[float]]:
    """Return answered frames a second without viewers (a block more) and with them, and what the viewers got."""
    series: dict[str, list[float]] = {"without": [], "with": [], "encoded": [], "pictures": []}
    with (
        Page("127.0.0.1:0", max_fps=max_fps) as watched,
        Page("127.0.0.1:0", max_fps=max_fps) as alone,
        viewers(watched) as got,
        Live(Memory(images), pipeline) as live,
    ):
        frames, with_s = iter(live), 0.0
        rate(watched, frames, WARM_UP_S)
        series["without"].append(rate(alone, frames, seconds))
        encoded = watched.encoded
        for _ in range(blocks):
            begin = time.perf_counter()
            series["with"].append(rate(watched, frames, seconds))
            with_s += time.perf_counter() - begin
            series["without"].append(rate(alone, frames, seconds))
            if alone.encoded or watched.viewers < VIEWERS - 1:
                raise SystemExit("The viewers are not where they should be.")
        series["encoded"].append((watched.encoded - encoded) / with_s)
    series["pictures"].append(got[0] / (VIEWERS - 1) / (with_s + WARM_UP_S))
    return series


def rate(page: Page, frames: Iterator[Any], seconds: float) -> float:
    """Write frames for a time; return how many a second were answered."""
    begin = time.perf_counter()
    for written, shown in enumerate(frames, 1):
        page.write(shown)
        passed = time.perf_counter() - begin
        if passed >= seconds:
            return written / passed
    raise SystemExit("The frames have ended.")


@contextmanager
def viewers(page: Page) -> Iterator[list[int]]:
    """Let the viewers come, and go at the end; yield a list that then holds how many pictures they got."""
    got: list[int] = []
    command = [sys.executable, "-c", READER, str(urlsplit(page.url).port), str(VIEWERS)]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while page.viewers < VIEWERS:
        time.sleep(0.05)
    try:
        yield got
    finally:
        got.append(int(reader.communicate()[0]))


def row(model: str, rule: str, pipeline: Pipeline[Any], series: dict[str, list[float]]) -> dict[str, object]:
    """Return one line of the table."""
    without = np.array(series["without"])
    ratios = np.array(series["with"]) / ((without[:-1] + without[1:]) / 2)
    idle = without[1:] / without[:-1]
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
    return {
        "model": model,
        "pictures": rule,
        "blocks": len(ratios),
        "viewers": VIEWERS,
        "stalled": 1,
        "fps without": f"{np.median(without):.1f}",
        "fps with": f"{np.median(series['with']):.1f}",
        "ratio": f"{np.median(ratios):.3f}",
        "95% interval": f"{low:.3f}..{high:.3f}",
        "without to without": f"{np.median(idle):.3f}",
        "quartiles of that": "{:.3f}..{:.3f}".format(*np.percentile(idle, (25, 75))),
        "encoded/s": f"{series['encoded'][0]:.1f}",
        "pictures/s a viewer": f"{series['pictures'][0]:.1f}",
        "size": f"{SIZE[0]}x{SIZE[1]}",
        "engine": f"{pipeline.runtime.engine.name} {pipeline.runtime.engine.version}",
        "threads": 1,
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
