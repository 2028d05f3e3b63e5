"""`python -m tools.pi_lab`: boots the machines, says what passed, and ends with 1 where something failed."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.pi_lab.host import LabError, check_host
from tools.pi_lab.luggage import pack
from tools.pi_lab.machines import MACHINES, Machine, find_machines
from tools.pi_lab.report import Run, closing_line, summary
from tools.pi_lab.session import COUNT, PARTS, Plan, run_machine


def main(arguments: list[str] | None = None) -> int:
    """Run the lab.

    Returns:
        0 all parts passed, 1 one failed, 2 wrong usage, 3 the lab, or one of its machines, cannot be set up here.
    """
    options = _options(arguments)
    parts = tuple(options.parts.split(",")) if options.parts else PARTS
    if options.count_instructions:
        parts = COUNT
    unknown = set(parts) - {*PARTS, *COUNT}
    try:
        machines = find_machines(tuple(options.machines))
        if unknown:
            raise ValueError(f"There is no part {', '.join(sorted(unknown))}. There are: {', '.join(PARTS)}.")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.script is not None:
        parts = ("script",)
    plan = Plan(
        parts,
        pytest=tuple(shlex.split(options.pytest)),
        count_instructions=options.count_instructions,
        rebuild=options.rebuild,
    )
    start = time.monotonic()
    try:
        check_host()
        runs = _run(machines, plan, options)
    except LabError as error:
        print(error, file=sys.stderr)
        return 3
    print(summary(runs))
    print(f"The lab took {time.monotonic() - start:.0f} s.")
    print(closing_line(runs))
    if all(run.passed for run in runs):
        return 0
    ran = [part for run in runs for part in run.parts if part.name != "machine"]
    return 3 if all(part.passed for part in ran) else 1


def _run(machines: tuple[Machine, ...], plan: Plan, options: argparse.Namespace) -> list[Run]:
    with tempfile.TemporaryDirectory(prefix="pi-lab-") as folder:
        luggage = Path(folder)
        luggage.chmod(0o755)
        pack(luggage)
        if options.script is not None:
            shutil.copyfile(options.script, luggage / "script.py")
        with ThreadPoolExecutor(options.jobs) as pool:
            return list(pool.map(lambda machine: run_machine(machine, plan, luggage), machines))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    machines = "\n".join(f"  {one.name:<17}{one.suite}, {', '.join((*one.debian, *one.wheels))}" for one in MACHINES)
    parser = argparse.ArgumentParser(
        prog="python -m tools.pi_lab",
        description="Run a part of the tests, and the commands, on emulated Raspberry Pis.",
        epilog=f"machines:\n{machines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("machines", nargs="*", help="default: all")
    parser.add_argument("--parts", help=f"with commas between them (default: {','.join(PARTS)})")
    parser.add_argument("--pytest", default="", help="options for the tests, e.g. '-k trial -x'")
    parser.add_argument(
        "--script", type=Path, help="instead of the tests: run this on the machines and print what it says"
    )
    # More than there are cores: the one that is being set up waits for the network, and none is left over at the end.
    parser.add_argument("--jobs", type=int, default=len(MACHINES), help="machines at a time, 2 GB each (default: all)")
    parser.add_argument("--rebuild", action="store_true", help="set the machines up anew, with today's packages")
    parser.add_argument(
        "--count-instructions", action="store_true", help="instead of the tests: what a frame costs, in instructions"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
