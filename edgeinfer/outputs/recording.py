"""`Recording`: answered frames, with what was found drawn in, as a video file."""

from __future__ import annotations

import logging
import math
import os
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

from edgeinfer.errors import InputError, OutputError, close_name
from edgeinfer.live.shown import Shown
from edgeinfer.outputs.playback import Playback
from edgeinfer.outputs.room import free, largest_file, room
from edgeinfer.preprocess.image import Image
from edgeinfer.preprocess.libraries import require_opencv

# The one encoder for each that every OpenCV has. The wheels for pip have none for H.264 (4.11 and 5.0), and that of
# Debian's OpenCV 4.6 takes 31 ms of processor time for a frame of 1280x720, where this one takes 4 (x86).
_CODES = {".mp4": "mp4v", ".avi": "MJPG"}
# Kept free. It is what a video's index and the system's own files need; at 20 MB/s, MJPG of 1920x1080 at its worst, it
# is two seconds.
_RESERVE_BYTES = 50 * 2**20
# OpenCV's writer says nothing when the system refuses its bytes. They leave it 256 KiB at a time, so the file of a
# picture that stands still seldom grows; the longest that was seen was 192 million pixels (640x480, black, mp4v), and
# below 64x48 more frames than a day has. Five times that is a failure, and 36 s of 1280x720 at 30 frames a second.
_SILENT_PIXELS = 10**9
# Repetitions for a slow machine must not take longer than the time that they stand for: each write would make the next
# one later, and so longer.
_LONGEST_WRITE_S = 0.5


class Recording:
    """A video file, `.mp4` (MPEG-4 part 2) or `.avi` (motion JPEG).

    It plays at the speed of life: a video has one rate and a camera with a model behind it has not, so frames are
    repeated or left out by the times at which they were taken (`Playback`); where encoding takes longer than that, it
    plays faster, with a warning in the log. The size is the first frame's, without its
    last column or row where that is odd; frames of another size are fitted into it, with black bars.

    It is written under a hidden name beside the final one and moved there when it is closed; a file of that name is
    replaced then. If the process is killed, the hidden `.avi` plays up to there; of an `.mp4` nothing can be played,
    since its index comes last. Web browsers play neither kind: `ffmpeg -i out.mp4 -c:v libx264 web.mp4`.

    Args:
        path: Where it shall stand; its folder must exist.
        fps: The video's rate, frames a second; None takes the one that the first frames come at, which means the
            fewest repetitions (each costs as much as a frame: 2 ms for 640x480 in `.avi`, x86). With `every_frame` it
            is the file's own rate, and None is 25.
        every_frame: Each frame once, one after the other, whatever their times: for a source that is a file.

    Raises:
        InputError: Another suffix; a rate that is none.
        OutputError: The folder is missing or not writable; the disk has less than 50 MiB; the place is a folder, a
            device or a pipe; OpenCV has no encoder.
        MissingDependencyError: There is no OpenCV.
    """

    def __init__(self, path: str | Path, *, fps: float | None = None, every_frame: bool = False) -> None:
        self._path = Path(path)
        self._code = _code(self._path)
        if fps is not None and not (math.isfinite(fps) and 0.1 <= fps <= 240):
            raise InputError("A video has no such rate.", received=f"fps={fps}", expected="0.1 to 240 frames a second")
        self._cv2 = require_opencv()
        self._playback: Playback[Image] = Playback(fps, every_frame=every_frame)
        self._writer: Any = None
        self._size = (0, 0)  # width, height
        self._written = self._silent = self._grown_to = 0
        self._limit_bytes: int | None = None
        self._closed = self._behind = False
        self._target = _target(self._path)
        self._temporary = self._begin()

    def write(self, shown: Shown) -> bool:
        """Take one frame; always True.

        Raises:
            OutputError: The disk is almost full, the file has reached the largest size that its place allows, or does
                not grow any more. What was recorded until then is finished and in its place. Or it is closed.
        """
        if self._closed:
            raise OutputError("This recording is closed.", received=f"`{self._path}`")
        self._check_room()
        # The one conversion to OpenCV's order of colours; a new array, since a frame may have to be repeated later.
        picture = self._cv2.cvtColor(shown.picture(), self._cv2.COLOR_RGB2BGR)
        for one, times in self._playback.take(picture, shown.frame.time_ns):
            self._encode(one, times)
        return True

    def close(self) -> None:
        """Finish the file and move it into its place; without a frame there is none.

        Raises:
            OutputError: Not all of it could be written.
        """
        if self._closed:
            return
        self._closed = True
        try:
            for one, times in self._playback.finish():
                self._encode(one, times)
        finally:
            if self._writer is not None:
                self._writer.release()
            if not self._written:
                self._temporary.unlink(missing_ok=True)
        if self._written:
            self._move()
        else:
            logging.getLogger(__name__).warning("Nothing was recorded: `%s` was not written.", self._path)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self) -> Path:
        """Make the file under its hidden name, to see whether the place and OpenCV can do it at all."""
        temporary = self._target.with_name(
            f".{self._target.stem[:40]}.{os.urandom(8).hex()}.part{self._target.suffix.lower()}"
        )
        try:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except OSError as error:
            raise OutputError(
                f"The file cannot be written: {error.strerror or error}.", received=f"`{self._path}`"
            ) from error
        try:
            self._limit_bytes = largest_file(temporary)
            self._refuse_full()
            _open(self._cv2, temporary, self._code, 25.0, (64, 48)).release()
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _refuse_full(self) -> None:
        left = room(free(self._target.parent), 0, self._limit_bytes)
        if left < _RESERVE_BYTES:
            raise OutputError(
                "There is not enough room for a recording.",
                received=f"{left / 2**20:.0f} MiB in `{self._target.parent}`",
                expected=f"at least {_RESERVE_BYTES / 2**20:.0f} MiB",
                next_step="Delete files, or record on another disk.",
            )

    def _encode(self, picture: Image, times: int) -> None:
        if self._writer is None:
            height, width = picture.shape[:2]
            # The encoder drops an odd column and row itself, and then refuses the frames.
            self._size = (width & ~1, height & ~1)
            self._writer = _open(self._cv2, self._temporary, self._code, self._playback.fps, self._size)
        fitted = _fit(self._cv2, picture, self._size)
        done, end = 0, monotonic() + _LONGEST_WRITE_S
        try:
            while done < times and (done == 0 or monotonic() < end):
                self._writer.write(fitted)
                done += 1
        except self._cv2.error as error:
            raise OutputError("OpenCV could not write a frame.", received=" ".join(str(error).split())) from error
        self._written += done
        self._silent += done
        if done < times and not self._behind:
            self._behind = True
            logging.getLogger(__name__).warning(
                "This machine encodes fewer than %g frames a second: `%s` will play faster than life. "
                "Record smaller frames, or a lower rate.",
                self._playback.fps,
                self._path,
            )

    def _check_room(self) -> None:
        """End the recording in good order while there is still room to do so."""
        try:
            size = self._temporary.stat().st_size
        except OSError as error:
            self._end("The file that is being recorded has gone.", error.strerror or str(error), "")
        if size != self._grown_to:
            self._grown_to, self._silent = size, 0
        elif self._silent * self._size[0] * self._size[1] > _SILENT_PIXELS:
            self._end("The recording does not grow any more.", f"{size} bytes for {self._silent} frames", "")
        left = room(free(self._target.parent), size, self._limit_bytes)
        if left >= _RESERVE_BYTES:
            return
        if free(self._target.parent) >= _RESERVE_BYTES:
            self._end(
                "The recording has reached the largest size that a file may have there.",
                f"{size / 2**20:.0f} MiB",
                "Begin another one; or record on a disk with ext4 or exFAT, which have no such limit.",
            )
        self._end(
            "The disk is almost full, and the recording ends here.",
            f"{left / 2**20:.0f} MiB left in `{self._target.parent}`",
            "Delete files, or record on another disk.",
        )

    def _end(self, message: str, received: str, next_step: str) -> None:
        self.close()
        raise OutputError(message, received=received, next_step=next_step)

    def _move(self) -> None:
        complete = _frames(self._cv2, self._temporary)
        if complete is None:
            raise OutputError(
                "The recording could not be finished, and cannot be played.",
                received=f"{self._written} frames in `{self._temporary}`",
                next_step="See whether its disk is full or was taken away.",
            )
        try:
            with self._temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            self._temporary.replace(self._target)
        except OSError as error:
            raise OutputError(
                f"The recording cannot be moved into its place: {error.strerror or error}.",
                received=f"`{self._temporary}`",
                expected=f"`{self._path}`",
            ) from error
        if complete != self._written:
            raise OutputError(
                "The recording is not complete.",
                received=f"`{self._path}`, which says that it has {complete} frames",
                expected=f"{self._written} frames",
                next_step="See whether its disk is full or was taken away.",
            )


