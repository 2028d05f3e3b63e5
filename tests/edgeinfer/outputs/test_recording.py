"""A video file: what is in it, how fast it plays, and what is left of it when something goes wrong."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinfer.errors import InputError, OutputError
from edgeinfer.outputs.recording import Recording
from edgeinfer.preprocess.libraries import opencv
from edgeinfer.results import Detections

pytestmark = pytest.mark.skipif(opencv() is None, reason="OpenCV is not installed")
KINDS = [".mp4", ".avi"]
MS = 10**6
# A child process that makes noise of 640x480: about 0.2 MB a frame.
NOISE = """
import resource, sys
import numpy as np
from edgeinfer.errors import OutputError
from edgeinfer.live.shown import Shown, Status
from edgeinfer.outputs.recording import Recording
from edgeinfer.sources.frame import Frame
rng = np.random.default_rng(0)
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def noise(number):
    return Shown(Frame(rng.integers(0, 255, (480, 640, 3), np.uint8), number, number * 40_000_000), {}, Status())
def still(number):
    return Shown(Frame(np.zeros((480, 640, 3), np.uint8), number, number * 40_000_000), {}, Status())
"""


@pytest.fixture(name="shown")
def _bare(shown: Any) -> Any:
    """A frame in which nothing was found, so that nothing is drawn into it."""
    return partial(shown, results={})


def frames(path: Path, most: int = 1000) -> list[np.ndarray[Any, Any]]:
    """The pictures of a video, RGB."""
    import cv2

    video = cv2.VideoCapture(str(path))
    found: list[np.ndarray[Any, Any]] = []
    while len(found) < most:
        there, picture = video.read()
        if not there:
            break
        found.append(picture[..., ::-1])
    video.release()
    return found


def rate(path: Path) -> float:
    import cv2

    video = cv2.VideoCapture(str(path))
    fps = float(video.get(cv2.CAP_PROP_FPS))
    video.release()
    return fps


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NOISE + code, *map(str, arguments)], capture_output=True, text=True, timeout=200
    )


@pytest.mark.parametrize("suffix", [*KINDS, ".MP4"])
def test_red_is_red_and_blue_is_blue(tmp_path: Path, suffix: str, shown: Any) -> None:
    path = tmp_path / f"out{suffix}"
    with Recording(path, fps=25) as output:
        assert output.write(shown((255, 0, 0), time_ns=0))
        assert output.write(shown((0, 0, 255), time_ns=40 * MS))
    red, blue = (picture.mean(axis=(0, 1)) for picture in frames(path))
    # Both encoders lose a little: 8 bits of luminance and half of the colour's resolution.
    assert red == pytest.approx([255, 0, 0], abs=12)
    assert blue == pytest.approx([0, 0, 255], abs=12)


def test_what_was_found_is_drawn_in(tmp_path: Path, shown: Any) -> None:
    found = Detections(np.array([[16, 16, 48, 40]], np.float32), np.array([0.9], np.float32), np.array([0]), ("jay",))
    with Recording(tmp_path / "out.avi", fps=25) as output:
        output.write(shown((0, 0, 0), results={"birds": found}))
    picture = frames(tmp_path / "out.avi")[0].astype(int)
    assert picture[16:40, 16:19].max() > 100
    assert picture[44:].max() < 20  # below the box; its tag stands above


@pytest.mark.parametrize("suffix", KINDS)
def test_frames_are_repeated_so_that_it_plays_at_the_speed_of_life(tmp_path: Path, suffix: str, shown: Any) -> None:
    path = tmp_path / f"out{suffix}"
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    with Recording(path, fps=20) as output:
        for colour, time_ms in zip(colours, (0, 250, 350), strict=True):
            output.write(shown(colour, time_ns=time_ms * MS))
    assert rate(path) == 20
    strongest = [int(picture.mean(axis=(0, 1)).argmax()) for picture in frames(path)]
    assert strongest == [0, 0, 0, 0, 0, 1, 1, 2]  # a quarter of a second, a tenth, and the last


def test_without_a_rate_it_is_the_sources(tmp_path: Path, shown: Any) -> None:
    with Recording(tmp_path / "out.avi") as output:
        for number in range(12):
            output.write(shown(time_ns=number * 125 * MS))
    assert rate(tmp_path / "out.avi") == 8
    assert len(frames(tmp_path / "out.avi")) == 12


def test_a_recording_shorter_than_it_takes_to_know_the_rate_is_whole(tmp_path: Path, shown: Any) -> None:
    with Recording(tmp_path / "out.mp4") as output:
        for number in range(3):
            output.write(shown(time_ns=number * 100 * MS))
    assert (rate(tmp_path / "out.mp4"), len(frames(tmp_path / "out.mp4"))) == (10, 3)


@pytest.mark.parametrize("suffix", KINDS)
def test_of_a_file_each_frame_stands_once_in_its_order(tmp_path: Path, suffix: str, shown: Any) -> None:
    path = tmp_path / f"out{suffix}"
    levels = [20 * number for number in range(12)]
    with Recording(path, fps=29.97, every_frame=True) as output:
        for number, level in enumerate(levels):
            output.write(shown((level, level, level), time_ns=number))  # as fast as the model is
    assert rate(path) == pytest.approx(29.97, abs=0.01)
    assert [picture.mean() for picture in frames(path)] == pytest.approx(levels, abs=6)


def test_a_real_video_comes_out_as_it_went_in(test_data: Path, tmp_path: Path, shown: Any) -> None:
    video = test_data / "video" / "one-by-one-person-detection.mp4"
    given = frames(video, 20)
    with Recording(tmp_path / "out.mp4", fps=rate(video), every_frame=True) as output:
        for number, pixels in enumerate(given):
            output.write(shown(number=number, pixels=pixels))
    got = frames(tmp_path / "out.mp4")
    assert len(got) == 20
    for one, other in zip(given, got, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 6


@pytest.mark.parametrize("suffix", KINDS)
def test_an_odd_column_and_row_are_left_out(tmp_path: Path, suffix: str, shown: Any) -> None:
    path = tmp_path / f"out{suffix}"
    with Recording(path, fps=25) as output:
        output.write(shown((0, 255, 0), size=(65, 49), time_ns=0))
        output.write(shown((0, 255, 0), size=(65, 49), time_ns=40 * MS))
    first, second = frames(path)
    assert first.shape == second.shape == (48, 64, 3)
    assert second.mean(axis=(0, 1)) == pytest.approx([0, 255, 0], abs=12)


@pytest.mark.parametrize(
    ("size", "bars", "filled"),
    [
        ((48, 128), (slice(None), slice(0, 20)), (slice(None), slice(26, 38))),  # upright: bars left and right
        ((128, 32), (slice(0, 14), slice(None)), (slice(18, 30), slice(None))),  # wide: bars above and below
        ((32, 24), (slice(0, 0), slice(0, 0)), (slice(None), slice(None))),  # smaller, of the same shape: none
    ],
    ids=["upright", "wide", "smaller"],
)
def test_a_frame_of_another_size_stands_between_black_bars(
    tmp_path: Path, size: tuple[int, int], bars: tuple[slice, slice], filled: tuple[slice, slice], shown: Any
) -> None:
    with Recording(tmp_path / "out.avi", fps=25) as output:
        output.write(shown((255, 255, 255), time_ns=0))
        output.write(shown((255, 255, 255), size=size, time_ns=40 * MS))
    second = frames(tmp_path / "out.avi")[1]
    assert second.shape == (48, 64, 3)
    assert second[filled].min() > 235
    assert not bars[0].stop or not second[bars].size or second[bars].max() < 20


def test_a_frame_of_one_pixel_cannot_be_recorded(tmp_path: Path, shown: Any) -> None:
    output = Recording(tmp_path / "out.mp4", fps=25)
    with pytest.raises(OutputError, match=r"1 x 1|0 x 0"):
        output.write(shown(size=(1, 1)))
    output.close()
    assert list(tmp_path.iterdir()) == []


# --- The file and its name ------------------------------------------------------------------------


def test_the_final_name_is_taken_only_at_the_end(tmp_path: Path, shown: Any) -> None:
    path = tmp_path / "out.avi"
    path.write_bytes(b"what stood there")
    output = Recording(path, fps=25)
    output.write(shown())
    assert path.read_bytes() == b"what stood there"
    output.close()
    assert len(frames(path)) == 1
    assert hidden(tmp_path) == []


def test_an_error_while_recording_leaves_what_there_is(tmp_path: Path, shown: Any) -> None:
    def loop() -> None:
        with Recording(tmp_path / "out.mp4") as output:
            output.write(shown(time_ns=0))
            output.write(shown(time_ns=40 * MS))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert len(frames(tmp_path / "out.mp4")) == 2


def test_it_can_be_closed_twice_and_then_takes_no_more(tmp_path: Path, shown: Any) -> None:
    output = Recording(tmp_path / "out.avi", fps=25)
    output.write(shown())
    output.close()
    output.close()
    with pytest.raises(OutputError, match="closed"):
        output.write(shown())


def test_without_a_frame_there_is_no_file_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Recording(tmp_path / "out.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []
    assert "Nothing was recorded" in caplog.text


def test_a_link_is_written_through(tmp_path: Path, shown: Any) -> None:
    (tmp_path / "videos").mkdir()
    link = tmp_path / "latest.avi"
    link.symlink_to(tmp_path / "videos" / "one.avi")
    with Recording(link, fps=25) as output:
        output.write(shown())
    assert link.is_symlink()
    assert len(frames(tmp_path / "videos" / "one.avi")) == 1


@pytest.mark.parametrize(
    "name", ["a%03d.mp4", "ü 中.avi", "-x.mp4", "x" * 200 + ".avi"], ids=["percent", "letters", "minus", "long"]
)
def test_any_name_will_do(tmp_path: Path, name: str, shown: Any) -> None:
    with Recording(tmp_path / name, fps=25) as output:
        output.write(shown())
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("out.mkv", InputError, r"`.mp4` or `.avi`"),
        ("out", InputError, r"`.mp4` or `.avi`"),
        ("out.mp", InputError, r"Did you mean `.mp4`"),
        ("missing/out.mp4", OutputError, "mkdir -p"),
        ("folder.mp4", OutputError, "not a folder"),
        ("pipe.avi", OutputError, "not a device or a pipe"),
        ("x" * 300 + ".mp4", OutputError, "too long"),
        ("null\0byte.mp4", OutputError, "null"),
    ],
    ids=["other-kind", "no-suffix", "misspelt", "no-folder", "folder", "pipe", "long", "null"],
)
def test_a_place_that_will_not_do_is_refused_at_once(
    tmp_path: Path, name: str, kind: type[Exception], words: str
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.avi")
    with pytest.raises(kind, match=words):
        Recording(tmp_path / name)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("fps", [0, -1.0, float("nan"), float("inf"), 1000], ids=str)
def test_a_rate_that_is_none_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(InputError, match="240 frames a second"):
        Recording(tmp_path / "out.mp4", fps=fps)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_slow_rate_is_one(tmp_path: Path, suffix: str, shown: Any) -> None:
    with Recording(tmp_path / f"out{suffix}", fps=0.5) as output:
        output.write(shown(time_ns=0))
        output.write(shown(time_ns=4000 * MS))
    assert len(frames(tmp_path / f"out{suffix}")) == 3


# --- Disks ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 58 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=58m", "none", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def record_noise(output: Recording, shown: Any, taken: list[int]) -> None:
    """Record until it is refused; `taken` holds the numbers of the frames that were not."""
    rng = np.random.default_rng(0)
    for number in range(1000):
        pixels = rng.integers(0, 255, (480, 640, 3), np.uint8)
        output.write(shown(number=number, time_ns=number * 40 * MS, pixels=pixels))
        taken.append(number)


@pytest.mark.parametrize("suffix", KINDS)
def test_before_the_disk_is_full_it_ends_in_good_order(small_disk: Path, suffix: str, shown: Any) -> None:
    path = small_disk / f"out{suffix}"
    output = Recording(path, fps=25)
    taken: list[int] = []
    with pytest.raises(OutputError, match="almost full") as caught:
        record_noise(output, shown, taken)
    assert "MiB left in" in caught.value.received
    assert len(frames(path)) == len(taken) > 10
    assert hidden(small_disk) == []
    output.close()


def test_a_disk_that_is_full_is_refused_at_once(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(20 * 2**20))
    with pytest.raises(OutputError, match="not enough room"):
        Recording(small_disk / "out.mp4")
    assert hidden(small_disk) == []


def test_a_disk_that_cannot_be_written_is_refused_at_once(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OutputError, match="Read-only file system"):
        Recording(small_disk / "out.mp4")


def test_a_file_that_is_taken_away_is_an_error(tmp_path: Path, shown: Any) -> None:
    output = Recording(tmp_path / "out.avi", fps=25)
    output.write(shown())
    hidden(tmp_path)[0].unlink()
    with pytest.raises(OutputError):
        output.write(shown())


def test_before_the_largest_file_is_reached_it_ends_in_good_order(tmp_path: Path) -> None:
    # The limit of a process stands in for that of FAT: both are the largest file, not the disk.
    out = child(
        """
