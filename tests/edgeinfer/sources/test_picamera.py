"""Cameras on a ribbon cable.

Picamera2 is a fake here: it needs a Raspberry Pi's kernel and libcamera. It behaves as its manual says: "BGR888" lies
in memory as red, green, blue; `SensorTimestamp` counts from the start of the machine.
"""

from __future__ import annotations

import os
import sys
import time
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from edgeinfer.errors import DeviceError, MissingDependencyError
from edgeinfer.sources.camera import Camera
from edgeinfer.sources.picamera import PicameraReader, import_picamera2, picamera2_cure
from edgeinfer.sources.reader import Wanted

from .conftest import BLUE, RED, card, is_card

SENSOR = {"Model": "imx708", "Id": "/base/axi/pcie@120000/rp1/i2c@88000/imx708@1a", "Num": 1}
WEBCAM = {"Model": "C525", "Id": "/base/axi/pcie@120000/rp1/usb@200000-1:1.0-046d:0826", "Num": 0}


class Request:
    def __init__(self, camera: FakePicamera2) -> None:
        self.camera, self.released = camera, False
        camera.requests.append(self)

    def get_metadata(self) -> dict[str, Any]:
        return (
            {}
            if self.camera.age_ns is None
            else {"SensorTimestamp": time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.camera.age_ns}
        )

    def make_array(self, name: str) -> Any:
        assert name == "main"
        assert not self.released
        width, height = self.camera.config["main"]["size"]
        order = 1 if self.camera.config["main"]["format"] == "BGR888" else -1
        return card(self.camera.colour, width, height)[..., ::order].copy()

    def release(self) -> None:
        assert not self.released
        self.released = True


class FakePicamera2:
    listed: tuple[dict[str, Any], ...] = (WEBCAM, SENSOR)
    made: ClassVar[list[FakePicamera2]] = []
    busy = False
    colour = RED
    age_ns: int | None = 30_000_000

    def __init__(self, number: int) -> None:
        if self.busy:
            raise RuntimeError("Camera __init__ sequence did not complete.")
        self.number, self.config, self.did = number, {}, []
        self.requests: list[Request] = []
        self.left = 3
        FakePicamera2.made.append(self)

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return list(FakePicamera2.listed)

    def create_video_configuration(self, main: dict[str, Any], controls: dict[str, Any]) -> dict[str, Any]:
        return {"main": main, "controls": controls}

    def configure(self, config: dict[str, Any]) -> None:
        self.config = config

    def start(self) -> None:
        self.did.append("start")

    def capture_request(self) -> Request:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the camera has gone")
        return Request(self)

    def stop(self) -> None:
        self.did.append("stop")

    def close(self) -> None:
        self.did.append("close")


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("picamera2")
    module.Picamera2 = FakePicamera2
    monkeypatch.setitem(sys.modules, "picamera2", module)
    monkeypatch.delenv("LIBCAMERA_LOG_LEVELS", raising=False)
    monkeypatch.setattr(FakePicamera2, "made", [])
    yield FakePicamera2
    os.environ.pop("LIBCAMERA_LOG_LEVELS", None)


@pytest.mark.parametrize("colour", [RED, BLUE], ids=["red", "blue"])
def test_a_card_keeps_its_colour(colour: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePicamera2, "colour", colour)
    with Camera("csi") as camera:
        frame = camera.read()
    assert frame is not None
    assert is_card(frame.pixels, colour, 0)


def test_the_first_camera_that_is_not_a_webcam_is_taken_with_size_and_rate() -> None:
    PicameraReader(0, Wanted((1280, 720), 15)).close()
    (made,) = FakePicamera2.made
    assert made.number == 1
    assert made.config == {"main": {"size": (1280, 720), "format": "BGR888"}, "controls": {"FrameRate": 15.0}}
    assert made.did == ["start", "stop", "close"]


def test_a_size_is_chosen_where_none_is_said() -> None:
    PicameraReader(0, Wanted())
    assert FakePicamera2.made[0].config == {"main": {"size": (640, 480), "format": "BGR888"}, "controls": {}}


def test_the_sensors_stamp_is_turned_to_our_clock() -> None:
    reader = PicameraReader(0, Wanted())
    before = time.monotonic_ns()
    stamp = reader.advance()
    assert stamp is not None
    assert before - 30_000_000 <= stamp + 2_000_000
    assert stamp <= time.monotonic_ns() - 30_000_000 + 2_000_000


@pytest.mark.parametrize("age_ns", [None, -60_000_000_000, 60_000_000_000], ids=["none", "future", "old"])
def test_another_stamp_gives_way_to_the_moment_of_handing_over(age_ns: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePicamera2, "age_ns", age_ns)
    reader = PicameraReader(0, Wanted())
    before = time.monotonic_ns()
    stamp = reader.advance()
    assert stamp is not None
    assert before <= stamp <= time.monotonic_ns()


def test_every_buffer_goes_back_to_the_camera() -> None:
    reader = PicameraReader(0, Wanted())
    reader.advance()
    reader.advance()  # nobody wanted the first
    assert reader.picture() is not None
    reader.advance()
    reader.close()
    assert [request.released for request in FakePicamera2.made[0].requests] == [True] * 3


def test_a_camera_that_stops_is_lost_and_opened_again() -> None:
    with Camera("csi") as camera:
        numbers = []
        while not numbers or numbers[-1] < 4:  # three frames from each time it is opened
            frame = camera.read()
            assert frame is not None
            numbers.append(frame.number)
    assert numbers == sorted(set(numbers))
    assert FakePicamera2.made[0].did == ["start", "stop", "close"]
    assert len(FakePicamera2.made) >= 2


def test_a_camera_that_another_program_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePicamera2, "busy", True)
    with pytest.raises(DeviceError, match="another program has it") as caught:
        Camera("csi:0")
    assert "sudo fuser -v /dev/media*" in caught.value.next_step


def test_a_camera_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(DeviceError, match="There is no camera `csi:1`") as caught:
        Camera("csi:1")
    assert caught.value.received == "imx708"


def test_no_camera_at_all_points_at_the_cable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePicamera2, "listed", (WEBCAM,))
    with pytest.raises(DeviceError) as caught:
        Camera("csi")
    assert caught.value.received == "no camera on a ribbon cable"
    assert "rpicam-hello --list-cameras" in caught.value.next_step


@pytest.mark.parametrize(
    ("version", "held"), [((3, 11, 2), " 'numpy<2'"), ((3, 13, 5), "")], ids=["bookworm", "trixie"]
)
def test_where_picamera2_is_missing_the_lines_to_type_are_told(
    version: Any, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(MissingDependencyError, match="needs Picamera2") as caught:
        import_picamera2()
    assert caught.value.next_step == picamera2_cure()
    assert caught.value.next_step == (
        "sudo apt install python3-picamera2 && python3 -m venv --system-site-packages .venv "
        f"&& . .venv/bin/activate && pip install edgeinfer{held}"
    )


def test_a_layout_that_is_not_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Request, "make_array", lambda _self, _name: np.zeros((480, 640, 4), np.uint8))
    reader = PicameraReader(0, Wanted())
    reader.advance()
    with pytest.raises(DeviceError, match="layout that is not known"):
        reader.picture()
