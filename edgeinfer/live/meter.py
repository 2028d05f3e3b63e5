"""What is known of the latest frames: how long each stage took, how old they were, how many a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from threading import Lock
from time import monotonic_ns

from edgeinfer.timing import Latency, latency

_FRAMES = 300
_FPS_OVER_NS = 5_000_000_000


class Meter:
    """Times of the latest 300 frames; three threads write, a fourth reads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._times: dict[str, deque[int]] = {
            name: deque(maxlen=_FRAMES) for name in ("capture", "inference", "output", "age")
        }
        self._stages: deque[Mapping[str, float]] = deque(maxlen=_FRAMES)
        self._ends: deque[int] = deque(maxlen=_FRAMES)
        self._shown = 0

    def add(self, name: str, time_ns: int) -> None:
        """Note one time of "capture", "inference", "output" or "age", nanoseconds."""
        with self._lock:
            self._times[name].append(time_ns)

    def add_stages(self, stages: Mapping[str, float]) -> None:
        """Note where an inference's time went, milliseconds."""
        with self._lock:
            self._stages.append(stages)

    def end(self, time_ns: int) -> None:
        """Note that a frame was handed out, on the clock of `time.monotonic_ns()`."""
        with self._lock:
            self._ends.append(time_ns)
            self._shown += 1

    @property
    def shown(self) -> int:
        """How many frames were handed out."""
        return self._shown

    def latencies(self) -> dict[str, Latency]:
        """Return the percentiles of every kind of time."""
        with self._lock:
            times = {name: list(values) for name, values in self._times.items()}
        return {name: latency(values) for name, values in times.items()}

    def stages(self) -> dict[str, float]:
        """Return the median of every stage of the inference, milliseconds."""
        with self._lock:
            rows = list(self._stages)
        names = rows[-1] if rows else ()
        return {name: latency([round(1e6 * row.get(name, 0.0)) for row in rows]).p50 for name in names}

    def fps(self) -> float:
        """Return the frames a second of the latest five seconds; 0.0 where there were none."""
        now = monotonic_ns()
        with self._lock:
            ends = [end for end in self._ends if now - end <= _FPS_OVER_NS]
        if len(ends) < 2:
            return 0.0
        # A source that has stopped lets the rate fall, instead of keeping the last one for ever.
        span = max(ends[-1], now - (ends[-1] - ends[0]) // (len(ends) - 1)) - ends[0]
        return (len(ends) - 1) * 1e9 / span
