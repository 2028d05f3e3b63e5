"""The Edge TPU's library: its name here, and what it says of itself.

What asks it (`ask_version`, `ask_devices`) runs in a child process only (`probe.py`): a library that does not fit this
system can end or stop the process that calls it.

Source of the functions: `tflite/edgetpu_c.cc` of google-coral/libedgetpu.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass
from edgeinfer.runtime.edgetpu.address import Bus, EdgeTpuAddress

VARIABLE = "EDGEINFER_EDGETPU_LIBRARY"

_NAMES = {"darwin": "libedgetpu.1.dylib", "win32": "edgetpu.dll"}
_RUNTIME = re.compile(r"RuntimeVersion\(([0-9]{1,6})\)")
_MOST_DEVICES = 256  # more would be a library that speaks of something else


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """An Edge TPU as the library lists it: a free one, or one that it has opened.

    Attributes:
        bus: "usb" or "pci".
        path: The library's name for it, e.g. "/sys/bus/usb/devices/2-1" or "/dev/apex_0".
    """

    bus: Bus
    path: str

    def __str__(self) -> str:
        """Return bus and path."""
        return f"{self.bus} {self.path}"


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))


def library_name(library: str = "") -> str:
    """Return the library to load.

    Args:
        library: A name or path; "" is `EDGEINFER_EDGETPU_LIBRARY`, else the platform's name for libedgetpu. A path is
            made absolute, since a child works in another folder.

    Raises:
        InputError: It is no name that a file can have.
    """
    given = library or os.environ.get(VARIABLE) or _NAMES.get(sys.platform, "libedgetpu.so.1")
    if "\0" in given:
        raise InputError("This is no name of a library.", received=repr(given), expected="a name or path without NUL")
    return str(Path(given).absolute()) if os.sep in given else given


def runtime_version(text: str) -> int | None:
    """Return the number in what `edgetpu_version()` says, e.g. 14 for "BuildLabel(...), RuntimeVersion(14)".

    Compiled files name the lowest number that runs them. None where the text has none.
    """
    found = _RUNTIME.search(text)
    return None if found is None else int(found[1])


def is_listed(address: EdgeTpuAddress, devices: tuple[ListedDevice, ...]) -> bool:
    """Return whether an address names one of the devices."""
    fitting = [one for one in devices if address.bus in (None, one.bus)]
    return len(fitting) > (address.number or 0)


def ask_version(library: ctypes.CDLL) -> str:
    """Return what the library calls its version, "" where it does not say it.

    Call it in a child process.
    """
    if not hasattr(library, "edgetpu_version"):
        return ""
    library.edgetpu_version.restype = ctypes.c_char_p
    text = library.edgetpu_version()
    return text.decode(errors="replace") if text else ""


def ask_devices(library: ctypes.CDLL) -> tuple[ListedDevice, ...] | None:
    """Return the Edge TPUs that the library sees, in its order, without opening one; None where it cannot say it.

    Call it in a child process.
    """
    if not (hasattr(library, "edgetpu_list_devices") and hasattr(library, "edgetpu_free_devices")):
        return None
    library.edgetpu_list_devices.restype = ctypes.POINTER(_Device)
    library.edgetpu_list_devices.argtypes = [ctypes.POINTER(ctypes.c_size_t)]
    library.edgetpu_free_devices.argtypes = [ctypes.POINTER(_Device)]
    library.edgetpu_free_devices.restype = None
    count = ctypes.c_size_t(0)
    listed = library.edgetpu_list_devices(ctypes.byref(count))
    if not listed:
        return ()
    found = tuple(
        ListedDevice("usb" if listed[index].type == 1 else "pci", (listed[index].path or b"").decode(errors="replace"))
        for index in range(min(count.value, _MOST_DEVICES))
    )
    library.edgetpu_free_devices(listed)
    return found
