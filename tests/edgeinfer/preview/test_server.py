from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from page_client import GENEROUS_S, Client, number_in, open_files, shown_of, wait_until

from edgeinfer.preview import server
from edgeinfer.preview.page import Page

ASK = b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = (1280, 720)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("READING_S", 1.0), ("SENDING_S", 3.0), ("LINGERING_S", 0.5), ("_SWEEP_S", 0.05)):
        monkeypatch.setattr(server, name, seconds)


def test_many_viewers_get_one_encoding(page: Page, client: Client) -> None:
    viewers = [client.stream() for _ in range(20)]
    wait_until(lambda: page.viewers == 20)
    for number in range(5):
        page.write(shown_of(number))
        pictures = {viewer.picture() for viewer in viewers}
        assert len(pictures) == 1
        assert number_in(pictures.pop()) == number
    assert page.encoded == 5
    for viewer in viewers:
        viewer.__exit__()
    wait_until(lambda: page.viewers == 0)


def test_without_viewers_nothing_is_drawn_or_encoded(page: Page, client: Client) -> None:
    black = np.zeros((120, 160, 3), np.uint8)
    for number in range(10):
        page.write(shown_of(number, pixels=black))
    client.get("/status.json")  # asks for figures only
    assert page.encoded == 0
    assert not black.any()


def test_a_new_viewer_sees_the_latest_picture_at_once(page: Page, client: Client) -> None:
    page.write(shown_of(3))
    with client.stream() as viewer:
        assert viewer.number() == 3


def test_a_slow_viewer_gets_the_newest_and_not_what_it_missed(page: Page, client: Client) -> None:
    with client.stream() as viewer:
        wait_until(lambda: page.viewers == 1)
        with client.stream() as fast:
            for number in range(60):
                page.write(shown_of(number, size=BIG))
                fast.picture()
        seen = [viewer.number()]
        while seen[-1] != 59:
            seen.append(viewer.number())
    assert len(seen) < 40  # what lay in the kernel's buffers, and then the newest
    assert seen == sorted(seen)


@pytest.mark.usefixtures("impatient")
def test_a_stalled_viewer_slows_nobody_and_is_dropped(page: Page, client: Client) -> None:
    before = open_files()
    with client.stream() as watching, client.connect() as stalled:
        stalled.sendall(ASK)
        wait_until(lambda: page.viewers == 2)
        begin, number = time.monotonic(), 0
        while page.viewers == 2:
            page.write(shown_of(number, size=BIG))
            assert watching.number() == number % 60
            number += 1
            assert time.monotonic() - begin < GENEROUS_S
        page.write(shown_of(number))
        assert watching.number() == number % 60
    wait_until(lambda: page.viewers == 0)
    wait_until(lambda: open_files() == before)


def test_one_viewer_more_than_allowed_is_told_so() -> None:
    with Page("0", max_viewers=2) as page:
        client = Client(page)
        page.write(shown_of())
        first, second = client.stream(), client.stream()
        status, fields, body = client.get("/stream.mjpg")
        assert status == 503
        assert fields["Retry-After"]
        assert b"max_viewers" in body
        assert client.get("/frame.jpg")[0] == 200  # single pictures need no place
        first.__exit__()
        wait_until(lambda: page.viewers == 1)
        with client.stream() as third:
            assert third.number() == 0
        second.__exit__()


def test_a_viewer_that_goes_is_noticed_without_a_frame(page: Page, client: Client) -> None:
    viewer = client.stream()
    wait_until(lambda: page.viewers == 1)
    viewer.__exit__()
    wait_until(lambda: page.viewers == 0)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xff" + bytes(64) + b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 100_000, 431),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 405),
    ],
    ids=["words", "two hosts", "TLS", "long line", "endless field", "post"],
)
def test_bad_requests_get_an_answer_and_hurt_nobody(sent: bytes, status: int, page: Page, client: Client) -> None:
    with client.connect() as bad:
        bad.sendall(sent)
        received = b""
        while data := bad.recv(65536):
            received += data
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert client.get("/")[0] == 200
    assert page.viewers == 0


