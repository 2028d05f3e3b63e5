"""The probe's child: loads the Edge TPU's library, asks it, and opens the device and the model, in this order.

Each step is said before it is taken, one JSON object a line, so that the parent knows what the process was at when it
ended or stopped. What the library prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Literal

from edgeinfer.errors import EdgeInferError
from edgeinfer.frozen import dataclass
from edgeinfer.runtime.edgetpu.library import ListedDevice, ask_devices, ask_version
from edgeinfer.runtime.engines import find_engine, load_delegate, load_library, open_interpreter
from edgeinfer.runtime.trial import limit_child

Step = Literal["start", "library", "version", "devices", "delegate", "model", "done"]


@dataclass(frozen=True, slots=True)
class Told:
    """How far a child came, and what it said.

    Attributes:
        step: The last one that it took.
        refused: What refused it there, as `EdgeInferError.to_json`; None where nothing did.
        ended: How the process came to its end before it was done: "SIGSEGV", "exit code 1", "no answer"; "" else.
        version: What the library calls its version, "" where it does not say it.
        devices: The Edge TPUs that it lists; None where it cannot say it.
        said: The last lines of what was printed.
    """

    step: Step = "start"
    refused: dict[str, str] | None = None
    ended: str = ""
    version: str = ""
    devices: tuple[ListedDevice, ...] | None = None
    said: str = ""


def read_told(lines: bytes, *, ended: str, said: str) -> Told:
    """Return what a child told, whatever became of its last line."""
    facts: dict[str, object] = {"step": "start"}
    for line in lines.splitlines():
        try:
            facts.update(json.loads(line))
        except (ValueError, TypeError):  # cut off by the process's end
            continue
    listed = facts.get("devices")
    if isinstance(listed, list):
        facts["devices"] = tuple(ListedDevice(bus, path) for bus, path in listed)
    if facts["step"] == "done":
        ended = ""  # what happened while it put things away is no reason against it
    return Told(ended=ended, said=said, **facts)  # type: ignore[arg-type]


def main(arguments: list[str]) -> int:
    """Take the steps: the child's whole life.

    Args:
        arguments: Seconds after which the system ends this process, should the parent be gone; the library; the
            engine's name, or "" to stop before the device is opened; the delegate's device string; the model's path,
            or "" for none.
    """
    limit_s, library, engine_name, option, model = arguments
    limit_child()
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, float(limit_s))  # without a handler it ends the process, whatever it does
    talk = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**facts: object) -> None:
        talk.write(json.dumps(facts) + "\n")
        talk.flush()

    try:
        say(step="library")
        symbols = load_library(library)
        say(step="version")
        say(step="devices", version=ask_version(symbols))
        listed = ask_devices(symbols)
        say(devices=None if listed is None else [(one.bus, one.path) for one in listed])
        if engine_name:
            say(step="delegate")
            engine = find_engine(engine_name)
            delegate = load_delegate(engine, library, {"device": option} if option else {})
            if model:
                say(step="model")
                open_interpreter(engine, Path(model), delegate=delegate)
    except EdgeInferError as error:
        say(refused=error.to_json())
        return 0
    say(step="done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
