"""A video file, through OpenCV's FFmpeg."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from urllib.parse import urlsplit

from edgeinfer.errors import DeviceError, EdgeInferError, InputError, InputFileError
from edgeinfer.preprocess.image import Image
from edgeinfer.sources.address import reason, without_password
from edgeinfer.sources.capture import Capture
from edgeinfer.sources.reader import Wanted

KINDS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".ts", ".gif", ".ogv", ".wmv", ".flv", ".3gp")
_USUAL_FPS = 25.0
_FASTEST = 1000.0
# Containers count a few frames more than there are; what goes beyond is a file that was cut off.
_MISSING_SHARE, _MISSING_LEAST = 0.05, 2
# In a row. The longest usual distance to the next frame that is stored whole, and so can be decoded again, is 250.
_MOST_FAILURES = 1000
_MOST_NS = 1e18
_MOST_FRAMES = 2**31  # where the container does not say it, FFmpeg's number is far beyond


class VideoReader:
    """A `FileReader` of a video: upright as its metadata says, 8 bits whatever it was made with.

    Args:
        path: A file, or the URL of one.
        wanted: `fps` replaces the video's own pace.

    Raises:
        InputFileError: The file cannot be read.
        InputError: It is no video.
        DeviceError: The address gives no video.
    """

    def __init__(self, path: Path | str, wanted: Wanted) -> None:
        if isinstance(path, Path):
            self.name = path.name
            _check_file(path)
            # An absolute path: FFmpeg would take what stands before a colon in a name for a protocol.
            self._capture = Capture(str(path.absolute()), "FFMPEG")
        else:
            self.name = Path(urlsplit(path).path).name
            patience_ms = int(wanted.patience_s * 1000)
            self._capture = Capture(
                path, "FFMPEG", {"OPEN_TIMEOUT_MSEC": patience_ms, "READ_TIMEOUT_MSEC": patience_ms}
            )
        if not self._capture.is_open():
            self.close()
            raise _no_video(path)
        self._turn = self._capture.take_over_turning()
        own = self._capture.get("FPS")
        self._has_own_pace = wanted.fps is None
        self.interval_ns = round(1e9 / (wanted.fps or (own if 0 < own <= _FASTEST else _USUAL_FPS)))
        promised = self._capture.get("FRAME_COUNT")
        self._promised = int(promised) if 0 < promised < _MOST_FRAMES else 0
        self._taken = 0
        self._first_ms: float | None = None
        self._at_ns = -1
        self._ended = self._told = False
        self.damaged = 0

    def advance(self) -> int | None:
        """Go to the next frame and return when it is due."""
        # A frame that cannot be decoded looks like the end; whether it is, the frames behind it tell.
        failed, most = 0, min(max(0, self._promised - self._taken - self.damaged), _MOST_FAILURES)
        while not self._ended and not self._capture.grab():
            failed += 1
            self._ended = failed > most
        if self._ended:
            self._check_end()
            return None
        self.damaged += failed
        self._taken += 1
        self._at_ns = self._due()
        return self._at_ns

    def picture(self) -> Image | None:
        """Return the frame as RGB."""
        pixels = self._capture.bgr()
        return pixels if pixels is None else self._capture.turned(pixels, self._turn)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def _due(self) -> int:
        """Return the frame's own time where the file has one that goes forward, else one interval after the last."""
        if self._has_own_pace:
            own_ms = self._capture.get("POS_MSEC")
            if self._first_ms is None:
                self._first_ms = own_ms  # not every file begins at 0
            since_ms = own_ms - self._first_ms
            if isfinite(since_ms) and self._at_ns < since_ms * 1e6 < _MOST_NS:
                return round(since_ms * 1e6)
        return 0 if self._at_ns < 0 else self._at_ns + self.interval_ns

    def _check_end(self) -> None:
        if self._told:
            return
        self._told = True
        missing = self._promised - self._taken
        if self._taken and missing <= max(_MISSING_LEAST, self._promised * _MISSING_SHARE):
            return
        raise InputError(
            f"The video `{self.name}` has fewer frames than it says: it is damaged or cut off.",
            received=f"{self._taken} good frames",
            expected=f"{self._promised} frames, as the file itself says" if self._promised else "one frame at least",
            next_step="Copy it again, if it was whole where it comes from.",
        )


def _check_file(path: Path) -> None:
    """Refuse what cannot be read, and what FFmpeg would make pictures of though it is no video: it draws texts."""
    try:
        if not path.is_file():
            raise InputError(f"`{path}` is no file.", expected="a video file, a picture, or a folder of pictures")
        with path.open("rb") as file:
            begin = file.read(512)
    except OSError as error:
        raise InputFileError(
            f"The video `{path}` cannot be read.", received=error.strerror or str(error), expected="a file"
        ) from error
    if not begin:
        raise InputError(f"The video `{path}` is empty.", received="0 bytes", expected="a video file")
    if _is_text(begin):
        raise InputError(
            f"`{path}` is a text, not a video.", received=f"a file that begins with {begin[:24]!r}", expected=_kinds()
        )


def _is_text(begin: bytes) -> bool:
    try:
        text = begin.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if error.start < len(begin) - 3:  # a letter that 512 bytes cut through is still text
            return False
        text = begin[: error.start].decode()
    return all(letter.isprintable() or letter in "\r\n\t\f\x1b" for letter in text)


def _no_video(path: Path | str) -> EdgeInferError:
    if isinstance(path, str):
        return DeviceError(f"The video `{without_password(path)}` cannot be opened.", received=reason(path))
    if _lacks_index(path):
        return InputError(
            f"The video `{path}` cannot be read: it was cut off before its index, which MP4 has at the end.",
            received=f"{path.stat().st_size} bytes without a `moov` box",
            expected="a recording that was finished",
            next_step="Record as .mkv or .avi where power may fail: they can be read up to the cut.",
        )
    return InputError(
        f"`{path}` is no video that OpenCV's FFmpeg can read: damaged, or of another kind.",
        expected=_kinds(),
    )


def _lacks_index(path: Path) -> bool:
    """Say whether a file is an MP4 without its index.

    Source: ISO/IEC 14496-12, section 4.2: each box begins with its size (32 bits; 1: 64 bits follow; 0: up to the end)
    and its type.
    """
    with path.open("rb") as file:
        at, kinds = 0, []
        while len(header := file.read(16)) >= 8:
            size, kind = int.from_bytes(header[:4], "big"), header[4:8]
            size = int.from_bytes(header[8:16], "big") if size == 1 else size
            kinds.append(kind)
            if size < 8 or len(kinds) > 1000:
                break
            at += size
            file.seek(at)
    return kinds[:1] == [b"ftyp"] and b"moov" not in kinds


def _kinds() -> str:
    return f"a video file, e.g. {', '.join(KINDS[:5])}"
