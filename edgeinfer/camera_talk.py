"""What `edgeinfer camera` says: where its page is, one line while it runs, and at the end how it went."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from edgeinfer.frozen import dataclass

if TYPE_CHECKING:
    from edgeinfer.errors import EdgeInferError
    from edgeinfer.live.shown import Shown, Status

_EVERY_S = 1.0
_STAGES = ("capture", "inference", "output", "age")


def say_page(url: str, token: str | None) -> None:
    """Say on standard error where the page is, and how to see it from another machine."""
    # A token is shown to whoever has typed it, and not written into a log.
    shown = token if sys.stderr.isatty() else "..."
    sys.stderr.write(f"Page: {url}{f'?token={shown}' if token else ''}\n")
    place = url.removeprefix("http://").rstrip("/")
    host, _, port = place.rpartition(":")
    if host in ("127.0.0.1", "[::1]"):
        own = f"ssh -L {port}:{place} {_login()}"
        sys.stderr.write(f"From another machine: {own}   then http://localhost:{port}/ there\n")
    sys.stderr.flush()


def _login() -> str:
    """Return user and host as somebody else would type them for ssh."""
    from getpass import getuser
    from socket import gethostname

    try:
        user = getuser()
    except (OSError, KeyError):  # a user without a name, in a container
        user = "pi"
    # Source: ssh(1), ENVIRONMENT: SSH_CONNECTION is the client's address and port, then the server's.
    reached = os.environ.get("SSH_CONNECTION", "").split()
    # Who came through a tunnel, or by an address that holds on one cable only, did not come by one that others can use.
    if len(reached) == 4 and not reached[2].casefold().startswith(("127.", "::1", "fe80:")):
        return f"{user}@{reached[2]}"
    name = gethostname()
    return f"{user}@{name if '.' in name else f'{name}.local'}"


class StatusLine:
    """One line on a terminal, written anew each second: also while no frame comes, since it says why.

    Args:
        status: How the loop is doing now.
        trouble: What is wrong with the outputs, one sentence or "".
    """

    def __init__(self, status: Callable[[], Status], trouble: Callable[[], str]) -> None:
        self._status, self._trouble = status, trouble
        self._latest: Shown | None = None
        self._ended = Event()
        self._thread = Thread(target=self._run, name="edgeinfer status line", daemon=True)
        self._thread.start()

    def take(self, shown: Shown) -> None:
        """Note the latest answered frame."""
        self._latest = shown

    def close(self) -> None:
        """Take the line away."""
        self._ended.set()
        self._thread.join()

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            text = status_text(self._status(), self._trouble(), self._latest)
            columns = _columns()
            # The cursor goes back to the line's begin, so that a warning of the log takes the line's place.
            sys.stderr.write(f"\x1b[K{text[: columns - 1]}\r")
            sys.stderr.flush()
        sys.stderr.write("\x1b[K")
        sys.stderr.flush()


def status_text(status: Status, trouble: str, latest: Shown | None) -> str:
    """Return one line for people: rate, age, lost frames, temperature, and what is wrong, else what is seen."""
    from edgeinfer.answers import to_text

    parts = [f"{status.fps:.1f} fps", f"{status.age.p50:.0f} ms old", f"{status.dropped} dropped"]
    if status.health.temperature_c is not None:
        parts.append(f"{status.health.temperature_c:.0f} °C")
    if status.limit_fps is not None:
        parts.append(f"held to {status.limit_fps:.1f} fps")
    parts += [f"{name} now" for name in status.health.throttled if not name.endswith("occurred")]
    wrong = " ".join(one for one in (status.trouble, trouble) if one)
    if wrong:
        parts.append(wrong)
    elif latest is not None:
        several = len(latest.results) > 1
        parts += [f"{name}: {to_text(one)}" if several else to_text(one) for name, one in latest.results.items()]
    return "  ".join(parts)


@dataclass(frozen=True, slots=True)
class Summary:
    """How it went.

    Attributes:
        ended: "frames", "source", "output", "interrupted" or "terminated".
        frames: How many were answered and handed to the outputs.
        seconds: From the first of them to the last.
        status: The loop's at its end.
        models: Of each model its facts, plain values.
        errors: Why outputs have ended before the others.
    """

    ended: str
    frames: int
    seconds: float
    status: Status
    models: Sequence[Mapping[str, Any]]
    errors: Sequence[EdgeInferError]

    @property
    def fps(self) -> float:
        """Frames a second over the whole time; 0.0 for fewer than two."""
        return (self.frames - 1) / self.seconds if self.frames > 1 and self.seconds > 0 else 0.0

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer camera --json` prints; times in milliseconds, over the latest frames."""
        from dataclasses import asdict

        from edgeinfer.machine import machine

        return {
            "source": self.status.source,
            "ended": self.ended,
            "frames": self.frames,
            "dropped": self.status.dropped,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 3),
            "limit_fps": self.status.limit_fps,
            "latency_ms": {name: asdict(getattr(self.status, name)) for name in _STAGES},
            "models": list(self.models),
            "health": asdict(self.status.health),
            "trouble": self.status.trouble,
            "errors": [error.to_json() for error in self.errors],
            "machine": machine(),
        }

    def __str__(self) -> str:
        """Return one line for people."""
        status = self.status
        times = ", ".join(
            f"{name} {getattr(status, name).p50:.1f} ({getattr(status, name).p95:.1f})" for name in _STAGES
        )
        health = "" if status.health.temperature_c is None else f"; {status.health.temperature_c:.0f} °C"
        throttled = f"; {', '.join(status.health.throttled)}" if status.health.throttled else ""
        return (
            f"{self.frames} frames, {status.dropped} dropped, {self.fps:.1f} fps; p50 (p95) in ms: {times}"
            f"{health}{throttled}"
        )


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
