"""A rate that the machine can hold: no faster than was asked for, and slower while it is too hot."""

from __future__ import annotations

from threading import Event
from time import monotonic

# A step down takes a fifth of the rate, a step up gives a tenth back, and between the two temperatures nothing changes:
# heat follows load by tens of seconds, and a rate that follows each reading would swing.
_DOWN = 0.8
_UP = 1.1
_BAND_C = 3.0
_LEAST_FPS = 0.5


def next_limit(limit: float | None, fps: float, temperature_c: float | None, max_temp_c: float | None) -> float | None:
    """Return the rate to hold from now on, in frames a second; None is no limit.

    Args:
        limit: What was held until now.
        fps: What was reached with it.
        temperature_c: Now; None where the system does not say, and then nothing changes.
        max_temp_c: What not to go beyond; None is any.

    Example:
        >>> next_limit(None, 10.0, 81.0, 80.0)
        8.0
        >>> next_limit(8.0, 8.0, 79.0, 80.0)
        8.0
        >>> next_limit(8.0, 4.0, 70.0, 80.0) is None
        True
    """
    if temperature_c is None or max_temp_c is None:
        return limit
    if temperature_c >= max_temp_c:
        if not fps:
            return limit  # nothing is being answered, so it is not the answers that heat
        reached = fps if limit is None else min(fps, limit)
        return max(_LEAST_FPS, reached * _DOWN)
    if limit is None or temperature_c > max_temp_c - _BAND_C:
        return limit
    # Where the limit is no longer what holds the rate back, it has done its work.
    return None if fps < 0.7 * limit else limit * _UP


class Pace:
    """Waits so that one frame does not follow the other too soon.

    Args:
        max_fps: Frames a second at most; None is no limit.
    """

    def __init__(self, max_fps: float | None) -> None:
        self.max_fps = max_fps
        self._cooling: float | None = None
        self._due = 0.0

    @property
    def limit_fps(self) -> float | None:
        """The rate that is held, frames a second; None is no limit."""
        limits = [one for one in (self.max_fps, self._cooling) if one is not None]
        return min(limits) if limits else None

    def follow(self, fps: float, temperature_c: float | None, max_temp_c: float | None) -> None:
        """Look at the temperature; to be called every few seconds."""
        self._cooling = next_limit(self._cooling, fps, temperature_c, max_temp_c)

    def wait(self, stopped: Event) -> None:
        """Wait until the next frame is due, or the end."""
        limit = self.limit_fps
        if limit is None:
            return
        now = monotonic()
        if now < self._due:
            stopped.wait(self._due - now)
        # From when it was due, so that the mean rate is kept; but what was missed is not made up for.
        self._due = max(self._due, now) + 1 / limit
