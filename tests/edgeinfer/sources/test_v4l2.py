"""Cameras of the kernel.

OpenCV's `VideoCapture` is a fake in most tests: there is no video device here, and no camera that gives half a JPEG
when a test asks. The last tests read a real device, where there is one: in the emulated Raspberry Pi.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinfer.errors import DeviceError
from edgeinfer.preprocess.image import Image
from edgeinfer.sources import v4l2
from edgeinfer.sources.camera import Camera
from edgeinfer.sources.reader import Wanted
from edgeinfer.sources.v4l2 import V4l2Reader

from .conftest import BLUE, NEAR, RED, card, is_card

# Y, U, V of full red and blue. Source: ITU-R BT.601, the same values as in SMPTE's colour bars at 100 %.
YUV = {RED: (81, 90, 240), BLUE: (41, 240, 110)}


class FakeCapture:
    """What OpenCV makes of a driver: `formats` are what the driver has, the first is its own choice.

    `flat` gives unconverted frames as one row, as OpenCV 4.11 does; 4.6 and 5.0 give them their shape.
    """

    made: list[FakeCapture]

    def __init__(
        self,
        cv2: Any,
        formats: tuple[str, ...] = ("BGR3", "YUYV", "MJPG"),
        picture: Image | None = None,
        *,
        flat: bool = False,
        raw_allowed: bool = True,
    ) -> None:
        self.cv2, self.formats, self.flat, self.raw_allowed = cv2, formats, flat, raw_allowed
        self.picture = card(RED, 640, 480) if picture is None else picture
        self.colour = tuple(int(value) for value in self.picture[0, 0])
        self.code, self.size, self.converts, self.released = formats[0], (640, 480), True, False
        self.set_to: dict[int, float] = {}
        self.cut_off = 0  # so many MJPG frames end in the middle
        self.extra = 0  # bytes behind the pixels that nobody announced
        self.stamp_ms = -1.0
        self.frames = 10

    def isOpened(self) -> bool:
        return not self.released

    def set(self, key: int, value: float) -> bool:
        cv2 = self.cv2
        self.set_to[key] = value
        if key == cv2.CAP_PROP_FOURCC:
            wanted = int(value).to_bytes(4, "little").decode()
            self.code = wanted if wanted in self.formats else self.code
            return self.code == wanted
        if key == cv2.CAP_PROP_FRAME_WIDTH:
            self.size = (int(value), self.size[1])
        elif key == cv2.CAP_PROP_FRAME_HEIGHT:
            self.size = (self.size[0], int(value))
        elif key == cv2.CAP_PROP_CONVERT_RGB:
            if not self.raw_allowed:
                return False
            self.converts = bool(value)
        return True

    def get(self, key: int) -> float:
        cv2 = self.cv2
        return {
            cv2.CAP_PROP_FOURCC: int.from_bytes(self.code.encode(), "little"),
            cv2.CAP_PROP_FRAME_WIDTH: self.size[0],
            cv2.CAP_PROP_FRAME_HEIGHT: self.size[1],
            cv2.CAP_PROP_POS_MSEC: self.stamp_ms,
        }.get(key, 0.0)

    def grab(self) -> bool:
        self.frames -= 1
        return self.frames >= 0 and not self.released

    def retrieve(self, _into: Any = None) -> tuple[bool, Any]:
        width, height = self.size
        pixels = np.broadcast_to(self.picture[0, 0], (height, width, 3))
        if self.converts and self.code != "BGR3":
            return True, np.ascontiguousarray(pixels[..., ::-1])
        raw = self._raw(pixels)
        if self.extra:
            raw = np.concatenate([raw.reshape(-1), np.zeros(self.extra, np.uint8)]).reshape(1, -1)
        return True, raw.reshape(1, -1) if self.flat or self.converts else raw

    def _raw(self, pixels: Image) -> Any:
        height, width = pixels.shape[:2]
        if self.code == "MJPG":
            data = self.cv2.imencode(".jpg", pixels[..., ::-1])[1].reshape(1, -1)
            if self.cut_off:
                self.cut_off -= 1
                return data[:, : data.size // 2]
            return data
        if self.code in ("YUYV", "UYVY"):
            y, u, v = YUV[self.colour]
            pair = (y, u, y, v) if self.code == "YUYV" else (u, y, v, y)
            return np.tile(np.array(pair, np.uint8), (height, width // 2)).reshape(height, width, 2)
        if self.code == "GREY":
            return np.ascontiguousarray(pixels[..., 0])
        return np.ascontiguousarray(pixels if self.code == "RGB3" else pixels[..., ::-1])

    def release(self) -> None:
        self.released = True


@pytest.fixture
def plug(cv2: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes OpenCV open fakes: the first time the first, then the next."""

    def plug_in(*captures: FakeCapture) -> None:
        rest = list(captures)
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: rest.pop(0) if len(rest) > 1 else rest[0])
        monkeypatch.setattr(v4l2, "check_device", lambda _path: None)

    return plug_in


