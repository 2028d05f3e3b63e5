"""`Playback`: which frame stands where in a video of one rate, so that it plays at the speed of life."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np

Picture = TypeVar("Picture")

# The first frames are held back until their rate is known: 8 frames of 1280x720 are 22 MB.
_HELD = 8
_HIGHEST_FPS = 60.0
_EVERY_FRAME_FPS = 25.0
# A camera that was gone for an hour must not cost an hour's repetitions when it comes back.
_MOST_REPETITIONS = 60


class Playback(Generic[Picture]):
    """Give each picture its place in a video by the time it was taken.

    Until the next picture the last one stands. A picture that comes a place too early takes the next one, so that a
    camera whose times tremble loses nothing; one that comes earlier still is left out. A silence of more than 60 places
    is shortened to these.

    Args:
        fps: The video's rate. None waits for eight pictures and takes the lower quartile of their distances, as a whole
            number from 1 to 60; with `every_frame` it is 25.
        every_frame: Each picture once, whatever its time.

    Example:
        >>> playback = Playback(10.0)
        >>> times_ms = {"a": 0, "b": 100, "c": 420, "d": 430, "e": 440}
        >>> [list(playback.take(name, ms * 10**6)) for name, ms in times_ms.items()]
        [[('a', 1)], [('b', 1)], [('b', 2), ('c', 1)], [('d', 1)], []]
        >>> list(playback.finish())
        []
    """

    def __init__(self, fps: float | None, *, every_frame: bool = False) -> None:
        self._fps = _EVERY_FRAME_FPS if every_frame and fps is None else fps
        self._every_frame = every_frame
        self._held: list[tuple[Picture, int]] = []
        self._latest: Picture | None = None
        self._begin_ns = 0
        self._next = 0  # the first place that is not taken

    @property
    def fps(self) -> float:
        """The video's rate; before it is known, 25."""
        return self._fps or _EVERY_FRAME_FPS

    def take(self, picture: Picture, time_ns: int) -> Iterator[tuple[Picture, int]]:
        """Yield pictures and how often each is to be written, in order; maybe none.

        Args:
            picture: The next picture; it is kept, so it must stay as it is.
            time_ns: When it was taken.
        """
        if self._fps is not None:
            yield from self._place(picture, time_ns)
            return
        self._held.append((picture, time_ns))
        if len(self._held) == _HELD:
            yield from self.finish()

    def finish(self) -> Iterator[tuple[Picture, int]]:
        """Yield what is still held back."""
        if self._fps is None and self._held:
            self._fps = _rate([time_ns for _, time_ns in self._held])
        held, self._held = self._held, []
        for picture, time_ns in held:
            yield from self._place(picture, time_ns)

    def _place(self, picture: Picture, time_ns: int) -> Iterator[tuple[Picture, int]]:
        if self._every_frame or self._latest is None:
            self._begin_ns, self._next, self._latest = time_ns, 1, picture
            yield picture, 1
            return
        missing = round((time_ns - self._begin_ns) * self.fps / 1e9) - self._next
        if abs(missing) > _MOST_REPETITIONS:
            # Behind a silence, or a clock that was set back: the places are counted anew from here.
            logging.getLogger(__name__).info("%.1f s without a frame are shortened.", missing / self.fps)
            missing = max(0, min(missing, _MOST_REPETITIONS))
            self._begin_ns = time_ns - round((self._next + missing) * 1e9 / self.fps)
        if missing < -1:
            return
        if missing > 0:
            yield self._latest, missing
            self._next += missing
        self._next += 1
        self._latest = picture
        yield picture, 1


def _rate(times_ns: list[int]) -> float:
    distances = np.diff(times_ns)
    distances = distances[distances > 0]
    if not distances.size:
        return _EVERY_FRAME_FPS
    # Of an unsteady source the quicker quarter: too high a rate repeats pictures, too low a one loses them.
    return float(np.clip(np.round(1e9 / np.percentile(distances, 25)), 1.0, _HIGHEST_FPS))
