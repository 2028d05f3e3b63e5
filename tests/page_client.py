"""Answered frames, and a client of the page that knows nothing of the server's code."""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import PIL.Image as PillowImage

from edgeinfer.live.shown import Shown, Status
from edgeinfer.preview.page import Page
from edgeinfer.results import Detections
from edgeinfer.sources.frame import Frame

GENEROUS_S = 20.0
PERSON = Detections(
    np.array([[10, 30, 60, 90]], np.float32), np.array([0.87], np.float32), np.array([0]), ("person", "dog")
)


def shown_of(
    number: int = 0,
    *,
    size: tuple[int, int] = (160, 120),
    pixels: np.ndarray | None = None,
    status: Status | None = None,
    **results: object,
) -> Shown:
    """An answered frame: noise, which no JPEG makes small, with the number as a grey in the last corner; or pixels."""
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        pixels[-16:, -16:] = 4 * (number % 60)
    frame = Frame(pixels, number, time.monotonic_ns(), f"frame {number}")
    return Shown(frame, results or {"ssd": PERSON}, status or Status(source="a test", models=("ssd",)))


class Client:
    """Talks to one page over real sockets."""

    def __init__(self, page: Page) -> None:
        parts = urlsplit(page.url)
        self.host, self.port = str(parts.hostname), int(parts.port or 0)

    def get(self, path: str, method: str = "GET", **fields: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send one request; `fields` are lines of the header, with _ for -."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=GENEROUS_S)) as connection:
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in fields.items()})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()

    def connect(self) -> socket.socket:
        """A connection on which nothing has been said."""
        return socket.create_connection((self.host, self.port), timeout=GENEROUS_S)

    def stream(self, **fields: str) -> Viewer:
        """Open the stream."""
        return Viewer(self, **fields)


class Viewer:
    """Reads a Motion JPEG stream part by part."""

    def __init__(self, client: Client, **fields: str) -> None:
        self.connection = http.client.HTTPConnection(client.host, client.port, timeout=GENEROUS_S)
        self.connection.request("GET", "/stream.mjpg", headers=fields)
        self.reply = self.connection.getresponse()
        self.boundary = self.reply.headers.get_param("boundary")
        self.received = bytearray()
        self.began = False

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.reply.close()
        self.connection.close()

    def picture(self) -> bytes:
        """The next part's JPEG; b"" at the end of the stream."""
        while not self.began:
            self.began = self.reply.readline() == b"\r\n"  # behind the part's header
        delimiter = f"\r\n--{self.boundary}\r\n".encode()
        while delimiter not in self.received:
            received = self.reply.read1()
            if not received:
                return b""
            self.received += received
        jpeg, _, rest = bytes(self.received).partition(delimiter)
        while b"\r\n\r\n" not in rest:
            rest += self.reply.read1()
        head, _, rest = rest.partition(b"\r\n\r\n")
        assert head == b"Content-Type: image/jpeg"
        self.received = bytearray(rest)
        return jpeg

    def number(self) -> int:
        """The number of the next picture's frame."""
        return number_in(self.picture())


def number_in(jpeg: bytes) -> int:
    """The number that `shown_of` has painted into a frame, modulo 60."""
    with PillowImage.open(io.BytesIO(jpeg)) as picture:
        corner = np.asarray(picture.convert("L"))[-12:, -12:]
    return round(float(corner.mean()) / 4)


def open_files() -> int:
    """How many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something that no event tells."""
    end = time.monotonic() + GENEROUS_S
    while not true():
        assert time.monotonic() < end, "this did not become true in time"
        time.sleep(0.01)