limit(56 * 2**20)
output = Recording(sys.argv[1], fps=25)
try:
    for number in range(1000):
        output.write(noise(number))
except OutputError as error:
    print(number, error.message)
""",
        tmp_path / "out.avi",
    )
    number, _, message = out.stdout.partition(" ")
    assert message.strip() == "The recording has reached the largest size that a file may have there.", out.stderr
    assert len(frames(tmp_path / "out.avi")) == int(number) > 10


def test_a_write_that_fails_silently_is_seen(tmp_path: Path) -> None:
    # OpenCV says nothing of what the system refuses; here it refuses everything behind the first bytes.
    out = child(
        """
from edgeinfer.outputs import recording
recording._SILENT_PIXELS = 10**8  # sooner than in earnest, which takes seconds
output = Recording(sys.argv[1], fps=25)
limit(1000)
try:
    for number in range(2000):
        output.write(still(number))
except OutputError as error:
    print(number, error)
output.close()
""",
        tmp_path / "out.mp4",
    )
    number, _, message = out.stdout.partition(" ")
    assert message.startswith("The recording could not be finished, and cannot be played."), out.stderr
    assert 300 < int(number) < 400  # 10**8 pixels are 326 pictures
    assert not (tmp_path / "out.mp4").exists()
    assert str(hidden(tmp_path)[0]) in message


def test_a_recording_of_which_the_end_is_missing_says_so(tmp_path: Path) -> None:
    out = child(
        """
