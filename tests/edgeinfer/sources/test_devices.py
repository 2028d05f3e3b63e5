"""Which cameras there are, in copies of what `/sys` and `/dev` look like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeinfer.sources.devices import FoundCamera, find_cameras, node_name, say_cameras


def make_node(root: Path, number: int, name: str, index: int = 0, parent: str = "") -> None:
    """A video device as the kernel shows it; an ordinary file stands for the device itself."""
    entry = root / "sys/class/video4linux" / f"video{number}"
    entry.mkdir(parents=True)
    (entry / "name").write_text(f"{name}\n")
    (entry / "index").write_text(f"{index}\n")
    device = root / "sys/devices" / (parent or f"device{number}")
    device.mkdir(parents=True, exist_ok=True)
    (entry / "device").symlink_to(device)
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / f"video{number}").touch()


def make_sensor(root: Path, number: int, name: str) -> None:
    entry = root / "sys/class/video4linux" / f"v4l-subdev{number}"
    entry.mkdir(parents=True)
    (entry / "name").write_text(f"{name}\n")


def test_a_machine_without_cameras_has_none(tmp_path: Path) -> None:
    assert find_cameras(tmp_path) == ()
    assert say_cameras(()) == "none found"


def test_a_webcam_is_found_once_though_it_has_two_nodes(tmp_path: Path) -> None:
    make_node(tmp_path, 0, "HD Webcam C525", 0, "usb1")
    make_node(tmp_path, 1, "HD Webcam C525", 1, "usb1")
    assert find_cameras(tmp_path) == (FoundCamera("HD Webcam C525", "/dev/video0", (0,)),)
    assert say_cameras(find_cameras(tmp_path)) == "HD Webcam C525 (/dev/video0)"


def test_cameras_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2):
        make_node(tmp_path, number, f"cam {number}")
    assert [camera.source for camera in find_cameras(tmp_path)] == ["/dev/video2", "/dev/video10"]


def test_a_device_without_sys_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").touch()
    assert say_cameras(find_cameras(tmp_path)) == "/dev/video0"


def test_parts_of_a_raspberry_pi_are_no_cameras(tmp_path: Path) -> None:
    for number, name in enumerate(
        ["bcm2835-codec-decode", "bcm2835-isp-output0", "pispbe-input", "rpi-hevc-dec", "rpivid"], 10
    ):
        make_node(tmp_path, number, name)
    assert find_cameras(tmp_path) == ()


def test_a_raspberry_pi_4_camera_is_found_with_its_sensor(tmp_path: Path) -> None:
    make_node(tmp_path, 0, "unicam-image", 0, "fe801000.csi")
    make_node(tmp_path, 1, "unicam-embedded", 1, "fe801000.csi")
    make_sensor(tmp_path, 0, "imx708 10-001a")
    make_sensor(tmp_path, 1, "dw9807 10-000c")  # moves the lens
    (camera,) = find_cameras(tmp_path)
    assert camera.is_csi
    assert (str(camera), camera.nodes) == ("imx708 (csi:0)", (0, 1))


def test_two_cameras_of_a_raspberry_pi_5_are_two(tmp_path: Path) -> None:
    for number in range(8):
        make_node(tmp_path, number, f"rp1-cfe-csi2_ch{number % 4}", number % 4, f"1f0011{number // 4}000.csi")
    make_sensor(tmp_path, 0, "imx219 10-0010")
    make_sensor(tmp_path, 1, "imx219 11-0010")
    assert [(camera.source, camera.nodes) for camera in find_cameras(tmp_path)] == [
        ("csi:0", (0, 1, 2, 3)),
        ("csi:1", (4, 5, 6, 7)),
    ]


def test_a_camera_that_this_user_may_not_open_is_marked(tmp_path: Path) -> None:
    make_node(tmp_path, 0, "HD Webcam C525")
    (tmp_path / "dev/video0").chmod(0)
    tmp_path.chmod(0o755)
    code = f"from edgeinfer.sources.devices import find_cameras; print(find_cameras({str(tmp_path)!r})[0].allowed)"
    assert find_cameras(tmp_path)[0].allowed == os.access(tmp_path / "dev/video0", os.R_OK)
    if os.geteuid() == 0:
        pytest.skip("root may open everything; see test_v4l2_check.py for another user")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_node_is_named_as_its_driver_says(tmp_path: Path) -> None:
    make_node(tmp_path, 4, "HD Webcam C525")
    assert (node_name(4, tmp_path), node_name(5, tmp_path)) == ("HD Webcam C525", "")
