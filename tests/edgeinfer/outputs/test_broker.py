"""What an MQTT URL says."""

from __future__ import annotations

import doctest
import socket

import pytest

from edgeinfer.errors import InputError
from edgeinfer.outputs import broker
from edgeinfer.outputs.broker import Broker, parse_broker, topic_part


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://pi/door", Broker("pi", 1883, False, "", "", "door")),
        ("mqtts://pi/door", Broker("pi", 8883, True, "", "", "door")),
        ("mqtt://pi:1884/a/b/", Broker("pi", 1884, False, "", "", "a/b")),
        ("mqtt://me@pi/a", Broker("pi", 1883, False, "me", "", "a")),
        ("mqtt://m%40e:p%2Fw%3A%23@pi/a%20b", Broker("pi", 1883, False, "m@e", "p/w:#", "a b")),
        ("mqtt://[::1]:1900/a", Broker("::1", 1900, False, "", "", "a")),
        ("MQTT://PI/Door", Broker("pi", 1883, False, "", "", "Door")),
    ],
    ids=["plain", "tls", "port", "user", "escaped", "ipv6", "capitals"],
)
def test_a_url_says_where_messages_go(url: str, expected: Broker) -> None:
    assert parse_broker(url) == expected


@pytest.mark.parametrize("url", ["mqtt://pi", "mqtt://pi/", "mqtt://pi//"])
def test_without_a_topic_it_is_this_machines(url: str) -> None:
    assert parse_broker(url).topic == f"edgeinfer/{topic_part(socket.gethostname())}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pi",
        "pi:1883",
        "http://pi/",
        "mqtt:/pi",
        "mqtt://",
        "mqtt://me:secret@",
        "mqtt://pi:0/",
        "mqtt://pi:70000/",
        "mqtt://pi:port/",
        "mqtt://me:sec:ret@pi:x/",
        "mqtt://me:secret/@pi/",
        "mqtt://me:sec#ret@pi/",
        "mqtt://me:sec?ret@pi/",
        "mqtt://[::1/",
        "mqtt://pi/a/#",
        "mqtt://pi/a?qos=1",
        "mqtt://pi/+/a",
        "mqtt://pi/%23",
        "mqtt://pi/$SYS/a",
        "mqtt://pi/" + "x" * 70000,
    ],
)
def test_what_is_no_such_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_broker(url)
    said = str(caught.value)
    assert "mqtt://" in caught.value.expected
    assert not any(part in said for part in ("secret", "sec:ret", "sec#ret", "sec?ret", "ret@"))
    assert len(said) < 1000


def test_a_password_is_not_shown() -> None:
    found = parse_broker("mqtt://me:secret@pi/a")
    assert "secret" not in repr(found)
    assert str(found) == "mqtt://pi:1883"
    assert str(parse_broker("mqtts://[::1]/a")) == "mqtts://[::1]:8883"


@pytest.mark.parametrize(
    ("name", "part"), [("birds", "birds"), ("a/b", "a_b"), ("a+#", "a__"), ("v1.2-é", "v1.2-é"), ("", "_")]
)
def test_a_name_becomes_one_level_of_a_topic(name: str, part: str) -> None:
    assert topic_part(name) == part


def test_the_examples_are_true() -> None:
    assert doctest.testmod(broker).failed == 0
