"""The frame that the figures per picture are measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinfer import read_image
from edgeinfer.preprocess.geometry import resize_into

SIZE = (1280, 720)


def camera_frame(data: Path, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Return the shared picture of a parrot at a camera's size: (height, width, 3) uint8 RGB, contiguous."""
    frame = np.empty((size[1], size[0], 3), np.uint8)
    resize_into(read_image(data / "coral" / "parrot.jpg"), frame, "bilinear")
    return frame
