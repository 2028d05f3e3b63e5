"""A camera of the kernel (USB, HDMI grabber), through OpenCV's V4L2."""

from __future__ import annotations

import logging
from math import isfinite
from time import monotonic_ns

from edgeinfer.errors import DeviceError
from edgeinfer.preprocess.image import Image
from edgeinfer.sources.capture import DIRECT, Capture
from edgeinfer.sources.reader import Wanted
from edgeinfer.sources.v4l2_check import check_device

_LOG = logging.getLogger(__name__)

_SIZE = (640, 480)
# USB 2 carries about 40 MB/s of video: 640 x 480 at 30 frames a second in YUYV are 18, 1280 x 720 would be 55.
_MOST_PIXELS_RAW = 640 * 480
# With one buffer a driver has none to write into while its only one is converted, and a USB camera's frame that begins
# without a buffer is lost as a whole. The thread that reads takes each frame as it comes, so the second adds no age.
_BUFFERS = 2
_OLDEST_STAMP_NS = 1_000_000_000


class V4l2Reader:
    """A `Reader` of `/dev/video*`.

    Pixels go from the driver's own bytes to RGB in one step. On a synthetic frame of 640 x 480 (x86, OpenCV 5.0 and
    4.11, one thread) YUYV takes 0.22 ms so and 0.30 to 0.80 by way of OpenCV's BGR. For MJPG the time is the decoder's
    (1.6 ms), and having the bytes shows which frames are cut off.

    Args:
        path: The device.
        wanted: Size and rate to ask for; a driver may choose what comes near.

    Raises:
        DeviceError: See `check_device`; or OpenCV cannot open it.
    """

    name = ""

    def __init__(self, path: str, wanted: Wanted) -> None:
        check_device(path)
        self._path, self._wanted = path, wanted
        self._open(direct=True)

    def advance(self) -> int | None:
        """Wait for the next frame; its stamp is the driver's where that is on our clock."""
        if not self._capture.grab():
            return None
        return _stamp(self._capture.get("POS_MSEC"), monotonic_ns())

    def picture(self) -> Image | None:
        """Return the frame as RGB."""
        raw = self._capture.raw()
        if raw is None:
            return None
        # What OpenCV has converted is BGR; what it has not is in the driver's format, and flat from OpenCV 4.11 on.
        code = "BGR3" if not self._direct and raw.ndim == 3 and raw.shape[2] == 3 else self._code
        size = (raw.shape[1], raw.shape[0]) if raw.ndim == 3 else self._size
        try:
            return self._capture.to_rgb(raw, code, size)
        except DeviceError:
            if not self._direct:
                raise
            # Opened anew, not only told to convert: told so while it reads BGR3, OpenCV 4.11 ends by a signal.
            self.close()
            self._open(direct=False)
            return None

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()

    def _open(self, *, direct: bool) -> None:
        """Open the camera, and take the driver's own bytes if `direct` and if they can be converted here."""
        self._capture = capture = Capture(self._path, "V4L2")
        if not capture.is_open():
            self.close()
            raise DeviceError(
                f"OpenCV cannot open the camera `{self._path}`, though the kernel lets it.",
                next_step="Unplug it and plug it in again; `v4l2-ctl --list-devices` shows what the kernel knows.",
            )
        width, height = self._wanted.size or _SIZE
        # The format comes first: without it OpenCV takes the first one of its own list that the driver has.
        capture.set("FOURCC", _number("YUYV" if width * height <= _MOST_PIXELS_RAW else "MJPG"))
        capture.set("FRAME_WIDTH", width)
        capture.set("FRAME_HEIGHT", height)
        if self._wanted.fps is not None:
            capture.set("FPS", self._wanted.fps)
        capture.set("BUFFERSIZE", _BUFFERS)
        self._code = _letters(capture.get("FOURCC"))
        self._size = (int(capture.get("FRAME_WIDTH")), int(capture.get("FRAME_HEIGHT")))
        self._direct = direct and self._code in DIRECT and capture.set("CONVERT_RGB", 0)
        if self._size != (width, height) and self._wanted.size is not None:
            _LOG.warning("The camera was asked for %d x %d and gives %d x %d.", width, height, *self._size)


def _number(code: str) -> int:
    """Return four letters as V4L2 writes them: the first in the lowest byte."""
    return int.from_bytes(code.encode(), "little")


def _letters(number: float) -> str:
    return int(number).to_bytes(8, "little", signed=True)[:4].decode("latin-1") if isfinite(number) else ""


def _stamp(driver_ms: float, now_ns: int) -> int:
    """Return the driver's stamp where it can be one of our clock: not in the future, and not long ago."""
    if isfinite(driver_ms) and 0 <= now_ns - int(driver_ms * 1e6) < _OLDEST_STAMP_NS:
        return int(driver_ms * 1e6)
    return now_ns
