"""Claim: what is shown is never old, and does not become older.

    EDGEINFER_TEST_DATA=... python benchmarks/live_age.py [--minutes 10]

A source gives 1280x720 frames at 60 a second; a model takes 100 ms (mobilenet_v2 again and again until they are over);
the page is on, with one viewer. A frame may be as old as one interval of the source, capture, inference and output
together: medians of each against the median age, and the same of the 95th percentiles, minute by minute.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Any

import numpy as np
from live_overlap import VIEWER, models
from record import test_data, versions, write_rows

from edgeinfer import Frame, Image, Live, Page

FPS = 60
INFERENCE_S = 0.1


class Clock:
    """A source that keeps time: a new frame every sixtieth of a second, whether or not somebody takes it."""

    live, name, trouble, dropped = True, "60 frames a second", "", 0

    def __init__(self) -> None:
        self._pixels = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
        self._start, self._number = time.monotonic(), 0

    def read(self) -> Frame:
        """Wait until the next frame is due."""
        due = self._start + self._number / FPS
        time.sleep(max(0.0, due - time.monotonic()))
        taken = time.monotonic_ns()
        frame = Frame(self._pixels.copy(), self._number, taken)
        self._number += 1
        return frame

    def close(self) -> None:
        """Do nothing: there is no device behind it."""


def main() -> None:
    """Measure and write one row per minute."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=int, default=10)
    minutes = parser.parse_args().minutes
    pipeline = next(iter(models(test_data()).values()))

    def slow(image: Image) -> Any:
        end = time.monotonic() + INFERENCE_S
        while True:
            result = pipeline(image)
            if time.monotonic() >= end:
                return result

    rows: list[dict[str, object]] = []
    with Page("127.0.0.1:0") as page, Live(Clock(), slow) as live:
        viewer = subprocess.Popen([sys.executable, "-c", VIEWER, f"{page.url}stream.mjpg"])
        try:
            # Without the first seconds: the viewer starts, and the engine is cold.
            ages: list[float] = []
            minute_ends = time.monotonic() + 70
            for shown in live:
                page.write(shown)
                ages.append(shown.age_ms)
                if time.monotonic() >= minute_ends:
                    minute_ends += 60
                    rows.append(row(len(rows) + 1, ages[len(ages) // 7 :] if not rows else ages, live))
                    ages = []
                    write_rows("live-age", rows)
                    if len(rows) == minutes:
                        break
        finally:
            viewer.terminate()
            viewer.wait()


def row(minute: int, ages: list[float], live: Live) -> dict[str, object]:
    """Return one line of the table."""
    status = live.status()
    p50, p95 = np.percentile(ages, (50, 95))
    # What `capture` measures is mostly the wait for the next frame, which the interval stands for already.
    parts50 = 1000 / FPS + status.inference.p50 + status.output.p50
    parts95 = 1000 / FPS + status.inference.p95 + status.output.p95
    return {
        "minute": minute,
        "frames": len(ages),
        "age p50 ms": f"{p50:.1f}",
        "age p95 ms": f"{p95:.1f}",
        "interval ms": f"{1000 / FPS:.1f}",
        "inference p50 ms": f"{status.inference.p50:.1f}",
        "inference p95 ms": f"{status.inference.p95:.1f}",
        "output p50 ms": f"{status.output.p50:.2f}",
        "allowed p50 ms": f"{parts50:.1f}",
        "allowed p95 ms": f"{parts95:.1f}",
        "dropped so far": status.dropped,
        "threads": 1,
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
