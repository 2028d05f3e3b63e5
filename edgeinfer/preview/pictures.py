"""Between the loop and the page: the latest answered frame, drawn and encoded once, and only if somebody looks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic, monotonic_ns

import numpy as np

from edgeinfer.errors import OutputError
from edgeinfer.frozen import dataclass
from edgeinfer.live.shown import Shown
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import resize_into
from edgeinfer.preprocess.image import Image

_LOG = logging.getLogger(__name__)

BOUNDARY = "edgeinfer-picture"
STREAM_KIND = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
# Stands before the first picture and behind each. With the header of the next, although that has no length then:
# Chromium 156 shows a picture when it has read the header behind it, so it would be late by one picture.
DELIMITER = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame as JPEG.

    Attributes:
        part: As it goes into the stream: the JPEG, and the delimiter before the next.
        age_ms: From the moment the frame was taken until the JPEG was ready to be sent.
    """

    part: bytes
    age_ms: float

    @property
    def jpeg(self) -> bytes:
        """The file alone."""
        return self.part[: -len(DELIMITER) - 2]


class Pictures:
    """The latest frame and its JPEG.

    `put` is called by the loop, everything else by the page's thread.

    Args:
        quality: Of JPEG, 1..100.
        max_width: Wider frames are made smaller, pixels.
        max_fps: At most so many pictures a second.
        wake: Called by `put` if `newest` found nothing newer.
    """

    def __init__(self, *, quality: int, max_width: int, max_fps: float, wake: Callable[[], None]) -> None:
        self._quality, self._max_width, self._interval = quality, max_width, 1.0 / max_fps
        self._wake = wake
        self._wanted = False
        self._drawn: Shown | None = None
        self._not_before = 0.0
        self.picture: Picture | None = None
        self.latest: Shown | None = None
        self.put_ns = 0
        self.encoded = 0
        self.trouble = ""

    def put(self, shown: Shown) -> None:
        """Leave a frame over the one before: a few assignments, and a wake-up only for somebody who waits."""
        self.put_ns = monotonic_ns()
        self.latest = shown
        if self._wanted:
            self._wanted = False
            self._wake()

    def newest(self) -> tuple[Picture | None, float | None]:
        """Return the newest picture, encoded now if that is due.

        Returns:
            The picture, None before the first; and in how many seconds to ask again: None when `put` will wake.
        """
        # Before the look, so that a frame put behind it wakes.
        self._wanted = True
        shown = self.latest
        if shown is None or shown is self._drawn:
            return self.picture, None
        self._wanted = False
        now = monotonic()
        if now < self._not_before:
            return self.picture, self._not_before - now
        # A frame that comes a little late does not push all later ones back; behind a pause the count begins anew.
        on_time = now - self._not_before < self._interval
        self._not_before = (self._not_before if on_time else now) + self._interval
        self._drawn = shown
        self.picture = self._encode(shown) or self.picture
        return self.picture, 0.0

    def nobody_waits(self) -> None:
        """Let `put` be silent until `newest` is asked again."""
        self._wanted = False

    def _encode(self, shown: Shown) -> Picture | None:
        try:
            jpeg = encode_jpeg(shown.picture(), quality=self._quality, max_width=self._max_width)
        except Exception as error:
            # Whoever looks must not end what he looks at: the page shows the sentence, the log has the rest.
            text = getattr(error, "message", f"{type(error).__name__}: {error}")
            if text != self.trouble:
                _LOG.warning("The page cannot show a frame: %s", error, exc_info=error)
            self.trouble = text
            return None
        self.trouble = ""
        self.encoded += 1
        age_ms = (monotonic_ns() - shown.frame.time_ns) / 1e6
        return Picture(b"".join((jpeg, b"\r\n", DELIMITER)), age_ms)


def encode_jpeg(image: Image, *, quality: int, max_width: int) -> bytes | memoryview:
    """Return a picture as JPEG, with OpenCV where it is there, else with Pillow.

    One thread of the x86 machine of `benchmarks/results`, a frame of the person video, quality 80: OpenCV takes 0.8 ms
    for 768x432 and 2.6 ms for 1280x720 with its change of colour order (0.2 ms of it), Pillow 1.1 and 5.2 ms.

    Args:
        image: (height, width, 3) uint8 RGB.
        quality: 1..100.
        max_width: A wider picture is made as wide, pixels.

    Raises:
        OutputError: The library refuses it.
    """
    if image.shape[1] > max_width:
        height = max(1, round(image.shape[0] * max_width / image.shape[1]))
        small = np.empty((height, max_width, 3), np.uint8)
        resize_into(image, small, "bilinear")
        image = small
    cv2 = libraries.opencv()
    if cv2 is None:
        return _encode_pillow(image, quality)
    try:
        done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality))
    except cv2.error as error:
        raise OutputError("OpenCV cannot write this picture as JPEG.", received=str(error)) from error
    if not done:
        raise OutputError("OpenCV cannot write this picture as JPEG.", received=f"shape {image.shape}")
    return memoryview(jpeg)


def _encode_pillow(image: Image, quality: int) -> bytes:
    import io

    out = io.BytesIO()
    try:
        libraries.pillow().fromarray(image).save(out, "JPEG", quality=quality)
    except (OSError, ValueError, TypeError) as error:
        raise OutputError("Pillow cannot write this picture as JPEG.", received=str(error)) from error
    return out.getvalue()
