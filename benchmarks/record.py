"""Results as CSV: one file per claim, with the machine in its name and the versions in its rows."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeinfer.machine import machine

RESULTS = Path(__file__).parent / "results"


def test_data() -> Path:
    """Return the folder of real models and data that `EDGEINFER_TEST_DATA` names.

    Raises:
        SystemExit: It names none.
    """
    folder = Path(os.environ.get("EDGEINFER_TEST_DATA", ""))
    if not os.environ.get("EDGEINFER_TEST_DATA") or not folder.is_dir():
        raise SystemExit("EDGEINFER_TEST_DATA names no folder with the models and data of this benchmark.")
    return folder


def machine_name() -> str:
    """Return the machine as a file name: processor and usable cores, e.g. "amd-epyc-2-cores"."""
    facts = machine()
    words = f"{facts['board'] or facts['processor'] or facts['architecture']} {facts['usable_cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def versions(python: str | None = None) -> str:
    """Return Python, packages and engines in one cell, e.g. "python 3.11.7, numpy 2.4.6, litert 2.3.0".

    Args:
        python: An interpreter of another environment; None is this one.
    """
    facts: dict[str, object] = machine()
    if python is not None:
        code = "import json; from edgeinfer.machine import machine; print(json.dumps(machine()))"
        facts = json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True).stdout)
    parts = {"python": facts["python"]}
    for group in (facts["packages"], facts["engines"]):
        if isinstance(group, dict):
            parts.update(group)
    return ", ".join(f"{name} {version}" for name, version in parts.items())


def read_rows(name: str) -> list[dict[str, str]]:
    """Return the rows that `write_rows` has left for this machine; none where there is no such file."""
    path = RESULTS / f"{name}-{machine_name()}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(name: str, rows: Sequence[Mapping[str, object]], *, machine: str | None = None) -> Path:
    """Write rows to `results/NAME-MACHINE.csv`, print them, and return the path.

    Args:
        name: Of the claim.
        rows: Of the table; their keys are its heads.
        machine: That was measured, as a file name; None is this one.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{machine or machine_name()}.csv"
    heads = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, heads, restval="")
        writer.writeheader()
        writer.writerows(rows)
    widths = {head: max(len(head), *(len(str(row.get(head, ""))) for row in rows)) for head in heads}
    print("  ".join(head.ljust(widths[head]) for head in heads))
    for row in rows:
        print("  ".join(str(row.get(head, "")).ljust(widths[head]) for head in heads))
    print(f"\n{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return path
