"""What is wrong with a video device; a real one is only in the emulated Raspberry Pi (test_v4l2.py)."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeinfer.errors import DeviceError, InputError
from edgeinfer.sources import v4l2_check
from edgeinfer.sources.v4l2_check import check_device, device_error

NOBODY = 65534


def test_a_device_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(DeviceError, match="There is no camera `/dev/video987`") as caught:
        check_device("/dev/video987")
    assert caught.value.received.startswith("cameras that are here: ")


def test_a_device_that_is_no_camera_is_refused() -> None:
    with pytest.raises(InputError, match="`/dev/null` is no video device") as caught:
        check_device("/dev/null")
    assert caught.value.received == os.strerror(errno.ENOTTY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_device_that_this_user_may_not_open_names_the_group() -> None:
    """A device that belongs to root: what a camera looks like to who is not in the group `video`."""
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from edgeinfer.sources.v4l2_check import check_device\n"
        "from edgeinfer.sources.picamera import import_picamera2\n"  # all that is imported later, while it may be read
        "from edgeinfer.sources import devices\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try: check_device('/dev/mem' if os.path.exists('/dev/mem') else '/dev/console')\n"
        "except Exception as error: print(type(error).__name__, error.received, '|', error.next_step)\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    out = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True)
    assert out.stdout == (
        "DeviceError Permission denied | sudo usermod -aG video $USER (then log out and in again)\n"
    ), out.stderr


def test_a_camera_that_another_program_has_names_the_program(tmp_path: Path) -> None:
    place = tmp_path / "video0"
    place.touch()
    code = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        error = device_error(str(place), errno.EBUSY)
        process.communicate("")
    assert isinstance(error, DeviceError)
    assert "Another program has the camera" in error.message
    assert f"({process.pid})" in error.received
    assert error.next_step.endswith(f"sudo fuser -v {place}")


def test_other_failures_keep_the_kernels_words() -> None:
    assert device_error("/dev/video0", errno.EIO).received == os.strerror(errno.EIO)


class Kernel:
    """What a driver answers. A fake: there is no video device here, and none that is busy when a test asks."""

    def __init__(self, capabilities: int, set_format: int = 0, query: int = 0) -> None:
        self.capabilities, self.set_format, self.query = capabilities, set_format, query
        self.asked: list[int] = []

    def ioctl(self, _handle: int, request: int, buffer: bytearray) -> int:
        self.asked.append(request)
        number = request & 0xFF
        failure = {0: self.query, 5: self.set_format}.get(number, 0)
        if failure:
            raise OSError(failure, os.strerror(failure))
        if number == 0:
            buffer[16:20] = b"card"
            struct.pack_into("=I", buffer, 88, self.capabilities)
        return 0


def pretend(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", kernel)


def test_a_camera_that_is_free_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(0x1)
    pretend(monkeypatch, kernel)
    check_device("/dev/null")
    # Source: the numbers that linux/videodev2.h makes on a 64-bit machine: VIDIOC_QUERYCAP, VIDIOC_G_FMT, VIDIOC_S_FMT
    if sys.maxsize > 2**32:
        assert kernel.asked == [0x80685600, 0xC0D05604, 0xC0D05605]


def test_a_camera_that_is_being_read_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Kernel(0x1, set_format=errno.EBUSY))
    with pytest.raises(DeviceError, match="Another program has the camera"):
        check_device("/dev/null")


def test_a_camera_that_just_went_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Kernel(0x1, query=errno.ENODEV))
    with pytest.raises(DeviceError, match="There is no camera"):
        check_device("/dev/null")


def test_a_driver_that_refuses_its_own_format_may_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Kernel(0x1, set_format=errno.EINVAL))
    check_device("/dev/null")


@pytest.mark.parametrize("capabilities", [0x00800000, 0x00004000], ids=["metadata", "memory to memory"])
def test_a_node_that_gives_no_pictures_is_refused(capabilities: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Kernel(capabilities))
    with pytest.raises(DeviceError, match="gives no pictures") as caught:
        check_device("/dev/null")
    assert caught.value.received == "card"


def test_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    real: Any = os.close
    monkeypatch.setattr(v4l2_check.os, "close", lambda handle: (closed.append(handle), real(handle)))
    with pytest.raises(InputError):
        check_device("/dev/null")
    assert len(closed) == 1
