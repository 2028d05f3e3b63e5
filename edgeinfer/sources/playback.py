"""A source that waits, frame after frame, or at its own pace as if it were live."""

from __future__ import annotations

from threading import Event, Lock
from time import monotonic_ns

from edgeinfer.sources.choose import FileSource
from edgeinfer.sources.frame import Frame


class Playback:
    """Reads files in the caller's own thread.

    Args:
        source: What to read.
        realtime: False gives each frame when it is asked for; True when it is due, and leaves out what nobody had time
            for. The time begins when the first frame is asked for.
        repeat: Begin again at the end.

    Raises:
        EdgeInferError: It cannot be opened.

    Attributes:
        dropped: How many frames were left out because their time had passed.
    """

    trouble = ""

    def __init__(self, source: FileSource, *, realtime: bool, repeat: bool) -> None:
        self._source, self._realtime, self._repeat = source, realtime, repeat
        self._closed = Event()
        self._reading = Lock()
        self._reader = source.open()
        self._number = -1
        self._start_ns: int | None = None
        # When the file began that is being read, and its latest frame, both ns since the very first.
        self._round_ns = self._at_ns = 0
        self._in_round = 0
        self._damaged = 0
        self.dropped = 0

    @property
    def fps(self) -> float:
        """Frames a second."""
        return 1e9 / self._reader.interval_ns

    @property
    def damaged(self) -> int:
        """How many frames were left out because they could not be decoded."""
        return self._damaged + self._reader.damaged

    def take(self) -> Frame | None:
        """Return the next frame; None after the last, and once this is closed.

        Raises:
            EdgeInferError: A frame is damaged and must not be left out in silence; the next may still be had.
        """
        try:
            with self._reading:
                while not self._closed.is_set():
                    taken_ns = self._advance_in_time() if self._realtime else self._advance_now()
                    if taken_ns is None:
                        return None
                    pixels = self._reader.picture()
                    if pixels is not None:
                        return Frame(pixels, self._number, taken_ns, self._reader.name)
                    self._damaged += 1
            return None
        finally:
            if self._closed.is_set():
                self._let_go()

    def close(self) -> None:
        """Close the file: now, or as soon as the thread that reads it is through with its frame."""
        self._closed.set()
        self._let_go()

    def _let_go(self) -> None:
        if self._reading.acquire(blocking=False):
            try:
                self._reader.close()
            finally:
                self._reading.release()

    def _advance_now(self) -> int | None:
        return None if self._next() is None else monotonic_ns()

    def _advance_in_time(self) -> int | None:
        """Go to the frame that is on at this moment, or wait for the next; return when it was due."""
        at_ns, interval_ns = self._next(), self._reader.interval_ns
        if at_ns is None:
            return None
        if self._start_ns is None:
            self._start_ns = monotonic_ns() - at_ns
        behind = (monotonic_ns() - self._start_ns - at_ns) // interval_ns
        while behind > 0 and not self._closed.is_set():
            at_ns = self._next()
            if at_ns is None:
                return None
            self.dropped += 1
            behind -= 1
        early_ns = self._start_ns + at_ns - monotonic_ns()
        if early_ns < -interval_ns:
            # Going forward takes longer than the video itself: to leave out still more would never end.
            self._start_ns -= early_ns
        elif early_ns > 0 and self._closed.wait(early_ns / 1e9):
            return None
        return self._start_ns + at_ns

    def _next(self) -> int | None:
        """Go one frame forward, from the end to the beginning where this repeats; return its time since the start."""
        due_ns = self._reader.advance()
        if due_ns is None:
            if not self._repeat or not self._in_round:
                return None
            self._reader.close()
            self._damaged += self._reader.damaged
            self._reader = self._source.open()
            self._round_ns = self._at_ns + self._reader.interval_ns
            self._in_round = 0
            due_ns = self._reader.advance()
            if due_ns is None:
                return None
        self._in_round += 1
        self._number += 1
        self._at_ns = self._round_ns + due_ns
        return self._at_ns
