"""A live source in a thread of its own: the newest frame is there for whoever asks, and nobody waits for a driver."""

from __future__ import annotations

import logging
from math import inf
from threading import Condition, Event, Thread, current_thread
from time import monotonic

from edgeinfer.errors import DeviceError, EdgeInferError
from edgeinfer.preprocess.libraries import opencv
from edgeinfer.sources.choose import LiveSource
from edgeinfer.sources.darkness import Darkness
from edgeinfer.sources.frame import Frame
from edgeinfer.sources.reader import Reader

_LOG = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0
_SILENCE_S = 5.0
_DAMAGED_IN_A_ROW = 10
# Whoever waits looks again after this time: a signal that arrives between the look and the wait would not wake it.
_LOOK_AGAIN_S = 0.2
# A camera hands over a frame at least so often, and lets go then; a driver that hangs is left to its thread.
_JOIN_S = 0.5


class Feed:
    """Reads a source until it is closed, and opens it again where it is lost.

    Only the thread touches the reader, since OpenCV's captures bear no second one. It takes each frame when it comes,
    so no queue of a driver or of FFmpeg ever makes one old.

    Args:
        source: What to read.
        patience_s: How long opening and the first frame may take, together.
        reconnect_s: For how long a lost source is tried again; None is for ever.

    Raises:
        EdgeInferError: It cannot be opened, or not in time.

    Attributes:
        damaged: How many frames could not be decoded.
        dropped: How many frames a newer one has replaced before anybody took them.
    """

    def __init__(self, source: LiveSource, *, patience_s: float, reconnect_s: float | None) -> None:
        self._source = source
        self._patience_s, self._reconnect_s = patience_s, reconnect_s
        self._changed = Condition()
        self._closed = Event()
        self._frame: Frame | None = None
        self._error: BaseException | None = None
        self._opened = False
        self._number = -1
        self._seen = False
        self._damaged_in_a_row = 0
        self._lost = ""
        self._latest = monotonic()
        # Nobody's patience is tried before there is something to open a camera with.
        self._begun = inf
        self._darkness = Darkness()
        self.damaged = self.dropped = 0
        self._thread = Thread(target=self._run, name="edgeinfer camera", daemon=True)
        self._thread.start()
        try:
            self._wait_until_open()
        except BaseException:
            self.close()
            raise

    @property
    def fps(self) -> None:
        """None: what a camera gives differs from frame to frame."""
        return

    @property
    def trouble(self) -> str:
        """What is wrong at the moment, one sentence, or ""."""
        if self._lost:
            return self._lost
        silent_s = monotonic() - self._latest
        if silent_s > _SILENCE_S:
            return f"No frame for {silent_s:.0f} s."
        if self._damaged_in_a_row >= _DAMAGED_IN_A_ROW:
            return f"The last {self._damaged_in_a_row} frames were damaged."
        return self._darkness.trouble

    def take(self) -> Frame | None:
        """Wait for a frame that nobody has had yet; None once this is closed.

        Raises:
            EdgeInferError: No first frame in time, or the source is lost and will not be tried again.
        """
        with self._changed:
            while not self._closed.is_set():
                if self._frame is not None:
                    frame, self._frame = self._frame, None
                    return frame
                if self._error is not None:
                    raise self._error
                self._check_patience()
                self._changed.wait(_LOOK_AGAIN_S)
        return None

    def close(self) -> None:
        """End the thread, and with it let go of the source, if the driver gives the thread back."""
        self._closed.set()
        with self._changed:
            self._frame = None
            self._changed.notify_all()
        if current_thread() is not self._thread:
            self._thread.join(_JOIN_S)

    def _wait_until_open(self) -> None:
        with self._changed:
            while not self._opened and self._error is None:
                self._check_patience()
                self._changed.wait(_LOOK_AGAIN_S)
            if self._error is not None:
                raise self._error

    def _check_patience(self) -> None:
        if self._seen or monotonic() - self._begun < self._patience_s:
            return
        received = "nothing"
        if self.damaged:
            received = f"{self.damaged} frames, all of them damaged"
        elif self._lost:
            received = self._lost
        elif not self._opened:
            received = "it has not finished opening"
        raise DeviceError(
            f"{self._source.name} has given no picture within {self._patience_s:g} s.",
            received=received,
            next_step="Try it with another program; unplug a camera and plug it in again; or give it longer: "
            "`first_frame_s=`, on the command line `--first-frame`.",
        )

    def _run(self) -> None:
        wait_s, lost_at = _FIRST_WAIT_S, None
        try:
            opencv()  # loading it can take seconds on a small device, and they are not the camera's
            self._begun = monotonic()
            while not self._closed.is_set():
                before = self._number
                reason = self._read_until_lost()
                if self._closed.is_set():
                    break
                if self._number != before:
                    wait_s, lost_at = _FIRST_WAIT_S, None
                lost_at = monotonic() if lost_at is None else lost_at
                self._say_lost(reason, lost_at)
                self._closed.wait(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        except BaseException as error:  # raised again where the frames are taken
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _read_until_lost(self) -> str:
        """Open the source and read it; return why that has ended."""
        try:
            reader = self._source.open()
        except EdgeInferError as error:
            if not self._seen:
                raise
            return error.message
        try:
            with self._changed:
                self._opened = True
                self._changed.notify_all()
            while not self._closed.is_set():
                if not self._pass_on(reader):
                    return "It gives no frames any more." if self._seen else "It was opened and gives no frame."
        except EdgeInferError as error:
            return error.message
        finally:
            reader.close()
        return ""

    def _pass_on(self, reader: Reader) -> bool:
        taken_ns = reader.advance()
        if taken_ns is None or self._closed.is_set():
            return False
        pixels = reader.picture()
        self._number += 1
        if pixels is None:
            self.damaged += 1
            self._damaged_in_a_row += 1
            return True
        self._damaged_in_a_row = 0
        self._latest = monotonic()
        self._darkness.look(pixels)
        if self._lost and self._seen:
            _LOG.info("%s is back.", self._source.name)
        self._lost = ""
        with self._changed:
            self._seen = True
            self.dropped += self._frame is not None
            self._frame = Frame(pixels, self._number, taken_ns, reader.name)
            self._changed.notify_all()
        return True

    def _say_lost(self, reason: str, lost_at: float) -> None:
        lost_s = monotonic() - lost_at
        if self._seen and self._reconnect_s is not None and lost_s >= self._reconnect_s:
            raise DeviceError(
                f"{self._source.name} is lost, and did not come back within {self._reconnect_s:g} s.", received=reason
            )
        if self._seen and not self._lost:
            _LOG.warning("%s is lost: %s Trying again.", self._source.name, reason)
        self._lost = f"{self._source.name} is lost, trying again: {reason}"
