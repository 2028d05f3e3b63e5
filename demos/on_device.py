"""What the device's environment says of a file that the workstation made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from converters import Report


def on_device(python: str, command: str, *arguments: Path | str) -> str:
    """Return what `edgeinfer COMMAND ... --json` says in the device's environment."""
    line = [python, "-m", "edgeinfer", command, *map(str, arguments), "--threads", "1", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"On the device: {done.stdout}{done.stderr}")
    return done.stdout


def print_table(report: Report, device: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print the report and, below it, the same file in the device's environment."""
    print(f"\n{report}")
    low, high = device["interval95"]["top1"]
    invoke = device["timing_ms"]["invoke"]
    print(
        f"In the device's environment: {device['metrics']['top1']:.2%} ({low:.2%} to {high:.2%}) of "
        f"{device['samples']} right, {invoke['p50']:.3f} / {invoke['p95']:.3f} ms, 1 thread, on this machine."
    )
