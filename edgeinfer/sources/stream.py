"""A stream over the network through OpenCV's FFmpeg, or a GStreamer pipeline."""

from __future__ import annotations

from time import monotonic_ns

from edgeinfer.errors import DeviceError
from edgeinfer.preprocess.image import Image
from edgeinfer.sources.address import reason, without_password
from edgeinfer.sources.capture import Capture
from edgeinfer.sources.reader import Wanted

_END_OF_PIPELINE = " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"
# Of a stream that sends nothing any more, so long until it counts as lost.
_SILENCE_MS = 10_000


class StreamReader:
    """A `Reader` of a URL.

    FFmpeg decodes with one thread: with more it decodes several frames at once and gives each so many frames late
    (H.264, 20 frames a second, two threads: 101 against 51 ms from the last byte to the frame; OpenCV 5.0, x86).

    Args:
        url: rtsp, http(s) and what else FFmpeg opens.
        wanted: How long opening may take.

    Raises:
        DeviceError: Nobody answers, or not with a stream.
    """

    name = ""

    def __init__(self, url: str, wanted: Wanted) -> None:
        patience_ms = int(wanted.patience_s * 1000)
        self._capture = Capture(
            url,
            "FFMPEG",
            {
                "OPEN_TIMEOUT_MSEC": patience_ms,
                "READ_TIMEOUT_MSEC": max(patience_ms, _SILENCE_MS),
                "N_THREADS": 1,
            },
        )
        if not self._capture.is_open():
            self.close()
            raise DeviceError(
                f"The stream `{without_password(url)}` cannot be opened.",
                received=reason(url),
                expected="a video stream that FFmpeg knows",
                next_step="Check address, user, password and path with another player, e.g. VLC.",
            )

    def advance(self) -> int | None:
        """Wait for the next frame."""
        return monotonic_ns() if self._capture.grab() else None

    def picture(self) -> Image | None:
        """Return the frame as RGB."""
        return self._capture.bgr()

    def close(self) -> None:
        """Hang up."""
        self._capture.release()


class PipelineReader(StreamReader):
    """A `Reader` of a GStreamer pipeline in gst-launch's words.

    Args:
        pipeline: Where it does not end in an `appsink` one is put behind it.

    Raises:
        MissingDependencyError: OpenCV was built without GStreamer, as the wheels of PyPI are.
        DeviceError: The pipeline does not start.
    """

    def __init__(self, pipeline: str) -> None:
        whole = pipeline if "appsink" in pipeline else pipeline + _END_OF_PIPELINE
        self._capture = Capture(whole, "GSTREAMER")
        if not self._capture.is_open():
            self.close()
            raise DeviceError(
                "The GStreamer pipeline does not start.",
                received=without_password(whole),
                next_step="Try it without edgeinfer: gst-launch-1.0, with `fakesink` in place of `appsink ...`.",
            )
