"""A request read, and an answer written: as much of HTTP/1.1 as a page, a stream and two files need."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeinfer.frozen import dataclass

HEAD_END = b"\r\n\r\n"
# Chromium's own requests to this page have 700 bytes; a token or foreign cookies of the same host come on top.
HEAD_BYTES = 8192

_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]", re.ASCII)
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.ASCII)
_ONCE = frozenset(("host", "authorization", "cookie"))
_REASONS = {
    200: "OK",
    303: "See Other",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
# Every answer: no other site may embed or read it, nobody keeps it, and a type is what it says.
_ALWAYS = (
    "Cache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Connection: close\r\n"
)
_CLOSED_POLICY = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Request:
    """What a browser asks for.

    Attributes:
        method: In capitals.
        path: Without the query, still percent-encoded.
        query: The last value of each name, decoded.
        fields: The header's fields by their names in small letters.
    """

    method: str
    path: str
    query: Mapping[str, str]
    fields: Mapping[str, str]


def parse_request(head: bytes) -> Request | None:
    r"""Return the request whose head this is, or None for anything that is no plain HTTP/1.x.

    Args:
        head: The bytes before the empty line.

    Example:
        >>> parse_request(b"GET /frame.jpg?a=1 HTTP/1.1\r\nHost: localhost").query
        {'a': '1'}
    """
    from urllib.parse import parse_qsl

    first, *rest = head.decode("latin-1").split("\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        return None
    fields: dict[str, str] = {}
    for one in rest:
        field = _FIELD.fullmatch(one)
        # Two hosts or two tokens are one too many to decide on.
        if field is None or (field[1].lower() in fields and field[1].lower() in _ONCE):
            return None
        fields[field[1].lower()] = field[2]
    path, _, query = line[2].partition("?")
    try:
        pairs = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=16))
    except ValueError:
        return None
    return Request(line[1], path, pairs, fields)


def answer(
    status: int, body: bytes | str = b"", *, kind: str = "text/plain", policy: str = _CLOSED_POLICY, fields: str = ""
) -> bytes:
    """Return a whole answer.

    Args:
        status: One of the codes that this page uses.
        body: Text is encoded as UTF-8.
        kind: The body's type.
        policy: The Content-Security-Policy.
        fields: More lines of the header, each with its line end.
    """
    content = body.encode() if isinstance(body, str) else body
    length = f"Content-Length: {len(content)}\r\n"
    return _head(status, kind, policy, length + fields) + content


def stream_head(kind: str) -> bytes:
    """Return the head of an answer without an end."""
    return _head(200, kind, _CLOSED_POLICY, "")


def without_body(message: bytes) -> bytes:
    """Return the head of an answer alone, for HEAD requests."""
    return message[: message.index(HEAD_END) + len(HEAD_END)]


def _head(status: int, kind: str, policy: str, fields: str) -> bytes:
    text = "; charset=utf-8" if kind.startswith("text/") or kind == "application/json" else ""
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}{text}\r\n"
        f"Content-Security-Policy: {policy}\r\n{_ALWAYS}{fields}\r\n"
    ).encode("latin-1")
