"""Video files: whole, damaged, turned, of odd sizes and depths."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinfer.errors import InputError, InputFileError
from edgeinfer.preprocess.image import Image
from edgeinfer.sources.camera import Camera
from edgeinfer.sources.reader import Wanted
from edgeinfer.sources.video import VideoReader

from .conftest import RED, card, grey, is_card, number_of


def read_all(path: Path) -> tuple[list[Image], InputError | None]:
    """Every frame, and the error at the end."""
    pictures: list[Image] = []
    try:
        with Camera(path) as camera:
            pictures.extend(frame.pixels for frame in camera)
    except InputError as error:
        return pictures, error
    return pictures, None


def test_frames_are_due_at_their_own_times(ten: Path) -> None:
    reader = VideoReader(ten, Wanted())
    assert [reader.advance() for _ in range(11)] == [*(number * 100_000_000 for number in range(10)), None]
    assert reader.interval_ns == 100_000_000
    reader.close()


def test_another_pace_can_be_asked_for(ten: Path) -> None:
    reader = VideoReader(ten, Wanted(fps=4))
    assert [reader.advance() for _ in range(3)] == [0, 250_000_000, 500_000_000]
    reader.close()


def test_a_real_videos_times_are_those_of_its_rate(test_data: Path, cv2: Any) -> None:
    """29.83 frames a second: 358 in 12 s, as the file's own time scale says."""
    reader = VideoReader(test_data / "video" / "bottle-detection.mp4", Wanted())
    times = [reader.advance() for _ in range(359)]
    assert times[0] == 0
    assert times[358] == pytest.approx(12e9, rel=1e-5)
    reader.close()


