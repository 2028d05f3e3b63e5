"""OpenCV's `VideoCapture`, and bytes to RGB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinfer.errors import DeviceError, MissingDependencyError
from edgeinfer.sources.capture import Capture

from .conftest import BLUE, RED, card, is_card

pytestmark = pytest.mark.device


@pytest.fixture
def capture(ten: Path) -> Capture:
    return Capture(str(ten), "FFMPEG")


@pytest.mark.parametrize("colour", [RED, BLUE], ids=["red", "blue"])
@pytest.mark.parametrize("old", [False, True], ids=["as installed", "before OpenCV 4.11"])
def test_a_jpeg_becomes_rgb(
    old: bool, colour: tuple[int, int, int], capture: Capture, cv2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if old:
        monkeypatch.delattr(cv2, "IMREAD_COLOR_RGB", raising=False)
    data = cv2.imencode(".jpg", card(colour)[..., ::-1])[1]
    pixels = capture.to_rgb(data.reshape(1, -1), "MJPG", (0, 0))
    assert pixels is not None
    assert is_card(pixels, colour)


@pytest.mark.parametrize("padding", [0, 1, 4096])
def test_zeros_behind_a_jpeg_do_no_harm(padding: int, capture: Capture, cv2: Any) -> None:
    data = np.concatenate([cv2.imencode(".jpg", card(RED))[1].reshape(-1), np.zeros(padding, np.uint8)])
    assert capture.to_rgb(data.reshape(-1, 1), "JPEG", (0, 0)) is not None


def test_a_jpeg_that_is_cut_off_anywhere_is_no_picture(capture: Capture, cv2: Any) -> None:
    data = cv2.imencode(".jpg", card(RED))[1].reshape(1, -1)
    assert [end for end in range(data.size) if capture.to_rgb(data[:, :end], "MJPG", (0, 0)) is not None] == []


def test_what_only_begins_and_ends_like_a_jpeg_is_no_picture(capture: Capture) -> None:
    data = np.frombuffer(b"\xff\xd8" + bytes(200) + b"\xff\xd9", np.uint8)
    assert capture.to_rgb(data, "MJPG", (0, 0)) is None


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (np.zeros((1, 100), np.uint8), "YUYV"),
        (np.zeros((48, 64), np.uint16), "GREY"),
        (np.zeros((48, 64, 2), np.uint8), "NV12"),
    ],
)
def test_a_layout_that_is_not_known_is_told_with_what_came(raw: Any, code: str, capture: Capture) -> None:
    with pytest.raises(DeviceError, match="layout that is not known") as caught:
        capture.to_rgb(raw, code, (64, 48))
    assert str(raw.shape) in caught.value.received
    assert code in caught.value.received


def test_a_part_that_opencv_was_built_without_names_the_cure(cv2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _number: False)
    with pytest.raises(MissingDependencyError, match="without GStreamer") as caught:
        Capture("videotestsrc ! appsink", "GSTREAMER")
    assert caught.value.next_step.startswith("sudo apt install python3-opencv gstreamer1.0-plugins-good && python3 -m")
    with pytest.raises(MissingDependencyError, match="without FFMPEG"):
        Capture("a.avi", "FFMPEG")


def test_opencvs_own_errors_do_not_pass(cv2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake: OpenCV raises only where a driver fails in a way that it did not expect."""

    class Fails:
        def __init__(self, *_: Any) -> None:
            self.opens = True

        def fail(self, *_: Any) -> Any:
            raise cv2.error("inside")

        grab = retrieve = set = fail

    monkeypatch.setattr(cv2, "VideoCapture", Fails)
    capture = Capture("a.avi", "FFMPEG")
    assert (capture.grab(), capture.raw(), capture.bgr(), capture.set("FPS", 1)) == (False, None, None, False)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Fails().fail())
    with pytest.raises(DeviceError, match="OpenCV fails"):
        Capture("a.avi", "FFMPEG")


def test_properties_that_this_opencv_does_not_know_are_left_out(cv2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Any] = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda *arguments: got.append(arguments))
    Capture("a.avi", "FFMPEG", {"OPEN_TIMEOUT_MSEC": 5, "FROM_THE_FUTURE": 1})
    assert got == [("a.avi", cv2.CAP_FFMPEG, [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5])]


def test_what_was_retrieved_is_new_memory(write_video: Callable[..., Path]) -> None:
    capture = Capture(str(write_video("a.avi", [card(RED), card(BLUE)])), "FFMPEG")
    assert capture.grab()
    first = capture.bgr()
    assert capture.grab()
    second = capture.bgr()
    assert first is not None
    assert second is not None
    assert is_card(first, RED)
    assert is_card(second, BLUE)
