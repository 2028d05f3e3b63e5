"""What a long piece of work says of itself while it runs, and the bar that a terminal draws of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from time import monotonic

from edgeinfer.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report.

    Attributes:
        step: What is being done, in a few words.
        done: Units that are done.
        total: All units; 0 where the number is not known.
    """

    step: str
    done: int
    total: int


_EVERY_S = 0.1  # a sample may take less time than a terminal needs for a line

ProgressReport = Callable[[Progress], None]


def terminal_progress(*, quiet: bool = False) -> ProgressReport | None:
    """Return a function that draws reports on standard error, or None where nobody looks.

    Nothing is drawn without a terminal, under `CI`, or when `quiet`.
    """
    if quiet or os.environ.get("CI") or not sys.stderr.isatty():
        return None

    latest = float("-inf")

    def draw(report: Progress) -> None:
        nonlocal latest
        now = monotonic()
        if 0 < report.done < report.total and now - latest < _EVERY_S:
            return
        latest = now
        if not report.total:
            # Nobody knows how long: a line of its own, so that whatever is written next does not run into it.
            sys.stderr.write(f"{report.step} ...\n")
        else:
            filled = 24 * min(report.done, report.total) // report.total
            bar = f"[{'#' * filled}{'.' * (24 - filled)}] {report.done}/{report.total}"
            end = "\n" if report.done >= report.total else ""
            sys.stderr.write(f"\r\x1b[K{report.step:<28} {bar}{end}")
        sys.stderr.flush()

    return draw
