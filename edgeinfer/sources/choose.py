"""From what a caller names to the reader that it needs: the one place where that is decided."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from edgeinfer.errors import InputError, InputFileError, close_name
from edgeinfer.frozen import dataclass
from edgeinfer.sources.address import without_password
from edgeinfer.sources.devices import find_cameras, node_name
from edgeinfer.sources.reader import FileReader, Reader, Wanted

_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "udp")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
_CSI = re.compile(r"csi(?::(\d{1,3}))?")
_NUMBER = re.compile(r"\d{1,3}")
_DEVICE = re.compile(r"/dev/(video\d+|v4l/.+)")
_EXPECTED = (
    "0, /dev/video0, csi, an rtsp:// or http:// address, a GStreamer pipeline (gst:...), a video file, "
    "a picture, a folder of pictures or a pattern such as frames/*.jpg"
)


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A source whose frames go by.

    Attributes:
        name: For people; without passwords.
        open: Opens it, and raises where that fails.
    """

    name: str
    open: Callable[[], Reader]


@dataclass(frozen=True, slots=True)
class FileSource:
    """A source that waits.

    Attributes:
        name: For people.
        open: Opens it at its beginning, and raises where that fails.
    """

    name: str
    open: Callable[[], FileReader]


def choose(source: int | str | Path, wanted: Wanted, *, root: str | Path = "/") -> LiveSource | FileSource:
    """Return what a source is, without opening it.

    Args:
        source: See `Camera`.
        wanted: What is asked of it.
        root: Where `/sys` lies, for tests.

    Raises:
        InputFileError: A path that leads nowhere.
        InputError: It is of no kind that is known, or something is asked that this kind cannot do.
    """
    if isinstance(source, int) and not isinstance(source, bool) and source >= 0:
        return _numbered(source, wanted, root)
    if not isinstance(source, (str, Path)) or not str(source).strip() or "\0" in str(source):
        raise InputError("This is no source of frames.", received=repr(source), expected=_EXPECTED)
    text = str(source)
    if isinstance(source, str):
        if _NUMBER.fullmatch(text):
            return _numbered(int(text), wanted, root)
        if csi := _CSI.fullmatch(text):
            return _ribbon(int(csi[1] or 0), wanted)
        if text.startswith("gst:") or " ! " in text:
            return _pipeline(text.removeprefix("gst:").strip(), wanted)
        if scheme := _SCHEME.match(text):
            return _address(text, scheme[1].lower(), wanted)
    if _DEVICE.fullmatch(text) or (text.startswith("/dev/") and Path(text).is_char_device()):
        return _device(text, wanted, root)
    return _file(text, wanted)


def _numbered(number: int, wanted: Wanted, root: str | Path) -> LiveSource:
    for camera in find_cameras(root):
        if camera.is_csi and number in camera.nodes:
            return _ribbon(int(camera.source.partition(":")[2]), wanted, camera.name)
    return _device(f"/dev/video{number}", wanted, root)


def _ribbon(index: int, wanted: Wanted, name: str = "camera") -> LiveSource:
    def open_reader() -> Reader:
        from edgeinfer.sources.picamera import PicameraReader

        return PicameraReader(index, wanted)

    return LiveSource(f"{name} (csi:{index})", open_reader)


def _device(path: str, wanted: Wanted, root: str | Path) -> LiveSource:
    def open_reader() -> Reader:
        from edgeinfer.sources.v4l2 import V4l2Reader

        return V4l2Reader(path, wanted)

    # A link of /dev/v4l/by-id is followed: it goes on pointing at its camera when that comes back with another number.
    number = re.fullmatch(r"/dev/video(\d+)", os.path.realpath(path))
    name = node_name(int(number[1]), root) if number else ""
    return LiveSource(f"{name} ({path})" if name else path, open_reader)


def _address(url: str, scheme: str, wanted: Wanted) -> LiveSource | FileSource:
    if scheme not in _SCHEMES:
        raise InputError(
            f"Addresses with {scheme}:// are not read.",
            received=without_password(url),
            expected=", ".join(f"{name}://" for name in _SCHEMES),
            next_step="Give a file by its path." if scheme == "file" else close_name(scheme, _SCHEMES),
        )
    from edgeinfer.sources.stream import StreamReader
    from edgeinfer.sources.video import KINDS, VideoReader

    if scheme in ("http", "https") and urlsplit(url).path.lower().endswith(KINDS):
        _refuse_size(wanted, "a video")
        return FileSource(without_password(url), lambda: VideoReader(url, wanted))
    _refuse_size(wanted, "a stream")
    _refuse_fps(wanted, "a stream")
    return LiveSource(without_password(url), lambda: StreamReader(url, wanted))


def _pipeline(pipeline: str, wanted: Wanted) -> LiveSource:
    from edgeinfer.sources.stream import PipelineReader

    _refuse_size(wanted, "a pipeline")
    _refuse_fps(wanted, "a pipeline")
    if not pipeline:
        raise InputError("The GStreamer pipeline is empty.", expected="e.g. gst:v4l2src device=/dev/video0")
    return LiveSource(f"GStreamer: {without_password(pipeline.split(' ! ')[0])}", lambda: PipelineReader(pipeline))


def _file(text: str, wanted: Wanted) -> FileSource:
    path = Path(text).expanduser()
    try:
        kind = path.stat().st_mode
    except OSError as error:
        if any(letter in text for letter in "*?["):
            return _pictures(str(path), Path(text).name, wanted)
        raise _nowhere(path, error) from error
    if stat.S_ISDIR(kind):
        return _pictures(str(path), text, wanted)
    from edgeinfer.files import PICTURES
    from edgeinfer.sources.folder import FolderReader
    from edgeinfer.sources.video import KINDS, VideoReader

    if not stat.S_ISREG(kind):
        raise InputError(f"`{text}` is neither a file nor a folder nor a camera.", expected=_EXPECTED)
    suffix = path.suffix.lower()
    if suffix in PICTURES and suffix not in KINDS:  # a GIF may move
        _refuse_size(wanted, "a picture")
        return FileSource(path.name, lambda: FolderReader([path], wanted))
    _refuse_size(wanted, "a video")
    return FileSource(path.name, lambda: VideoReader(path, wanted))


def _pictures(place: str, name: str, wanted: Wanted) -> FileSource:
    from edgeinfer.sources.folder import FolderReader, pictures_in

    _refuse_size(wanted, "pictures")
    paths = pictures_in(place)
    return FileSource(name, lambda: FolderReader(paths, wanted))


def _nowhere(path: Path, error: OSError) -> InputFileError:
    folder = path.parent
    names = [one.name for one in folder.iterdir()] if folder.is_dir() and os.access(folder, os.R_OK) else []
    close = close_name(path.name, names)
    return InputFileError(
        f"There is no `{path}`." if isinstance(error, FileNotFoundError) else f"`{path}` cannot be read.",
        received="" if isinstance(error, FileNotFoundError) else error.strerror or str(error),
        expected=_EXPECTED,
        next_step=close or ("" if folder.is_dir() else f"The folder `{folder}` is not there either."),
    )


def _refuse_size(wanted: Wanted, kind: str) -> None:
    if wanted.size is not None:
        raise InputError(
            f"`size` can be asked of a camera, not of {kind}: it comes as it is.", received=repr(wanted.size)
        )


def _refuse_fps(wanted: Wanted, kind: str) -> None:
    if wanted.fps is not None:
        raise InputError(
            f"`fps` can be asked of a camera or of a file that is replayed, not of {kind}.", received=repr(wanted.fps)
        )
