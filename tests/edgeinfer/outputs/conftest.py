"""Answered frames made by hand, and for `Mqtt` a real broker with somebody who listens."""

from __future__ import annotations

import json
import queue
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

import numpy as np
import pytest

from edgeinfer.live.shown import Shown, Status
from edgeinfer.preprocess.image import Image
from edgeinfer.results import Classifications
from edgeinfer.sources.frame import Frame

MakeShown = Callable[..., Shown]


@pytest.fixture
def shown() -> MakeShown:
    """Make an answered frame of one colour."""

    def make(
        colour: tuple[int, int, int] = (255, 0, 0),
        *,
        size: tuple[int, int] = (64, 48),
        pixels: Image | None = None,
        number: int = 0,
        time_ns: int | None = None,
        name: str = "",
        results: Mapping[str, Any] | None = None,
        status: Status | None = None,
    ) -> Shown:
        filled = np.full((size[1], size[0], 3), colour, np.uint8) if pixels is None else pixels
        frame = Frame(filled, number, monotonic_ns() if time_ns is None else time_ns, name)
        found = Classifications(np.array([1, 0]), np.array([0.75, 0.25], np.float32), ("jay", "wren"))
        return Shown(frame, {"birds": found} if results is None else results, status or Status(source="camera 0"))

    return make


# --- MQTT -------------------------------------------------------------------------------------------

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
PATIENCE_S = 30.0


@pytest.fixture
def free_port() -> int:
    """A port where nothing listens."""
    return _free_port()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    """A broker process; `start` it again after `kill`, on the same port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        if PROGRAM is None:
            pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
        self.port = _free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        # `user root`: else the broker gives its rights away, and cannot read what lies in the tests' folder.
        self._config.write_text(
            "\n".join([f"listener {self.port} 127.0.0.1", "user root", "log_type all", *lines]) + "\n"
        )
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        assert PROGRAM is not None
        self.process = subprocess.Popen([PROGRAM, "-c", str(self._config)], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if " running" in line:
                break
        else:
            pytest.fail(f"mosquitto did not start: {''.join(said)}")
        # A pipe that nobody reads would stop the broker.
        self._reader = threading.Thread(target=self.process.stderr.read)
        self._reader.start()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self._reader.join()
            with self.process:  # closes the pipe
                self.process = None


class Listener:
    """A subscriber to everything."""

    def __init__(self, port: int, user: str = "", password: str = "") -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: queue.Queue[tuple[str, dict[str, Any], bool]] = queue.Queue()
        ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = lambda _client, _data, one: self.messages.put(
            (one.topic, json.loads(one.payload), one.retain)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(PATIENCE_S)

    def next(self, topic: str, **expected: Any) -> dict[str, Any]:
        """Wait for a message on a topic whose keys have these values; others are passed over."""
        return self.next_with_flag(topic, **expected)[0]

    def next_with_flag(self, topic: str, **expected: Any) -> tuple[dict[str, Any], bool]:
        ends = monotonic() + PATIENCE_S
        while True:
            got, message, retained = self.messages.get(timeout=max(0.0, ends - monotonic()))
            if got == topic and all(message.get(key) == value for key, value in expected.items()):
                return message, retained

    def all_until_offline(self, topic: str) -> list[tuple[str, dict[str, Any]]]:
        """Wait for the status "offline" of a topic, and return all that came before, with what was sent to."""
        ends = monotonic() + PATIENCE_S
        found = []
        while True:
            got, message, _ = self.messages.get(timeout=max(0.0, ends - monotonic()))
            if (got, message.get("state")) == (f"{topic}/status", "offline"):
                return found
            found.append((got, message))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start a broker with these lines in its configuration."""
    made: list[Mosquitto] = []

    def start(*lines: str) -> Mosquitto:
        made.append(Mosquitto(tmp_path, *lines))
        made[-1].start()
        return made[-1]

    yield start
    for broker in made:
        broker.kill()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """Listen to a broker: `listen(port, user, password)`."""
    made: list[Listener] = []

    def start(*where: Any) -> Listener:
        made.append(Listener(*where))
        return made[-1]

    yield start
    for listener in made:
        listener.close()