def pixels_of(reader: V4l2Reader) -> Image | None:
    assert reader.advance() is not None
    return reader.picture()


@pytest.mark.parametrize("colour", [RED, BLUE], ids=["red", "blue"])
@pytest.mark.parametrize("flat", [False, True], ids=["shaped", "flat"])
@pytest.mark.parametrize("raw_allowed", [True, False], ids=["raw", "converted"])
@pytest.mark.parametrize("code", ["YUYV", "UYVY", "MJPG", "BGR3", "RGB3", "NV12"])
def test_a_card_keeps_its_colour_in_every_format(
    code: str, raw_allowed: bool, flat: bool, colour: Any, cv2: Any, plug: Any
) -> None:
    plug(FakeCapture(cv2, (code,), card(colour), flat=flat, raw_allowed=raw_allowed))
    pixels = pixels_of(V4l2Reader("/dev/video0", Wanted()))
    assert pixels is not None
    assert pixels.shape == (480, 640, 3)
    assert is_card(pixels, colour, NEAR)


def test_a_grey_camera_is_grey(cv2: Any, plug: Any) -> None:
    plug(FakeCapture(cv2, ("GREY",), card((7, 7, 7))))
    pixels = pixels_of(V4l2Reader("/dev/video0", Wanted()))
    assert pixels is not None
    assert is_card(pixels, (7, 7, 7), 0)


@pytest.mark.parametrize(
    ("size", "code"), [(None, "YUYV"), ((320, 240), "YUYV"), ((640, 480), "YUYV"), ((800, 600), "MJPG")]
)
def test_small_pictures_are_asked_for_as_they_are_and_large_ones_as_jpeg(
    size: Any, code: str, cv2: Any, plug: Any
) -> None:
    fake = FakeCapture(cv2)
    plug(fake)
    V4l2Reader("/dev/video0", Wanted(size, 15))
    assert fake.code == code
    assert fake.size == (size or (640, 480))
    assert fake.set_to[cv2.CAP_PROP_FPS] == 15
    assert not fake.converts


