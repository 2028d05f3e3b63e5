"""A source of drawn frames that keeps time by the clock: for what a camera cannot be told to do in a test."""

from __future__ import annotations

import threading
import time

import numpy as np

from edgeinfer.errors import EdgeInferError
from edgeinfer.sources.frame import Frame


class SyntheticSource:
    """Frames of one colour, `fps` a second (None: as fast as they are taken); ends or fails when it is told to."""

    name = "synthetic"
    trouble = ""
    dropped = 0

    def __init__(
        self,
        frames: int | None = None,
        *,
        fps: float | None = None,
        live: bool = True,
        error: EdgeInferError | None = None,
        size: tuple[int, int] = (64, 48),
    ) -> None:
        self.live = live
        self.closed = threading.Event()
        self._frames, self._fps, self._error, self._size = frames, fps, error, size
        self._number = 0
        self._start = time.monotonic()

    def read(self) -> Frame | None:
        if self._number == self._frames:
            if self._error is not None:
                raise self._error
            return None
        if self._fps is not None:
            self.closed.wait(max(0.0, self._start + self._number / self._fps - time.monotonic()))
        if self.closed.is_set():
            return None
        width, height = self._size
        frame = Frame(np.full((height, width, 3), self._number % 256, np.uint8), self._number, time.monotonic_ns())
        self._number += 1
        return frame

    def close(self) -> None:
        self.closed.set()
