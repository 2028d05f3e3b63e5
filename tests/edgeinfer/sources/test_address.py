"""What of an address may be shown, and why nothing comes from it."""

from __future__ import annotations

import socket

import pytest

from edgeinfer.sources.address import reason, without_password

from .conftest import Server


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://10.0.0.7:554/live", "rtsp://10.0.0.7:554/live"),
        ("rtsp://me:secret@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("rtsp://me:se@cret@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("rtsp://me:se/cret@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("http://cam/video.cgi?user=me&pwd=secret", "http://cam/video.cgi"),
        ("http://cam/picture@2x.mjpg", "http://cam/picture@2x.mjpg"),
        ("http://cam", "http://cam"),
        ("rtspsrc location=rtsp://me:secret@cam/live", "rtspsrc location=rtsp://cam/live"),
        ("frames/a.mp4", "frames/a.mp4"),
    ],
)
def test_no_password_is_ever_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_the_status_of_a_web_server_is_the_reason(server: Server) -> None:
    assert reason(f"{server.url}/nothing").startswith("404 Not Found, text/html")


def test_a_port_where_nobody_answers_is_the_reason() -> None:
    with socket.socket() as taken:  # bound and not listening: refused for certain
        taken.bind(("127.0.0.1", 0))
        assert reason(f"rtsp://127.0.0.1:{taken.getsockname()[1]}/live").startswith("ConnectionRefusedError")


def test_a_server_that_only_lacks_the_path_is_named_as_there(server: Server) -> None:
    port = server.url.rpartition(":")[2]
    assert reason(f"rtsp://127.0.0.1:{port}/live") == (
        f"127.0.0.1 answers at port {port}, but gives no video at this path, or not to this user"
    )


@pytest.mark.parametrize("address", ["rtsp://", "http://", "udp://239.0.0.1", "rtsp://cam:port/live"])
def test_an_address_that_cannot_be_asked_is_no_failure(address: str) -> None:
    assert reason(address) != ""
