"""Claim: whatever fails between a program and an Edge TPU, the program lives, is told what it was, or has its answers.

    python benchmarks/edgetpu_failures.py [PYTHON ...]

Each way to fail is brought about with the library that pretends to be libedgetpu (`tests/edgetpu_standin`, compiled
here), in a process of its own, without and with a CPU twin; with each interpreter that is named (default: this one).
Nothing here was measured on an Edge TPU. A device that the user may not open needs another user: `test_probe.py`.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from record import write_rows  # noqa: E402

_ENGINE = "from edgeinfer.runtime.engines import find_engine as f; e = f(); print(e.name, e.version)"


def rows(python: str) -> list[dict[str, object]]:
    """Return a row a failure, as one interpreter with its engine is told it."""
    standin = importlib.import_module("edgetpu_standin")
    failures = importlib.import_module("edgetpu_standin.failures")
    engine = subprocess.run(
        [python, "-c", _ENGINE], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        library, pair = standin.build(made), standin.edgetpu_pair(made)
        for case in failures.CASES:
            row: dict[str, object] = {"engine": engine, "failure": case.name}
            for twin in (False, True):
                if twin and not case.has_fallback:
                    row["answers with the twin"] = "none: what was asked for is wrong"
                    continue
                said = failures.run_case(case, made, twin=twin, pair=pair, library=library, python=python)
                if twin:
                    row["answers with the twin"] = "right" if said["answers"] == [0, 1, 2] else "wrong"
                    row.setdefault("message", said["latest"] if case.needs_twin else "")
                elif not case.needs_twin:
                    row |= {
                        "exit code": said["exit_code"],
                        "error": said["type"],
                        "message": said["message"].replace(f"{made}/", ""),
                    }
            found.append(row)
    return found


def main() -> None:
    """Bring all of them about, and write the table."""
    pythons = [str(Path(one).absolute()) for one in sys.argv[1:]] or [sys.executable]
    found = [row for python in pythons for row in rows(python)]
    heads = ("engine", "failure", "exit code", "error", "message", "answers with the twin")
    write_rows("edgetpu-failures", [{head: row.get(head, "") for head in heads} for row in found])


if __name__ == "__main__":
    main()
