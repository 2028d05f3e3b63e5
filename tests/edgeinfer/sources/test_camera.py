"""`Camera`: one way for cameras, streams, videos and pictures."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinfer.errors import DeviceError, InputError, InputFileError
from edgeinfer.preprocess.encode import write_image
from edgeinfer.sources.camera import Camera
from edgeinfer.sources.frame import FrameSource

from .conftest import BLUE, RED, Server, card, grey, is_card, number_of

PATIENT_S = 60.0


def test_a_video_gives_its_frames_in_order(ten: Path) -> None:
    with Camera(ten) as camera:
        frames = list(camera)
    assert [frame.number for frame in frames] == list(range(10))
    assert [number_of(frame.pixels) for frame in frames] == list(range(10))


def test_a_camera_is_what_live_needs(ten: Path) -> None:
    source: FrameSource = Camera(ten)
    assert (source.live, source.name, source.trouble) == (False, "ten.avi", "")
    source.close()


def test_a_file_is_stamped_with_the_moment_it_was_read(ten: Path) -> None:
    before = time.monotonic_ns()
    with Camera(ten) as camera:
        first, second = camera.read(), camera.read()
    assert first is not None
    assert second is not None
    assert before <= first.time_ns <= second.time_ns <= time.monotonic_ns()


@pytest.mark.parametrize(
    ("name", "count", "shape"),
    [
        ("one-by-one-person-detection.mp4", 1394, (432, 768, 3)),
        ("bottle-detection.mp4", 1189, (360, 640, 3)),
    ],
)
def test_real_videos_give_every_frame(name: str, count: int, shape: tuple[int, ...], test_data: Path, cv2: Any) -> None:
    """The counts are those of the videos' own index, and stand in the data's README."""
    with Camera(test_data / "video" / name) as camera:
        shapes = [frame.pixels.shape for frame in camera]
    assert shapes == [shape] * count


def test_frames_do_not_share_memory(ten: Path) -> None:
    with Camera(ten) as camera:
        first = camera.read()
        assert first is not None
        kept = first.pixels.copy()
        others = list(camera)
    assert not any(np.shares_memory(first.pixels, other.pixels) for other in others)
    assert np.array_equal(first.pixels, kept)
    assert first.pixels.flags.writeable
    assert first.pixels.flags.owndata


@pytest.mark.parametrize(("colour", "name"), [(RED, "red"), (BLUE, "blue")], ids=["red", "blue"])
@pytest.mark.parametrize("kind", ["card.avi", "card.mkv", "card.png", "card.jpg", "folder"])
def test_a_card_keeps_its_colour_through_files(
    kind: str, colour: tuple[int, int, int], name: str, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    if kind in ("card.avi", "card.mkv"):
        source = write_video(kind, [card(colour)] * 3)
    else:
        source = tmp_path / ("a.png" if kind == "folder" else kind)
        write_image(source, card(colour))
        source = tmp_path if kind == "folder" else source
    with Camera(source) as camera:
        frame = camera.read()
    assert frame is not None
    assert is_card(frame.pixels, colour)


@pytest.mark.parametrize("colour", [RED, BLUE], ids=["red", "blue"])
def test_a_card_keeps_its_colour_through_a_stream(colour: tuple[int, int, int], server: Server) -> None:
    server.send(card(colour), 10)
    with Camera(f"{server.url}/stream", first_frame_s=PATIENT_S) as camera:
        frame = camera.read()
    assert frame is not None
    assert is_card(frame.pixels, colour)


def test_a_stream_is_live_and_named_without_its_password(server: Server) -> None:
    server.send(grey(3), 10)
    url = f"{server.url.replace('://', '://me:secret@')}/stream"
    with Camera(url, first_frame_s=PATIENT_S) as camera:
        assert camera.live
        assert camera.name == f"{server.url}/stream"


def test_a_stream_that_was_cut_comes_back_and_counts_on(server: Server) -> None:
    server.send(grey(3), 10)
    server.cut()
    with Camera(f"{server.url}/stream", first_frame_s=PATIENT_S) as camera:
        first = camera.read()
        assert first is not None
        server.send(grey(40), 10)
        frame = first
        while number_of(frame.pixels) < 30:
            before, next_frame = frame, camera.read()
            assert next_frame is not None
            frame = next_frame
            assert frame.number > before.number
            assert frame.time_ns >= before.time_ns
        assert camera.trouble == ""
    assert server.visits == 2


def test_a_stream_that_is_gone_says_so_meanwhile(server: Server) -> None:
    server.send(grey(3), 10)
    server.cut()
    with Camera(f"{server.url}/stream", first_frame_s=PATIENT_S, reconnect_s=0.1) as camera:
        server.close()
        with pytest.raises(DeviceError, match=r"is lost, and did not come back within 0\.1 s"):
            list(camera)
        assert "is lost, trying again" in camera.trouble


def test_the_address_of_a_video_file_is_a_file(ten: Path, server: Server) -> None:
    server.folder = ten.parent
    with Camera(f"{server.url}/ten.avi") as camera:
        assert not camera.live
        assert [number_of(frame.pixels) for frame in camera] == list(range(10))


def test_the_address_of_a_video_that_is_not_there_is_told_with_the_reason(server: Server) -> None:
    with pytest.raises(DeviceError, match="cannot be opened") as caught:
        Camera(f"{server.url}/gone.avi")
    assert caught.value.received.startswith("404 Not Found")


def test_a_stream_that_nobody_serves_is_a_device_error_with_the_reason(server: Server) -> None:
    with pytest.raises(DeviceError, match="cannot be opened") as caught:
        Camera(f"{server.url}/nothing", first_frame_s=PATIENT_S)
    assert caught.value.received.startswith("404 Not Found")


def test_a_stream_that_says_nothing_is_given_up_in_time(server: Server) -> None:
    begin = time.monotonic()
    with pytest.raises(DeviceError):
        Camera(f"{server.url}/silent", first_frame_s=0.5)
    assert time.monotonic() - begin < 20


def test_closing_while_another_thread_waits_ends_its_read(server: Server) -> None:
    server.send(grey(3), 4)
    camera = Camera(f"{server.url}/stream", first_frame_s=PATIENT_S)
    got: list[Any] = []

    def read_all() -> None:
        got.extend(iter(camera.read, None))
        got.append("ended")

    thread = threading.Thread(target=read_all)
    thread.start()
    begin = time.monotonic()
    camera.close()
    camera.close()
    assert time.monotonic() - begin < 10  # the server says nothing for a minute
    thread.join(PATIENT_S)
    assert got[-1] == "ended"


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "left open"])
def test_a_process_ends_well_while_a_stream_is_being_read(closes: bool, server: Server) -> None:
    server.send(grey(3), 20)
    code = (
        "from edgeinfer.sources.camera import Camera\n"
        f"camera = Camera('{server.url}/stream', first_frame_s={PATIENT_S})\n"
        f"print(camera.read().pixels.shape){'; camera.close()' if closes else ''}"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENT_S)
    assert (out.returncode, out.stdout, out.stderr) == (0, "(48, 64, 3)\n", "")


def test_opening_what_is_no_video_prints_nothing_of_opencv(tmp_path: Path, cv2: Any) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x10ftypisom" + bytes(range(256)) * 8)
    code = (
        f"from edgeinfer.sources.camera import Camera\ntry: Camera({str(path)!r})\nexcept ValueError: print('refused')"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENT_S)
    assert (out.stdout, out.stderr) == ("refused\n", "")


def test_a_camera_that_nobody_holds_lets_go(ten: Path) -> None:
    camera = Camera(ten)
    way = camera._way
    del camera
    assert way.take() is None


def test_a_closed_camera_gives_no_more_frames(ten: Path) -> None:
    camera = Camera(ten)
    camera.close()
    assert camera.read() is None
    assert list(camera) == []


def test_a_video_begins_again(ten: Path) -> None:
    with Camera(ten, repeat=True) as camera:
        frames = [camera.read() for _ in range(25)]
    assert [frame and frame.number for frame in frames] == list(range(25))
    assert [frame and number_of(frame.pixels) for frame in frames] == [number % 10 for number in range(25)]


def test_a_replayed_video_keeps_its_own_pace(ten: Path) -> None:
    with Camera(ten, realtime=True) as camera:
        assert camera.live
        times = [(frame.number, frame.time_ns) for frame in camera]
    first, begin_ns = times[0]
    assert first == 0
    # Frames may be left out on a busy machine; those that come are due 100 ms after each other.
    assert [round((ns - begin_ns) / 1e6) for _, ns in times] == [number * 100 for number, _ in times]


def test_a_replayed_folder_has_the_pace_that_was_asked_for(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f"{number}.png", grey(number))
    with Camera(tmp_path, realtime=True, fps=20) as camera:
        times = [(frame.number, frame.time_ns) for frame in camera]
    assert [round((ns - times[0][1]) / 1e6) for _, ns in times] == [number * 50 for number, _ in times]


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_image(tmp_path / f"f{number}.png", grey(number))
    (tmp_path / "notes.txt").write_text("no picture")
    for source in (tmp_path, str(tmp_path / "f*.png")):
        with Camera(source) as camera:
            assert [frame.name for frame in camera] == ["f1.png", "f2.png", "f10.png"]


def test_a_broken_picture_is_named_and_the_next_still_comes(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_image(tmp_path / f"{number}.png", grey(number))
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    with Camera(tmp_path) as camera:
        assert camera.read() is not None
        with pytest.raises(InputError, match=r"2\.png"):
            camera.read()
        last = camera.read()
        assert last is not None
        assert (last.name, last.number) == ("3.png", 2)
        assert camera.read() is None


def test_a_video_without_opencv_names_the_package(ten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match="OpenCV cannot be imported"):
        Camera(ten)


def test_a_path_that_leads_nowhere_is_told_with_what_was_probably_meant(ten: Path) -> None:
    with pytest.raises(InputFileError) as caught:
        Camera(ten.with_name("tne.avi"))
    assert caught.value.next_step == "Did you mean `ten.avi`?"
    assert "rtsp://" in caught.value.expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": (64, 48)}, "`size` can be asked of a camera"),
        ({"size": (0, 48)}, "`size` is no size"),
        ({"size": 640}, "`size` is no size"),
        ({"fps": 10}, "`fps` is the pace of a file that is replayed"),
        ({"fps": 0}, "`fps` is no positive number"),
        ({"fps": float("nan")}, "`fps` is no positive number"),
        ({"first_frame_s": -1}, "`first_frame_s` is no positive number"),
        ({"first_frame_s": True}, "`first_frame_s` is no positive number"),
        ({"reconnect_s": "1"}, "`reconnect_s` is no positive number"),
    ],
)
def test_what_a_file_cannot_do_is_refused(arguments: dict[str, Any], words: str, ten: Path) -> None:
    with pytest.raises(InputError, match=words):
        Camera(ten, **arguments)


@pytest.mark.parametrize("arguments", [{"size": (64, 48)}, {"fps": 5}], ids=["size", "fps"])
def test_what_a_stream_cannot_do_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="can be asked of a camera"):
        Camera("rtsp://127.0.0.1/live", **arguments)


def test_there_is_no_camera_here_and_the_error_says_what_there_is() -> None:
    with pytest.raises(DeviceError, match="There is no camera `/dev/video987`") as caught:
        Camera(987)
    assert "cameras that are here:" in caught.value.received


def test_a_file_says_its_own_rate(ten: Path) -> None:
    with Camera(ten) as camera:
        assert camera.fps == pytest.approx(10.0, rel=1e-3)
