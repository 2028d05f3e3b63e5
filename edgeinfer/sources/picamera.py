"""A camera on the ribbon cable of a Raspberry Pi, through Picamera2."""

from __future__ import annotations

import os
import sys
import time
from types import ModuleType
from typing import Any

from edgeinfer.errors import DeviceError, MissingDependencyError
from edgeinfer.preprocess.image import Image
from edgeinfer.sources.reader import Wanted

_SIZE = (640, 480)
# Named the wrong way round: Picamera2's "BGR888" lies in memory as red, green, blue.
# Source: The Picamera2 Library, chapter "Image formats and colour spaces".
_FORMAT = "BGR888"
_OLDEST_STAMP_NS = 1_000_000_000
_APT_LINE = "sudo apt install python3-picamera2"
_VENV_LINE = "python3 -m venv --system-site-packages .venv && . .venv/bin/activate"


class PicameraReader:
    """A `Reader` of a camera that libcamera drives.

    Args:
        index: Which of them, counted from 0; USB cameras, which libcamera lists too, are not counted.
        wanted: Size and rate to ask for.

    Raises:
        MissingDependencyError: Picamera2 cannot be imported here.
        DeviceError: There is no such camera, or another program has it.
    """

    name = ""

    def __init__(self, index: int, wanted: Wanted) -> None:
        picamera2 = import_picamera2()
        number = _number(picamera2, index)
        self._camera: Any = None
        self._request: Any = None
        try:
            self._camera = picamera2.Picamera2(number)
            controls = {} if wanted.fps is None else {"FrameRate": float(wanted.fps)}
            self._camera.configure(
                self._camera.create_video_configuration(
                    main={"size": tuple(wanted.size or _SIZE), "format": _FORMAT}, controls=controls
                )
            )
            self._camera.start()
        except Exception as error:  # libcamera's errors have no common class
            self.close()
            raise _refusal(index, error) from error

    def advance(self) -> int | None:
        """Wait for the next frame; its stamp is the sensor's."""
        self._release()
        try:
            self._request = self._camera.capture_request()
            now_ns = time.monotonic_ns()
            stamp = self._request.get_metadata().get("SensorTimestamp")
        except Exception as error:  # libcamera's errors have no common class
            raise DeviceError("The camera has stopped.", received=_words(error)) from error
        return _on_our_clock(stamp, now_ns)

    def picture(self) -> Image | None:
        """Return the frame as RGB: copied once out of the camera's buffer, which goes back to it."""
        try:
            pixels: Image = self._request.make_array("main")
        except Exception as error:  # libcamera's errors have no common class
            raise DeviceError("The camera's frame cannot be read.", received=_words(error)) from error
        finally:
            self._release()
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise DeviceError(
                "The camera hands over pixels in a layout that is not known.",
                received=f"an array of shape {pixels.shape}",
                expected="(height, width, 3)",
            )
        return pixels

    def close(self) -> None:
        """Let go of the camera."""
        camera, self._camera = self._camera, None
        if camera is None:
            return
        try:
            self._release()
            camera.stop()
            camera.close()
        except Exception as error:  # gone already; there is nothing left to let go of
            import logging

            logging.getLogger(__name__).debug("The camera does not close: %s", error)

    def _release(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.release()


def import_picamera2() -> ModuleType:
    """Import Picamera2.

    Raises:
        MissingDependencyError: It is not there, or not for this environment; the message holds the lines to type.
    """
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")  # it tells each step on standard error
    try:
        import picamera2
    except Exception as error:  # built for another NumPy it fails with ValueError
        raise MissingDependencyError(
            "A camera on the ribbon cable needs Picamera2, and it cannot be imported here.",
            received=f"{type(error).__name__}: {error}",
            expected="the system's own package, in an environment that sees the system's packages",
            next_step=picamera2_cure(),
        ) from error
    module: ModuleType = picamera2
    return module


def picamera2_cure() -> str:
    """Return the line that makes Picamera2 importable beside edgeinfer."""
    # Raspberry Pi OS bookworm (Python 3.11) has Picamera2 built for NumPy 1: a newer one in the venv breaks it.
    held = " 'numpy<2'" if sys.version_info < (3, 12) else ""
    return f"{_APT_LINE} && {_VENV_LINE} && pip install edgeinfer{held}"


def _number(picamera2: ModuleType, index: int) -> int:
    """Return libcamera's number of the camera: its list has the USB cameras too."""
    try:
        listed = picamera2.Picamera2.global_camera_info()
    except Exception as error:  # libcamera's errors have no common class
        raise DeviceError("libcamera cannot list the cameras.", received=_words(error)) from error
    own = [one for one in listed if "usb" not in str(one.get("Id", "")).lower()]
    if index >= len(own):
        raise DeviceError(
            f"There is no camera `csi:{index}`.",
            received=", ".join(str(one.get("Model", "?")) for one in own) or "no camera on a ribbon cable",
            next_step="Check the cable with the power off; `rpicam-hello --list-cameras` shows what is seen.",
        )
    return int(own[index].get("Num", listed.index(own[index])))


def _refusal(index: int, error: Exception) -> DeviceError:
    return DeviceError(
        f"The camera `csi:{index}` cannot be opened: mostly because another program has it.",
        received=_words(error),
        next_step="End the other program. This shows it: sudo fuser -v /dev/media*",
    )


def _on_our_clock(stamp: object, now_ns: int) -> int:
    """Turn a sensor's time, ns since the machine was started, into ns of `time.monotonic_ns()`."""
    if not isinstance(stamp, int):
        return now_ns
    # The sensor's clock goes on while the machine sleeps, ours does not.
    asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    taken_ns = stamp - asleep_ns
    return taken_ns if 0 <= now_ns - taken_ns < _OLDEST_STAMP_NS else now_ns


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
