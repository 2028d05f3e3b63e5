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


def print_table(report: Report, device: dict[str, dict[str, dict[str, float]]], engine: str) -> None:
    """Print the report and, below it, the same file in the device's environment.

    Args:
        report: Of the conversion.
        device: What `edgeinfer evaluate --json` said there.
        engine: Name and version of the engine there.
    """
    print(f"\n{report}")
    low, high = device["interval95"]["top1"]
    invoke = device["timing_ms"]["invoke"]
    print(
        f"In the device's environment, {engine}: {device['metrics']['top1']:.2%} ({low:.2%} to {high:.2%}) of "
        f"{device['samples']} right, {invoke['p50']:.3f} / {invoke['p95']:.3f} ms, 1 thread, on this machine."
    )
    here = report.comparison.engine if report.comparison else ""
    if here and here != engine:
        print(
            f"{engine} and {here} round some integer sums differently by one step, so the answer changes for samples "
            "that lie between two classes: a difference inside the interval is no loss."
        )
