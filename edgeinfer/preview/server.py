"""The page's only thread: one selector over all its sockets.

No socket is ever waited for, so a viewer that is slow, stalled or gone costs the others nothing. Each viewer is sent
one picture at a time, and behind it the newest there is then: what it was too slow for is never kept for it.

Why not the standard library's `ThreadingHTTPServer`, with a thread for each viewer: 15 pictures of 1280x720 a second
for 20 viewers took 4.0 to 4.4 ms of the process's time per picture here, encoding included, and 4.4 to 6.3 ms there
with the same encoder; 45 task switches a second, and 600 to 1,000 there, each of which the models' thread can meet; 6.4
MB and 10.5 MB (x86, two busy cores, taken in turns). And threads that wait in `send` cannot be told to end.
"""

from __future__ import annotations

import logging
import selectors
import socket
from contextlib import suppress
from time import monotonic

from edgeinfer.preview.http import HEAD_BYTES, HEAD_END, answer, parse_request, stream_head, without_body
from edgeinfer.preview.pictures import DELIMITER, STREAM_KIND, Picture, Pictures
from edgeinfer.preview.site import Site, Stream

_LOG = logging.getLogger(__name__)

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
# Seconds for a request to be complete, for a message (a picture of a stream, an answer) to be taken, and for the other
# side to close behind an answer. A picture of 100 kB in ten seconds is 80 kbit/s.
READING_S, SENDING_S, LINGERING_S = 5.0, 10.0, 1.0
_SWEEP_S = 0.5
# Beside the streams: requests on their way. When all are in use the oldest that is not yet complete gives way.
_OTHERS = 64
_RECEIVED = 4096
# What waits in the kernel is old when it is sent: at most so many bytes that are not yet on their way.
_UNSENT_BYTES = 32768
# A viewer that vanished (a phone out of reach) while no pictures come: asked after 20 s, given up 15 s later.
_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
_FULL = "All places are taken: close the page in another window, or allow more with `max_viewers=`.\n"


class _Connection:
    """One socket and what it is about."""

    __slots__ = ("deadline", "head", "lingering", "out", "seen", "socket", "stream", "writing")

    def __init__(self, own: socket.socket, deadline: float) -> None:
        self.socket = own
        self.deadline = deadline
        self.head = bytearray()
        self.out: memoryview | None = None
        self.stream: Stream | None = None
        self.seen: Picture | None = None
        self.lingering = False
        self.writing = False