output = Recording(sys.argv[1], fps=25)
limit(3_000_000)
for number in range(30):
    output.write(noise(number))
try:
    output.close()
except OutputError as error:
    print(error.message)
""",
        tmp_path / "out.avi",
    )
    assert out.stdout.strip() == "The recording is not complete.", out.stderr
    assert 5 < len(frames(tmp_path / "out.avi")) < 30


def test_an_avi_of_a_process_that_was_killed_plays(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{NOISE}\noutput = Recording(sys.argv[1], fps=25)\n"
            "for number in range(20):\n    output.write(noise(number))\n"
            "print('ready', flush=True)\nsys.stdin.read()",
            str(tmp_path / "out.avi"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out.avi").exists()
    assert len(frames(hidden(tmp_path)[0])) > 10


class SlowWriter:
    """A stand-in for an encoder that takes a fifth of a second for a frame, as none does here."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def write(self, picture: Any) -> None:
        time.sleep(0.2)
        self._real.write(picture)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_an_encoder_that_is_too_slow_does_not_hold_up_the_frames(
    shown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import cv2

    real = cv2.VideoWriter
    slow = lambda *arguments: SlowWriter(real(*arguments))  # noqa: E731 - the name of a class of OpenCV's
    slow.fourcc = real.fourcc  # type: ignore[attr-defined]
    monkeypatch.setattr(cv2, "VideoWriter", slow)
    with Recording(tmp_path / "a.avi", fps=30) as recording:
        recording.write(shown(number=0, time_ns=0))
        begin = time.monotonic()
        recording.write(shown(number=1, time_ns=2000 * MS))  # sixty places later: 12 s of such an encoder
        assert time.monotonic() - begin < 5
    assert "faster than life" in caplog.text