def test_a_video_that_was_cut_off_gives_what_is_there_and_says_how_far_it_came(
    write_video: Callable[..., Path],
) -> None:
    path = write_video("a.avi", [grey(number) for number in range(50)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    pictures, error = read_all(path)
    assert error is not None
    assert 10 <= len(pictures) < 50
    assert [number_of(pixels) for pixels in pictures] == list(range(len(pictures)))
    assert error.message == "The video `a.avi` has fewer frames than it says: it is damaged or cut off."
    assert (error.received, error.expected) == (f"{len(pictures)} good frames", "50 frames, as the file itself says")


def test_a_real_video_that_was_cut_off_gives_what_is_there(test_data: Path, tmp_path: Path, cv2: Any) -> None:
    data = (test_data / "video" / "one-by-one-person-detection.mp4").read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(data[: len(data) * 6 // 10])
    pictures, error = read_all(path)
    assert error is not None
    assert 700 < len(pictures) < 900  # 829 of 1394
    assert error.expected == "1394 frames, as the file itself says"


def test_an_end_that_was_told_once_is_an_end(write_video: Callable[..., Path]) -> None:
    path = write_video("a.avi", [grey(number) for number in range(50)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    reader = VideoReader(path, Wanted())
    with pytest.raises(InputError):
        list(iter(reader.advance, None))
    assert reader.advance() is None
    reader.close()


def test_frames_that_cannot_be_decoded_are_passed_over_and_counted(write_video: Callable[..., Path]) -> None:
    path = write_video("a.avi", [grey(number) for number in range(50)])
    data = bytearray(path.read_bytes())
    at = 0
    for number in range(50):
        at = data.index(b"\xff\xd8", at + 1)
        if number in (20, 21):
            data[at : at + 200] = bytes(200)  # nearly all of a picture: of less FFmpeg makes one in part
    path.write_bytes(bytes(data))
    with Camera(path) as camera:
        numbers = [number_of(frame.pixels) for frame in camera]
        assert camera.damaged == 2
    assert numbers == [*range(20), *range(22, 50)]


def test_a_real_video_with_noise_in_it_goes_on_behind_it(test_data: Path, tmp_path: Path, cv2: Any) -> None:
    data = bytearray((test_data / "video" / "one-by-one-person-detection.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = np.random.default_rng(3).bytes(20_000)
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(data))
    pictures, error = read_all(path)
    assert error is None
    assert 1350 < len(pictures) < 1394


def test_an_mp4_without_its_index_says_so(test_data: Path, tmp_path: Path, cv2: Any) -> None:
    data = (test_data / "video" / "bottle-detection.mp4").read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut off before its index") as caught:
        Camera(path)
    assert "`moov`" in caught.value.received


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello\n" * 100, "is a text, not a video"),
        ("Größe\n".encode() * 200, "is a text, not a video"),
        (bytes(range(256)) * 20, "is no video"),
        (b"\0" * 4096, "is no video"),
        (b"RIFF\x00\x10\x00\x00AVI LIST" + bytes(900), "is no video"),
        (b"\0\0\0\x18ftypisom" + bytes(8) + b"\0\0\0\0mdat" + bytes(999), "cut off before its index"),
    ],
    ids=["empty", "text", "text in UTF-8", "bytes", "zeros", "a header alone", "no index"],
)
def test_what_is_no_video_is_refused(data: bytes, words: str, tmp_path: Path, cv2: Any) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        Camera(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_video_that_may_not_be_read_is_told(ten: Path) -> None:
    ten.chmod(0)
    with pytest.raises(InputFileError, match="cannot be read"):
        Camera(ten)


@pytest.mark.parametrize("size", [(63, 49), (1, 1), (65, 48)])
def test_odd_sizes_are_read(size: tuple[int, int], tmp_path: Path, cv2: Any) -> None:
    """A file of JPEGs behind each other, since OpenCV itself writes even sizes only."""
    (tmp_path / "a.mjpeg").write_bytes(cv2.imencode(".jpg", card(RED, *size)[..., ::-1])[1].tobytes() * 3)
    pictures, error = read_all(tmp_path / "a.mjpeg")
    assert error is None
    assert [pixels.shape for pixels in pictures] == [(size[1], size[0], 3)] * 3
    assert is_card(pictures[0], RED)


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_videos_of_8_and_16_bits_become_rgb_of_8_bits(depth: int, tmp_path: Path, cv2: Any) -> None:
    path = tmp_path / "a.mkv"
    writer = cv2.VideoWriter(
        str(path),
        cv2.CAP_FFMPEG,
        cv2.VideoWriter_fourcc(*"FFV1"),
        10,
        (64, 48),
        [cv2.VIDEOWRITER_PROP_IS_COLOR, 0, cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U if depth == 16 else cv2.CV_8U],
    )
    if not writer.isOpened():
        pytest.skip("this OpenCV does not write grey videos")
    for _ in range(3):
        writer.write(np.full((48, 64), 100 << (depth - 8), np.uint16 if depth == 16 else np.uint8))
    writer.release()
    pictures, _ = read_all(path)
    assert len(pictures) == 3
    assert pictures[0].dtype == np.uint8
    assert is_card(pictures[0], (100, 100, 100), 2)


@pytest.mark.parametrize(
    ("matrix", "red"),
    [
        ((0, 1, -1, 0, 64, 0), np.s_[:40, :]),
        ((-1, 0, 0, -1, 96, 64), np.s_[:, 56:]),
        ((0, -1, 1, 0, 0, 96), np.s_[56:, :]),
    ],
    ids=["clockwise", "upside down", "counterclockwise"],
)
def test_a_video_that_was_filmed_with_the_camera_turned_is_upright(
    matrix: tuple[int, ...], red: Any, tmp_path: Path, cv2: Any
) -> None:
    """As telephones do it: the pixels lie on their side, and a matrix in the track's header says where they belong.

    Source: ISO/IEC 14496-12, section 8.3.2: x' = ax + cy + tx, y' = bx + dy + ty.
    """
    path = tmp_path / "a.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64))
    left_is_red = card((0, 0, 0), 96, 64)
    left_is_red[:, :48] = RED
    for _ in range(3):
        writer.write(left_is_red[..., ::-1].copy())
    writer.release()
    data = path.read_bytes()

    def stored(a: int, b: int, c: int, d: int, tx: int, ty: int) -> bytes:
        return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, tx << 16, ty << 16, 1 << 30)

    at = data.index(stored(1, 0, 0, 1, 0, 0), data.index(b"tkhd"))
    path.write_bytes(data[:at] + stored(*matrix) + data[at + 36 :])
    pictures, _ = read_all(path)
    assert pictures[0].shape == ((64, 96, 3) if matrix[0] else (96, 64, 3))
    assert is_card(pictures[0][red], RED, 40)
    assert pictures[0].mean() < 50  # the other half is black
    assert pictures[0].flags.c_contiguous


def test_a_name_with_signs_that_mean_something_to_ffmpeg_is_read(ten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("file:a%03d.avi", "a b'c;d.avi", "größe.avi", "-i.avi"):
        renamed = ten.rename(ten.with_name(name))
        monkeypatch.chdir(renamed.parent)
        pictures, error = read_all(Path(name))
        assert (len(pictures), error) == (10, None), name
        ten = renamed


def test_a_gif_moves(tmp_path: Path, cv2: Any) -> None:
    from PIL import Image as PillowImage

    shown = [PillowImage.new("RGB", (64, 48), colour) for colour in ("red", "blue", "lime")]
    shown[0].save(tmp_path / "a.gif", save_all=True, append_images=shown[1:], duration=100)
    pictures, error = read_all(tmp_path / "a.gif")
    assert error is None
    assert [tuple(pixels[20, 20]) for pixels in pictures] == [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
