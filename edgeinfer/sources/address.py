"""Addresses of streams: what of one may be shown, and why nothing comes from it."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935}
_LOOK_S = 2.0


def without_password(url: str) -> str:
    """Return an address without user, password and query: it goes into messages, logs and onto pages.

    Example:
        >>> without_password("rtsp://me:secret@10.0.0.7/live?token=5")
        'rtsp://10.0.0.7/live'
    """
    before, mark, after = url.partition("://")
    if not mark:
        return url
    place, slash, path = after.partition("/")
    if "@" not in place and not place.rpartition(":")[2].isdecimal() and ":" in place:
        # No port, so the slash is a password's own, which should have been written as %2F.
        place, slash, path = after.rpartition("@")[2].partition("/")
    return f"{before}{mark}{place.rpartition('@')[2]}{slash}{path}".partition("?")[0]


def reason(url: str) -> str:
    """Return why a stream does not open, as far as one look shows: OpenCV keeps FFmpeg's reason to itself."""
    import http.client
    import socket

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
        if host is None or port is None:
            return "an address without host or port"
        if parts.scheme in ("http", "https"):
            return _http_answer(parts, host, port)
        socket.create_connection((host, port), _LOOK_S).close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    return f"{host} answers at port {port}, but gives no video at this path, or not to this user"


def _http_answer(parts: SplitResult, host: str, port: int) -> str:
    from http.client import HTTPConnection, HTTPSConnection

    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(host, port, timeout=_LOOK_S)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        answer = connection.getresponse()
        return f"{answer.status} {answer.reason}, {answer.headers.get_content_type()}"
    finally:
        connection.close()
