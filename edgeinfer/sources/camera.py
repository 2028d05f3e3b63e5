"""`Camera`: frames from a camera, a stream, a video or pictures, one way for all."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from edgeinfer.errors import InputError
from edgeinfer.sources.choose import FileSource, choose
from edgeinfer.sources.feed import Feed
from edgeinfer.sources.frame import Frame
from edgeinfer.sources.playback import Playback
from edgeinfer.sources.reader import Wanted, check_positive


class Camera:
    """A source of frames: RGB, with a number and the moment each was taken.

    It is opened at once, so what is wrong is known before the first frame.

    Live sources (cameras, streams, pipelines) are read in a thread of their own, and `read` returns the newest frame
    that nobody has had. Where such a source is lost after its first frame, it is tried again after 0.5 s, 1 s, 2 s and
    so on up to every 10 s; `trouble` says so meanwhile, and numbers go on. A JPEG that a camera has cut off is left out
    and counted in `damaged`.

    Files wait: `read` returns frame after frame, as fast as it is asked.

    Args:
        source: A camera by number (0, "0"), device ("/dev/video0", "/dev/v4l/by-id/...") or place on the board of a
            Raspberry Pi ("csi", "csi:1"); a number that belongs to a camera on a ribbon cable is read by Picamera2.
            An address ("rtsp://...", "http://..."; of a video file: played as a file), a GStreamer pipeline ("gst:..."
            or with " ! " in it); a video, a picture, a folder of pictures, or a pattern ("frames/*.jpg").
        size: (width, height) to ask of a camera, which may choose what comes near; None is (640, 480).
        fps: Frames a second to ask of a camera, or the pace of a file that is replayed; None is the camera's or the
            video's own, and 10 for pictures.
        realtime: True replays a file at its own pace, as if it were live: frames whose time has passed are left out,
            and their numbers with them. Live sources are so anyway.
        repeat: True begins a file again at its end.
        first_frame_s: How long a live source may take until its first frame.
        reconnect_s: For how long a lost live source is tried again before `read` raises; None is for ever.

    Raises:
        InputFileError: There is no such file.
        InputError: No source of a known kind, a file that is none, or something asked that this kind cannot do.
        DeviceError: The camera or stream is not there, busy, forbidden, or has not answered in time.
        MissingDependencyError: OpenCV or Picamera2 is not installed, where this source needs it.

    Example:
        with Camera(0, size=(1280, 720)) as camera:
            for frame in camera:
                print(frame.number, frame.pixels.shape)
    """

    def __init__(
        self,
        source: int | str | Path = 0,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        realtime: bool = False,
        repeat: bool = False,
        first_frame_s: float = 10.0,
        reconnect_s: float | None = None,
    ) -> None:
        wanted = Wanted(size, fps, first_frame_s)
        if reconnect_s is not None:
            check_positive("reconnect_s", reconnect_s, "60, or None")
        chosen = choose(source, wanted)
        self._name = chosen.name
        self._way: Feed | Playback
        if isinstance(chosen, FileSource):
            if fps is not None and not realtime:
                raise InputError(
                    "`fps` is the pace of a file that is replayed, and this one is read as fast as it can be.",
                    received=repr(fps),
                    next_step="Say `realtime=True` too, or leave `fps` away.",
                )
            self._way, self._live = Playback(chosen, realtime=realtime, repeat=repeat), realtime
        else:
            self._way, self._live = Feed(chosen, patience_s=first_frame_s, reconnect_s=reconnect_s), True
        # A camera that nobody holds any more is let go of, and a thread must not be inside OpenCV when Python ends.
        self._letting_go = weakref.finalize(self, self._way.close)

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the last, or until `close`.

        Raises:
            EdgeInferError: See `read`.
        """
        while (frame := self.read()) is not None:
            yield frame

    @property
    def live(self) -> bool:
        """True where frames go by whether or not somebody takes them."""
        return self._live

    @property
    def name(self) -> str:
        """What people call the source; without a password."""
        return self._name

    @property
    def trouble(self) -> str:
        """What is wrong at the moment, one sentence; "" when all is well."""
        return self._way.trouble

    @property
    def fps(self) -> float | None:
        """A file's own frames a second, or what it is replayed at; None for a live source, which has no fixed rate."""
        return self._way.fps

    @property
    def damaged(self) -> int:
        """How many frames were left out because they could not be decoded."""
        return self._way.damaged

    @property
    def dropped(self) -> int:
        """How many frames went by before anybody read them; a file that waits drops none."""
        return self._way.dropped

    def read(self) -> Frame | None:
        """Wait for the next frame and return it; None after the last of a file, and after `close`.

        Returns:
            A frame whose memory is its own.

        Raises:
            DeviceError: No first frame in time; or a live source is lost, and `reconnect_s` is over.
            InputError: A video ends clearly before its time (after the frames that are there), or a picture cannot be
                read (the next still can).
        """
        return self._way.take()

    def close(self) -> None:
        """Let go of the camera or file. May be called more than once, and while another thread waits in `read`.

        Returns within half a second. A driver that hangs keeps its own thread, which does not hold up the end of the
        process.
        """
        self._letting_go()
