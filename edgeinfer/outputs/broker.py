"""`Broker`: what an MQTT URL says."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass, field

_PORTS = {"mqtt": 1883, "mqtts": 8883}  # Source: IANA's register of ports, "mqtt" and "secure-mqtt"
_EXPECTED = "mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC], or mqtts:// for TLS"


@dataclass(frozen=True, slots=True)
class Broker:
    """Where messages go.

    Attributes:
        host: Name or address.
        port: 1 to 65535.
        tls: Encrypted, with the host's certificate checked.
        user: "" is nobody in particular.
        password: Never shown, not by `repr` either.
        topic: What stands in front of each message's topic, e.g. "edgeinfer/raspberrypi".
    """

    host: str
    port: int
    tls: bool
    user: str
    password: str = field(repr=False)
    topic: str

    def __str__(self) -> str:
        """Return the URL without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_broker(url: str) -> Broker:
    """Return what an MQTT URL says; without a topic, messages go to `edgeinfer/` and this machine's name.

    Args:
        url: `mqtt://user:password@host:1883/topic/prefix`, `mqtts://` for TLS. Signs that mean something in a URL stand
            as `%` and their number, e.g. `%40` for an at sign in a password.

    Raises:
        InputError: It is no such URL, or the topic holds what no topic may hold.

    Example:
        >>> parse_broker("mqtt://cam:p%40ss@broker.example/door")
        Broker(host='broker.example', port=1883, tls=False, user='cam', topic='door')
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        # Python's words may hold a piece of the password, where an unescaped sign has cut it in two.
        raise _no_url(url, "This is no URL of an MQTT broker.") from error
    if parts.scheme not in _PORTS or not host:
        raise _no_url(url, "This is no URL of an MQTT broker.")
    if port == 0:
        raise _no_url(url, "An MQTT broker has no port 0.")
    if parts.query or parts.fragment or "#" in url:
        raise _no_url(url, "The URL of an MQTT broker ends with its topic.")
    return Broker(
        host=host,
        port=port or _PORTS[parts.scheme],
        tls=parts.scheme == "mqtts",
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        topic=_topic(unquote(parts.path).strip("/"), url),
    )


def topic_part(name: str) -> str:
    """Return a name as one level of a topic: letters, digits, `.`, `_` and `-` stay.

    Example:
        >>> topic_part("birds v2/int8+.tflite")
        'birds_v2_int8_.tflite'
    """
    return re.sub(r"[^\w.-]", "_", name) or "_"


def _topic(given: str, url: str) -> str:
    if not given:
        import socket  # only for the name

        return f"edgeinfer/{topic_part(socket.gethostname())}"
    # Source: MQTT 3.1.1, section 4.7: wildcards are for subscribers, `$` is the broker's own, 65535 bytes at most; the
    # rest of the limit is for a model's name.
    if any(sign in given for sign in "+#\0") or given.startswith("$") or len(given.encode()) > 65000:
        raise _no_url(url, "A topic to send to has no `+`, `#` or null byte, and no `$` in front.")
    return given


def _no_url(url: str, message: str) -> InputError:
    return InputError(
        message,
        # Greedy: a password may hold a sign that it should not, and still must not be printed.
        received=f"`{re.sub(r'(?s)//.*@', '//***@', url)[:200]}`",
        expected=_EXPECTED,
        next_step="In user and password, write @ as %40, : as %3A, / as %2F and # as %23." if "@" in url else "",
    )
