"""A place for one thing between two threads: the newest wins, or the giver waits."""

from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")

# Whoever waits looks again after this time: a signal that arrives between the look and the wait would not wake it.
_LOOK_AGAIN_S = 0.2


class Slot(Generic[T]):
    """One place. One thread puts, one takes.

    Args:
        newest_wins: True replaces what nobody has taken yet; False lets the giver wait until it is taken.
    """

    def __init__(self, *, newest_wins: bool) -> None:
        # An RLock is inside: a signal's handler may close the slot while its own thread holds it.
        self._changed = Condition()
        self._newest_wins = newest_wins
        self._thing: T | None = None
        self._closed = False
        self._dropped = 0

    def put(self, thing: T) -> bool:
        """Put something down; False once the slot is closed, and then it is lost."""
        with self._changed:
            while self._thing is not None and not self._newest_wins and not self._closed:
                self._changed.wait(_LOOK_AGAIN_S)
            if self._closed:
                return False
            self._dropped += self._thing is not None
            self._thing = thing
            self._changed.notify_all()
            return True

    def take(self) -> T | None:
        """Wait for something and take it; None once the slot is closed and empty."""
        with self._changed:
            while self._thing is None and not self._closed:
                self._changed.wait(_LOOK_AGAIN_S)
            thing, self._thing = self._thing, None
            self._changed.notify_all()
            return thing

    def close(self, *, empty: bool = False) -> None:
        """Let nobody wait any longer. What lies there can still be taken, unless `empty` throws it away."""
        with self._changed:
            self._closed = True
            if empty:
                self._thing = None
            self._changed.notify_all()

    @property
    def dropped(self) -> int:
        """How many things were replaced before anybody took them."""
        return self._dropped
