"""Where the pixels of a picture lie in an output that is a grid over the model's input, and the way back to them.

A mask or a depth map has its own size, covers the whole tensor with its bars, and knows nothing of the picture. Each
pixel of the picture has its centre somewhere in that grid: `seen` says where, and which pixels the model has not seen.
"""

from __future__ import annotations

import functools
import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeinfer.frozen import dataclass
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import Size, View

ClassMap: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]  # (h, w), a class a cell

# Centres are fractions whose denominator is at most 2 * picture * tensor. For pictures and tensors of up to 10 000
# they keep 5e-9 away from a whole number that they are not, and float64 brings them to within 1e-11 of one that they
# are: so this much more before rounding down is the same as integers.
_TIE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One axis of the picture against the same axis of the grid.

    Attributes:
        length: Pixels of the picture.
        first: The first pixel that the model has seen.
        end: The pixel behind the last one; `first` where it has seen none.
        centres: (end - first,) float64, the centre of each seen pixel, in cells; a cell's own centre lies at 0.5.
        low: The first cell that holds nothing but the picture.
        high: The last one; at least `low`.
    """

    length: int
    first: int
    end: int
    centres: NDArray[np.float64]
    low: int
    high: int

    @property
    def nearest(self) -> NDArray[np.intp]:
        """(end - first,): the cell in which each centre lies; the upper one where it lies between two."""
        return np.floor(self.centres + _TIE).astype(np.intp)


@functools.lru_cache(maxsize=16)
def seen(view: View, grid: Size) -> tuple[Axis, Axis]:
    """Return the axes (x, y) of the picture; kept for the latest views, since a camera's frames share one.

    Args:
        view: Where the picture lies in the tensor.
        grid: (width, height) of the output, which covers the whole tensor.
    """
    left, top, right, bottom = view.region or (0, 0, *view.image_size)
    return _axis(0, view, grid[0], (left, right)), _axis(1, view, grid[1], (top, bottom))


@functools.lru_cache(maxsize=16)
def _cells(view: View, grid: Size) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    columns, rows = (axis.nearest for axis in seen(view, grid))
    for indices in (columns, rows):
        indices.flags.writeable = False
    return columns, rows


def nearest(grid: ClassMap, view: View) -> ClassMap:
    """Give each pixel of the picture the class of the cell under its centre.

    The rule is that of `geometry`: floor((i + 1/2) * cells / pixels). OpenCV's INTER_NEAREST_EXACT takes another cell
    at ties and is not asked (17 340 pairs of lengths, 1 to 640 and 1 to 3840: OpenCV 4.11 differs at 3146 of them,
    OpenCV 5 at 3364).

    Args:
        grid: (h, w) uint8 or uint16, the whole tensor, bars included.
        view: Where the picture lies in the tensor.

    Returns:
        (height, width) of the picture, of the same type, a new array; 0 where the model has seen nothing.
    """
    x, y = seen(view, grid.shape[1::-1])
    columns, rows = _cells(view, grid.shape[1::-1])
    if len(rows) < len(grid):
        part = _take_columns(grid.take(rows, axis=0), columns)
    else:  # whole rows are copied at once and single columns one number at a time: so the fewer rows go first
        part = _take_columns(grid, columns).take(rows, axis=0)
    picture: ClassMap = _into_picture(part, x, y, 0)
    return picture


def bilinear(grid: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Give each pixel of the picture what lies under its centre, between the four cells around it.

    Cells that hold bars take no part: beyond the outermost cells of the picture, these are repeated.

    Args:
        grid: (h, w) float32, the whole tensor, bars included.
        view: Where the picture lies in the tensor.

    Returns:
        (height, width) float32 of the picture, a new array; NaN where the model has seen nothing.
    """
    x, y = seen(view, grid.shape[1::-1])
    first, second, share = _neighbours(x)
    across, beside = grid.take(first, axis=1), grid.take(second, axis=1)
    beside -= across
    beside *= share
    across += beside
    first, second, share = _neighbours(y)
    part, below = across.take(first, axis=0), across.take(second, axis=0)
    below -= part
    below *= share[:, np.newaxis]
    part += below
    picture: NDArray[np.float32] = _into_picture(part, x, y, math.nan)
    return picture


def without_bars(grid: NDArray[Any], view: View) -> NDArray[Any]:
    """Return the cells that hold nothing but the picture: a view, no copy.

    Args:
        grid: (h, w, ...), the whole tensor.
        view: Where the picture lies in the tensor.
    """
    x, y = seen(view, (grid.shape[1], grid.shape[0]))
    return grid[y.low : y.high + 1, x.low : x.high + 1]


def _axis(axis: int, view: View, cells: int, part: tuple[int, int]) -> Axis:
    length, tensor = view.image_size[axis], view.tensor_size[axis]
    scale, offset = view.scale[axis], view.offset[axis]
    start, stop = max(0, part[0]), min(length, part[1])
    places: NDArray[np.float64] = (np.arange(start, stop, dtype=np.float64) + 0.5) * scale + offset
    first, end = np.searchsorted(places, (-_TIE, tensor - _TIE)).tolist()
    ratio = cells / tensor
    # The borders of what was seen, in cells: where the picture ends, or the tensor.
    near = max(0.0, (start * scale + offset) * ratio)
    far = min(float(cells), (stop * scale + offset) * ratio)
    low, high = math.ceil(near - _TIE), math.floor(far + _TIE) - 1
    if high < low:  # thinner than a cell
        low = high = min(max(math.floor((near + far) / 2), 0), cells - 1)
    centres: NDArray[np.float64] = places[first:end] * ratio
    return Axis(length, start + first, start + end, centres, low, high)


def _neighbours(axis: Axis) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the cells before and behind each centre, and how far the centre lies on the way, 0..1."""
    places = np.clip(axis.centres - 0.5, axis.low, axis.high)
    first = places.astype(np.intp)
    return first, np.minimum(first + 1, axis.high), (places - first).astype(np.float32)


def _take_columns(grid: NDArray[Any], columns: NDArray[np.intp]) -> NDArray[Any]:
    """Return `grid[:, columns]`; as rows of the transposed grid where OpenCV transposes it.

    513x513 to 1280 columns takes 0.48 ms directly and 0.17 ms so; without OpenCV the transposing costs more than it
    saves (0.57 ms).
    """
    cv2 = libraries.opencv()
    if cv2 is None or not grid.size or not columns.size:
        return grid.take(columns, axis=1)
    taken: NDArray[Any] = cv2.transpose(cv2.transpose(grid).take(columns, axis=0))
    return taken


def _into_picture(part: NDArray[Any], x: Axis, y: Axis, fill: float) -> NDArray[Any]:
    if part.shape == (y.length, x.length):
        return part
    picture = np.full((y.length, x.length), fill, dtype=part.dtype)
    picture[y.first : y.end, x.first : x.end] = part
    return picture
