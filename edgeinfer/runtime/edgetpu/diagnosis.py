"""From how far the probe's child came to an error that says why, and the line that cures it.

libedgetpu gives no reason when it makes no delegate (`tflite_plugin_create_delegate` returns a null pointer and never
calls its error handler): no device, a number that is not there, no permission and a device in use look the same. So the
system is asked (`devices.py`), and what the library lists is compared with what was wanted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgeinfer import errors
from edgeinfer.errors import DeviceError, EdgeInferError, MissingDependencyError, UnsupportedOpError
from edgeinfer.frozen import dataclass
from edgeinfer.holders import holders
from edgeinfer.runtime.edgetpu.address import EdgeTpuAddress
from edgeinfer.runtime.edgetpu.asked import Told
from edgeinfer.runtime.edgetpu.devices import FoundEdgeTpu, find_edgetpus, find_obstacle, say_edgetpus
from edgeinfer.runtime.edgetpu.library import VARIABLE, is_listed, library_name, runtime_version
from edgeinfer.runtime.engines import Engine, installed_engines, old_runtime_error

REPLUG = "Take the Edge TPU out and put it back in"

_WHEN = {
    "start": "before it was loaded",
    "library": "while it was loaded",
    "version": "while it said its version",
    "devices": "while it looked for devices",
    "delegate": "while it opened the device",
    "model": "while it loaded the model",
}
_INSTALL = "sudo apt install libedgetpu1-std  # its package source: https://coral.ai/software"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the child was asked for.

    Attributes:
        library: Name or path.
        address: Which Edge TPU.
        engine: That loads the delegate; None where the library alone was asked.
        min_runtime: Lowest runtime version that the model's file asks for; None where it is not known.
    """

    library: str
    address: EdgeTpuAddress
    engine: Engine | None = None
    min_runtime: int | None = None


def uncompiled(address: EdgeTpuAddress) -> UnsupportedOpError:
    """Return the error for a file that has no op for an Edge TPU.

    The delegate takes such a file and leaves all of it to the CPU, without a word: so it is refused.
    """
    return UnsupportedOpError(
        "The file is not compiled for an Edge TPU: all of it would run on the CPU.",
        received=f'device="{address}", and no op `edgetpu-custom-op`',
        expected="a file from the Edge TPU compiler, as a rule named `..._edgetpu.tflite`",
        next_step='edgetpu_compiler MODEL.tflite (on an x86-64 Linux machine), or pass `device="cpu"`.',
    )


def diagnose(told: Told, asked: Asked, root: str | Path = "/") -> EdgeInferError | None:
    """Return why the child did not come to its end in good order; None where it did.

    Args:
        told: What it told.
        asked: What it was asked for.
        root: Where `/sys`, `/dev` and `/proc` lie, for tests.
    """
    number = runtime_version(told.version)
    if told.step in ("model", "done") and number is not None and number < (asked.min_runtime or 0):
        return old_runtime_error(asked.min_runtime or 0, number, told.version)
    if told.ended == "no answer":
        return _stopped(told, asked)
    if told.ended:
        return _crashed(told, asked)
    if told.refused is None:
        return None
    if told.step == "library":
        return _not_loaded(told.refused, asked)
    if told.step == "delegate" and told.refused["type"] == "DeviceError":
        if told.refused["received"]:
            return DeviceError(
                "The Edge TPU's library refuses to open the device.",
                received=told.refused["received"],
                next_step=f"{REPLUG}, then look at it with `edgeinfer doctor`.",
            )
        return _not_opened(told, asked, Path(root))
    if told.step == "model" and told.refused["type"] == "UnsupportedOpError" and "edgetpu" in told.refused["received"]:
        return DeviceError(
            f"`{asked.library}` is a delegate that does not take what was compiled for an Edge TPU.",
            received=told.refused["received"],
            next_step=_other_library(asked),
        )
    return rebuilt(told.refused)


def rebuilt(said: dict[str, str]) -> EdgeInferError:
    """Return an error of another process as it was raised there."""
    kind = getattr(errors, said["type"], DeviceError)
    error: EdgeInferError = kind(
        said["message"], received=said["received"], expected=said["expected"], next_step=said["next"]
    )
    return error


def _not_loaded(refused: dict[str, str], asked: Asked) -> EdgeInferError:
    if refused["type"] != "MissingDependencyError":
        return DeviceError(
            f"`{asked.library}` is not the Edge TPU's library, nor any other delegate.",
            received=refused["received"],
            expected="libedgetpu.so.1",
            next_step=_other_library(asked),
        )
    text = refused["received"]
    named = re.match(r"(\S+): cannot open shared object file: No such file", text)
    # glibc names what is missing, other systems' loaders do not always.
    missing = named[1] if named else asked.library
    if not named and not re.search(r"no such file|could not find module", text, re.IGNORECASE):
        return MissingDependencyError(
            f"`{asked.library}` cannot be loaded on this system: it was built for another one, or may not be read.",
            received=text,
            next_step=_other_library(asked),
        )
    if missing.startswith("libusb-1.0"):
        return MissingDependencyError(
            "The Edge TPU's library needs libusb, which is not installed.",
            received=text,
            next_step="sudo apt install libusb-1.0-0",
        )
    is_path = os.sep in asked.library
    if missing != asked.library:
        return MissingDependencyError(
            f"The Edge TPU's library needs `{missing}`, which is not installed.",
            received=text,
            next_step=f"ldd {asked.library} | grep 'not found'" if is_path else _INSTALL,
        )
    return MissingDependencyError(
        "The Edge TPU's library is not there." if is_path else "The Edge TPU's library is not installed.",
        received=text,
        next_step=_other_library(asked),
    )


