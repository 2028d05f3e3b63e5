from __future__ import annotations

import pytest

from edgeinfer.errors import InputError
from edgeinfer.preview.access import Access, check_token
from edgeinfer.preview.address import Address
from edgeinfer.preview.http import Request

TOKEN = "correct-horse"
OPEN, GUARDED = Access(None, 8080), Access(TOKEN, 8080)


def request(query: dict[str, str] | None = None, **fields: str) -> Request:
    return Request("GET", "/", query or {}, fields)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "LOCALHOST:9", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "cam.localhost"]
)
def test_without_a_token_requests_for_this_machine_are_let_in(host: str) -> None:
    assert OPEN.allows(request(host=host))


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8080", "192.168.1.20:8080", "0.0.0.0",
     "[::1", "localhost:80:80", "@localhost", "127.0.0.1 evil.example", "notlocalhost"],
)  # fmt: skip
def test_without_a_token_a_name_that_only_resolves_to_this_machine_is_refused(host: str) -> None:
    assert not OPEN.allows(request(host=host))


def test_a_token_is_taken_from_address_header_and_cookie() -> None:
    cookie = GUARDED.cookie.partition(";")[0]
    assert GUARDED.allows(request({"token": TOKEN}, host="any.example"))
    assert GUARDED.allows(request(authorization=f"Bearer {TOKEN}"))
    assert GUARDED.allows(request(authorization=f"bearer {TOKEN}"))
    assert GUARDED.allows(request(cookie=f"other=1; {cookie}; another=2"))


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({}, {}),
        ({"token": ""}, {}),
        ({"token": TOKEN + "x"}, {}),
        ({"token": TOKEN[:-1]}, {}),
        ({"token": "ü\ud800"}, {}),
        ({}, {"authorization": TOKEN}),
        ({}, {"authorization": f"Basic {TOKEN}"}),
        ({}, {"cookie": "edgeinfer_8080="}),
        ({}, {"cookie": f"edgeinfer_8080={TOKEN}"}),
        ({}, {"host": "localhost"}),
    ],
)
def test_without_the_token_nobody_is_let_in(query: dict[str, str], fields: dict[str, str]) -> None:
    assert not GUARDED.allows(request(query, **fields))


def test_the_cookie_of_another_token_or_port_opens_nothing() -> None:
    for other in (Access("another-token", 8080), Access(TOKEN, 8081)):
        assert not GUARDED.allows(request(cookie=other.cookie.partition(";")[0]))


def test_the_cookie_does_not_tell_the_token_and_stays_with_this_page() -> None:
    assert TOKEN not in GUARDED.cookie
    assert "HttpOnly" in GUARDED.cookie
    assert "SameSite=Strict" in GUARDED.cookie


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.20", "fe80::1"])
def test_an_address_that_others_can_reach_needs_a_token(host: str) -> None:
    with pytest.raises(InputError, match="--token"):
        check_token(Address(host, 8080), None)
    check_token(Address(host, 8080), TOKEN)


@pytest.mark.parametrize("token", ["", "short", "with a blank", "line\nbreak", "schlüssel!", 12345678, b"12345678"])
def test_what_is_no_token_is_refused(token: object) -> None:
    with pytest.raises(InputError, match="no token"):
        check_token(Address("127.0.0.1", 8080), token)  # type: ignore[arg-type]
