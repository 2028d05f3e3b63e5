"""What a run says to people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """How one part of a run went.

    Attributes:
        name: Of the part.
        exit: Of its process; negative is a signal.
        seconds: That it took, under emulation.
        peak_rss_bytes: The most memory that one of its processes held; 0 where that is not known.
        said: What it printed.
        left_out: Why it is not part of this machine; empty where it is.
    """

    name: str
    exit: int
    seconds: float
    peak_rss_bytes: int
    said: str
    left_out: str = ""

    @property
    def passed(self) -> bool:
        """True where nothing is wrong."""
        return self.exit == 0

    @property
    def last_line(self) -> str:
        """The end of what it printed."""
        lines = self.said.strip().splitlines()
        return lines[-1].strip("= ") if lines else ""


@dataclass(frozen=True, slots=True)
class Run:
    """One machine's run.

    Attributes:
        machine: Its name.
        parts: How they went.
        folder: Where everything lies that they printed.
        setup_s: Seconds until the machine was there.
        run_s: Seconds from its boot to its end.
    """

    machine: str
    parts: tuple[Part, ...]
    folder: Path
    setup_s: float
    run_s: float

    @property
    def passed(self) -> bool:
        """True where every part has."""
        return all(part.passed for part in self.parts)


def summary(runs: Sequence[Run]) -> str:
    """Return a table of all parts, and of those that failed what they printed last."""
    lines = ["", f"{'machine':<17}{'part':<9}{'':<8}{'seconds':>8}{'peak RSS':>11}"]
    for run in runs:
        for part in run.parts:
            if part.left_out:
                lines.append(f"{run.machine:<17}{part.name:<9}not part of this machine: {part.left_out}")
                continue
            word = "passed" if part.passed else f"exit {part.exit}"
            peak = f"{part.peak_rss_bytes / 2**20:.1f} MiB" if part.peak_rss_bytes else ""
            line = f"{run.machine:<17}{part.name:<9}{word:<8}{part.seconds:>8.1f}{peak:>11}"
            lines.append(f"{line}   {_told(part)}".rstrip())
        lines.append(f"{'':<17}set-up {run.setup_s:.0f} s, boot to end {run.run_s:.0f} s, {run.folder}")
    for run in runs:
        for part in run.parts:
            if (not part.passed or part.name == "script") and part.said:
                lines += ["", f"--- {run.machine}: {part.name} ---", *part.said.strip().splitlines()[-200:]]
    return "\n".join(lines)


def closing_line(runs: Sequence[Run]) -> str:
    """Return how many parts passed."""
    parts = [part for run in runs for part in run.parts if not part.left_out]
    passed = sum(part.passed for part in parts)
    return f"pi-lab: {passed} passed, {len(parts) - passed} failed"


def _told(part: Part) -> str:
    # Times in milliseconds are left out: those of an emulated machine are of no device.
    return part.last_line if part.name == "tests" else ""
