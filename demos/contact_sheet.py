"""Pictures beside each other with the model's answer below each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import Dataset, read_image

SHOWN = 12
CELL, LINE, COLUMNS = 160, 28, 6


def save_pictures(data: Dataset, folder: Path) -> list[Path]:
    """Write twelve samples, evenly spread, as PNG files and return their paths."""
    from PIL import Image

    paths = []
    for number, index in enumerate(np.linspace(0, len(data) - 1, SHOWN).astype(int)):
        paths.append(folder / f"picture-{number:02}.png")
        Image.fromarray(read_image(data.sources[int(index)])).save(paths[-1])
    return paths


def contact_sheet(pictures: Sequence[Path], answers: Sequence[dict[str, Any]], path: Path) -> Path:
    """Draw the pictures with label and confidence, six in a row, and return the path that was written."""
    from PIL import Image, ImageDraw, ImageFont

    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + LINE)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for number, (picture, answer) in enumerate(zip(pictures, answers, strict=True)):
        left, top = number % COLUMNS * CELL, number // COLUMNS * (CELL + LINE)
        with Image.open(picture) as image:
            filter_ = Image.Resampling.NEAREST if image.width < CELL else Image.Resampling.BILINEAR
            sheet.paste(image.resize((CELL - 8, CELL - 8), filter_), (left + 4, top + 4))
        text = f"{str(answer['label'])[:14]} {answer['confidence']:.0%}"
        draw.text((left + CELL / 2, top + CELL), text, fill="black", font=font, anchor="ma")
    sheet.save(path)
    return path