def test_another_size_than_asked_for_is_told(cv2: Any, plug: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(FakeCapture):
        def set(self, key: int, value: float) -> bool:
            size = self.size
            answer = super().set(key, value)
            self.size = size
            return answer

    plug(Stubborn(cv2))
    V4l2Reader("/dev/video0", Wanted((1920, 1080)))
    assert caplog.messages == ["The camera was asked for 1920 x 1080 and gives 640 x 480."]


@pytest.mark.parametrize("flat", [False, True], ids=["shaped", "flat"])
def test_frames_do_not_share_memory_with_the_driver(flat: bool, cv2: Any, plug: Any) -> None:
    fake = FakeCapture(cv2, ("RGB3",), flat=flat)  # the format that needs no conversion
    plug(fake)
    reader = V4l2Reader("/dev/video0", Wanted())
    first, second = pixels_of(reader), pixels_of(reader)
    assert first is not None
    assert second is not None
    assert first.flags.owndata
    assert not np.shares_memory(first, second)


def test_half_a_jpeg_is_left_out_and_counted(cv2: Any, plug: Any) -> None:
    fake = FakeCapture(cv2, ("MJPG",))
    fake.cut_off = 3
    plug(fake)
    with Camera(0) as camera:
        frame = camera.read()
        assert frame is not None
        assert is_card(frame.pixels, RED)
        assert frame.number >= 3
        assert camera.damaged == 3


@pytest.mark.parametrize("code", ["BGR3", "YUYV"])
def test_bytes_that_do_not_fit_are_left_to_opencv(code: str, cv2: Any, plug: Any) -> None:
    odd, plain = FakeCapture(cv2, (code,), flat=True), FakeCapture(cv2, ("NV12",))
    odd.extra = 64
    plug(odd, plain)
    reader = V4l2Reader("/dev/video0", Wanted())
    assert pixels_of(reader) is None
    pixels = pixels_of(reader)
    assert pixels is not None
    assert is_card(pixels, RED)
    assert odd.released


def test_bytes_that_nobody_understands_are_told(cv2: Any, plug: Any) -> None:
    fakes = [FakeCapture(cv2, ("BGR3",), flat=True) for _ in range(2)]
    for fake in fakes:
        fake.extra = 64
    plug(*fakes)
    reader = V4l2Reader("/dev/video0", Wanted())
    assert pixels_of(reader) is None
    with pytest.raises(DeviceError, match="a layout that is not known") as caught:
        pixels_of(reader)
    assert caught.value.received == "an array of shape (1, 921664), dtype uint8, as `BGR3` at 640 x 480"


def test_the_drivers_stamp_is_taken_where_it_is_on_our_clock(cv2: Any, plug: Any) -> None:
    fake = FakeCapture(cv2)
    plug(fake)
    reader = V4l2Reader("/dev/video0", Wanted())
    fake.stamp_ms = time.monotonic_ns() / 1e6 - 20
    assert reader.advance() == pytest.approx(fake.stamp_ms * 1e6, abs=1000)


@pytest.mark.parametrize("stamp_ms", [0.0, -1.0, float("nan"), float("inf"), 1e15, "wall clock", "future", "old"])
def test_another_stamp_gives_way_to_the_moment_of_handing_over(stamp_ms: Any, cv2: Any, plug: Any) -> None:
    fake = FakeCapture(cv2)
    plug(fake)
    now_ms = time.monotonic_ns() / 1e6
    known = {"wall clock": time.time() * 1e3, "future": now_ms + 60_000, "old": now_ms - 60_000}
    fake.stamp_ms = known.get(stamp_ms, stamp_ms)
    reader = V4l2Reader("/dev/video0", Wanted())
    before = time.monotonic_ns()
    stamp = reader.advance()
    assert stamp is not None
    assert before <= stamp <= time.monotonic_ns()


def test_a_device_that_opencv_cannot_open_is_a_device_error(cv2: Any, plug: Any) -> None:
    fake = FakeCapture(cv2)
    fake.released = True
    plug(fake)
    with pytest.raises(DeviceError, match="though the kernel lets it"):
        Camera("/dev/video0")


def test_a_camera_that_was_unplugged_comes_back_with_its_numbers(cv2: Any, plug: Any) -> None:
    first, second = FakeCapture(cv2), FakeCapture(cv2, picture=card(BLUE))
    first.frames = 5
    plug(first, second)
    with Camera(0) as camera:
        frames = [camera.read()]
        while not is_card(frames[-1].pixels, BLUE):  # type: ignore[union-attr]
            frames.append(camera.read())
        numbers = [frame.number for frame in frames if frame]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] >= 5
    assert first.released


REAL = Path("/dev/video0")
needs_a_device = pytest.mark.skipif(not REAL.exists(), reason="there is no video device here")
device = pytest.mark.device


@device
@needs_a_device
def test_a_real_device_gives_rgb_frames_with_stamps_that_go_forward() -> None:
    with Camera(0, first_frame_s=60) as camera:
        frames = [camera.read() for _ in range(5)]
    assert all(frame and frame.pixels.shape == (480, 640, 3) for frame in frames)
    times = [frame.time_ns for frame in frames if frame]
    assert times == sorted(times)
    assert all(time.monotonic_ns() - stamp < 60e9 for stamp in times)
    if "vivid" in camera.name:  # the kernel's test device draws colour bars, which move
        row = frames[0].pixels[10]  # type: ignore[union-attr]
        bright = {tuple(bool(value > 120) for value in pixel) for pixel in row}
        assert len(bright) == 8
        red = next(at for at, pixel in enumerate(row) if pixel[0] > 150 > 60 > max(pixel[1:]))
        # Source: the order of the bars: white, yellow, cyan, green, magenta, red, blue, black.
        after = next(pixel for at, pixel in enumerate(np.roll(row, -red, axis=0)) if at > 20 and pixel[0] < 60)
        assert after[2] > 150
        assert after[1] < 60


@device
@needs_a_device
def test_a_real_device_that_is_being_read_is_busy_for_others_and_free_afterwards() -> None:
    code = (
        "from edgeinfer.sources.camera import Camera\n"
        "try: Camera(0)\nexcept RuntimeError as error: print(error.message)"
    )
    with Camera(0, first_frame_s=60) as camera:
        assert camera.read() is not None
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "Another program has the camera `/dev/video0`.\n"
    with Camera(0, first_frame_s=60) as camera:
        assert camera.read() is not None
