"""Cards of one colour, videos made of them, and a server that streams them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinfer.errors import EdgeInferError
from edgeinfer.preprocess.image import Image
from edgeinfer.sources.choose import FileSource, LiveSource

RED, BLUE = (255, 0, 0), (0, 0, 255)
# What a lossy codec may change of a card.
NEAR = 12


def card(colour: tuple[int, int, int], width: int = 64, height: int = 48) -> Image:
    """A picture of one colour: (height, width, 3) uint8 RGB."""
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()


def is_card(pixels: Image, colour: tuple[int, int, int], near: int = NEAR) -> bool:
    """True if all pixels have the colour, nearly."""
    return bool((np.abs(pixels.astype(int) - np.array(colour)) <= near).all())


def grey(number: int) -> Image:
    """A card that tells its own number."""
    return card((number * 4 + 20,) * 3)


def number_of(pixels: Image) -> int:
    """The number of a grey card that went through a codec."""
    return round((float(pixels.mean()) - 20) / 4)


@pytest.fixture
def cv2() -> Any:
    return pytest.importorskip("cv2")


@pytest.fixture
def write_video(cv2: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes pictures as a video, by OpenCV: MJPG, and FFV1 (lossless, any size) where the name ends in .mkv."""

    def write(name: str, pictures: list[Image], fps: float = 25) -> Path:
        path = tmp_path / name
        code = cv2.VideoWriter_fourcc(*("FFV1" if name.endswith(".mkv") else "MJPG"))
        height, width = pictures[0].shape[:2]
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, (width, height))
        assert writer.isOpened()
        for picture in pictures:
            writer.write(picture[..., ::-1].copy())
        writer.release()
        return path

    return write


@pytest.fixture
def ten(write_video: Callable[..., Path]) -> Path:
    """A video of ten grey cards, 10 a second."""
    return write_video("ten.avi", [grey(number) for number in range(10)], 10)


class Script:
    """A reader whose frames are written down beforehand. A fake: real cameras cannot be made to fail when a test asks.

    Each thing is a picture, None (a damaged frame), "end" (no frame any more), "hang" (until `free` is set), an error
    to raise, or a function to call first.
    """

    name = ""
    interval_ns = 100_000_000
    damaged = 0

    def __init__(self, *things: Any, free: threading.Event | None = None) -> None:
        self.things, self.free = list(things), free or threading.Event()
        self.closed = threading.Event()
        self.picture_is: Image | None = None
        self.count = -1

    def advance(self) -> int | None:
        while self.things and callable(self.things[0]):
            self.things.pop(0)()
        thing = self.things.pop(0) if self.things else "hang"
        if isinstance(thing, EdgeInferError):
            raise thing
        if isinstance(thing, str):
            if thing == "hang":
                self.free.wait(60)
            return None
        self.picture_is = thing
        self.count += 1
        return self.count * self.interval_ns

    def picture(self) -> Image | None:
        return self.picture_is

    def close(self) -> None:
        self.closed.set()


def live(*readers: Any) -> LiveSource:
    """A source that gives one reader (or error) after the other, each time it is opened; then it cannot be opened."""
    rest = list(readers)

    def open_next() -> Any:
        reader = rest.pop(0)
        if isinstance(reader, Exception):
            raise reader
        return reader

    return LiveSource("the scripted camera", open_next)


def files(*readers: Any) -> FileSource:
    """The same for sources that wait."""
    rest = list(readers)
    return FileSource("the scripted file", lambda: rest.pop(0))


class Server:
    """A real HTTP server that streams JPEGs as cameras do, frame by frame when a test says so.

    Attributes:
        visits: How often /stream was asked for.
    """

    def __init__(self, encode: Callable[[Image], bytes]) -> None:
        self.encode, self.visits = encode, 0
        self.changed = threading.Condition()
        self.pictures: list[Image] = []
        self.hang_up = False
        self.ended = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

            def do_GET(self) -> None:
                if self.path == "/stream":
                    outer._stream(self)
                elif self.path == "/silent":
                    with outer.changed:
                        outer.changed.wait_for(lambda: outer.ended, 60)
                elif (outer.folder / self.path[1:]).is_file():
                    data = (outer.folder / self.path[1:]).read_bytes()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                else:
                    self.send_error(404)

        self.folder = Path("/nonexistent")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def send(self, picture: Image, times: int = 1) -> None:
        """Send a picture to whoever watches, or comes later."""
        with self.changed:
            self.pictures += [picture] * times
            self.changed.notify_all()

    def cut(self) -> None:
        """End the connection that is there, once all pictures are sent."""
        with self.changed:
            self.hang_up = True
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def _stream(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        self.visits += 1
        try:
            while (picture := self._next()) is not None:
                data = self.encode(picture)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                handler.wfile.write(head.encode() + data + b"\r\n")
        except OSError:
            pass

    def _next(self) -> Image | None:
        with self.changed:
            self.changed.wait_for(lambda: self.pictures or self.hang_up or self.ended, 60)
            if self.pictures:
                return self.pictures.pop(0)
            self.hang_up = False
            return None


@pytest.fixture
def server(cv2: Any) -> Iterator[Server]:
    made = Server(lambda picture: cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())
    yield made
    made.close()
