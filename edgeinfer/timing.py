"""Latencies: medians and percentiles of what was measured, never a mean alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from edgeinfer.frozen import dataclass

STAGES = ("read", "pre", "invoke", "post")


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of a series of times, in milliseconds (linear interpolation between ranks)."""

    p50: float
    p90: float
    p95: float
    p99: float

    def __str__(self) -> str:
        return f"{self.p50:.3f} ms (p95 {self.p95:.3f})"


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of a frame went, over the latest frames.

    Attributes:
        read: Opening and decoding a file; nearly 0 for an array.
        pre: Resizing and writing into the input tensor.
        invoke: The model itself.
        post: From the output tensors to a result.
        frames: How many frames the figures are made of.
    """

    read: Latency
    pre: Latency
    invoke: Latency
    post: Latency
    frames: int

    def to_json(self) -> dict[str, object]:
        """Return plain dictionaries, milliseconds."""
        from dataclasses import asdict

        return asdict(self)

    def __str__(self) -> str:
        parts = ", ".join(f"{stage} {getattr(self, stage)}" for stage in STAGES)
        return f"{parts}, over {self.frames} frames"


def latency(times_ns: Sequence[int]) -> Latency:
    """Return the percentiles of times in nanoseconds; all 0.0 for an empty series."""
    if not times_ns:
        return Latency(0.0, 0.0, 0.0, 0.0)
    # As `np.percentile` has it, which imports `numpy.ma` when it is first called: 44 million
    # instructions of the 833 that a first answer took (callgrind, x86).
    ranked = np.sort(np.asarray(times_ns, dtype=np.float64)) / 1e6
    places = np.array((0.50, 0.90, 0.95, 0.99)) * (ranked.size - 1)
    return Latency(*np.interp(places, np.arange(ranked.size), ranked).tolist())


class Stopwatch:
    """The times of the latest frames, one tuple of marks a frame: start, and the end of each stage."""

    def __init__(self, frames: int = 1000) -> None:
        self._marks: deque[tuple[int, int, int, int, int]] = deque(maxlen=frames)

    def add(self, marks: tuple[int, int, int, int, int]) -> None:
        """Note one frame: `time.perf_counter_ns()` at the start and after read, pre, invoke and post."""
        self._marks.append(marks)

    def latest_ms(self) -> dict[str, float]:
        """Return the stages of the latest frame in milliseconds; empty before the first."""
        if not self._marks:
            return {}
        marks = self._marks[-1]
        return {stage: (marks[i + 1] - marks[i]) / 1e6 for i, stage in enumerate(STAGES)}

    def timing(self) -> Timing:
        """Return the percentiles of every stage."""
        read, pre, invoke, post = (latency([marks[i + 1] - marks[i] for marks in self._marks]) for i in range(4))
        return Timing(read, pre, invoke, post, frames=len(self._marks))
