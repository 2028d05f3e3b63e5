"""Claim: with 20 viewers on the page, one of them stalled, the models keep at least 95 % of their rate.

    EDGEINFER_TEST_DATA=... python benchmarks/preview_viewers.py [--blocks 50] [--seconds 1]

Frames from memory (the person video of the test data, at 640x480, a camera's default, and at 1280x720) are answered by
the SSD and by mobilenet_v2, one thread, as fast as the model can. Short blocks take turns: one in which the frames are
written to a page with 20 viewers, one in which they are written to a page that nobody looks at. A block's rate is set
against the mean of the two beside it, and the median of these ratios counts, with its bootstrapped interval. "without
to without" is what two neighbours without viewers make of each other.

The viewers are one other process on the same machine: 19 streams that are read and thrown away, and one that is never
read (the page drops it after ten seconds, and the next one comes).

Where other programs leave no core free, the ratio says who gets the cores. Three figures do not depend on that: the
processor time of the models' thread per frame, without and with viewers, and what page and viewers cost.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from live_overlap import models
from record import test_data, versions, write_rows

from edgeinfer import Camera, Frame, Image, Live, Page, Pipeline

SIZES = ((640, 480), (1280, 720))
FRAMES = 60
VIEWERS = 20
WARM_UP_S = 0.5
# Reads all streams but one, opens that one anew when it is dropped, and at the end of its input says how many pictures
# the others got and what that cost.
READER = """
import select, socket, sys, time

def opened():
    stream = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    stream.sendall(b"GET /stream.mjpg HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    return stream

poll, pictures, begun = select.epoll(), 0, time.process_time()
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
            print(pictures, time.process_time() - begun)
            sys.exit()
"""


class Memory:
    """A `FrameSource` that gives the same frames again and again, each time as memory of its own."""

    live, name, trouble, dropped = False, "memory", "", 0

    def __init__(self, images: list[Image]) -> None:
        self._images = images
        self._numbers = count()

    def read(self) -> Frame | None:
        """Return the next frame."""
        number = next(self._numbers)
        return Frame(self._images[number % len(self._images)].copy(), number, time.monotonic_ns())

    def close(self) -> None:
        """There is nothing to close."""


class Timed:
    """A model that notes how much processor time its thread has used when a frame comes."""

    def __init__(self, pipeline: Pipeline[Any]) -> None:
        self._pipeline = pipeline
        self.times: list[float] = []

    def __call__(self, image: Image) -> Any:
        """Answer one frame."""
        self.times.append(time.thread_time())
        return self._pipeline(image)

    def own_ms(self) -> float:
        """Return the mean from frame to frame since the last question, milliseconds."""
        times, self.times = self.times, []
        return 1000 * (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else float("nan")


def main() -> None:
    """Measure and write one row per model and rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--blocks", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    data, rows = test_data(), []
    for size in SIZES:
        images = resized(data / "video" / "one-by-one-person-detection.mp4", size)
        for model, pipeline in models(data).items():
            series = measured(images, pipeline, blocks=options.blocks, seconds=options.seconds)
            rows.append({"size": f"{size[0]}x{size[1]}", "model": model, **row(pipeline, series)})
    write_rows("preview-viewers", rows)


def resized(video: Path, size: tuple[int, int]) -> list[Image]:
    """Return frames of a video at the size that is measured: every tenth, in which somebody walks by."""
    import cv2

    with Camera(video) as camera:
        chosen = [frame.pixels for frame, _ in zip(camera, range(10 * FRAMES), strict=False) if frame.number % 10 == 0]
    return [cv2.resize(pixels, size) for pixels in chosen]


def measured(images: list[Image], pipeline: Pipeline[Any], *, blocks: int, seconds: float) -> dict[str, list[float]]:
    """Return answered frames a second without viewers (a block more) and with them, and what the viewers got."""
    names = ("without", "with", "own without", "own with", "encoded", "pictures", "page", "viewers")
    series: dict[str, list[float]] = {name: [] for name in names}
    model = Timed(pipeline)
    with (
        Page("127.0.0.1:0") as watched,
        Page("127.0.0.1:0") as alone,
        viewers(watched) as got,
        Live(Memory(images), {"model": model}) as live,
    ):
        frames, with_s = iter(live), 0.0
        rate(watched, frames, WARM_UP_S)
        series["without"].append(rate(alone, frames, seconds))
        model.own_ms()
        encoded, page_s = watched.encoded, page_time()
        for _ in range(blocks):
            begin = time.perf_counter()
            series["with"].append(rate(watched, frames, seconds))
            with_s += time.perf_counter() - begin
            series["own with"].append(model.own_ms())
            series["without"].append(rate(alone, frames, seconds))
            series["own without"].append(model.own_ms())
            if alone.encoded or watched.viewers < VIEWERS - 1:
                raise SystemExit("The viewers are not where they should be.")
        series["encoded"].append((watched.encoded - encoded) / with_s)
        series["page"].append((page_time() - page_s) / with_s)
    series["pictures"].append(got[0] / (VIEWERS - 1) / (with_s + WARM_UP_S))
    series["viewers"].append(got[1] / (with_s + WARM_UP_S))
    return series


def page_time() -> float:
    """Return the processor's seconds that the threads of all pages have used: fields 14 and 15 of proc(5)."""
    ticks = 0
    for thread in threading.enumerate():
        if thread.name == "edgeinfer-page":
            fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


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
def viewers(page: Page) -> Iterator[list[float]]:
    """Let the viewers come, and go at the end; yield what then holds how many pictures they got, and their time."""
    got: list[float] = []
    command = [sys.executable, "-c", READER, str(urlsplit(page.url).port), str(VIEWERS)]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while page.viewers < VIEWERS:
        time.sleep(0.05)
    try:
        yield got
    finally:
        got.extend(float(word) for word in reader.communicate()[0].split())


def row(pipeline: Pipeline[Any], series: dict[str, list[float]]) -> dict[str, object]:
    """Return one line of the table."""
    without = np.array(series["without"])
    ratios = np.array(series["with"]) / ((without[:-1] + without[1:]) / 2)
    idle = without[1:] / without[:-1]
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), (2.5, 97.5))
    return {
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
        "model thread ms without": f"{np.nanmedian(series['own without']):.2f}",
        "model thread ms with": f"{np.nanmedian(series['own with']):.2f}",
        "page, cores": f"{series['page'][0]:.3f}",
        "viewers, cores": f"{series['viewers'][0]:.3f}",
        "engine": f"{pipeline.runtime.engine.name} {pipeline.runtime.engine.version}",
        "threads": 1,
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
