"""What can go wrong between a program and an Edge TPU: each way with what brings it about.

A twelfth, a device that this user may not open, needs another user: `test_probe.py` has it.

One table for the tests and for `benchmarks/edgetpu_failures.py`. Each case runs in a process of its own, which must be
alive at the end and say what has happened.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetpu_standin import Pair, build

ROOT = Path(__file__).resolve().parents[2]

# A program like any user's: two pictures, and what it is told in the end. Times are short, so that a hang is one soon.
_PROGRAM = """
import json, sys
import numpy as np
from edgeinfer import EdgeTpuOptions, Runtime
from edgeinfer.errors import EdgeInferError
asked = json.loads(sys.argv[1])
said = {"answers": []}
options = EdgeTpuOptions(deadline_s=1.0, first_deadline_s=4.0, restarts=1, library=asked["library"])
try:
    with Runtime(asked["model"], device=asked["device"], fallback=asked["fallback"], edgetpu=options) as runtime:
        for channel in range(3):
            picture = np.zeros((1, 8, 8, 3), np.float32)
            picture[..., channel] = 1.0
            found = next(iter(runtime(picture).values()))
            said["answers"].append(int(found.argmax()))
        said["on_fallback"] = runtime.on_fallback
        said["latest"] = runtime.faults.latest
except EdgeInferError as error:
    said |= {"exit_code": error.exit_code, **error.to_json()}
print(json.dumps(said), flush=True)
"""


@dataclass(frozen=True)
class Case:
    """One way to fail.

    Attributes:
        name: Of the failure.
        error: Type of the error that is expected without a twin.
        exit_code: That the commands end with.
        says: Words of the message.
        environment: What the pretended library is told.
        device: What is asked for.
        has_fallback: Whether a twin can answer instead: not where the caller's own words are wrong.
        needs_twin: Whether it is only seen where there is a twin to compare with; then nothing is raised.
    """

    name: str
    error: str
    exit_code: int
    says: str
    environment: dict[str, str]
    device: str = "edgetpu"
    has_fallback: bool = True
    needs_twin: bool = False


CASES = (
    Case("missing library", "MissingDependencyError", 3, "The Edge TPU's library", {}),
    Case("not a delegate", "DeviceError", 3, "is no", {}),
    Case("no device", "DeviceError", 3, "No Edge TPU is attached", {"STANDIN_DEVICES": ""}),
    Case("wrong option", "InputError", 2, "device", {}, device="edgetpu:banana", has_fallback=False),
    Case("version mismatch", "DeviceError", 3, "runtime", {"STANDIN_VERSION": "BuildLabel(x), RuntimeVersion(12)"}),
    Case("crash at load", "DeviceError", 3, "SIGSEGV", {"STANDIN_CREATE": "segv"}),
    Case("crash at invoke", "DeviceError", 3, "SIGSEGV", {"STANDIN_INVOKE": "segv@2+"}),
    Case("hang", "DeviceError", 3, "no answer", {"STANDIN_INVOKE": "hang@2+"}),
    Case("wrong output", "", 0, "known input", {"STANDIN_INVOKE": "wrong@1+"}, needs_twin=True),
    Case("pulled out mid-run", "DeviceError", 3, "is not there any more", {"STANDIN_INVOKE": "gone@3"}),
    Case("uncompiled file", "UnsupportedOpError", 5, "is not compiled", {}, has_fallback=False),
)


def run_case(
    case: Case, folder: Path, *, twin: bool, pair: Pair, library: Path, python: str = sys.executable
) -> dict[str, Any]:
    """Bring a failure about, and return what the program was told.

    Args:
        case: Which.
        folder: For what it needs.
        twin: With a CPU twin of the model.
        pair: The model and its twin, of kind "peak".
        library: The pretended one.
        python: The interpreter of the program.

    Returns:
        "answers" (class of each of three frames; as many as there were), "on_fallback", "latest" (the latest fault),
        and where it failed "exit_code" with the error's parts.
    """
    if case.name == "missing library":
        library = folder / "libedgetpu-missing.so.1"
    elif case.name == "not a delegate":
        library = build(folder, "NOT_A_DELEGATE", name="libother.so")
    asked = {
        "model": str(pair.twin if case.name == "uncompiled file" else pair.compiled),
        "device": case.device,
        "library": str(library),
        "fallback": str(pair.twin) if twin else None,
    }
    counter = folder / "count"
    counter.write_bytes(b"")
    done = subprocess.run(
        [python, "-c", _PROGRAM, json.dumps(asked)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "STANDIN_COUNT": str(counter), **case.environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"the program ended with {done.returncode}: {done.stderr}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said
