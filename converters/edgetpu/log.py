"""The Edge TPU compiler's log as values: its version, what went where, and what stays on the chip.

The compiler has no output for machines. The layout was taken from logs of its versions 1.0, 2.0, 14.1, 15.0 and 16.0 in
public repositories and issue threads; a line that is not there gives None, and what is not known is left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from converters.edgetpu.check import Prediction

__all__ = ["CompilerLog", "compare", "parse_log"]

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_ROW = re.compile(r"^(\S+)[ \t]+(\d+)[ \t]+((?:Mapped to|Operation|More than)\b.*?)[ \t]*$", re.MULTILINE)
_SUCCESS = re.compile(r"^Models? compiled successfully in (\d+) ms|^Compilation succeeded!", re.MULTILINE)
# From the line that says most to the one that says least.
_FAILURES = (
    re.compile(r"^Invalid model:.*(?:\n(?!\s*$).+)?", re.MULTILINE),
    re.compile(r"^(?:ERROR: .*\n)*Compilation failed: .+", re.MULTILINE),
    re.compile(r"^Compilation timeout.*", re.MULTILINE),
    re.compile(r"^.*Internal compiler error.*", re.MULTILINE),
    re.compile(r"^.*terminating with uncaught exception.*", re.MULTILINE),
    re.compile(r"^Compilation failed!", re.MULTILINE),
)
_MAPPED = "Mapped to Edge TPU"
# The log calls every custom op so.
_CUSTOM = "CUSTOM"


@dataclass(frozen=True, slots=True)
class CompilerLog:
    """What a log says.

    Attributes:
        version: Of the compiler, e.g. "16.0.384591198"; "" where it says none.
        table: (op, how many, status) per row, in the compiler's words.
        total: Ops of the model, or None.
        mapped: Ops on the chip, or None.
        subgraphs: Groups of ops on the chip, or None.
        on_chip_bytes: Parameters kept on the chip, rounded as the log rounds them, or None.
        on_chip_free_bytes: What is left there, or None.
        off_chip_bytes: Parameters sent again for each inference, or None.
        failure: What went wrong, "" where it succeeded.
    """

    version: str
    table: tuple[tuple[str, int, str], ...]
    total: int | None
    mapped: int | None
    subgraphs: int | None
    on_chip_bytes: int | None
    on_chip_free_bytes: int | None
    off_chip_bytes: int | None
    failure: str

    def to_json(self) -> dict[str, object]:
        """Return it as it is stored beside a compiled file."""
        return {
            "version": self.version,
            "table": [{"op": op, "count": count, "status": status} for op, count, status in self.table],
            "total": self.total,
            "mapped": self.mapped,
            "subgraphs": self.subgraphs,
            "on_chip_bytes": self.on_chip_bytes,
            "on_chip_free_bytes": self.on_chip_free_bytes,
            "off_chip_bytes": self.off_chip_bytes,
            "failure": self.failure,
        }


def parse_log(text: str) -> CompilerLog:
    """Return what a log says.

    Args:
        text: What the compiler printed, with or without its table of ops (`-s`), or the log file that it wrote.

    Example:
        >>> parse_log("Internal compiler error. Aborting! ").failure
        'Internal compiler error. Aborting!'
    """
    version = re.search(r"^Edge TPU Compiler version (\S+)", text, re.MULTILINE)
    table = tuple((op, int(count), status) for op, count, status in _ROW.findall(text))
    total = _number(text, "Total number of operations")
    mapped = _number(text, "Number of operations that will run on Edge TPU")
    if total is None and table:
        total = sum(count for _, count, _ in table)
    if mapped is None and table:
        mapped = sum(count for _, count, status in table if status == _MAPPED)
    free = _size(text, "On-chip memory remaining for caching model parameters")
    return CompilerLog(
        version=version[1] if version else "",
        table=table,
        total=total,
        mapped=mapped,
        subgraphs=_number(text, "Number of Edge TPU subgraphs"),
        on_chip_bytes=_size(text, "On-chip memory used for caching model parameters"),
        on_chip_free_bytes=free
        if free is not None
        else _size(text, "On-chip memory available for caching model parameters"),
        off_chip_bytes=_size(text, "Off-chip memory used for streaming uncached model parameters"),
        failure="" if _SUCCESS.search(text) else _failure(text),
    )


def _failure(text: str) -> str:
    for pattern in _FAILURES:
        found = pattern.search(text)
        if found:
            return " ".join(found[0].split())
    return ""


def _number(text: str, label: str) -> int | None:
    found = re.search(rf"^{label}: (\d+)[ \t]*$", text, re.MULTILINE)
    return int(found[1]) if found else None


def _size(text: str, label: str) -> int | None:
    """Return a size in bytes; the log has two digits behind the point, so it is rounded."""
    found = re.search(rf"^{label}: ([\d.]+)(B|KiB|MiB|GiB)[ \t]*$", text, re.MULTILINE)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def compare(prediction: Prediction, log: CompilerLog) -> tuple[str, ...]:
    """Return where a prediction and a log part, a sentence per op name; empty where they agree.

    Statuses other than "mapped" may differ in words and do not count.
    """
    told: Counter[str] = Counter()
    for op, count, status in log.table:
        told[op] += count if status == _MAPPED else 0
    predicted: Counter[str] = Counter()
    for verdict, why in zip(prediction.verdicts, prediction.findings, strict=True):
        predicted[_CUSTOM if why.rule == "custom op" else verdict.op] += verdict.runs_on == "edgetpu"
    reasons = {op: status for op, _, status in log.table if status != _MAPPED}
    return tuple(
        f"{op}: {predicted[op]} predicted on the chip, {told[op]} mapped"
        + (f" ({reasons[op]})" if told[op] < predicted[op] and op in reasons else "")
        for op in sorted(set(predicted) | set(told))
        if predicted[op] != told[op]
    )
