"""Runs in the guest: each part of the plan as a process of its own, as the user `pi`, and writes down how it went.

The plan is /out/plan.json; how it went is /out/results.json, and what each part printed /out/PART.log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

LUGGAGE, OUT = Path("/luggage"), Path("/out")
DATA = LUGGAGE / "data"
HOME = "/home/pi"
# Neither the tests nor the program may need a writable home or system.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": HOME,
    "USER": "pi",
    "LC_ALL": "C.UTF-8",
    "TMPDIR": "/tmp",
    "PYTHONPYCACHEPREFIX": "/bytecode",
    "PYTHONUNBUFFERED": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
}


def model() -> str:
    """Return the model of the parts: a real one where there is one."""
    real = DATA / "coral" / "mobilenet_v1_0.25_128_quant.tflite"
    return str(real if real.exists() else LUGGAGE / "models" / "classifier.tflite")


def picture() -> str:
    """Return the picture for `model()`."""
    real = DATA / "coral" / "parrot.jpg"
    return str(real if real.exists() else LUGGAGE / "models" / "red.ppm")


def commands(options: list[str], patterns: Sequence[str] = ("**/test_*.py",)) -> dict[str, list[str]]:
    """Return each part's command.

    Args:
        options: For pytest.
        patterns: Of the test files, below tests/edgeinfer.
    """
    python = sys.executable
    edgeinfer = [python, "-m", "edgeinfer"]
    guest = LUGGAGE / "guest"
    # Only files with such tests: to import the others takes this machine a minute.
    found = {path for pattern in patterns for path in LUGGAGE.glob(f"tests/edgeinfer/{pattern}")}
    files = [str(path) for path in sorted(found) if "mark.device" in path.read_text()]
    tests = [python, "-m", "pytest", *files, "-m", "device and not slow and not clock", "-q", "--durations=10"]
    tests += ["-p", "no:cacheprovider", "-p", "device_profile", "--rootdir=/luggage", "--basetemp=/tmp/pytest"]
    return {
        "doctor": [*edgeinfer, "doctor", "--json"],
        "run": [*edgeinfer, "run", model(), picture(), "--threads", "1"],
        "camera": [python, str(guest / "camera.py"), model(), "100"],
        "bench": [*edgeinfer, "bench", model(), "--runs", "20", "--warmup", "2", "--threads", "1", "--json"],
        "tests": [*tests, *options],
        "script": [python, "/luggage/script.py"],
        "frames": [python, str(guest / "frames.py")],
        "starts": [python, str(guest / "starts.py")],
    }


def run(part: str, command: list[str], patience_s: float) -> dict[str, object]:
    """Run one part to its end; `peak_rss_bytes` is its own, or that of the largest process that it waited for."""
    environment = dict(ENVIRONMENT)
    if DATA.exists():
        environment["EDGEINFER_TEST_DATA"] = str(DATA)
    if part == "tests":
        environment["PYTHONPATH"] = str(LUGGAGE / "guest")  # the plugin
    start = time.monotonic()
    with (OUT / f"{part}.log").open("wb") as log:
        child = subprocess.Popen(
            command,
            cwd=HOME,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        alarm = threading.Timer(patience_s, os.killpg, (child.pid, signal.SIGKILL))
        alarm.start()
        _, status, used = os.wait4(child.pid, 0)
        alarm.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    return {
        "part": part,
        "exit": child.returncode,
        "seconds": round(time.monotonic() - start, 1),
        "peak_rss_bytes": used.ru_maxrss * 1024,
    }


def become(user: int) -> None:
    """Go on as an ordinary user who may use the camera, as udev's rules allow it."""
    for camera in Path("/dev").glob("video*"):
        camera.chmod(0o666)
    os.setgroups([44])
    os.setgid(user)
    os.setuid(user)


def main() -> None:
    """Follow the plan."""
    plan = json.loads((OUT / "plan.json").read_text())
    if plan["user"]:
        become(plan["user"])
    results = []
    for part in plan["parts"]:
        print(f"LAB begins {part}", flush=True)
        results.append(run(part, commands(plan["pytest"], plan["tests"])[part], plan["patience_s"]))
        print(f"LAB part {json.dumps(results[-1])}", flush=True)
        (OUT / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
