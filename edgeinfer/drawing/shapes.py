"""Frames, lines and points as assignments to slices of the picture; what lies outside of it is cut off."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from edgeinfer.drawing.palette import BLACK, Colour
from edgeinfer.preprocess.geometry import Box
from edgeinfer.preprocess.image import Image


def line_width(image: Image) -> int:
    """Return how thick lines are: a 240th of the shorter side, at least 1; 3 pixels in 1280x720."""
    return max(1, (int(min(image.shape[:2])) + 120) // 240)


def frame(image: Image, box: Box, width: int, colour: Colour) -> None:
    """Draw the outline of a box, within the box.

    Args:
        image: (height, width, 3) uint8, changed in place.
        box: xyxy, within the picture and not empty.
        width: Of the line, pixels; a box thinner than two lines is filled.
        colour: RGB.
    """
    left, top, right, bottom = box
    if right - left <= 2 * width or bottom - top <= 2 * width:
        image[top:bottom, left:right] = colour
        return
    image[top : top + width, left:right] = colour
    image[bottom - width : bottom, left:right] = colour
    image[top + width : bottom - width, left : left + width] = colour
    image[top + width : bottom - width, right - width : right] = colour


def paste(image: Image, pixels: Image, left: int, top: int) -> None:
    """Copy a small picture into a large one; what does not fit is cut off at the right and below."""
    room = image[max(0, top) : max(0, top) + pixels.shape[0], max(0, left) : max(0, left) + pixels.shape[1]]
    room[...] = pixels[: room.shape[0], : room.shape[1]]


def lines(image: Image, start: NDArray[np.float64], end: NDArray[np.float64], width: int, colour: Colour) -> None:
    """Draw straight lines with a dark edge, which shows them on any background.

    Args:
        image: (height, width, 3) uint8, changed in place.
        start: (n, 2) xy, pixels; finite, may lie outside.
        end: The other ends, likewise.
        width: Pixels.
        colour: RGB.
    """
    inside = [_steps(one, other, image) for one, other in zip(start, end, strict=True)]
    # All edges first: a line does not cut those of its neighbours where they meet.
    for thickness, ink in ((width + 2, BLACK), (width, colour)):
        for steps, run in zip(inside, end - start, strict=True):
            _sweep(image, steps, run, thickness, ink)


def points(image: Image, xy: NDArray[np.float64], radius: int, colour: Colour) -> None:
    """Draw discs with a dark edge.

    Args:
        image: (height, width, 3) uint8, changed in place.
        xy: (n, 2), pixels; finite, may lie outside.
        radius: Pixels.
        colour: RGB.
    """
    height, width = image.shape[:2]
    # Far outside there is nothing to see, and what lies there would not fit into an integer.
    centres = np.floor(np.clip(xy, -radius - 2, (width + radius + 2, height + radius + 2))).astype(np.int64)
    _stamp(image, centres, _disc(radius + 1), BLACK)
    _stamp(image, centres, _disc(radius), colour)


def _sweep(image: Image, steps: NDArray[np.int64], run: NDArray[np.float64], width: int, colour: Colour) -> None:
    """Draw a line by a row of pixels across each of its steps, along the axis in which it is the shorter."""
    longer = int(abs(run[1]) > abs(run[0]))
    length = float(np.hypot(*run))
    # Across the axis, not across the line: a slanting line needs more pixels to be as wide.
    count = max(1, round(width * length / abs(run[longer]))) if length else width
    across = np.zeros((count, 2), np.int64)
    across[:, 1 - longer] = np.arange(count) - (count - 1) // 2
    _stamp(image, steps, across, colour)


def _stamp(image: Image, centres: NDArray[np.int64], shape: NDArray[np.int64], colour: Colour) -> None:
    """Set the pixels of a shape around each centre."""
    if not len(centres):
        return
    height, width = image.shape[:2]
    x = (centres[:, :1] + shape[:, 0]).reshape(-1)
    y = (centres[:, 1:] + shape[:, 1]).reshape(-1)
    if x.min() < 0 or y.min() < 0 or x.max() >= width or y.max() >= height:
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        x, y = x[inside], y[inside]
    image[y, x] = colour


@functools.lru_cache(maxsize=64)
def _disc(radius: int) -> NDArray[np.int64]:
    """Return the pixels of a disc, (n, 2) xy from its centre."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    offsets: NDArray[np.int64] = np.stack([x, y], axis=-1)[x * x + y * y <= radius * (radius + 1)]
    offsets.flags.writeable = False
    return offsets


def _steps(start: NDArray[np.float64], end: NDArray[np.float64], image: Image) -> NDArray[np.int64]:
    """Return the pixels under a line, (n, 2) xy, one a step along its longer axis; only those near the picture."""
    height, width = image.shape[:2]
    margin = line_width(image) + 2
    lower, upper = np.array([-margin, -margin]), np.array([width + margin, height + margin])
    run = end - start
    # The share of the line that lies between the borders, axis by axis.
    # Source: Liang, Barsky, "A New Concept and Method for Line Clipping", ACM Transactions on Graphics 3 (1984).
    first, last = 0.0, 1.0
    for axis in (0, 1):
        if run[axis] == 0.0:
            if not lower[axis] <= start[axis] <= upper[axis]:
                return np.empty((0, 2), np.int64)
            continue
        bounds = sorted(((lower[axis] - start[axis]) / run[axis], (upper[axis] - start[axis]) / run[axis]))
        first, last = max(first, bounds[0]), min(last, bounds[1])
    if first > last:
        return np.empty((0, 2), np.int64)
    count = int(np.abs(run).max() * (last - first)) + 2
    along = np.linspace(first, last, count)[:, np.newaxis]
    return np.floor(start + run * along).astype(np.int64)
