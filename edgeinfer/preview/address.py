"""Where the page is served: an address and a port as text, and the socket that listens there."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from edgeinfer.errors import InputError, OutputError
from edgeinfer.frozen import dataclass

if TYPE_CHECKING:
    import socket

_FORMS = '"127.0.0.1:8080" (this machine only), "0.0.0.0:8080" (every network, needs a token), "[::1]:8080", or a port'
_WORD = re.compile(r"(?:(?:\[(?P<six>[^\[\]]+)\]|(?P<four>[^:\[\]]+)):)?(?P<port>[0-9]{1,5})", re.ASCII)
# Connections that nobody has accepted yet; a page takes two, so this is a room full of people at one moment.
_BACKLOG = 128
# An address for documentation (RFC 5737): nothing is sent, the system only says which of its own it would send from.
_ELSEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True, slots=True)
class Address:
    """An address of this machine and a port.

    Attributes:
        host: An IPv4 or IPv6 address, without brackets.
        port: 0..65535; 0 lets the system choose.
    """

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """True where only programs of this machine can reach it."""
        from ipaddress import IPv6Address, ip_address

        address = ip_address(self.host)
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            return address.ipv4_mapped.is_loopback
        return address.is_loopback

    @property
    def url(self) -> str:
        """What to type into a browser; an address for every network becomes the one by which others reach us."""
        from ipaddress import ip_address

        host = _own_address() if ip_address(self.host).is_unspecified else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def parse_bind(bind: str) -> Address:
    """Return the address that a text means.

    Args:
        bind: "ADDRESS:PORT", an IPv6 address in brackets; "localhost" is 127.0.0.1, and so is a port alone.

    Raises:
        InputError: It is none.

    Example:
        >>> parse_bind("[::1]:8080")
        Address(host='::1', port=8080)
    """
    from ipaddress import IPv4Address, IPv6Address

    found = _WORD.fullmatch(bind) if isinstance(bind, str) else None
    if found is None or int(found["port"]) > 65535:
        raise _no_address(bind)
    try:
        if found["six"]:
            host = str(IPv6Address(found["six"]))
        else:
            word = found["four"] or "localhost"
            host = str(IPv4Address("127.0.0.1" if word == "localhost" else word))
    except ValueError as error:
        raise _no_address(bind) from error
    return Address(host, int(found["port"]))


def listen(address: Address) -> socket.socket:
    """Return a socket that listens there and does not wait.

    Raises:
        OutputError: The port is taken or not for everybody.
        InputError: This machine has no such address.
    """
    import socket

    kind = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = None
    try:
        listener = socket.socket(kind, socket.SOCK_STREAM)
        # A page that was just ended leaves connections behind that the system remembers for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found = socket.getaddrinfo(address.host, address.port, kind, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        listener.bind(found[0][4])
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _no_listener(address, error) from error
    listener.setblocking(False)
    return listener


def _no_address(bind: object) -> InputError:
    return InputError(
        "This is no address for the page.",
        received=f"`{bind}`" if isinstance(bind, str) else f"an object of type `{type(bind).__name__}`",
        expected=_FORMS,
        next_step="`--bind 127.0.0.1:8080`",
    )


def _no_listener(address: Address, error: OSError) -> InputError | OutputError:
    host = f"[{address.host}]" if ":" in address.host else address.host
    received = f"`{host}:{address.port}`: {error.strerror or error}"
    if error.errno == errno.EADDRINUSE:
        other = address.port + 1 if address.port < 65535 else 8080
        return OutputError(
            f"Port {address.port} is taken by another program.",
            received=received,
            next_step=f"Choose another: `--bind {host}:{other}`, or port 0 for any that is free.",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return OutputError(
            f"Port {address.port} is not for every user.",
            received=received,
            expected="a port from 1024 on",
            next_step=f"`--bind {host}:8080`",
        )
    if error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT):
        return InputError(
            "This machine has no such address.",
            received=received,
            expected="an address of its own, see `ip address`",
            next_step="`--bind 127.0.0.1:8080`",
        )
    return OutputError("The page cannot be served.", received=received)


def _own_address() -> str:
    """Return the address by which this machine goes out; 127.0.0.1 where it has no network."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
