"""OpenCV's `VideoCapture`: the one file that touches it, maps its errors and keeps its own lines back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import DeviceError, MissingDependencyError
from edgeinfer.preprocess.image import Image
from edgeinfer.preprocess.libraries import require_opencv

_GSTREAMER_LINE = (
    "sudo apt install python3-opencv gstreamer1.0-plugins-good && python3 -m venv --system-site-packages .venv"
)
_BYTES_PER_PIXEL = {"YUYV": 2, "UYVY": 2, "BGR3": 3, "RGB3": 3, "GREY": 1}
_TO_RGB = {
    "YUYV": "COLOR_YUV2RGB_YUYV",
    "UYVY": "COLOR_YUV2RGB_UYVY",
    "BGR3": "COLOR_BGR2RGB",
    "GREY": "COLOR_GRAY2RGB",
}
_JPEG = ("MJPG", "JPEG")
# What `to_rgb` makes pixels of without OpenCV's own conversion before it.
DIRECT = (*_JPEG, *_BYTES_PER_PIXEL)
_SILENT = 0  # Source: opencv2/core/utils/logger.defines.hpp, CV_LOG_LEVEL_SILENT
_JPEG_BEGIN, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


class Capture:
    """One `cv2.VideoCapture`, open or never made.

    Args:
        source: What OpenCV is to open.
        backend: Which part of OpenCV does it: "FFMPEG", "GSTREAMER" or "V4L2".
        parameters: OpenCV's properties by name that count from the opening on, e.g. "OPEN_TIMEOUT_MSEC"; one that this
            version of OpenCV does not know is left out.

    Raises:
        MissingDependencyError: OpenCV is not installed, or was built without this part.
    """

    def __init__(self, source: str, backend: str, parameters: Mapping[str, int] | None = None) -> None:
        cv2 = require_opencv()
        number = _backend(cv2, backend)
        _be_quiet(cv2)
        pairs = []
        for name, value in (parameters or {}).items():
            key = getattr(cv2, f"CAP_PROP_{name}", None)
            if key is not None:
                pairs += [key, value]
        self._cv2 = cv2
        self._scratch: NDArray[Any] | None = None
        try:
            self._capture = cv2.VideoCapture(source, number, pairs) if pairs else cv2.VideoCapture(source, number)
        except cv2.error as error:
            raise DeviceError("OpenCV fails while it opens the source.", received=_words(error)) from error

    def is_open(self) -> bool:
        """Say whether there is something to read."""
        return bool(self._capture.isOpened())

    def grab(self) -> bool:
        """Take the next frame as it is; False where there is none."""
        try:
            return bool(self._capture.grab())
        except self._cv2.error:  # a driver's failure, which the next attempt to open will name
            return False

    def raw(self) -> NDArray[Any] | None:
        """Return the frame that was taken, as OpenCV has it: good until the next call, which may write over it."""
        try:
            # Handing the last array over again saves a new one for each frame: `to_rgb` makes one anyway.
            taken, self._scratch = self._capture.retrieve(self._scratch)
        except self._cv2.error:
            taken, self._scratch = False, None
        return self._scratch if taken else None

    def bgr(self) -> Image | None:
        """Return the frame that was taken and that OpenCV has converted, as RGB; None where it could not."""
        raw = self.raw()
        if raw is None or raw.dtype != np.uint8 or raw.ndim not in (2, 3):
            return None
        channels = 1 if raw.ndim == 2 else raw.shape[2]
        if channels not in (1, 3):
            return None
        return self.to_rgb(raw, "GREY" if channels == 1 else "BGR3", (raw.shape[1], raw.shape[0]))

    def take_over_turning(self) -> int:
        """Tell OpenCV not to turn frames, and return by how many degrees clockwise `turned` must turn them.

        OpenCV 4.6, which is Debian bookworm's, turns to the wrong side, and 4.11 does not turn unless it is told to.
        """
        self.set("ORIENTATION_AUTO", 0)
        degrees = int(self.get("ORIENTATION_META")) % 360
        return -degrees % 360 if self._cv2.__version__.startswith("4.6.") else degrees

    def turned(self, pixels: Image, degrees: int) -> Image:
        """Return a picture turned clockwise by 90, 180 or 270 degrees; by anything else, the picture itself."""
        name = {90: "ROTATE_90_CLOCKWISE", 180: "ROTATE_180", 270: "ROTATE_90_COUNTERCLOCKWISE"}.get(degrees)
        rgb: Image = pixels if name is None else self._cv2.rotate(pixels, getattr(self._cv2, name))
        return rgb

    def get(self, name: str) -> float:
        """Return one of OpenCV's properties by its name without `CAP_PROP_`; 0 where it does not know it."""
        return float(self._capture.get(getattr(self._cv2, f"CAP_PROP_{name}")))

    def set(self, name: str, value: float) -> bool:
        """Ask for a property; False where the driver refuses. It may also accept, and do something else."""
        try:
            return bool(self._capture.set(getattr(self._cv2, f"CAP_PROP_{name}"), value))
        except self._cv2.error:
            return False

    def to_rgb(self, raw: NDArray[Any], code: str, size: tuple[int, int]) -> Image | None:
        """Make RGB of what a driver handed over, in one step and in new memory.

        Args:
            raw: The bytes, of any shape: only their number counts, so a flat array is as good as another.
            code: The four letters of the format they are in, e.g. "YUYV".
            size: Width and height that the driver says they have.

        Returns:
            (height, width, 3) uint8 RGB; None for a JPEG that is cut off or damaged.

        Raises:
            DeviceError: These are not pixels of that format and size.
        """
        if code in _JPEG:
            return self._jpeg_to_rgb(raw)
        width, height = size
        channels = _BYTES_PER_PIXEL.get(code)
        if channels is None or raw.dtype != np.uint8 or raw.size != width * height * channels:
            raise DeviceError(
                "The camera hands over pixels in a layout that is not known.",
                received=f"an array of shape {raw.shape}, dtype {raw.dtype}, as `{code}` at {width} x {height}",
                expected=f"one of {', '.join(DIRECT)}, or what OpenCV converts: (height, width, 3)",
                next_step="Ask for another size: `v4l2-ctl --list-formats-ext` lists what the camera can do.",
            )
        pixels = raw.reshape(height, width, channels)
        rgb: Image = pixels.copy() if code == "RGB3" else self._cv2.cvtColor(pixels, getattr(self._cv2, _TO_RGB[code]))
        return rgb

    def _jpeg_to_rgb(self, raw: NDArray[Any]) -> Image | None:
        # Versions of OpenCV fill what is missing with grey and say nothing, so the end is looked for here: 1 to 4
        # microseconds for 47 to 140 kB (x86). Cameras may put zeros behind it.
        data = raw.tobytes()
        if not data.startswith(_JPEG_BEGIN) or data.rfind(_JPEG_END) < 0:
            return None
        cv2 = self._cv2
        direct = getattr(cv2, "IMREAD_COLOR_RGB", None)  # OpenCV 4.11 and later
        try:
            pixels: Any = cv2.imdecode(raw.reshape(1, -1), cv2.IMREAD_COLOR if direct is None else direct)
            if pixels is not None and direct is None:
                pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        except cv2.error:
            return None
        rgb: Image | None = pixels
        return rgb

    def release(self) -> None:
        """Let go of the source; only from the thread that reads, or when nobody does."""
        self._scratch = None
        self._capture.release()


def _backend(cv2: ModuleType, name: str) -> int:
    number = int(getattr(cv2, "CAP_" + name))
    if cv2.videoio_registry.hasBackend(number):
        return number
    gstreamer = name == "GSTREAMER"
    raise MissingDependencyError(
        f"This OpenCV was built without {'GStreamer' if gstreamer else name}.",
        received=f"OpenCV {cv2.__version__}",
        expected="Debian's own OpenCV: the wheels of PyPI have no GStreamer" if gstreamer else "",
        next_step=_GSTREAMER_LINE if gstreamer else "pip install opencv-python-headless",
    )


def _be_quiet(cv2: ModuleType) -> None:
    """Keep OpenCV's and FFmpeg's own lines off standard error, unless somebody has asked for them."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # Source: libavutil/log.h, AV_LOG_QUIET
    if "OPENCV_LOG_LEVEL" in os.environ:
        return
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(_SILENT)
    else:
        cv2.utils.logging.setLogLevel(_SILENT)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
