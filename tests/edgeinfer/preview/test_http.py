from __future__ import annotations

import pytest

from edgeinfer.preview.http import answer, parse_request, without_body


def test_a_request_of_a_browser_is_read() -> None:
    request = parse_request(
        b"GET /status.json?viewer=a1&x=%41+b HTTP/1.1\r\nHost: localhost:8080\r\nCookie:a=b; c=d \r\nX: "
    )
    assert request is not None
    assert (request.method, request.path) == ("GET", "/status.json")
    assert dict(request.query) == {"viewer": "a1", "x": "A b"}
    assert dict(request.fields) == {"host": "localhost:8080", "cookie": "a=b; c=d", "x": ""}


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET",
        b"GET /",
        b"GET / HTTP/2.0",
        b"get / HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET http://localhost/ HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\xc3\xa4 HTTP/1.1",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\n folded: line",
        b"GET / HTTP/1.1\r\nname : blank before the colon",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nhost: evil.example",
        b"GET / HTTP/1.1\nHost: localhost",
        b"GET /?" + b"&".join(b"a%d=1" % number for number in range(17)) + b" HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a browser that was told https
        bytes(range(256)),
    ],
    ids=repr,
)
def test_what_is_no_plain_request_is_not_guessed_at(head: bytes) -> None:
    assert parse_request(head) is None


def test_an_answer_may_not_be_kept_embedded_or_taken_for_something_else() -> None:
    head, _, body = answer(200, "ä").partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert body == b"\xc3\xa4"
    for line in (
        b"Content-Length: 2",
        b"Content-Type: text/plain; charset=utf-8",
        b"Cache-Control: no-store",
        b"X-Content-Type-Options: nosniff",
        b"Cross-Origin-Resource-Policy: same-origin",
    ):
        assert line in lines
    assert not [line for line in lines if line.lower().startswith(b"access-control-")]


def test_the_head_alone_keeps_the_length_of_the_body() -> None:
    head = without_body(answer(200, "body"))
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Length: 4\r\n" in head
