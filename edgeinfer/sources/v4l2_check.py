"""What is wrong with a video device, asked of the kernel before OpenCV opens it: OpenCV says only that it did not.

Older versions of OpenCV also wait for a camera that another program holds, up to ten seconds for each question.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from edgeinfer.errors import DeviceError, EdgeInferError, InputError
from edgeinfer.holders import holders
from edgeinfer.sources.devices import GROUP_LINE, find_cameras, say_cameras

# Source: linux/videodev2.h and asm-generic/ioctl.h: direction << 30 | size << 16 | "V" << 8 | number.
_CAPABILITY_BYTES = 104
_FORMAT_BYTES = 208 if struct.calcsize("P") == 8 else 204  # a union that holds pointers, behind a 32-bit type
_QUERYCAP = 2 << 30 | _CAPABILITY_BYTES << 16 | ord("V") << 8
_G_FMT = 3 << 30 | _FORMAT_BYTES << 16 | ord("V") << 8 | 4
_S_FMT = _G_FMT | 1
_CAPTURE, _CAPTURE_PLANES = 0x1, 0x1000
_DEVICE_CAPS_AT = 88


def check_device(path: str) -> None:
    """Refuse a device that cannot be read as a camera now.

    Raises:
        DeviceError: It is not there, this user may not open it, another program has it, or it gives no pictures.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise device_error(path, error.errno or 0) from error
    try:
        _ask(path, handle)
    finally:
        os.close(handle)


def device_error(path: str, number: int) -> EdgeInferError:
    """Return the error that belongs to what the kernel said (`errno`) when a device was opened."""
    if number in (errno.EACCES, errno.EPERM):
        return DeviceError(
            f"This user may not open the camera `{path}`.",
            received=os.strerror(number),
            expected="a member of the group `video`",
            next_step=f"{GROUP_LINE} (then log out and in again)",
        )
    if number == errno.EBUSY:
        programs = ", ".join(holders(path))
        return DeviceError(
            f"Another program has the camera `{path}`.",
            received=programs or "busy; which program has it only root can see",
            next_step=f"End it. This shows it: sudo fuser -v {path}",
        )
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return DeviceError(
            f"There is no camera `{path}`.",
            received=f"cameras that are here: {say_cameras(find_cameras())}",
            next_step="Plug it in, or name one of those that are here.",
        )
    return DeviceError(f"The camera `{path}` cannot be opened.", received=os.strerror(number))


def _ask(path: str, handle: int) -> None:
    import fcntl  # not there on Windows, where nothing gets here

    capability = bytearray(_CAPABILITY_BYTES)
    try:
        fcntl.ioctl(handle, _QUERYCAP, capability)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EBUSY):
            raise device_error(path, error.errno) from error
        raise InputError(
            f"`{path}` is no video device.",
            received=error.strerror or "",
            expected=f"a camera; here are: {say_cameras(find_cameras())}",
        ) from error
    (able,) = struct.unpack_from("=I", capability, _DEVICE_CAPS_AT)
    if not able & (_CAPTURE | _CAPTURE_PLANES):
        raise DeviceError(
            f"`{path}` gives no pictures: it is another part of the camera, or of the board.",
            received=capability[16:48].split(b"\0")[0].decode(errors="replace") or Path(path).name,
            expected=f"a camera; here are: {say_cameras(find_cameras())}",
        )
    layout = bytearray(_FORMAT_BYTES)
    struct.pack_into("=I", layout, 0, 1 if able & _CAPTURE else 9)
    try:
        # To set what is set already changes nothing, and is refused where another program is reading.
        fcntl.ioctl(handle, _G_FMT, layout)
        fcntl.ioctl(handle, _S_FMT, layout)
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENODEV):
            raise device_error(path, error.errno) from error
