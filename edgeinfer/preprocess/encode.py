"""A picture back to a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.files import write_whole
from edgeinfer.preprocess import libraries

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
# Of JPEG, 0..95: the highest that Pillow's documentation recommends.
_QUALITY = 95


def encode(pixels: NDArray[Any], format: str = "PNG") -> bytes:  # noqa: A002 - Pillow's own word
    """Return a picture as the bytes of a file.

    Args:
        pixels: (height, width, 3) uint8 RGB, (height, width) uint8 grey, or for PNG (height, width) uint16.
        format: "PNG" or "JPEG".

    Raises:
        InputError: It is no picture of that kind.
    """
    grey = pixels.ndim == 2 and pixels.dtype in ((np.uint8, np.uint16) if format == "PNG" else (np.uint8,))
    colour = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if not (grey or colour) or not pixels.size:
        raise InputError(
            "This array cannot be written as a picture.",
            received=f"shape {pixels.shape}, dtype {pixels.dtype}",
            expected="uint8 (height, width, 3) RGB or (height, width) grey",
        )
    out = io.BytesIO()
    try:
        libraries.pillow().fromarray(np.ascontiguousarray(pixels)).save(out, format, quality=_QUALITY)
    except (OSError, ValueError) as error:
        raise InputError(f"Pillow cannot write this picture as {format}.", received=str(error)) from error
    return out.getvalue()


def write_image(path: str | Path, pixels: NDArray[Any]) -> None:
    """Write a picture to a file, whole or not at all; its ending says how: `.png`, `.jpg` or `.jpeg`.

    Args:
        path: The file; its folder must exist.
        pixels: As for `encode`.

    Raises:
        InputError: The ending is another, or it is no picture.
        OutputError: The file cannot be written.
    """
    place = Path(path)
    if place.suffix.lower() not in _FORMATS:
        raise InputError(
            "The ending does not say how to write the picture.", received=f"`{place}`", expected=", ".join(_FORMATS)
        )
    write_whole(place, encode(pixels, _FORMATS[place.suffix.lower()]))