def _code(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _CODES:
        raise InputError(
            "A recording's name says what kind of video it is.",
            received=f"`{path}`",
            expected=" or ".join(f"`{one}`" for one in _CODES),
            next_step=close_name(suffix, _CODES),
        )
    return _CODES[suffix]


def _target(path: Path) -> Path:
    """Return the file behind a name: a link is written through, as everywhere."""
    try:
        target = Path(os.path.realpath(path))
        there, is_folder, is_file = target.exists(), target.is_dir(), target.is_file()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"The file cannot be written: {reason}.", received=f"`{path}`") from error
    if is_folder:
        raise OutputError("A file is needed, not a folder.", received=f"`{path}`")
    if there and not is_file:
        raise OutputError("A file is needed, not a device or a pipe.", received=f"`{path}`")
    if not target.parent.is_dir():
        raise OutputError(
            "The folder to write into does not exist.", received=f"`{path}`", next_step=f"mkdir -p {target.parent}"
        )
    return target


def _open(cv2: ModuleType, path: Path, code: str, fps: float, size: tuple[int, int]) -> Any:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, size)
    if not writer.isOpened():
        raise OutputError(
            "OpenCV cannot write this video.",
            received=f"{size[0]} x {size[1]}, {code}, {fps:g} frames a second, OpenCV {cv2.__version__}",
            expected="at least 2 x 2 pixels, and an OpenCV that was built with FFmpeg",
            next_step="pip install opencv-python-headless",
        )
    return writer


def _fit(cv2: ModuleType, picture: Image, size: tuple[int, int]) -> Image:
    """Return the picture at the video's size (width, height): as it is, cropped by one, or between black bars."""
    height, width = picture.shape[:2]
    if (width & ~1, height & ~1) == size:
        return picture[: size[1], : size[0]]
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, min(size[0], round(width * scale))), max(1, min(size[1], round(height * scale))))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    fitted: Image = cv2.copyMakeBorder(
        cv2.resize(picture, inner, interpolation=way),
        top,
        size[1] - inner[1] - top,
        left,
        size[0] - inner[0] - left,
        cv2.BORDER_CONSTANT,
    )
    return fitted


def _frames(cv2: ModuleType, path: Path) -> int | None:
    """Return how many frames a video says that it has; None where not one can be read."""
    video = cv2.VideoCapture(str(path))
    try:
        with suppress(cv2.error):
            if video.isOpened() and video.read()[0]:
                return int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        return None
    finally:
        video.release()
