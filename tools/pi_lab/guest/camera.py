"""Classifies frames of the guest's camera with `edgeinfer camera` and looks at the lines that it prints."""

from __future__ import annotations

import json
import subprocess
import sys


def main(model: str, frames: int) -> int:
    """Return 0 where each frame was answered and the numbers of the frames go up."""
    command = [sys.executable, "-m", "edgeinfer", "camera", model, "--source", "0", "--frames", str(frames), "--jsonl"]
    command += ["--threads", "1", "--first-frame", "120"]  # the machine is emulated, and may share its core
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    numbers = [line["frame"] for line in lines]
    answered = sum(bool(line["results"]) for line in lines)
    print(f"exit {done.returncode}, {len(lines)} lines, {answered} answered, frames {numbers[:1]} to {numbers[-1:]}")
    print(json.dumps(lines[-1] if lines else None))
    good = done.returncode == 0 and len(lines) == answered == frames and numbers == sorted(set(numbers))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
