"""Text as pixels: each string is rendered once by Pillow, and from then on copied."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.drawing.palette import Colour, text_colour
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.image import Image

_LOG = logging.getLogger(__name__)

# Longer labels would hide the picture.
_LONGEST = 40
# The font that comes with Pillow knows little more than ASCII. These are looked for on the system, by file name as
# Pillow does: DejaVu (Latin, Greek, Cyrillic, Arabic, symbols), Noto and Droid (Chinese, Japanese, Korean).
_SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DroidSansFallbackFull.ttf")
# U+FFFF is no character (Unicode, section 23.7), so what a font shows for it is its sign for a missing one.
_NO_CHARACTER = "\uffff"


# A tag has two parts, name and confidence, so a live picture of ten classes needs some hundreds of strips of a few
# kilobytes each; beyond that the oldest are made again.
@functools.lru_cache(maxsize=512)
def strip(text: str, size: int, colour: Colour) -> Image:
    """Return text on a bar of one colour.

    Args:
        text: One line; longer than 40 characters is cut, with an ellipsis at its end.
        size: Height of the font, pixels.
        colour: Of the bar; the letters are black or white.

    Returns:
        (height, width, 3) uint8 RGB, read-only; all strips of one size are equally high.
    """
    coverage = _coverage(text, size).astype(np.int32)[:, :, np.newaxis]
    bar, ink = np.array(colour, np.int32), np.array(text_colour(colour), np.int32)
    pixels: Image = ((bar * (255 - coverage) + ink * coverage + 127) // 255).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels


def strip_height(size: int) -> int:
    """Return the height in pixels of the strips of a font size: the line and a margin above and below."""
    return size + 2 * _margin(size)


def _margin(size: int) -> int:
    return max(1, size // 6)


@functools.lru_cache(maxsize=512)
def _coverage(text: str, size: int) -> NDArray[np.uint8]:
    """Return how much of each pixel the letters cover, 0..255, (height, width) with the margins."""
    line = _one_line(text)
    font = _font_for(line, size)
    try:
        left, top, right, bottom = (int(edge) for edge in font.getbbox(line)) if line else (0, 0, 0, 0)
        mask = font.getmask(line, mode="L") if right > left and bottom > top else None
    except UnicodeEncodeError:  # Pillow's old bitmap font knows Latin-1 only
        line = line.encode("latin-1", "replace").decode("latin-1")
        left, top, right, bottom = (int(edge) for edge in font.getbbox(line))
        mask = font.getmask(line, mode="L")
    margin = _margin(size)
    out = np.zeros((strip_height(size), max(right, 1) + 2 * margin), np.uint8)
    if mask is not None:
        letters = np.frombuffer(bytes(mask), np.uint8).reshape(mask.size[::-1])
        # All strings of a size stand on one line: the font says where its tallest letters begin.
        y = margin + top - _top_of_line(font, size)
        x = margin + max(left, 0)
        first = max(0, -y)
        part = letters[first : first + out.shape[0] - max(y, 0), : out.shape[1] - x]
        out[max(y, 0) : max(y, 0) + part.shape[0], x : x + part.shape[1]] = part
    return out


def _one_line(text: str) -> str:
    """Return text that a font can take: no line breaks, no control characters, no halves of a surrogate pair."""
    words = " ".join(text.split())
    shown = "".join(one if one.isprintable() else "\ufffd" for one in words)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "\u2026"


def _top_of_line(font: Any, size: int) -> int:
    """Return the row in which a line's letters begin when they are set in the middle of `size` rows."""
    _, top, _, bottom = font.getbbox("Ag")
    return int(top + bottom - size) // 2


def _font_for(line: str, size: int) -> Any:
    """Return the first font that has all of these characters, else the one that lacks fewest."""
    fonts = _fonts(size)
    if line.isascii() or len(fonts) == 1:
        return fonts[0]
    lacking = [_lacking(line, font) for font in fonts]
    best = min(range(len(fonts)), key=lambda index: len(lacking[index]))
    if lacking[best]:
        _LOG.warning(
            "No font here has %s of the label %r: an empty box stands for each. Install one, e.g. "
            "`apt install fonts-noto-cjk`.",
            ", ".join(sorted(f"U+{ord(one):04X}" for one in lacking[best])),
            line,
        )
    return fonts[best]


@functools.lru_cache(maxsize=8)
def _fonts(size: int) -> tuple[Any, ...]:
    """Return Pillow's own font and those of the system that are there."""
    module = libraries.image_font()
    found = []
    for name in _SYSTEM_FONTS:
        try:
            found.append(module.truetype(name, size))
        except (OSError, ImportError):  # not installed; or a Pillow without FreeType
            continue
    try:
        own = module.load_default(size=size)
    except (TypeError, OSError, ImportError):  # before Pillow 10.1 its own font had one size and no smooth letters
        return (*found, module.load_default())
    return (own, *found)


def _lacking(line: str, font: Any) -> set[str]:
    """Return the characters that a font shows as missing."""
    try:
        missing = bytes(font.getmask(_NO_CHARACTER))
        return {one for one in line if not one.isspace() and bytes(font.getmask(one)) == missing}
    except UnicodeEncodeError:
        return {one for one in line if ord(one) > 255}
