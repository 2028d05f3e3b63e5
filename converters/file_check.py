"""What a check of a file for a target found: one row per op, in text and as JSON."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from converters.verdicts import Place, Verdict

__all__ = ["FileCheck"]

_WIDTH = 96
_HELD = "\N{NO-BREAK SPACE}"
_NARROWEST = 24  # of the last column, beside names that cannot be broken
# A line may end behind a space or behind a slash, as layers' names have them; any other name stays in one piece.
_PIECES = re.compile(r" *(?:[^ /]+/?|/)")
# What stands in backticks is to be copied, so it stays in one line.
_TO_COPY = re.compile(r"`[^`]*`")
_PLACES: dict[Place, str] = {"edgetpu": "Edge TPU", "gpu": "GPU", "cpu": "processor", "refused": "refused"}
_HEADS = ("ops", "runs on", "what", "why")
_MOST_REFUSALS = 3  # that an error names; the check names all


@dataclass(frozen=True, slots=True)
class FileCheck:
    """A file, held against a target.

    Attributes:
        target: Its name.
        accelerator: What it has beside the processor: "edgetpu", "gpu" or "".
        loads: Whether the target's engines take the file.
        verdicts: One row per op of the main graph, in the order of running.
        notes: Sentences on the file as a whole: what was tried here, what else the target wants.
        wrong: Why the file as a whole is refused, where no single op is to blame; "" where it is not.
        command: What to type next, where the target needs another step; else "".
    """

    target: str
    accelerator: str
    loads: bool
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    wrong: str = ""
    command: str = ""

    @property
    def refused(self) -> tuple[Verdict, ...]:
        """The ops that nothing would run."""
        return tuple(one for one in self.verdicts if one.runs_on == "refused")

    @property
    def counts(self) -> dict[str, int]:
        """How many ops run where, by place; places without one are left out."""
        found = Counter(one.runs_on for one in self.verdicts)
        return {place: found[place] for place in _PLACES if found[place]}

    @property
    def good(self) -> bool:
        """Whether the file is for this target: it loads, nothing is refused, and an accelerator gets something."""
        idle = bool(self.accelerator) and self.accelerator not in self.counts
        return self.loads and not self.refused and not self.wrong and not idle

    @property
    def exit_code(self) -> int:
        """0, or 5 where the target refuses the file."""
        return 0 if self.good else 5

    @property
    def summary(self) -> str:
        """How many ops run where, in words."""
        total = len(self.verdicts)
        parts = [f"{count} {_where(place)}" for place, count in self.counts.items()]
        if self.accelerator and self.accelerator not in self.counts:
            parts.insert(0, f"none {_where(self.accelerator)}")
        return f"{total} op{'' if total == 1 else 's'}: {', '.join(parts) or 'nothing to run'}."

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer-convert check --json` prints: every op has its row."""
        return {
            "target": self.target,
            "loads": self.loads,
            "good": self.good,
            "counts": self.counts,
            "ops": [one.to_json() for one in self.verdicts],
            "wrong": self.wrong,
            "notes": list(self.notes),
            "command": self.command,
        }

    def outline(self) -> list[str]:
        """Return how many ops run where, why those that the accelerator does not get, and the notes: a line each."""
        left = (run for (place, *_), run in groupby(self.verdicts, key=_alike) if place != self.accelerator)
        rows = [_row(list(run)) for run in left] if self.accelerator else []
        return [
            f"For {self.target}: {self.summary}",
            *(f"  {places}: {what.replace(_HELD, ' ')}: {where}: {why}" for places, where, what, why in rows),
            *self.notes,
        ]

    def reasons(self) -> str:
        """Return what is refused and why, a few of the ops, on one line."""
        if self.wrong and not self.refused:
            return self.wrong
        rows = [_said(one) + f": {one.reason}" for one in self.refused[:_MOST_REFUSALS]]
        rest = len(self.refused) - len(rows)
        return "; ".join(rows) + (f"; and {rest} more" if rest else "") if rows else self.summary

    def __str__(self) -> str:
        rows = [_row(list(run)) for _, run in groupby(self.verdicts, key=_alike)]
        lines = [*_table(rows), "", self.summary]
        for note in (self.wrong, *self.notes) if self.wrong else self.notes:
            held = _TO_COPY.sub(lambda found: found[0].replace(" ", _HELD), note)
            wrapped = textwrap.wrap(held, _WIDTH, break_long_words=False, break_on_hyphens=False)
            lines += [line.replace(_HELD, " ") for line in wrapped]
        if self.command:
            lines += ["Next:", f"  {self.command}"]
        return "\n".join(lines)


def _where(place: str) -> str:
    return "refused" if place == "refused" else f"on the {_PLACES[place]}"  # type: ignore[index]  # a place by name


def _said(verdict: Verdict) -> str:
    """Return an op with its layer, e.g. "SOFTMAX v2 in `probabilities`"."""
    op = f"{verdict.op} v{verdict.version}"
    return f"{op} in `{verdict.layer}`" if verdict.layer else op


def _alike(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.runs_on, verdict.reason, verdict.evidence


def _row(run: Sequence[Verdict]) -> tuple[str, str, str, str]:
    """Return the cells of ops that follow each other and have the same verdict."""
    first, last = run[0], run[-1]
    places = str(first.index) if len(run) == 1 else f"{first.index}-{last.index}"
    counted = Counter(f"{one.op} v{one.version}" for one in run)
    what = _said(first) if len(run) == 1 else ", ".join(f"{count} {op}" for op, count in counted.most_common())
    what = re.sub(r"(?<!,) (?!in `)", _HELD, what)  # an op, its count and its version stay in one line
    return places, _PLACES[first.runs_on], what, f"{first.reason} ({first.evidence})"


def _table(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Return aligned lines of at most `_WIDTH` characters where names allow it; long cells go on in the next line."""
    cells = [_HEADS, *rows]
    narrow = [max(len(row[column]) for row in cells) for column in (0, 1)]
    left = _WIDTH - sum(narrow) - 3 * 2
    third = min(max(len(row[2]) for row in cells), left - min(max(len(row[3]) for row in cells), left // 2))
    third = max(third, *(len(piece.strip()) for row in cells for piece in _PIECES.findall(row[2])))
    widths = [*narrow, third, max(left - third, _NARROWEST)]
    lines = []
    for row in cells:
        wrapped = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        wrapped = [[part.replace(_HELD, " ") for part in cell] for cell in wrapped]
        for parts in zip_longest(*wrapped, fillvalue=""):
            line = "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True))
            lines.append(line.rstrip())
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a cell, broken at spaces and behind slashes only."""
    lines = [""]
    for piece in _PIECES.findall(text):
        if len(lines[-1]) + len(piece) <= width:
            lines[-1] += piece
        else:
            lines.append(piece.lstrip())
    return lines if lines[0] or len(lines) == 1 else lines[1:]
