"""Claim: a hundred thousand frames leave memory, threads and open files as they were.

    EDGEINFER_TEST_DATA=... python benchmarks/live_growth.py [--frames 100000]

A source of drawn frames, mobilenet_v1_0.25_128, and an output that draws each answer. The first tenth fills caches and
is not counted; from there on resident memory is read every thousandth frame.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import numpy as np
from record import test_data, versions, write_rows

from edgeinfer import Frame, Live, Runtime, classifier
from edgeinfer.machine import resident_bytes


class Drawn:
    """A source without a camera, as fast as frames are taken."""

    live, name, trouble, dropped = False, "drawn", "", 0

    def __init__(self, frames: int) -> None:
        self._frames, self._number = frames, 0

    def read(self) -> Frame | None:
        """Return the next frame."""
        if self._number == self._frames:
            return None
        pixels = np.full((240, 320, 3), self._number % 256, np.uint8)
        self._number += 1
        return Frame(pixels, self._number - 1, time.monotonic_ns())

    def close(self) -> None:
        """Do nothing: there is no device behind it."""


def main() -> None:
    """Measure and write one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=100_000)
    frames = parser.parse_args().frames
    path = test_data() / "coral" / "mobilenet_v1_0.25_128_quant.tflite"
    pipeline = classifier(Runtime(path, threads=1))
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    held: list[int] = []
    begin = time.perf_counter()
    with Live(Drawn(frames), pipeline) as live:
        for shown in live:
            shown.picture()
            if shown.frame.number >= frames // 10 and shown.frame.number % 1000 == 0:
                held.append(resident_bytes() or 0)
        status = live.status()
    seconds = time.perf_counter() - begin
    rows = [
        {
            "frames": status.shown,
            "seconds": f"{seconds:.0f}",
            "resident after a tenth MB": f"{held[0] / 1e6:.2f}",
            "resident at the end MB": f"{held[-1] / 1e6:.2f}",
            "drift MB": f"{(held[-1] - held[0]) / 1e6:.2f}",
            "highest above the first MB": f"{(max(held) - held[0]) / 1e6:.2f}",
            "threads left": threading.active_count() - threads,
            "files left": len(list(Path("/proc/self/fd").iterdir())) - files,
            "dropped": status.dropped,
            "model": path.name,
            "engine": f"{pipeline.runtime.engine.name} {pipeline.runtime.engine.version}",
            "versions": versions(),
        }
    ]
    write_rows("live-growth", rows)


if __name__ == "__main__":
    main()