class Server:
    """Answers requests until it is told to end.

    Args:
        listener: A listening socket that does not wait.
        wakener: A socket that becomes readable when there is something to do.
        site: What requests get.
        pictures: What streams get.
        most: How many streams there may be at once.
    """

    def __init__(
        self, listener: socket.socket, wakener: socket.socket, *, site: Site, pictures: Pictures, most: int
    ) -> None:
        self._listener, self._wakener = listener, wakener
        self._site, self._pictures, self._most = site, pictures, most
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._sweep_at = self._listen_at = 0.0
        self.viewers = 0
        self.ending = False

    def run(self) -> None:
        """Serve until `ending` is set and the wakener is woken; then close everything."""
        try:
            self._selector.register(self._wakener, _READ)
            self._selector.register(self._listener, _READ)
            while not self.ending:
                due = self._feed()
                for key, events in self._selector.select(self._patience(due)):
                    if key.data is not None:
                        self._guard(key.data, events)
                    elif key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._wakener.recv(_RECEIVED)
                self._sweep()
        finally:
            for one in list(self._connections):
                self._drop(one)
            self._selector.close()
            self._listener.close()
            self._wakener.close()

    def _feed(self) -> float | None:
        """Send the newest picture to every stream that has room; return when to do so again (None: when woken)."""
        ready = [one for one in self._connections if one.stream is not None and one.out is None]
        if not ready:
            self._pictures.nobody_waits()
            return None
        picture, due = self._pictures.newest()
        if picture is not None:
            for one in ready:
                if one.seen is not picture:
                    one.seen = picture
                    self._send(one, picture.part)
        return due

    def _patience(self, due: float | None) -> float | None:
        """Return how long the selector may wait: for ever while nobody is connected."""
        if not self._connections and not self._listen_at:
            return due
        return _SWEEP_S if due is None else min(due, _SWEEP_S)

    def _accept(self) -> None:
        try:
            own, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # it was gone before it was taken
            return
        except OSError as error:  # no file descriptors or no memory: the listener would stay readable, so not at once
            _LOG.warning("The page cannot take another connection: %s", error)
            self._selector.unregister(self._listener)
            self._listen_at = monotonic() + 1.0
            return
        try:
            own.setblocking(False)
            _set_up(own)
            connection = _Connection(own, monotonic() + READING_S)
            self._selector.register(own, _READ, connection)
        except OSError:
            own.close()
            return
        self._connections.add(connection)
        if len(self._connections) > self._most + _OTHERS:
            waiting = [one for one in self._connections if one.stream is None]
            self._drop(min(waiting, key=lambda one: one.deadline))

    def _guard(self, one: _Connection, events: int) -> None:
        """Handle what a socket is ready for; whatever goes wrong with it concerns it alone."""
        try:
            if events & _WRITE:
                self._push(one)
            else:
                self._receive(one)
        except OSError:  # the other side is gone
            self._drop(one)
        except Exception:
            _LOG.exception("A request to the page failed")
            self._drop(one)

    def _receive(self, one: _Connection) -> None:
        try:
            received = one.socket.recv(_RECEIVED)
        except BlockingIOError:
            return
        if not received:
            self._drop(one)
        elif one.stream is None and not one.lingering:
            one.head += received
            end = one.head.find(HEAD_END)
            if end > HEAD_BYTES or (end < 0 and len(one.head) > HEAD_BYTES):
                self._send(one, answer(431, "This request is too long.\n"))
            elif end >= 0:
                self._reply(one, bytes(one.head[:end]))

    def _reply(self, one: _Connection, head: bytes) -> None:
        one.head.clear()
        request = parse_request(head)
        if request is None:
            self._send(one, answer(400, "This is no request that a page can answer.\n"))
            return
        names: dict[str, int] = {}
        for other in self._connections:
            if other.stream is not None:
                names[other.stream.viewer] = names.get(other.stream.viewer, 0) + 1
        reply = self._site.reply(request, names)
        if isinstance(reply, Stream) and request.method == "GET":
            if self.viewers >= self._most:
                self._send(one, answer(503, _FULL, fields="Retry-After: 5\r\n"))
                return
            one.stream = reply
            self.viewers += 1
            self._send(one, stream_head(STREAM_KIND) + DELIMITER)
            return
        message = stream_head(STREAM_KIND) if isinstance(reply, Stream) else reply
        self._send(one, without_body(message) if request.method == "HEAD" else message)

    def _send(self, one: _Connection, message: bytes) -> None:
        one.out = memoryview(message)
        one.deadline = monotonic() + SENDING_S
        try:
            self._push(one)
        except OSError:
            self._drop(one)

    def _push(self, one: _Connection) -> None:
        """Send what the socket takes now; and when that was the rest, do what comes then."""
        if one.out is None:
            return
        with suppress(BlockingIOError):
            one.out = one.out[one.socket.send(one.out) :]
        if one.out:
            if not one.writing:
                one.writing = True
                self._selector.modify(one.socket, _WRITE, one)
            return
        one.out = None
        if one.writing:
            one.writing = False
            self._selector.modify(one.socket, _READ, one)
        if one.stream is not None:
            one.deadline = float("inf")
            return
        # Closed with bytes unread, the system would tell the other side to forget our answer, too (RFC 9112, 9.6).
        one.lingering = True
        one.deadline = monotonic() + LINGERING_S
        one.socket.shutdown(socket.SHUT_WR)

    def _sweep(self) -> None:
        """Drop who is too late."""
        now = monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + _SWEEP_S
        for one in [one for one in self._connections if one.deadline < now]:
            self._drop(one)
        if self._listen_at and self._listen_at < now:
            self._listen_at = 0.0
            self._selector.register(self._listener, _READ)

    def _drop(self, one: _Connection) -> None:
        if one not in self._connections:
            return
        self._connections.discard(one)
        self.viewers -= one.stream is not None
        self._selector.unregister(one.socket)
        one.socket.close()


def _set_up(own: socket.socket) -> None:
    """Let pictures leave at once and not grow old in the kernel, and let vanished viewers be noticed."""
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {"TCP_NOTSENT_LOWAT": _UNSENT_BYTES, **_ALIVE}.items():
        if hasattr(socket, name):
            own.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
