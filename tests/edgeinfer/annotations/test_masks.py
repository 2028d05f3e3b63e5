"""Folders of pictures and masks."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from edgeinfer.annotations.masks import open_masks
from edgeinfer.errors import InputError, InputFileError


def written(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if "masks" in name else "RGB", (4, 3)).save(folder / name)
    return folder


def test_pictures_and_masks_meet_by_their_stems(tmp_path: Path) -> None:
    data = open_masks(written(tmp_path, "images/b.jpg", "images/a/c.jpg", "masks/a/c.png", "masks/b.bmp"))
    assert [source.name for source in data.sources] == ["c.jpg", "b.jpg"]
    assert [mask.name for mask in data.truth if isinstance(mask, Path)] == ["c.png", "b.bmp"]


def test_pictures_without_masks_and_masks_without_pictures_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "images/a.jpg", "images/b.jpg", "masks/b.png", "masks/c.png")
    with pytest.raises(InputFileError, match=r"2 files .* no partner") as caught:
        open_masks(folder)
    assert caught.value.received == "a, c"


def test_a_lossy_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lossy"):
        open_masks(written(tmp_path, "images/a.jpg", "masks/a.jpg"))


def test_two_pictures_of_one_stem_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same stem"):
        open_masks(written(tmp_path, "images/a.jpg", "images/a.png", "masks/a.png"))


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no folder of pictures and masks"):
        open_masks(written(tmp_path, "images/a.jpg"))


def test_no_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        open_masks(tmp_path)
