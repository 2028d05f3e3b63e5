"""`device="edgetpu:usb:0"`: which Edge TPU is meant.

Source of the delegate's own device strings: `tflite/edgetpu_delegate_for_custom_op_tflite_plugin.cc` of
google-coral/libedgetpu.
"""

from __future__ import annotations

import re
from typing import Literal, cast

from edgeinfer.errors import InputError, close_name
from edgeinfer.frozen import dataclass

Bus = Literal["usb", "pci"]

EXPECTED = '"edgetpu", "edgetpu:usb", "edgetpu:pci", and ":0", ":1", ... behind each for the first, the second, ...'

_FORMS = ("edgetpu", "edgetpu:usb", "edgetpu:pci", "edgetpu:0", "edgetpu:usb:0", "edgetpu:pci:0")
_ADDRESS = re.compile(r"edgetpu(?::(usb|pci))?(?::(0|[1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class EdgeTpuAddress:
    """Which Edge TPU is meant.

    Attributes:
        bus: "usb" or "pci" (M.2 and mini PCIe); None is either.
        number: From 0, in the order in which the library lists them, of this bus alone where one is named; None is any
            that is free.
    """

    bus: Bus | None = None
    number: int | None = None

    @property
    def option(self) -> str:
        """What the delegate's own option "device" is: "", ":1", "usb", "usb:1", "pci" or "pci:1"."""
        return (self.bus or "") + ("" if self.number is None else f":{self.number}")

    def __str__(self) -> str:
        """Return the address as it is written for `device=`."""
        return "edgetpu" + (f":{self.bus}" if self.bus else "") + ("" if self.number is None else f":{self.number}")


def parse_address(device: str, *, received: str = "") -> EdgeTpuAddress:
    """Return which Edge TPU a text means.

    Args:
        device: "edgetpu", "edgetpu:1", "edgetpu:usb", "edgetpu:usb:1", "edgetpu:pci" or "edgetpu:pci:1".
        received: How the error shall show it, where it does not come from `device=`.

    Raises:
        InputError: It is none of these.

    Example:
        >>> parse_address("edgetpu:usb:1").option
        'usb:1'
    """
    found = _ADDRESS.fullmatch(device)
    if found is None:
        raise InputError(
            "This is no address of an Edge TPU.",
            received=received or f'device="{device}"',
            expected=EXPECTED,
            next_step=close_name(device, _FORMS),
        )
    return EdgeTpuAddress(cast("Bus | None", found[1]), None if found[2] is None else int(found[2]))
