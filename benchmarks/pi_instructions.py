"""Claim: on a Raspberry Pi's processor a frame costs little more than the model itself, counted in instructions.

    EDGEINFER_TEST_DATA=... PYTHONPATH=. python benchmarks/pi_instructions.py [MACHINE ...]

Counted on the emulated machines of `tools/pi_lab`, whose clock counts instructions: the figures are the same on every
computer, and say nothing of milliseconds, because an instruction that waits for memory costs as much as one that does
not. So they are for ratios, and for what has changed between two versions. One file a machine: the bare `invoke` of the
engine; our frame and its stages, on arrays of a camera's size; the start from nothing to the first answer, beside that
of a bare script; the memory of a camera's demo.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from record import test_data, write_rows

from tools.pi_lab.luggage import pack
from tools.pi_lab.machines import Machine, find_machines
from tools.pi_lab.report import Run
from tools.pi_lab.session import COUNT, Plan, run_machine

# What is held against what.
_BARE, _WHOLE = ("bare invoke", "bare script"), ("whole", "edgeinfer run", "edgeinfer camera")


def rows(machine: Machine, run: Run) -> list[dict[str, object]]:
    """Return what one machine has counted, as rows of a table."""
    parts = {part.name: part for part in run.parts}
    said = parts["frames"].said + parts["starts"].said
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    bare = {(line["what"], line["model"]): line["instructions"] for line in lines if line["stage"] in _BARE}
    lines.append({"what": "camera, 100 frames", "peak_rss_bytes": parts["camera"].peak_rss_bytes})
    found: list[dict[str, object]] = []
    for line in lines:
        row: dict[str, object] = {"machine": f"{machine.name}: qemu {machine.processor}, 1 core", "what": line["what"]}
        row |= {head: line.get(head, "") for head in ("model", "frame", "stage")}
        if "instructions" in line:
            row["million_instructions"] = f"{line['instructions'] / 1e6:.3f}"
        if line.get("stage") in _WHOLE:
            row["times_bare"] = f"{line['instructions'] / bare[line['what'], line['model']]:.3f}"
        if "peak_rss_bytes" in line:
            row["peak_rss_mib"] = f"{line['peak_rss_bytes'] / 2**20:.1f}"
        found.append(row)
    return found


def main() -> None:
    """Count on each machine and write one file for it."""
    test_data()
    with tempfile.TemporaryDirectory(prefix="pi-lab-") as folder:
        luggage = Path(folder)
        luggage.chmod(0o755)
        pack(luggage)
        for machine in find_machines(tuple(sys.argv[1:])):
            if machine.left_out:  # without a kernel of its own there is no clock that counts instructions
                continue
            run = run_machine(machine, Plan(COUNT, count_instructions=True), luggage)
            if not run.passed:
                raise SystemExit("\n".join(part.said for part in run.parts if not part.passed))
            write_rows("pi-instructions", rows(machine, run), machine=machine.name)


if __name__ == "__main__":
    main()
