"""`Page`: answered frames on a web page, for a device without a screen."""

from __future__ import annotations

import functools
import threading
import weakref
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from edgeinfer.errors import InputError, OutputError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from edgeinfer.live.shown import Shown, Status
    from edgeinfer.preview.server import Server

_ENDING_S = 0.5


class Page:
    """A web page with the live picture, what was found, and how the loop is doing. An `Output`.

    * `/` is the page, `/stream.mjpg` the picture as Motion JPEG (for VLC, OpenCV, Home Assistant), `/frame.jpg` the
      latest picture, `/status.json` the figures.
    * A frame is drawn and encoded when somebody looks, once for all who do, in a thread of the page's own.
    * Each viewer gets the newest picture when it has taken the one before. One that takes nothing for ten seconds is
      dropped.

    Args:
        bind: "ADDRESS:PORT" or a port alone; see `edgeinfer.preview.address.parse_bind`. The default can be reached
            from this machine only, or through `ssh -L 8080:localhost:8080 DEVICE`. Port 0 is any that is free.
        token: At least eight letters, digits or signs, which a viewer must know: `?token=...` in the page's address
            (kept in a cookie from then on) or `Authorization: Bearer ...`. An address that others can reach needs one.
            The connection is not encrypted: on a network that is not trusted use ssh.
        quality: Of JPEG, 1..100. With 80 a frame of 1280x720 has some 50 to 150 kB.
        max_width: Wider frames are made smaller for the page, pixels.
        max_fps: At most so many pictures a second are drawn and encoded, however fast the models are.
        max_viewers: At most so many streams at once; the next is refused with 503.

    Raises:
        InputError: An address that is none or not this machine's; others can reach it and there is no token; a setting
            out of its range.
        OutputError: The port is taken.
        MissingDependencyError: Neither OpenCV nor Pillow can be imported.

    Example:
        with Camera(0) as camera, Page() as page, Live(camera, detector("ssd.tflite")) as live:
            print(page.url)
            page.follow(live.status)
            for shown in live:
                page.write(shown)
    """

    def __init__(
        self,
        bind: str = "127.0.0.1:8080",
        *,
        token: str | None = None,
        quality: int = 80,
        max_width: int = 1280,
        max_fps: float = 15.0,
        max_viewers: int = 64,
    ) -> None:
        import socket

        from edgeinfer.preprocess import libraries
        from edgeinfer.preview.access import Access, check_token
        from edgeinfer.preview.address import Address, listen, parse_bind
        from edgeinfer.preview.pictures import Pictures
        from edgeinfer.preview.server import Server
        from edgeinfer.preview.site import Site

        _check_settings(quality, max_width, max_fps, max_viewers)
        address = parse_bind(bind)
        check_token(address, token)
        if libraries.opencv() is None:
            libraries.pillow()  # says what to install
        listener = listen(address)
        self._address = Address(address.host, listener.getsockname()[1])
        wakener, waker = socket.socketpair()
        wakener.setblocking(False)
        waker.setblocking(False)
        wake = functools.partial(_wake, waker)
        self._pictures = Pictures(quality=quality, max_width=max_width, max_fps=max_fps, wake=wake)
        self._site = Site(self._pictures, Access(token, self._address.port))
        self._server = Server(listener, wakener, site=self._site, pictures=self._pictures, most=max_viewers)
        thread = threading.Thread(target=self._server.run, name="edgeinfer-page", daemon=True)
        thread.start()
        # Also when nobody holds the page any more; and a thread must not be inside OpenCV when Python ends.
        self._letting_go = weakref.finalize(self, _end, self._server, waker, thread)

    @property
    def url(self) -> str:
        """The page's address for a browser, without the token."""
        return self._address.url

    @property
    def viewers(self) -> int:
        """How many streams are open now."""
        return self._server.viewers

    @property
    def encoded(self) -> int:
        """How many pictures were drawn and encoded since the start."""
        return self._pictures.encoded

    def write(self, shown: Shown) -> bool:
        """Leave one answered frame for whoever looks; over the one before, so this never waits.

        Returns:
            True: a page does not ask for the end.

        Raises:
            OutputError: The page is closed.
        """
        if not self._letting_go.alive:
            raise OutputError("The page is closed.", next_step="Write to it within its `with` block.")
        self._pictures.put(shown)
        return True

    def follow(self, status: Callable[[], Status]) -> None:
        """Ask a loop how it is doing while no frames come: only so does the page say that a camera is gone.

        Args:
            status: `Live.status` of the loop whose frames are written here; called in the page's thread.
        """
        self._site.ask = status

    def close(self) -> None:
        """End all viewers, and the thread; may be called more than once."""
        self._letting_go()

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _wake(waker: socket.socket) -> None:
    with suppress(OSError):  # so many calls wait that it is awake, or it has ended
        waker.send(b"\0")


def _end(server: Server, waker: socket.socket, thread: threading.Thread) -> None:
    server.ending = True
    _wake(waker)
    thread.join(_ENDING_S)
    waker.close()


def _check_settings(quality: int, max_width: int, max_fps: float, max_viewers: int) -> None:
    rules: tuple[tuple[str, float, float, float, bool], ...] = (
        ("quality", quality, 1, 100, True),
        ("max_width", max_width, 16, 16384, True),
        ("max_fps", max_fps, 0.1, 1000, False),
        ("max_viewers", max_viewers, 1, 1000, True),
    )
    for name, value, least, most, whole in rules:
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            raise InputError(
                f"`{name}` is out of its range.",
                received=repr(value),
                expected=f"a {'whole ' if whole else ''}number of {least:g} to {most:g}",
            )