@pytest.mark.usefixtures("impatient")
def test_half_a_request_is_dropped(client: Client) -> None:
    with client.connect() as half:
        half.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert half.recv(100) == b""


@pytest.mark.usefixtures("impatient")
def test_who_does_not_close_behind_an_answer_is_dropped(client: Client) -> None:
    before = open_files()
    with client.connect() as lazy:
        lazy.sendall(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: open_files() == before + 1)


def test_a_request_in_pieces_is_understood(page: Page, client: Client) -> None:
    page.write(shown_of())
    with client.connect() as slow:
        for place in range(len(ASK)):
            slow.sendall(ASK[place : place + 1])
        assert slow.recv(15) == b"HTTP/1.1 200 OK"


def test_silent_connections_leave_room_for_others(client: Client) -> None:
    silent = [client.connect() for _ in range(150)]
    assert client.get("/")[0] == 200
    for one in silent:
        one.close()


def test_head_requests_get_the_head_alone(page: Page, client: Client) -> None:
    page.write(shown_of())
    for path in ("/", "/frame.jpg", "/status.json", "/stream.mjpg"):
        status, fields, body = client.get(path, "HEAD")
        assert (status, body) == (200, b"")
        assert "Content-Length" in fields or path == "/stream.mjpg"
    assert page.viewers == 0


def test_thousand_requests_leave_nothing_behind(page: Page, client: Client) -> None:
    page.write(shown_of())
    client.get("/frame.jpg")
    before, threads = open_files(), threading.active_count()
    for _ in range(250):
        for path in ("/", "/frame.jpg", "/status.json", "/none"):
            client.get(path)
    wait_until(lambda: open_files() == before)
    assert threading.active_count() == threads


def test_a_fault_in_one_request_ends_that_request_alone(
    page: Page, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page.write(shown_of())

    def fail(*_: object) -> None:  # stands for a mistake of ours, which cannot be had on purpose
        raise ZeroDivisionError

    with monkeypatch.context() as patch, client.stream() as viewer:
        patch.setattr("edgeinfer.preview.site.figures", fail)
        with client.connect() as unlucky:
            unlucky.sendall(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert unlucky.recv(100) == b""
        assert viewer.number() == 0
    assert "ZeroDivisionError" in caplog.text
    assert client.get("/status.json")[0] == 200


_POOR = """
import resource, sys, time
from edgeinfer.preview.page import Page
with Page("0") as page:
    import os
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, used + 3))
    print(page.url, flush=True)
    sys.stdin.readline()
    print(time.process_time(), flush=True)
    sys.stdin.readline()
"""


def test_without_file_descriptors_it_waits_and_goes_on() -> None:
    child = subprocess.Popen([sys.executable, "-c", _POOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        address = child.stdout.readline().strip()

        class Elsewhere:
            url = address

        client = Client(Elsewhere())  # type: ignore[arg-type]
        held = [client.connect() for _ in range(8)]
        begin = time.monotonic()
        time.sleep(1.5)  # while it cannot accept, it must not turn in circles: that has no event
        child.stdin.write("\n")
        child.stdin.flush()
        assert float(child.stdout.readline()) < 1.2
        assert time.monotonic() - begin >= 1.5
        for one in held:
            one.close()
        assert client.get("/")[0] == 200
        child.stdin.write("\n")


def test_the_status_tells_a_page_whether_its_stream_is_open(page: Page, client: Client) -> None:
    def watching(name: str) -> bool:
        return bool(json.loads(client.get(f"/status.json?viewer={name}")[2])["watching"])

    with client.connect() as named:
        named.sendall(b"GET /stream.mjpg?viewer=abc HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: page.viewers == 1)
        assert watching("abc")
        assert not watching("abd")
    wait_until(lambda: not watching("abc"))
