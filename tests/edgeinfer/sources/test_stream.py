"""Streams and pipelines; see test_camera.py for what a stream gives."""

from __future__ import annotations

import time
from typing import Any

import pytest

from edgeinfer.errors import DeviceError
from edgeinfer.sources.camera import Camera
from edgeinfer.sources.reader import Wanted
from edgeinfer.sources.stream import PipelineReader, StreamReader

from .conftest import Server, grey, number_of


def test_every_frame_that_is_sent_comes_and_then_the_end(server: Server) -> None:
    for number in range(12):
        server.send(grey(number))
    server.cut()
    reader = StreamReader(f"{server.url}/stream", Wanted())
    numbers = []
    while reader.advance() is not None:
        pixels = reader.picture()
        assert pixels is not None
        numbers.append(number_of(pixels))
    assert numbers == list(range(12))
    reader.close()


def test_a_frame_is_stamped_when_it_is_handed_over(server: Server) -> None:
    server.send(grey(1), 5)
    reader = StreamReader(f"{server.url}/stream", Wanted())
    before = time.monotonic_ns()
    stamp = reader.advance()
    assert stamp is not None
    assert before <= stamp <= time.monotonic_ns()
    reader.close()


def test_the_password_is_not_in_the_error(server: Server) -> None:
    with pytest.raises(DeviceError) as caught:
        StreamReader(f"{server.url.replace('://', '://me:secret@')}/nothing?key=hidden", Wanted())
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "/nothing" in str(caught.value)


def test_one_thread_decodes_so_that_no_frame_is_held_back(server: Server, cv2: Any, monkeypatch: Any) -> None:
    got: list[Any] = []
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda *arguments: (got.append(arguments), real(*arguments))[1])
    server.send(grey(1), 5)
    StreamReader(f"{server.url}/stream", Wanted()).close()
    settings = dict(zip(got[0][2][::2], got[0][2][1::2], strict=True))
    if hasattr(cv2, "CAP_PROP_N_THREADS"):  # not before OpenCV 4.7
        assert settings[cv2.CAP_PROP_N_THREADS] == 1
    assert settings[cv2.CAP_PROP_OPEN_TIMEOUT_MSEC] == 10_000


@pytest.mark.parametrize(
    ("pipeline", "whole"),
    [
        (
            "videotestsrc",
            "videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1",
        ),
        ("videotestsrc ! videoconvert ! appsink", "videotestsrc ! videoconvert ! appsink"),
    ],
)
def test_a_pipeline_gets_an_end_where_it_has_none(pipeline: str, whole: str, cv2: Any, monkeypatch: Any) -> None:
    """OpenCV's wheels have no GStreamer, so what it would open is a fake here."""
    got: list[str] = []

    class Closed:
        def __init__(self, source: str, _backend: int) -> None:
            got.append(source)

        def isOpened(self) -> bool:
            return False

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _number: True)
    monkeypatch.setattr(cv2, "VideoCapture", Closed)
    with pytest.raises(DeviceError, match="does not start"):
        PipelineReader(pipeline)
    assert got == [whole]


def test_a_pipeline_without_gstreamer_names_the_cure(cv2: Any) -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        with Camera("gst:videotestsrc pattern=red ! video/x-raw,width=64,height=48") as camera:
            assert camera.live
        return
    with pytest.raises(ImportError, match="without GStreamer"):
        Camera("gst:videotestsrc")
