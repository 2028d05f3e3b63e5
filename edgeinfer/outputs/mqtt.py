"""`Mqtt`: answers as messages, and how the loop is doing, to an MQTT broker."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from edgeinfer.errors import DeviceError, InputError, MissingDependencyError
from edgeinfer.live.shown import Shown, Status
from edgeinfer.outputs.broker import Broker, parse_broker, topic_part
from edgeinfer.outputs.message import dumps, message, utc

# Messages that paho has taken and the network has not: it puts no bound on them itself, and a broker that hangs is
# noticed only after the time below.
_MOST_UNSENT = 20
_KEEPALIVE_S = 15
_LONGEST_PAUSE_S = 30
# A broker that hangs must not hold up the end: twice this, at most.
_CLOSE_S = 0.4


class Mqtt:
    """Answers to an MQTT broker (version 3.1.1).

    * `<topic>/<model>`: one JSON object an answered frame, as `message` makes it; quality of service 0.
    * `<topic>/status`: `{"state": "online", "time", ...}` with the loop's `Status`, every few seconds, and
      `{"state": "offline"}` at the end, which the broker says itself when this machine vanishes (last will). Retained,
      so that who comes later knows it at once.

    A broker that cannot be reached at the start is an error. One that goes away later is not: messages are dropped and
    counted until it is back, and frames go on meanwhile.

    Args:
        url: `mqtt://user:password@host:1883/topic`, `mqtts://` for TLS; without a topic it is `edgeinfer/<hostname>`.
        every_s: Send no more than one frame in so many seconds; 0 sends each.
        status_s: Seconds from one status to the next.
        timeout_s: How long the broker may take to answer at the start.

    Raises:
        InputError: The URL or a time is none.
        MissingDependencyError: paho-mqtt 2 is not installed.
        DeviceError: There is no broker, it does not let this user in, or its certificate cannot be trusted.
    """

    def __init__(self, url: str, *, every_s: float = 0.0, status_s: float = 5.0, timeout_s: float = 5.0) -> None:
        for name, value, least in (
            ("every_s", every_s, 0.0),
            ("status_s", status_s, 0.1),
            ("timeout_s", timeout_s, 0.1),
        ):
            if not (math.isfinite(value) and value >= least):
                raise InputError(
                    f"`{name}` is no such time.", received=str(value), expected=f"{least:g} seconds or more"
                )
        self._broker = parse_broker(url)
        self._every_s, self._status_s = every_s, status_s
        self._frame_at = self._status_at = -math.inf
        self._dropped = 0
        self._unsent: deque[Any] = deque()
        self._answered = threading.Event()
        self._connected = self._closed = False
        # Why there is no connection, in the broker's words; set by paho's thread.
        self._refusal = ""
        self._ending = threading.Event()
        # Held while a status is sent: behind "offline" there must be no "online", which the broker would keep.
        self._telling = threading.Lock()
        self._followed = False
        self._client = self._open_client()
        self._connect(timeout_s)

    @property
    def dropped(self) -> int:
        """Messages that were not sent, because the broker was gone or slow."""
        return self._dropped

    @property
    def trouble(self) -> str:
        """What is wrong at the moment, one sentence; "" when all is well."""
        if self._connected or self._closed:
            return ""
        reason = f" ({self._refusal})" if self._refusal else ""
        return f"The MQTT broker {self._broker} is gone{reason}; {self._dropped} messages were dropped."

    def write(self, shown: Shown) -> bool:
        """Send the answers of one frame, and the status when it is due; returns at once, and always True.

        Raises:
            DeviceError: It is closed.
        """
        if self._closed:
            raise DeviceError("This connection to an MQTT broker is closed.", received=str(self._broker))
        now = monotonic()
        if not self._followed and self._connected and now - self._status_at >= self._status_s:
            self._status_at = now
            self._send_online(shown.status)
        if now - self._frame_at < self._every_s:
            return True
        self._frame_at = now
        for name in shown.results:
            if not self._connected or self._is_slow():
                self._dropped += 1
                continue
            part = topic_part(name)
            topic = f"{self._broker.topic}/{part if part != 'status' else 'status_'}"
            self._unsent.append(self._client.publish(topic, dumps(message(shown, (name,))), qos=0))
        return True

    def follow(self, status: Callable[[], Status]) -> None:
        """Ask a loop how it is doing, frames or not: only so do listeners learn that a camera is gone.

        Args:
            status: `Live.status` of the loop whose frames are written here; called in a thread of its own. What it
                raises is logged once, and it is asked again.
        """
        self._followed = True

        def say() -> None:
            is_said = False
            while not self._ending.wait(self._status_s):
                if not self._connected:
                    continue
                try:
                    found = status()
                    with suppress(RuntimeError, ValueError):  # paho's words for a connection that has just gone
                        self._send_online(found)
                except Exception as error:  # whatever it is: listeners must hear of the loop again when it is over
                    if not is_said:
                        log = logging.getLogger(__name__)
                        log.warning(
                            "The status for the MQTT broker %s cannot be said: %s: %s",
                            self._broker,
                            type(error).__name__,
                            error,
                        )
                    is_said = True

        threading.Thread(target=say, name="edgeinfer mqtt status", daemon=True).start()

    def close(self) -> None:
        """Say that this machine is offline, and end the connection; takes a second at most."""
        with self._telling:
            if self._closed:
                return
            self._closed = True
            self._ending.set()
            last = None
            if self._connected:
                with suppress(RuntimeError, ValueError):  # paho's words for a connection that has just gone
                    last = self._send_status("offline")
        if last is not None:
            with suppress(RuntimeError, ValueError):
                last.wait_for_publish(_CLOSE_S)
        self._stop()

    def __enter__(self) -> Mqtt:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open_client(self) -> Any:
        try:
            from paho.mqtt.client import Client, MQTTv311
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:  # paho-mqtt 1 (Debian 12's) has no module `enums`
            raise MissingDependencyError(
                "MQTT needs paho-mqtt 2.", received=str(error), next_step="pip install 'edgeinfer[mqtt]'"
            ) from error
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv311)
        if self._broker.user:
            client.username_pw_set(self._broker.user, self._broker.password or None)
        if self._broker.tls:
            client.tls_set()
        client.will_set(self._status_topic, dumps({"state": "offline"}), qos=1, retain=True)
        client.reconnect_delay_set(1, _LONGEST_PAUSE_S)
        client.max_queued_messages_set(_MOST_UNSENT)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        return client

    @property
    def _status_topic(self) -> str:
        return f"{self._broker.topic}/status"

    def _connect(self, timeout_s: float) -> None:
        """Wait until the broker has let us in."""
        ends = monotonic() + timeout_s
        failed: list[Exception] = []

        def connect() -> None:
            try:
                self._client.connect(self._broker.host, self._broker.port, _KEEPALIVE_S)
            except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
                failed.append(error)

        # In a thread of its own, because looking up a name can take half a minute and cannot be given a limit.
        self._client.connect_timeout = timeout_s
        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(timeout_s)
        if failed:
            raise _unreachable(self._broker, failed[0]) from failed[0]
        if not thread.is_alive():
            self._client.loop_start()
            self._answered.wait(max(0.0, ends - monotonic()))
        if self._connected:
            return
        self._closed = True
        self._stop()
        if self._refusal:
            raise _refused(self._broker, self._refusal)
        raise DeviceError(
            f"{self._broker} does not answer as an MQTT broker.",
            received=f"nothing in {timeout_s:g} s",
            next_step="Check host and port; a broker that wants TLS is `mqtts://`.",
        )

    def _stop(self) -> None:
        self._client.disconnect()
        # It waits for paho's thread, which may wait for a broker that hangs.
        stop = threading.Thread(target=self._client.loop_stop, daemon=True)
        stop.start()
        stop.join(_CLOSE_S)
        self._connected = False

    def _send_status(self, state: str, status: Status | None = None) -> Any:
        said = {"state": state, "time": utc(), **(status.to_json() if status else {})}
        return self._client.publish(self._status_topic, dumps(said), qos=1, retain=True)

    def _send_online(self, status: Status | None = None) -> None:
        with self._telling:
            if not self._closed:
                self._send_status("online", status)

    def _is_slow(self) -> bool:
        while self._unsent and _is_done(self._unsent[0]):
            self._unsent.popleft()
        return len(self._unsent) >= _MOST_UNSENT

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        """Take note that the broker has answered; in paho's thread."""
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            if self._answered.is_set() and not self._closed:
                log = logging.getLogger(__name__)
                log.warning("The MQTT broker %s is back; %d messages were dropped.", self._broker, self._dropped)
            self._refusal, self._connected = "", True
            # The last will has said "offline".
            self._send_online()
            self._status_at = -math.inf
        self._answered.set()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        """Take note that the connection has gone; in paho's thread."""
        was, self._connected = self._connected, False
        if not self._refusal:
            self._refusal = "" if self._closed else f"connection lost: {reason}"
        if was and not self._closed:
            logging.getLogger(__name__).warning("%s", self.trouble)
        self._answered.set()


