"""Sizes without decoding, and class numbers as pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeinfer.annotations.pictures import picture_size, pictures_below, read_class_indices
from edgeinfer.errors import InputError, InputFileError
from edgeinfer.preprocess.image import read_image

NUMBERS = np.array([[0, 1, 2], [255, 7, 0]], np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_picture_as_it_is_read(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (5, 3)).save(tmp_path / "a.jpg", exif=exif)
    height, width = read_image(tmp_path / "a.jpg").shape[:2]
    assert picture_size(tmp_path / "a.jpg") == (width, height)


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    for name in ("b/x.png", "a.JPG", "._a.jpg", ".thumbs/t.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in pictures_below(tmp_path)] == ["a.JPG", "x.png"]


def test_grey_values_are_the_classes(tmp_path: Path) -> None:
    Image.fromarray(NUMBERS).save(tmp_path / "a.png")
    found = read_class_indices(tmp_path / "a.png")
    assert found.dtype == np.uint8
    assert found.tolist() == NUMBERS.tolist()


def test_with_a_palette_the_indices_are_the_classes(tmp_path: Path) -> None:
    picture = Image.fromarray(NUMBERS).convert("P")
    picture.putdata(NUMBERS.reshape(-1).tolist())
    picture.putpalette([value for index in range(256) for value in (255 - index, 30, index)])
    picture.save(tmp_path / "a.png")
    assert read_class_indices(tmp_path / "a.png").tolist() == NUMBERS.tolist()


def test_sixteen_bits_hold_many_classes(tmp_path: Path) -> None:
    wide = np.array([[0, 300], [65535, 255]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    found = read_class_indices(tmp_path / "a.png")
    assert found.dtype == np.uint16
    assert found.tolist() == wide.tolist()


def test_two_classes_may_be_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "a.png")
    assert read_class_indices(tmp_path / "a.png").tolist() == [[0, 1]]


def test_colours_are_no_classes(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="has colours, not one class number a pixel"):
        read_class_indices(tmp_path / "a.png")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="does not exist"):
        picture_size(tmp_path / "none.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"`bad\.png` cannot be read"):
        picture_size(tmp_path / "bad.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 99, (20, 20), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"`cut\.png` cannot be read"):
        read_class_indices(tmp_path / "cut.png")
