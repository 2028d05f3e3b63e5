"""Segmentation data: `images/` and `masks/` with equal stems, a mask being a picture of class numbers."""

from __future__ import annotations

from pathlib import Path

from edgeinfer.annotations.pictures import pictures_below
from edgeinfer.annotations.truth import SegmentationData
from edgeinfer.errors import InputError, InputFileError

# Lossy files have no numbers, only something near them.
_LOSSLESS = frozenset({".png", ".bmp", ".gif", ".tif", ".tiff", ".pgm"})
_LAYOUT = "`images/` and `masks/` with pictures of the same names, e.g. images/a.jpg and masks/a.png"


def open_masks(path: str | Path) -> SegmentationData:
    """Open a folder with `images/` and `masks/`, in which folders of the same names may lie.

    Args:
        path: The folder. Masks are grey PNG of 8 or 16 bits, or such with a palette, in the model's own counting; 255
            does not count.

    Raises:
        InputFileError: The folder is not there, or pictures without a mask or masks without a picture are.
        InputError: A mask is a JPEG or another lossy file, or two files have the same stem.
    """
    folder = Path(path)
    if not (folder / "images").is_dir() or not (folder / "masks").is_dir():
        raise InputFileError("This is no folder of pictures and masks.", received=f"`{folder}`", expected=_LAYOUT)
    pictures, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
    lossy = [mask.name for mask in masks.values() if mask.suffix.lower() not in _LOSSLESS]
    if lossy:
        raise InputError(
            f"A mask of `{folder.name}` is lossy: its numbers are not those of the classes.",
            received=", ".join(lossy[:5]),
            expected="PNG",
        )
    alone = sorted(pictures.keys() ^ masks.keys())
    if alone:
        raise InputFileError(
            f"{len(alone)} files of `{folder.name}` have no partner.", received=", ".join(alone[:5]), expected=_LAYOUT
        )
    return SegmentationData(folder.name, list(pictures.values()), [masks[stem] for stem in pictures])


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for picture in pictures_below(folder):
        stem = picture.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise InputError(
                f"Two files in `{folder}` have the same stem.", received=f"{found[stem].name}, {picture.name}"
            )
        found[stem] = picture
    return found
