"""Messages to a real broker, which also goes away, hangs and refuses."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from edgeinfer.errors import DeviceError, InputError, MissingDependencyError
from edgeinfer.live.shown import Status
from edgeinfer.outputs.mqtt import Mqtt

needs_paho = pytest.mark.skipif(find_spec("paho") is None, reason="paho-mqtt is not installed")


@pytest.fixture
def broker(mosquitto: Any) -> Any:
    return mosquitto("allow_anonymous true")


@pytest.fixture
def listener(broker: Any, listen: Any) -> Any:
    return listen(broker.port)


def until(happened: Callable[[], object]) -> None:
    ends = monotonic() + 30
    while not happened():
        assert monotonic() < ends, "it did not happen"
        sleep(0.01)


@needs_paho
def test_an_answered_frame_arrives_under_its_models_name(broker: Any, listener: Any, shown: Any) -> None:
    with Mqtt(f"mqtt://127.0.0.1:{broker.port}/door") as output:
        assert output.write(shown(number=7))
        said, retained = listener.next_with_flag("door/birds")
    assert (said["frame"], said["model"], said["task"]) == (7, "birds", "classification")
    assert said["results"][0] == {"class_id": 1, "label": "jay", "confidence": 0.75}
    assert not retained


@needs_paho
def test_each_of_several_models_has_its_topic(broker: Any, listener: Any, shown: Any) -> None:
    with Mqtt(f"mqtt://127.0.0.1:{broker.port}/a/b") as output:
        output.write(shown(results={"x/y": np.array([1]), "status": np.array([2])}))
        assert listener.next("a/b/x_y")["results"] == [{"values": [1]}]
        # A model of that name must not take the place of the loop's own status.
        assert listener.next("a/b/status_")["results"] == [{"values": [2]}]


@needs_paho
def test_the_status_is_kept_for_those_who_come_later(broker: Any, listen: Any, shown: Any) -> None:
    with Mqtt(f"mqtt://127.0.0.1:{broker.port}/door") as output:
        output.write(shown(status=Status(source="camera 0", fps=12.5)))
        listen(broker.port).next("door/status", state="online", fps=12.5)
        said, retained = listen(broker.port).next_with_flag("door/status", fps=12.5)
    assert said["source"] == "camera 0"
    assert retained


@needs_paho
def test_the_status_comes_once_in_its_time(broker: Any, listener: Any, shown: Any) -> None:
    with Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", status_s=3600) as output:
        for number in range(10):
            output.write(shown(number=number))
    states = [said for topic, said in listener.all_until_offline("door") if topic == "door/status"]
    # The bare word when the connection stood, then once with the loop's figures.
    assert ["fps" in one for one in states] == [False, True]


@needs_paho
def test_at_the_end_it_says_that_it_is_offline(broker: Any, listener: Any) -> None:
    output = Mqtt(f"mqtt://127.0.0.1:{broker.port}/door")
    listener.next("door/status", state="online")
    output.close()
    output.close()
    listener.next("door/status", state="offline")
    with pytest.raises(DeviceError, match="closed"):
        output.write(None)  # type: ignore[arg-type]


@needs_paho
def test_of_a_process_that_was_killed_the_broker_says_that_it_is_offline(
    broker: Any, listener: Any, listen: Any
) -> None:
    code = "import sys; from edgeinfer.outputs.mqtt import Mqtt; output = Mqtt(sys.argv[1]); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, f"mqtt://127.0.0.1:{broker.port}/door"], stdin=subprocess.PIPE
    ) as process:
        listener.next("door/status", state="online")
        process.send_signal(signal.SIGKILL)
    listener.next("door/status", state="offline")
    assert listen(broker.port).next_with_flag("door/status")[1]  # retained


@needs_paho
def test_while_no_frame_comes_the_status_says_why(broker: Any, listener: Any) -> None:
    with Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", status_s=0.1) as output:
        output.follow(lambda: Status(trouble="The camera is lost."))
        listener.next("door/status", state="online", trouble="The camera is lost.")


@needs_paho
def test_a_status_that_cannot_be_said_is_logged_once_and_asked_for_again(
    broker: Any, listener: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [RuntimeError("a race"), KeyError("x"), "no status"]

    def status() -> Status:
        found = answers.pop(0) if answers else Status(trouble="The camera is lost.")
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    with caplog.at_level(logging.WARNING), Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", status_s=0.1) as output:
        output.follow(status)
        listener.next("door/status", state="online", trouble="The camera is lost.")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"The status for the MQTT broker mqtt://127.0.0.1:{broker.port} cannot be said: RuntimeError: a race"
    ]


@needs_paho
def test_no_online_comes_after_offline_where_a_status_is_slow(
    broker: Any, listener: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, told, slow = threading.Event(), threading.Event(), threading.Event()

    def status() -> Status:
        asked.set()
        assert slow.wait(60)
        return Status()

    output = Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", status_s=0.1)
    publish = output._client.publish

    def noted(topic: str, payload: str, **options: Any) -> Any:
        sent = publish(topic, payload, **options)
        if "offline" in str(payload):
            told.set()
        return sent

    monkeypatch.setattr(output._client, "publish", noted)
    output.follow(status)
    assert asked.wait(60)
    os.kill(broker.process.pid, signal.SIGSTOP)  # so that `close` waits, and the status comes in the midst of it
    try:
        closing = threading.Thread(target=output.close)
        closing.start()
        assert told.wait(60)
        slow.set()
        closing.join()
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)
    listener.all_until_offline("door")
    Mqtt(f"mqtt://127.0.0.1:{broker.port}/later").close()  # what comes before it was sent before it
    later = listener.all_until_offline("later")
    assert [said for topic, said in later if (topic, said.get("state")) == ("door/status", "online")] == []


@needs_paho
def test_frames_can_be_sent_more_rarely(broker: Any, listener: Any, shown: Any) -> None:
    with Mqtt(f"mqtt://127.0.0.1:{broker.port}/door", every_s=3600) as output:
        for number in range(5):
            output.write(shown(number=number))
        assert output.dropped == 0  # nobody wanted them
    sent = [said["frame"] for topic, said in listener.all_until_offline("door") if topic == "door/birds"]
    assert sent == [0]


@needs_paho
def test_a_broker_that_goes_and_comes_back_costs_messages_and_nothing_else(
    broker: Any, listen: Any, shown: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Mqtt(f"mqtt://127.0.0.1:{broker.port}/door") as output:
        output.write(shown(number=0))
        assert output.trouble == ""
        broker.kill()
        until(lambda: output.trouble)
        for number in range(1, 11):
            assert output.write(shown(number=number))
        assert output.dropped == 10
        assert f"127.0.0.1:{broker.port} is gone" in output.trouble
        assert "10 messages were dropped" in output.trouble
        broker.start()
        again = listen(broker.port)
        until(lambda: not output.trouble)
        again.next("door/status", state="online")
        output.write(shown(number=11))
        assert again.next("door/birds")["frame"] == 11
    assert [record.levelname for record in caplog.records if "is gone" in record.message] == ["WARNING"]
    assert [record.levelname for record in caplog.records if "is back" in record.message] == ["WARNING"]


@needs_paho
def test_a_broker_that_hangs_costs_messages_and_not_the_memory_or_the_time(broker: Any, shown: Any) -> None:
    assert broker.process is not None
    large = shown(results={"features": np.zeros(100_000)})  # 0.5 MB of JSON
    output = Mqtt(f"mqtt://127.0.0.1:{broker.port}/door")
    os.kill(broker.process.pid, signal.SIGSTOP)
    try:
        begin = monotonic()
        for _ in range(60):
            output.write(large)
        assert output.dropped >= 10
        assert output.trouble == ""  # it is slow, and nobody knows more yet
        begin = monotonic()
        output.close()
        assert monotonic() - begin < 10
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)


@needs_paho
def test_a_broker_that_is_gone_at_the_end_does_not_hold_the_end_up(broker: Any) -> None:
    output = Mqtt(f"mqtt://127.0.0.1:{broker.port}/door")
    broker.kill()
    until(lambda: output.trouble)
    begin = monotonic()
    output.close()
    assert monotonic() - begin < 10
    assert output.trouble == ""


# --- Users and certificates -----------------------------------------------------------------------


def set_password(folder: Path, password: str) -> Path:
    """Make the file of a broker that lets one user in, cam."""
    passwords = folder / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", passwords, "cam", password], check=True, capture_output=True)
    return passwords


@pytest.fixture
def guarded(mosquitto: Any, tmp_path: Path) -> Any:
    """A broker that lets one user in: cam, with the password p@ss/w#rd."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    return mosquitto("allow_anonymous false", f"password_file {set_password(tmp_path, 'p@ss/w#rd')}")


