from __future__ import annotations

import io
import time

import numpy as np
import pytest
from page_client import number_in, shown_of

from edgeinfer.preprocess import libraries
from edgeinfer.preview.pictures import Pictures, encode_jpeg
from edgeinfer.results import Classifications, Mask

PillowImage = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RED, BLUE = (200, 20, 30), (20, 40, 190)


def card() -> np.ndarray:
    """(64, 96, 3): the left half red, the right half blue."""
    pixels = np.empty((64, 96, 3), np.uint8)
    pixels[:, :48], pixels[:, 48:] = RED, BLUE
    return pixels


def decoded(jpeg: bytes | memoryview) -> np.ndarray:
    with PillowImage.open(io.BytesIO(jpeg)) as picture:
        assert picture.format == "JPEG"
        return np.asarray(picture.convert("RGB"))


def pictures(*, max_fps: float = 1000, woken: list[int] | None = None) -> Pictures:
    return Pictures(quality=80, max_width=1280, max_fps=max_fps, wake=lambda: (woken or []).append(1))


@pytest.mark.parametrize("without_opencv", [False, True], ids=["opencv", "pillow"])
def test_red_stays_red_and_blue_stays_blue(without_opencv: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if without_opencv:
        monkeypatch.setattr(libraries, "opencv", lambda: None)
    elif libraries.opencv() is None:
        pytest.skip("OpenCV is not installed")
    seen = decoded(encode_jpeg(card(), quality=80, max_width=1280)).astype(int)
    assert np.abs(seen[:, :40] - RED).max() <= 8
    assert np.abs(seen[:, 56:] - BLUE).max() <= 8


@pytest.mark.parametrize(("max_width", "shape"), [(96, (64, 96, 3)), (48, (32, 48, 3)), (50, (33, 50, 3))])
def test_a_wide_picture_is_made_smaller_in_its_own_shape(max_width: int, shape: tuple[int, ...]) -> None:
    assert decoded(encode_jpeg(card(), quality=80, max_width=max_width)).shape == shape


def test_a_lower_quality_is_a_smaller_file() -> None:
    noise = shown_of().frame.pixels
    assert len(encode_jpeg(noise, quality=20, max_width=1280)) < len(encode_jpeg(noise, quality=90, max_width=1280)) / 2


def test_a_frame_is_neither_drawn_nor_encoded_until_somebody_asks() -> None:
    place = pictures()
    before = card()
    place.put(shown_of(pixels=before))
    assert np.array_equal(before, card())
    assert (place.encoded, place.picture) == (0, None)


def test_a_frame_is_encoded_once_however_often_it_is_asked_for() -> None:
    place = pictures()
    place.put(shown_of())
    first, _ = place.newest()
    again, _ = place.newest()
    assert first is again is not None
    assert place.encoded == 1


def test_the_newest_frame_wins() -> None:
    place = pictures()
    for number in range(5):
        place.put(shown_of(number))
    picture, _ = place.newest()
    assert picture is not None
    assert number_in(picture.jpeg) == 4
    assert place.encoded == 1


def test_the_answer_is_drawn_into_the_picture() -> None:
    place = pictures()
    place.put(shown_of(pixels=np.zeros((120, 160, 3), np.uint8)))
    picture, _ = place.newest()
    assert picture is not None
    assert decoded(picture.jpeg)[30:90, 9:12].max() > 100  # the left side of the box at x = 10


def test_put_wakes_only_who_waits_and_only_once() -> None:
    woken: list[int] = []
    place = Pictures(quality=80, max_width=1280, max_fps=1000, wake=lambda: woken.append(1))
    place.put(shown_of(0))
    assert not woken
    place.newest()
    assert place.newest()[1] is None  # nothing newer: it will be woken
    place.put(shown_of(1))
    place.put(shown_of(2))
    assert len(woken) == 1
    place.newest()
    place.newest()
    place.nobody_waits()
    place.put(shown_of(3))
    assert len(woken) == 1


def test_pictures_come_no_faster_than_the_rate() -> None:
    place = pictures(max_fps=20)
    begin = time.monotonic()
    number = 0
    while place.encoded < 6:
        place.put(shown_of(number))
        number += 1
        _, due = place.newest()
        if due:
            time.sleep(due)  # as the selector waits
    assert time.monotonic() - begin >= 0.25 - 0.001  # the first comes at once, the others 50 ms apart


def test_a_frame_that_cannot_be_drawn_is_told_and_the_next_one_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    place = pictures()
    place.put(shown_of(0, mask=Mask(np.zeros((2, 2), np.uint8))))
    assert place.newest()[0] is None
    assert "mask" in place.trouble
    assert len(caplog.records) == 1
    place.put(shown_of(1))
    picture, due_s = place.newest()
    while picture is None and due_s is not None:  # its turn comes an interval after the one that failed
        time.sleep(due_s)
        picture, due_s = place.newest()
    assert picture is not None
    assert place.trouble == ""


def test_what_has_no_place_in_a_picture_leaves_the_frame_as_it_is() -> None:
    place = pictures()
    place.put(shown_of(pixels=card(), numbers=np.zeros(3)))
    picture, _ = place.newest()
    assert picture is not None
    assert np.abs(decoded(picture.jpeg)[:, :40].astype(int) - RED).max() <= 8


def test_several_answers_are_drawn_into_one_picture() -> None:
    place = pictures()
    names = Classifications(np.array([1]), np.array([0.9], np.float32), ("a street",))
    place.put(shown_of(pixels=np.zeros((240, 320, 3), np.uint8), scene=names, ssd=shown_of().result))
    picture, _ = place.newest()
    assert picture is not None
    seen = decoded(picture.jpeg)
    assert seen[:12, :12].max() > 20
    assert seen[60:90, 9:12].max() > 100
