"""A video of handwritten digits for the camera demo, where there is no camera: they sway, and one fades into the next.

    python demos/digits_video.py demos/output/digits-validation.npz demos/output/digits.mp4

`make camera-demo` runs it on the digits that `make demo` leaves behind.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinfer import Frame, Image, Recording, Shown, Status

FPS = 25
SIZE = 320
HELD, FADED = 30, 10  # frames that a digit is seen alone, and that it takes to become the next


def main() -> None:
    """Draw the first digits of the file, each as large as the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("digits", type=Path, help="an .npz with x (n, height, width, 1) uint8")
    parser.add_argument("video", type=Path, help="what to write: .mp4 or .avi")
    parser.add_argument("--count", type=int, default=12, help="how many digits (default 12)")
    options = parser.parse_args()
    digits = np.load(options.digits)["x"][: options.count, :, :, 0]
    with Recording(options.video, fps=FPS, every_frame=True) as recording:
        for number, pixels in enumerate(frames(digits)):
            recording.write(Shown(Frame(pixels, number, number * 10**9 // FPS), {}, Status()))


def frames(digits: NDArray[np.uint8]) -> Iterator[Image]:
    """Yield (320, 320, 3) uint8 RGB, the last digit fading into the first."""
    for number, digit in enumerate(digits):
        following = digits[(number + 1) % len(digits)]
        for step in range(HELD + FADED):
            share = max(0.0, (step + 1 - HELD) / FADED)
            mixed = (1 - share) * digit + share * following
            sway = np.sin(2 * np.pi * np.array([step, step + 10]) / (HELD + FADED))
            yield enlarged(mixed, 0.3 * sway)


def enlarged(picture: NDArray[np.float64], shift: NDArray[np.float64]) -> Image:
    """Return a grey picture at full size and in RGB, moved by part of its own pixels; what comes in is black."""
    height, width = picture.shape
    bordered = np.pad(picture, 1)
    rows, columns = (
        np.clip((np.arange(SIZE) + 0.5) * side / SIZE - 0.5 + moved + 1, 0, side + 0.999)
        for side, moved in zip((height, width), shift, strict=True)
    )
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], (columns - left)[None, :]
    upper = bordered[top][:, left] * (1 - right) + bordered[top][:, left + 1] * right
    lower = bordered[top + 1][:, left] * (1 - right) + bordered[top + 1][:, left + 1] * right
    grey = np.round(upper * (1 - down) + lower * down).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


if __name__ == "__main__":
    main()
