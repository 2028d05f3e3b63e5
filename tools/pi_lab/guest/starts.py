"""Counts what a start costs in the guest, from nothing to the first answer, whose clock counts instructions.

Prints a JSON object a line, each a row of a table. Of a process its own time on the processor counts, and that of its
children: what it waits for does not. This program imports nothing large, because a child's peak of memory is at least
that of the process which starts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

DATA = Path("/luggage/data/coral")
BARE_SCRIPT = Path(__file__).with_name("bare.py")
STARTS = 6


def process(command: list[str]) -> tuple[int, int]:
    """Return the fewest instructions and the lowest peak of memory of several starts, the first left out."""
    counts, peaks = [], []
    for _ in range(STARTS):
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{command} ended with {child.returncode}")
        counts.append(round((used.ru_utime + used.ru_stime) * 1e9))
        peaks.append(used.ru_maxrss * 1024)
    return min(counts[1:]), min(peaks[1:])


def main() -> None:
    """Count an interpreter that does nothing, a bare script, and our commands."""
    engine = "tflite-runtime" if find_spec("tflite_runtime") else "litert"
    model = str(DATA / "mobilenet_v1_0.25_128_quant.tflite")
    edgeinfer = [sys.executable, "-m", "edgeinfer"]
    camera = ["--source", "0", "--frames", "1", "--jsonl", "--first-frame", "120"]
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "bare script": [sys.executable, str(BARE_SCRIPT), engine, model],
        "edgeinfer run": [*edgeinfer, "run", model, str(DATA / "cat.bmp"), "--threads", "1"],
        "edgeinfer camera": [*edgeinfer, "camera", model, *camera, "--threads", "1"],
    }
    for name, command in commands.items():
        instructions, peak = process(command)
        row = {"what": "cold start", "model": Path(model).name, "stage": name}
        print(json.dumps({**row, "instructions": instructions, "peak_rss_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
