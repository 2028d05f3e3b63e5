"""Which reader a source needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgeinfer.errors import InputError, InputFileError
from edgeinfer.preprocess.encode import write_image
from edgeinfer.sources.choose import FileSource, LiveSource, choose
from edgeinfer.sources.folder import FolderReader
from edgeinfer.sources.reader import Wanted

from .conftest import grey
from .test_devices import make_node

ANY = Wanted()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (0, "/dev/video0"),
        ("0", "/dev/video0"),
        (12, "/dev/video12"),
        ("/dev/video3", "/dev/video3"),
        ("/dev/v4l/by-id/usb-cam-index0", "/dev/v4l/by-id/usb-cam-index0"),
        (Path("/dev/video3"), "/dev/video3"),
        ("/dev/null", "/dev/null"),
        ("csi", "camera (csi:0)"),
        ("csi:1", "camera (csi:1)"),
        ("rtsp://me:secret@cam/live", "rtsp://cam/live"),
        ("HTTP://cam/stream", "HTTP://cam/stream"),
        ("gst:videotestsrc", "GStreamer: videotestsrc"),
        ("videotestsrc ! videoconvert ! appsink", "GStreamer: videotestsrc"),
        ("rtspsrc location=rtsp://me:secret@cam/live ! decodebin", "GStreamer: rtspsrc location=rtsp://cam/live"),
    ],
)
def test_what_goes_by_is_live(source: Any, name: str, tmp_path: Path) -> None:
    chosen = choose(source, ANY, root=tmp_path)
    assert isinstance(chosen, LiveSource)
    assert chosen.name == name


def test_a_camera_has_the_name_that_its_driver_gives_it(tmp_path: Path) -> None:
    make_node(tmp_path, 0, "HD Webcam C525")
    assert choose(0, ANY, root=tmp_path).name == "HD Webcam C525 (/dev/video0)"


@pytest.mark.parametrize("driver", ["unicam-image", "rp1-cfe-csi2_ch0"])
def test_the_number_of_a_camera_on_a_ribbon_cable_is_read_by_picamera2(driver: str, tmp_path: Path) -> None:
    make_node(tmp_path, 0, "HD Webcam C525")
    make_node(tmp_path, 1, driver)
    assert choose(1, ANY, root=tmp_path).name == "camera on a ribbon cable (csi:0)"
    assert choose(0, ANY, root=tmp_path).name == "HD Webcam C525 (/dev/video0)"


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.bin", "a[1].avi", "no suffix"])
def test_files_that_are_no_pictures_are_videos(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0")
    chosen = choose(tmp_path / name, ANY)
    assert isinstance(chosen, FileSource)
    assert chosen.name == name


def test_pictures_folders_and_patterns_are_pictures(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", grey(1))
    for source in (tmp_path / "a.png", tmp_path, str(tmp_path / "*.png"), str(tmp_path / "**" / "a.*")):
        chosen = choose(source, ANY)
        assert isinstance(chosen, FileSource)
        assert isinstance(chosen.open(), FolderReader)


def test_a_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_image(tmp_path / "a.png", grey(1))
    assert choose("~/a.png", ANY).name == "a.png"


@pytest.mark.parametrize("source", ["", "  ", None, True, -1, 1.5, b"a.mp4", ["a.mp4"], "a\0b"])
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(InputError, match="no source of frames") as caught:
        choose(source, ANY)
    assert "a folder of pictures" in caught.value.expected


@pytest.mark.parametrize(
    ("source", "next_step"),
    [
        ("ftp://cam/a.mp4", ""),
        ("rstp://cam/live", "Did you mean `rtsp`?"),
        ("file:///a.mp4", "Give a file by its path."),
    ],
)
def test_an_address_of_another_kind_is_refused(source: str, next_step: str) -> None:
    with pytest.raises(InputError, match="are not read") as caught:
        choose(source, ANY)
    assert caught.value.next_step == next_step


def test_the_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="There is no") as caught:
        choose(tmp_path / "films" / "a.mp4", ANY)
    assert caught.value.next_step == f"The folder `{tmp_path / 'films'}` is not there either."


@pytest.mark.parametrize("pattern", ["*.jpg", "frame?.png", "nothing/*"])
def test_a_pattern_that_matches_nothing_is_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="No picture matches"):
        choose(str(tmp_path / pattern), ANY)


def test_a_pipe_is_refused_before_anything_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="neither a file nor a folder nor a camera"):
        choose(tmp_path / "pipe.mp4", ANY)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(InputFileError, match="cannot be read"):
        choose("a" * 5000, ANY)


def test_an_empty_pipeline_is_refused() -> None:
    with pytest.raises(InputError, match="pipeline is empty"):
        choose("gst:", ANY)