def _other_library(asked: Asked) -> str:
    if os.environ.get(VARIABLE) and library_name() == asked.library:
        return f"unset {VARIABLE}, or let it name libedgetpu.so.1."
    return _INSTALL


def _not_opened(told: Told, asked: Asked, root: Path) -> EdgeInferError:
    """Say why the library opens no device, which it does not say itself."""
    address, listed = asked.address, told.devices or ()
    every = find_edgetpus(root)
    fitting = [one for one in every if address.bus in (None, one.bus)]
    if blocked := _blocked(fitting, root):
        return blocked
    if not fitting and not every and not listed:
        return DeviceError(
            "No Edge TPU is attached.",
            received=say_edgetpus(()),
            next_step="Plug it in, and look for it: lsusb | grep -E '1a6e:089a|18d1:9302'; lspci -nn | grep 1ac1:089a",
        )
    if listed and not is_listed(address, listed):
        return DeviceError(
            f"There is no Edge TPU `{address}` here.",
            received=f"the library lists {', '.join(map(str, listed))}",
            expected="one of " + ", ".join(f"edgetpu:{number}" for number in range(len(listed))),
            next_step='Pass `device="edgetpu"` for any of them.',
        )
    if not listed and not fitting:
        return DeviceError(
            f"There is no Edge TPU `{address}` here.",
            received=say_edgetpus(every),
            next_step='Pass `device="edgetpu"` for any of them.',
        )
    if told.devices == ():
        return DeviceError(
            "The system shows an Edge TPU that the library does not see.",
            received=say_edgetpus(tuple(fitting)),
            next_step=_hidden(fitting),
        )
    users = [user for one in fitting if one.node for user in holders(one.node, root)]
    if users:
        return DeviceError(
            "The Edge TPU is in use by another process.",
            received=", ".join(users),
            next_step="End that process: one process at a time has an Edge TPU.",
        )
    return DeviceError(
        f"The Edge TPU `{address}` does not open, and the library does not say why.",
        received=say_edgetpus(tuple(fitting)) if fitting else ", ".join(map(str, listed)),
        next_step=_hidden(fitting),
    )


def _blocked(fitting: list[FoundEdgeTpu], root: Path) -> DeviceError | None:
    """Return what keeps this user from every Edge TPU that would do; None where one of them is free to be opened."""
    obstacles = [find_obstacle(one, root) for one in fitting]
    first = next(iter(obstacles), None)
    if first is None or None in obstacles:
        return None
    return DeviceError(first.what, received=say_edgetpus(tuple(fitting)), next_step=first.cure)


def _hidden(fitting: list[FoundEdgeTpu]) -> str:
    """Return what to try where nothing is seen that would keep this user from the device."""
    if any(one.bus == "usb" and not one.is_used for one in fitting):
        # It leaves the bus and comes back under its second id at first use (device firmware upgrade).
        return (
            f"{REPLUG}. In a container or virtual machine let both of its USB ids through, 1a6e:089a and 18d1:9302: "
            "it changes from one to the other when it is used for the first time."
        )
    return f"End other programs that use it, then: {REPLUG[0].lower()}{REPLUG[1:]}."


def _both(told: Told, asked: Asked) -> str:
    """Return library and engine with their versions, and what was printed last."""
    found = runtime_version(told.version)
    parts = [asked.library + (f" (runtime {found})" if found is not None else "")]
    if asked.engine is not None:
        parts.append(f"under {asked.engine.name} {asked.engine.version}")
    return " ".join(parts) + (f"; it said: {told.said}" if told.said else "")


def _crashed(told: Told, asked: Asked) -> DeviceError:
    if told.step == "start":
        return DeviceError(
            "The child process that tries the Edge TPU's library did not start.",
            received=f"{told.ended}: {told.said}",
            next_step="edgeinfer doctor",
        )
    if told.ended == "SIGKILL":
        return DeviceError(
            f"The Edge TPU's library was ended by the system {_WHEN[told.step]}.",
            received=f"SIGKILL in {_both(told, asked)}",
            next_step="Most likely there was no memory left: free some, and look at `sudo dmesg | tail`.",
        )
    others = [one.name for one in installed_engines() if asked.engine is not None and one.name != asked.engine.name]
    return DeviceError(
        f"The Edge TPU's library crashed {_WHEN[told.step]}.",
        received=f"{told.ended} in {_both(told, asked)}",
        next_step="Most often library and engine were built from different versions: "
        + (f"try EDGEINFER_ENGINE={others[0]}, or " if others else "")
        + "install a libedgetpu that was built for this engine's version.",
    )


def _stopped(told: Told, asked: Asked) -> DeviceError:
    return DeviceError(
        f"The Edge TPU's library gave no answer {_WHEN.get(told.step, '')}.",
        received=f"{_both(told, asked)}; it was ended",
        next_step=_other_library(asked)
        if told.step in ("start", "library", "version")
        else f"{REPLUG}; on USB try another port or cable, or a hub with a power supply of its own.",
    )