@needs_paho
def test_the_right_user_comes_in(guarded: Any, listen: Any, shown: Any) -> None:
    listener = listen(guarded.port, "cam", "p@ss/w#rd")
    with Mqtt(f"mqtt://cam:p%40ss%2Fw%23rd@127.0.0.1:{guarded.port}/door") as output:
        output.write(shown(number=3))
        assert listener.next("door/birds")["frame"] == 3
        assert "ss/w" not in f"{output!r}{output.trouble}{vars(output)}"


@needs_paho
@pytest.mark.parametrize(("user", "received"), [("cam:wrong-one@", "user `cam`"), ("", "no user")])
def test_the_wrong_user_is_told_so_and_the_password_is_not(guarded: Any, user: str, received: str) -> None:
    with pytest.raises(DeviceError, match="does not let this user in: Not authorized") as caught:
        Mqtt(f"mqtt://{user}127.0.0.1:{guarded.port}/door")
    assert caught.value.received == received
    assert "wrong-one" not in str(caught.value)


@needs_paho
def test_a_password_that_is_changed_while_the_broker_is_gone_shows_in_the_trouble(guarded: Any, tmp_path: Path) -> None:
    with Mqtt(f"mqtt://cam:p%40ss%2Fw%23rd@127.0.0.1:{guarded.port}/door") as output:
        guarded.kill()
        until(lambda: output.trouble)
        subprocess.run(
            ["mosquitto_passwd", "-b", tmp_path / "passwords", "cam", "new"], check=True, capture_output=True
        )
        guarded.start()
        until(lambda: "Not authorized" in output.trouble)


