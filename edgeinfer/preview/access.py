"""Who may look: programs of this machine, or whoever has the token."""

from __future__ import annotations

import re

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass
from edgeinfer.preview.address import Address
from edgeinfer.preview.http import Request

# A camera's picture stands behind it: eight random letters and digits are 2 * 10^14 guesses.
_SHORTEST = 8
_VISIBLE = re.compile(r"[!-~]+", re.ASCII)
_HOST = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]+)(?::[0-9]*)?", re.ASCII)
_CURE = "`--token $(python3 -c 'import secrets; print(secrets.token_urlsafe(16))' | tee /dev/stderr)`"


@dataclass(frozen=True, slots=True)
class Access:
    """The rule by which requests are let in.

    Without a token the socket is open to this machine only, and the request must be meant for it by name: else a page
    of another site could have its own name resolve to 127.0.0.1 and read the picture from here (DNS rebinding).

    Attributes:
        token: None where only this machine can connect.
        port: Part of the cookie's name, because browsers keep one set of cookies for all ports of a host.
    """

    token: str | None
    port: int

    def allows(self, request: Request) -> bool:
        """Say whether this request may have what it asks for."""
        if self.token is None:
            return _means_this_machine(request.fields.get("host", ""))
        return self.named_in_query(request) or self._named_in_fields(request)

    def named_in_query(self, request: Request) -> bool:
        """Say whether the address holds the right token, as a link does that a person was given."""
        return self.token is not None and _same(request.query.get("token", ""), self.token)

    @property
    def cookie(self) -> str:
        """The value for `Set-Cookie`: it stands for the token, and outlives the server, but does not tell it."""
        return f"{self._cookie_name}={self._pass()}; Path=/; HttpOnly; SameSite=Strict"

    @property
    def _cookie_name(self) -> str:
        return f"edgeinfer_{self.port}"

    def _pass(self) -> str:
        import hashlib
        import hmac

        return hmac.new((self.token or "").encode(), b"edgeinfer page", hashlib.sha256).hexdigest()

    def _named_in_fields(self, request: Request) -> bool:
        scheme, _, given = request.fields.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), self.token or ""):
            return True
        pairs = (one.strip().partition("=") for one in request.fields.get("cookie", "").split(";"))
        return any(name == self._cookie_name and _same(value, self._pass()) for name, _, value in pairs)


def check_token(address: Address, token: str | None) -> None:
    """Check that a page which others can reach has a token, and that it is one.

    Raises:
        InputError: It has none, or one that is too short or cannot stand in an address.
    """
    if token is None:
        if not address.loopback:
            raise InputError(
                "Everybody on the network could look at this page.",
                received=f"`{address.host}` and no token",
                expected='`token="..."` (`--token`), or an address of this machine only such as 127.0.0.1',
                next_step=_CURE,
            )
        return
    if not isinstance(token, str) or len(token) < _SHORTEST or not _VISIBLE.fullmatch(token):
        raise InputError(
            "This is no token.",
            received=f"{len(token)} characters" if isinstance(token, str) else f"a `{type(token).__name__}`",
            expected=f"at least {_SHORTEST} letters, digits or signs of ASCII, without blanks",
            next_step=_CURE,
        )


def _means_this_machine(host: str) -> bool:
    from ipaddress import ip_address

    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1].lower().strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _same(given: str, expected: str) -> bool:
    import hmac

    # Bytes, because `compare_digest` takes no text outside ASCII, and a stranger may send any.
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