def _is_done(info: Any) -> bool:
    try:
        return bool(info.is_published())
    except (RuntimeError, ValueError):  # it was lost with the connection
        return True


def _refused(broker: Broker, reason: str) -> DeviceError:
    if reason.startswith("connection lost"):
        return DeviceError(
            f"{broker} has closed the connection before it was one.",
            received=reason,
            next_step=f"If this port wants TLS, say `mqtts://{broker.host}:{broker.port}`.",
        )
    return DeviceError(
        f"The MQTT broker {broker} does not let this user in: {reason}.",
        received=f"user `{broker.user}`" if broker.user else "no user",
        next_step=f"Check user and password: `mqtt{'s' if broker.tls else ''}://USER:PASSWORD@{broker.host}`.",
    )


def _unreachable(broker: Broker, error: Exception) -> DeviceError:
    import socket
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        reason = "its certificate cannot be trusted"
        cure = "For a certificate of your own authority: `export SSL_CERT_FILE=/path/to/ca.crt`."
    elif broker.tls and isinstance(error, (ssl.SSLError, ConnectionResetError)):
        reason, cure = "it does not speak TLS on this port", f"Use `mqtt://{broker.host}`, without encryption."
    elif isinstance(error, (socket.gaierror, ValueError)):
        reason, cure = "this host name is not known", f"Check it: `getent hosts {broker.host}`"
    elif isinstance(error, ConnectionRefusedError):
        reason, cure = "nothing listens on this port", "Start the broker, or say its port: `mqtt://HOST:PORT`."
    else:
        reason, cure = "no connection", f"Check the network: `ping {broker.host}`"
    return DeviceError(
        f"The MQTT broker {broker} cannot be reached: {reason}.",
        received=f"{type(error).__name__}: {error}",
        next_step=cure,
    )
