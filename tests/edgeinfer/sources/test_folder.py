"""Pictures as frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeinfer.errors import InputFileError
from edgeinfer.preprocess.encode import write_image
from edgeinfer.sources.folder import FolderReader, pictures_in
from edgeinfer.sources.reader import Wanted

from .conftest import grey, number_of

pytestmark = pytest.mark.device


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    names = ["f10.png", "f9.png", "f009b.png", "a1c2.png", "a1c10.png", "1.png", "b.png"]
    reader = FolderReader([tmp_path / name for name in names], Wanted())
    order = []
    while reader.advance() is not None:
        order.append(reader.name)
    assert order == ["1.png", "a1c2.png", "a1c10.png", "b.png", "f9.png", "f009b.png", "f10.png"]


@pytest.mark.parametrize(("fps", "interval_ns"), [(None, 100_000_000), (4, 250_000_000)])
def test_pictures_are_due_one_interval_after_each_other(fps: float | None, interval_ns: int, tmp_path: Path) -> None:
    reader = FolderReader([tmp_path / "a.png", tmp_path / "b.png"], Wanted(fps=fps))
    assert [reader.advance(), reader.advance(), reader.advance()] == [0, interval_ns, None]


def test_a_picture_that_nobody_has_time_for_is_not_read(tmp_path: Path) -> None:
    write_image(tmp_path / "2.png", grey(2))
    reader = FolderReader([tmp_path / "1.png", tmp_path / "2.png"], Wanted())  # the first is not there
    reader.advance()
    reader.advance()
    pixels = reader.picture()
    assert pixels is not None
    assert number_of(pixels) == 2


def test_a_folder_without_pictures_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputFileError, match="There is no picture in") as caught:
        pictures_in(str(tmp_path))
    assert caught.value.received == "1 other files"
    assert ".png" in caught.value.expected


def test_a_folder_that_is_named_like_a_picture_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputFileError):
        pictures_in(str(tmp_path))
