from __future__ import annotations

import os
import socket

import pytest

from edgeinfer.errors import EdgeInferError, InputError, OutputError
from edgeinfer.preview.address import Address, listen, parse_bind


@pytest.mark.parametrize(
    ("bind", "host", "port", "loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.7.0.1:1", "127.7.0.1", 1, True),
        ("localhost:65535", "127.0.0.1", 65535, True),
        ("8081", "127.0.0.1", 8081, True),
        ("0", "127.0.0.1", 0, True),
        ("[::1]:8080", "::1", 8080, True),
        ("[::ffff:127.0.0.1]:8080", "::ffff:7f00:1", 8080, True),
        ("0.0.0.0:8080", "0.0.0.0", 8080, False),
        ("[::]:8080", "::", 8080, False),
        ("192.168.1.20:8080", "192.168.1.20", 8080, False),
    ],
)
def test_an_address_and_a_port_are_read(bind: str, host: str, port: int, loopback: bool) -> None:
    address = parse_bind(bind)
    assert (socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, address.host)) == socket.inet_pton(
        socket.AF_INET6 if ":" in host else socket.AF_INET, host
    )
    assert (address.port, address.loopback) == (port, loopback)


@pytest.mark.parametrize(
    "bind",
    ["", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:8080", "[::1]", "[::1:8080", "a:1",
     "http://127.0.0.1:8080", "127.0.0.1:80 80", "256.0.0.1:80", "127.0.0.1:٨٠٨٠", "example.com:80", "[localhost]:80",
     8080, None, b"127.0.0.1:80"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_line_to_type(bind: object) -> None:
    with pytest.raises(InputError, match="--bind") as caught:
        parse_bind(bind)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


def test_the_url_is_what_a_browser_takes() -> None:
    assert Address("127.0.0.1", 8080).url == "http://127.0.0.1:8080/"
    assert Address("::1", 8080).url == "http://[::1]:8080/"


def test_the_url_of_every_network_names_an_address_of_this_machine() -> None:
    host = Address("0.0.0.0", 8080).url.removeprefix("http://").removesuffix(":8080/")
    with socket.socket() as own:
        own.bind((host, 0))  # only an address of this machine can be bound


def test_a_taken_port_is_named_with_another_to_take() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=f"Port {port} is taken") as caught:
            listen(Address("127.0.0.1", port))
    assert caught.value.exit_code == 3
    assert f"--bind 127.0.0.1:{port + 1}" in caught.value.next_step


def test_an_address_of_another_machine_is_refused() -> None:
    # 192.0.2.0/24 belongs to nobody (RFC 5737).
    with pytest.raises(InputError, match="no such address"):
        listen(Address("192.0.2.1", 0))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every port")
def test_a_port_for_root_only_says_which_are_for_everybody() -> None:
    with pytest.raises(EdgeInferError, match="1024"):
        listen(Address("127.0.0.1", 1))
