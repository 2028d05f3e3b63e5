"""One row of a check: where an op of a model file would run on a device, why, and how that is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Evidence", "Place", "Verdict"]

Place = Literal["edgetpu", "gpu", "cpu", "refused"]
Evidence = Literal["seen", "documented", "estimated", "tried"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one op.

    Attributes:
        index: Place of the op in the main subgraph, which is the order of running.
        op: Its name, e.g. "CONV_2D".
        version: Of the op.
        layer: The layer that it comes from, as far as the file's tensor names say it; else "".
        runs_on: Where it would run; "refused" where nothing would run it.
        reason: Why, in words for a person.
        evidence: "tried" on the engine or with the compiler itself; "seen" in files that others compiled;
            "documented" by a table, a source, a public log or thread, and not exercised by anything here; "estimated":
            a value between or above what was seen, or told from memory.

    Example:
        >>> Verdict(0, "CONV_2D", 3, "stem", "edgetpu", "Mapped to Edge TPU", "seen").to_json()["runs_on"]
        'edgetpu'
    """

    index: int
    op: str
    version: int
    layer: str
    runs_on: Place
    reason: str
    evidence: Evidence

    def to_json(self) -> dict[str, object]:
        """Return the row as `--json` prints it."""
        return asdict(self)
