"""What pictures of annotated data say beside their colours: their size, undecoded, and class numbers as pixels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, InputFileError
from edgeinfer.files import PICTURES
from edgeinfer.preprocess import libraries

_ORIENTATION_TAG = 274  # Source: Exif 2.32, section 4.6.4
_SIDEWAYS = (5, 6, 7, 8)  # rows are columns


def pictures_below(folder: Path) -> list[Path]:
    """Return the picture files in a folder and below it, sorted; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def picture_size(path: Path) -> tuple[int, int]:
    """Return a picture's (width, height) as it is seen, upright by its EXIF orientation; no pixel is decoded.

    Raises:
        InputFileError: The file is not there or cannot be read.
        InputError: It is no picture.
    """
    with _opened(path) as picture:
        width, height = picture.size
        try:
            turned = picture.getexif().get(_ORIENTATION_TAG, 1) in _SIDEWAYS
        except Exception:  # notes that cannot be parsed say nothing of how the picture lies
            turned = False
    return (height, width) if turned else (width, height)


def read_class_indices(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the class of every pixel: the numbers of a grey picture, or the indices of one with a palette.

    Returns:
        (height, width) uint8 or uint16.

    Raises:
        InputFileError: The file is not there or cannot be read.
        InputError: It is no picture, or one of colours.
    """
    with _opened(path) as picture:
        mode = picture.mode
        if mode not in ("L", "P", "1") and not mode.startswith("I"):
            raise InputError(
                f"`{path.name}` has colours, not one class number a pixel.",
                received=f"mode {mode}",
                expected="a grey PNG of 8 or 16 bits, or one with a palette, whose numbers are the classes",
            )
        try:
            picture.load()
            pixels = np.asarray(picture)
        except Exception as error:  # the decoders raise OSError, ValueError, SyntaxError, ...
            raise _damaged(path, error) from error
    if mode in ("L", "P"):
        return pixels.astype(np.uint8)
    if pixels.min() < 0 or pixels.max() > np.iinfo(np.uint16).max:
        raise InputError(f"`{path.name}` has numbers that are no classes.", expected="0 to 65535")
    return pixels.astype(np.uint16)


def _opened(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and blemished notes; only the header is read here
            return libraries.pillow().open(path)
    except FileNotFoundError as error:
        raise InputFileError("The picture does not exist.", received=f"`{path}`") from error
    except Exception as error:  # on garbage the plugins raise whatever happens first: struct.error, KeyError, ...
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"`{path.name}` cannot be read as a picture.",
        received=f"{type(error).__name__}: {error}",
        expected=f"a file of one of these kinds: {', '.join(sorted(PICTURES))}",
    )
