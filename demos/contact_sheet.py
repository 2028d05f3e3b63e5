"""Pictures beside each other with the model's answer below each, marked right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeinfer import Dataset, read_image

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SHOWN = 12
CELL, LINE, COLUMNS = 160, 22, 6
FRAME, MARK = 5, 22
# Okabe and Ito's blue-green and vermilion, which colour-blind people tell apart; the tick and the cross say it too.
RIGHT, WRONG = (0, 158, 115), (213, 94, 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of a picture, and what it is.

    Attributes:
        picture: The file.
        label: The model's answer.
        confidence: 0..1.
        truth: The name of the right class.
        is_right: Whether both are the same class.
    """

    picture: Path
    label: str
    confidence: float
    truth: str
    is_right: bool


def chosen(samples: int) -> NDArray[np.int64]:
    """Return the numbers of twelve samples, evenly spread, or of all where there are fewer."""
    return np.unique(np.linspace(0, samples - 1, SHOWN).astype(np.int64))


def save_pictures(data: Dataset, folder: Path) -> list[Path]:
    """Write the chosen samples as PNG files and return their paths."""
    from PIL import Image

    paths = []
    for number, index in enumerate(chosen(len(data))):
        paths.append(folder / f"picture-{number:02}.png")
        Image.fromarray(read_image(data.sources[int(index)])).save(paths[-1])
    return paths


def contact_sheet(answers: Sequence[Answer], path: Path) -> Path:
    """Draw the pictures with label and confidence, six in a row, and return the path that was written.

    A right answer has a green frame and a tick, a wrong one a red frame, a cross and the right name below.
    """
    from PIL import Image, ImageDraw, ImageFont

    height = CELL + 2 * LINE
    rows = -(-len(answers) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for number, answer in enumerate(answers):
        left, top = number % COLUMNS * CELL, number // COLUMNS * height
        colour = RIGHT if answer.is_right else WRONG
        draw.rectangle((left + 4, top + 4, left + CELL - 5, top + CELL - 5), fill=colour)
        inner = CELL - 8 - 2 * FRAME
        with Image.open(answer.picture) as image:
            filter_ = Image.Resampling.NEAREST if image.width < CELL else Image.Resampling.BILINEAR
            sheet.paste(image.convert("RGB").resize((inner, inner), filter_), (left + 4 + FRAME, top + 4 + FRAME))
        _mark(draw, left + CELL - 4 - MARK, top + 4, is_right=answer.is_right)
        said = [f"{answer.label[:14]}: {answer.confidence:.0%}"]
        if not answer.is_right:
            said.append(f"is {answer.truth[:14]}")
        for row, text in enumerate(said):
            draw.text((left + CELL / 2, top + CELL + row * LINE), text, fill=colour, font=font, anchor="ma")
    sheet.save(path)
    return path


def _mark(draw: ImageDraw, left: int, top: int, *, is_right: bool) -> None:
    """Draw a tick or a cross into a corner; fonts do not all have them."""
    draw.rectangle((left, top, left + MARK - 1, top + MARK - 1), fill=RIGHT if is_right else WRONG)
    strokes = [[(5, 11), (9, 16), (17, 5)]] if is_right else [[(5, 5), (16, 16)], [(5, 16), (16, 5)]]
    for stroke in strokes:
        draw.line([(left + x, top + y) for x, y in stroke], fill="white", width=3)
