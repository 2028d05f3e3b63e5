"""Pictures back to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeinfer.errors import InputError, OutputError
from edgeinfer.preprocess.encode import encode, write_image
from edgeinfer.preprocess.image import read_image

pytestmark = pytest.mark.device

RAMP = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)


def test_a_png_comes_back_as_it_was(tmp_path: Path) -> None:
    write_image(tmp_path / "ramp.png", RAMP[:, ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "ramp.png"), RAMP[:, ::-1])


def test_a_jpeg_comes_back_nearly(tmp_path: Path) -> None:
    flat = np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8)
    write_image(tmp_path / "flat.JPG", flat)
    assert np.abs(read_image(tmp_path / "flat.JPG").astype(int) - flat).max() <= 3


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4)],
    ids=["floats", "two channels", "empty", "a row"],
)
def test_what_is_no_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="cannot be written as a picture"):
        encode(pixels)


def test_an_unknown_ending_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ending"):
        write_image(tmp_path / "ramp.webm", RAMP)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_an_error_of_writing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write_image(tmp_path / "no" / "ramp.png", RAMP)