@pytest.fixture
def encrypted(mosquitto: Any, tmp_path: Path) -> Any:
    """A broker behind TLS, with a certificate of its own for 127.0.0.1."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    try:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=127.0.0.1"),
                *("-addext", "subjectAltName=IP:127.0.0.1"),
            ],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return mosquitto("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")


@needs_paho
def test_messages_go_through_tls_to_a_broker_that_is_trusted(
    encrypted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: Any
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    with Mqtt(f"mqtts://127.0.0.1:{encrypted.port}/door") as output:
        output.write(shown())
        until(lambda: not output._unsent or output._unsent[0].is_published())
        assert output.dropped == 0


@needs_paho
def test_a_certificate_that_nobody_vouches_for_is_refused(encrypted: Any) -> None:
    with pytest.raises(DeviceError, match="certificate cannot be trusted") as caught:
        Mqtt(f"mqtts://127.0.0.1:{encrypted.port}/door")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert "SSL_CERT_FILE" in caught.value.next_step


# paho leaves the socket of a handshake that failed to Python's collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@needs_paho
def test_tls_to_a_port_without_is_told_so(broker: Any) -> None:
    with pytest.raises(DeviceError, match="does not speak TLS") as caught:
        Mqtt(f"mqtts://127.0.0.1:{broker.port}/door")
    assert "mqtt://" in caught.value.next_step
    del caught
    gc.collect()  # here, and not in another test


@needs_paho
def test_no_tls_to_a_port_with_it_is_told_so(encrypted: Any) -> None:
    with pytest.raises(DeviceError) as caught:
        Mqtt(f"mqtt://127.0.0.1:{encrypted.port}/door")
    assert "mqtts://" in caught.value.next_step


# --- What cannot be reached -----------------------------------------------------------------------


@needs_paho
def test_a_port_where_nothing_listens_is_told_at_once(free_port: int) -> None:
    with pytest.raises(DeviceError, match=f"127.0.0.1:{free_port} cannot be reached: nothing listens"):
        Mqtt(f"mqtt://127.0.0.1:{free_port}/door")


@needs_paho
def test_a_host_that_is_misspelt_is_told_at_once() -> None:
    # Source: RFC 2606: no such name will ever be known.
    with pytest.raises(DeviceError, match=r"broker\.invalid:1883"):
        Mqtt("mqtt://broker.invalid/door")


@needs_paho
def test_a_port_where_something_else_listens_is_told_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        begin = monotonic()
        with pytest.raises(DeviceError, match="does not answer as an MQTT broker"):
            Mqtt(f"mqtt://127.0.0.1:{server.getsockname()[1]}/door", timeout_s=0.5)
        assert monotonic() - begin < 10


@needs_paho
def test_a_port_where_something_hangs_up_is_told(shown: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(1)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(DeviceError, match="has closed the connection"):
            Mqtt(f"mqtt://127.0.0.1:{server.getsockname()[1]}/door")
        thread.join()


@needs_paho
@pytest.mark.parametrize(
    "times", [{"every_s": -1.0}, {"every_s": float("nan")}, {"status_s": 0.0}, {"timeout_s": float("inf")}], ids=str
)
def test_a_time_that_is_none_is_refused(times: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(times))):
        Mqtt("mqtt://127.0.0.1/door", **times)


@pytest.mark.parametrize("missing", ["paho", "paho.mqtt.enums"])  # none at all; version 1
def test_without_paho_the_line_to_type_is_told(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # what Python itself puts there for a module that is not to be had
    for name in [name for name in sys.modules if name.startswith("paho.") and name != missing]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgeinfer\[mqtt\]'"):
        Mqtt("mqtt://127.0.0.1/door")
