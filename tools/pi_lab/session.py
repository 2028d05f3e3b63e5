"""One machine's run: prepared, booted, and what it left behind read."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tools.pi_lab.boot import boot, qemu_command
from tools.pi_lab.host import LabError
from tools.pi_lab.machines import Machine
from tools.pi_lab.report import Part, Run
from tools.pi_lab.setup import Image, prepared
from tools.pi_lab.userland import enter_command

PARTS = ("doctor", "run", "camera", "bench", "tests")
COUNT = ("camera", "frames", "starts")
# Of one part by the guest's clock, and of a whole boot by ours.
_PART_S, _BOOT_S = 1200.0, 5 * 1200.0 + 300.0
_USER = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does.

    Attributes:
        parts: Of `PARTS` and `COUNT`, in their order.
        pytest: Further options of it.
        count_instructions: The guest's clock counts instructions.
        rebuild: The machine is made anew first.
    """

    parts: tuple[str, ...]
    pytest: tuple[str, ...] = ()
    count_instructions: bool = False
    rebuild: bool = False


def run_machine(machine: Machine, plan: Plan, luggage: Path) -> Run:
    """Run the plan on one machine; what goes wrong stands in what is returned.

    Args:
        machine: Which.
        plan: What to do there.
        luggage: Packed by `pack`.
    """

    def say(text: str) -> None:
        print(f"[{machine.name}] {text}", flush=True)

    start = time.monotonic()
    try:
        with prepared(machine, say, rebuild=plan.rebuild) as image:
            ready = time.monotonic()
            mine = tuple(name for name in plan.parts if name not in machine.left_out)
            parts = _boot(image, replace(plan, parts=mine), luggage) if mine else []
            parts += [Part(name, 0, 0.0, 0, "", why) for name, why in machine.left_out.items() if name in plan.parts]
            run = Run(machine.name, tuple(parts), image.folder / "last", ready - start, time.monotonic() - ready)
    except (LabError, OSError, ValueError) as error:
        say(str(error))
        return Run(machine.name, (Part("machine", 1, 0.0, 0, ""),), Path(), 0.0, time.monotonic() - start)
    return run


def _boot(image: Image, plan: Plan, luggage: Path) -> list[Part]:
    out = image.folder / "last"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    out.chmod(0o777)
    guest = {
        "parts": plan.parts,
        "pytest": plan.pytest,
        "patience_s": _PART_S,
        # Without a kernel of its own a guest has two users at most: root and, where root started it, one more.
        "user": (os.getuid() or _USER) if image.machine.kernel or os.getuid() == 0 else 0,
        "tests": image.machine.tests,
    }
    (out / "plan.json").write_text(json.dumps(guest))

    def hear(line: str) -> None:
        if line.startswith("LAB "):
            print(f"[{image.machine.name}] {line[4:]}", flush=True)

    if image.machine.kernel:
        command = qemu_command(image, luggage, out, count_instructions=plan.count_instructions)
    else:
        command = enter_command(image.root, luggage, image.bytecode, out)
    try:
        boot(command, out / "console.log", patience_s=_BOOT_S, hear=hear)
    except LabError as error:
        if not (out / "results.json").exists():
            raise
        # What was finished before it is not lost.
        return [*_read(image, out), Part("boot", 1, _BOOT_S, 0, str(error))]
    return _read(image, out)


def _read(image: Image, out: Path) -> list[Part]:
    if image.machine.kernel:
        return read_parts(out)
    # The memory of a process under qemu's user mode is, for 45 to 50 MB of it, qemu's.
    return [replace(part, peak_rss_bytes=0) for part in read_parts(out)]


def read_parts(out: Path) -> list[Part]:
    """Return how each part went, with what it printed."""
    return [
        Part(
            row["part"],
            row["exit"],
            row["seconds"],
            row["peak_rss_bytes"],
            (out / f"{row['part']}.log").read_text(encoding="utf-8", errors="replace"),
        )
        for row in json.loads((out / "results.json").read_text())
    ]
