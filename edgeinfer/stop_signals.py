"""`StopSignals`: what Ctrl-C, `kill` and a closed terminal do to a loop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

# A terminal that is closed (SIGHUP) ends it as `kill` and systemd do (SIGTERM): in good order, and that is no failure.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_READER_S = 0.5


class StopSignals:
    """Ctrl-C and `kill` ask for the end; whoever asks twice does not wait for it.

    Args:
        to_reader: Lines go to standard output. A reader that has stopped reading (`| less`) would hold up the end for
            ever, so a moment after the signal it gets no more.

    Attributes:
        stop: What to call for the end; None where nothing runs yet that would have to end in good order.
        received: The signal that came, or 0.
    """

    def __init__(self, *, to_reader: bool) -> None:
        self.stop: Callable[[], None] | None = None
        self.received = 0
        self._before: dict[int, Any] = {}
        self._timed = to_reader and hasattr(signal, "setitimer")  # not on Windows

    def __enter__(self) -> StopSignals:
        if current_thread() is not main_thread():  # Python takes handlers in the main thread only
            return self
        for name in _NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            # Ignored by whoever has started us (`nohup`), it stays so.
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        self.settle()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def settle(self) -> None:
        """Say that no line is being written any more."""
        if self.received and self._timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._timed = False

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        for again in self._before:  # the next one ends the process, whatever it waits for
            # But a closed terminal is told twice, by the shell and by the kernel.
            hung_up = again == getattr(signal, "SIGHUP", None)
            signal.signal(again, signal.SIG_IGN if hung_up else signal.SIG_DFL)
        if self._timed:
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _leave_the_reader)
            signal.setitimer(signal.ITIMER_REAL, _READER_S)
        if self.stop is not None:
            self.stop()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(0)


def _leave_the_reader(_number: int, _frame: FrameType | None) -> None:
    # The write that waits for the reader is tried again after this handler, and then goes nowhere.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
