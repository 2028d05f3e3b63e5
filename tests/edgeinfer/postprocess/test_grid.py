"""Where a picture's pixels lie in an output, against integers and against the definition, pixel by pixel."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinfer.model.metadata import Resize
from edgeinfer.postprocess.grid import bilinear, nearest, without_bars
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import View, place

pytestmark = pytest.mark.device

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
MODES = st.sampled_from(["stretch", "letterbox", "crop"])


def cell_of(
    pixel: int, axis: int, mode: str, image: tuple[int, int], tensor: tuple[int, int], cells: int
) -> int | None:
    """The cell under a pixel's centre in whole numbers, or None where the picture was cut off; from the boxes alone."""
    placement = place(Resize(mode), image, tensor)
    source = placement.source[axis], placement.source[axis + 2]
    target = placement.target[axis], placement.target[axis + 2]
    if not source[0] <= pixel < source[1]:
        return None
    centre = target[0] + (Fraction(2 * (pixel - source[0]) + 1, 2) * (target[1] - target[0])) / (source[1] - source[0])
    return math.floor(centre * cells / tensor[axis])


@given(SIZES, SIZES, MODES, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_each_pixel_takes_the_cell_under_its_centre(
    image: tuple[int, int], tensor: tuple[int, int], mode: str, coarser: int
) -> None:
    width, height = (max(1, length // coarser) for length in tensor)
    grid = np.arange(1, width * height + 1, dtype=np.uint16).reshape(height, width)
    expected = np.zeros((image[1], image[0]), np.uint16)
    for y in range(image[1]):
        row = cell_of(y, 1, mode, image, tensor, height)
        for x in range(image[0]):
            column = cell_of(x, 0, mode, image, tensor, width)
            if row is not None and column is not None:
                expected[y, x] = grid[row, column]
    np.testing.assert_array_equal(nearest(grid, place(Resize(mode), image, tensor).view), expected)


@pytest.mark.parametrize(("pixels", "cells"), [(1280, 513), (720, 513), (2, 7), (7, 2), (1080, 257), (3840, 513)])
def test_long_sides_keep_the_rule_of_whole_numbers(pixels: int, cells: int) -> None:
    grid = np.arange(cells, dtype=np.uint16)[np.newaxis]
    found = nearest(grid, place(Resize(), (pixels, 1), (cells, 1)).view)
    assert found[0].tolist() == [(2 * one + 1) * cells // (2 * pixels) for one in range(pixels)]


def test_it_is_the_same_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.random.default_rng(0).integers(0, 200, (33, 65)).astype(np.uint8)
    view = place(Resize("letterbox"), (100, 70), (65, 33)).view
    with_opencv = nearest(grid, view)
    monkeypatch.setattr(libraries, "opencv", lambda: None)
    np.testing.assert_array_equal(nearest(grid, view), with_opencv)


def test_bars_are_not_seen() -> None:
    grid = np.full((8, 8), 9, np.uint8)
    grid[2:6] = 3  # a picture twice as wide as high
    found = nearest(grid, place(Resize("letterbox"), (16, 8), (8, 8)).view)
    assert found.shape == (8, 16)
    assert np.unique(found).tolist() == [3]


def test_what_a_crop_cuts_off_is_zero() -> None:
    found = nearest(np.full((4, 4), 5, np.uint8), place(Resize("crop"), (10, 4), (4, 4)).view)
    assert found[0].tolist() == [0, 0, 0, 5, 5, 5, 5, 0, 0, 0]


def test_what_lies_outside_a_region_is_zero() -> None:
    view = place(Resize(), (3, 2), (6, 4)).view.within((10, 8), (4, 5, 7, 7))
    found = nearest(np.full((4, 6), 5, np.uint8), view)
    expected = np.zeros((8, 10), np.uint8)
    expected[5:7, 4:7] = 5
    np.testing.assert_array_equal(found, expected)


def test_a_region_with_bars_shows_no_bars_beside_it() -> None:
    view = place(Resize("letterbox"), (4, 2), (4, 4)).view.within((8, 8), (2, 2, 6, 4))
    grid = np.full((4, 4), 9, np.uint8)
    grid[1:3] = 1
    expected = np.zeros((8, 8), np.uint8)
    expected[2:4, 2:6] = 1
    np.testing.assert_array_equal(nearest(grid, view), expected)


def test_a_view_beside_the_picture_sees_nothing() -> None:
    view = View((4, 4), (4, 4), scale=(1.0, 1.0), offset=(100.0, 0.0))
    assert not nearest(np.ones((4, 4), np.uint8), view).any()
    assert np.isnan(bilinear(np.ones((4, 4), np.float32), view)).all()


def test_a_picture_of_the_grids_size_is_the_grid() -> None:
    grid = np.random.default_rng(0).integers(0, 9, (5, 7)).astype(np.uint8)
    np.testing.assert_array_equal(nearest(grid, place(Resize(), (7, 5), (7, 5)).view), grid)


@pytest.mark.parametrize("size", [(1, 1), (10_000, 1), (1, 10_000)])
@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
def test_thin_pictures_get_a_mask_of_their_size(size: tuple[int, int], mode: str) -> None:
    view = place(Resize(mode), size, (9, 9)).view
    assert nearest(np.ones((9, 9), np.uint8), view).shape == (size[1], size[0])
    assert bilinear(np.ones((9, 9), np.float32), view).shape == (size[1], size[0])


# --- between the cells ----------------------------------------------------------------------------


def lerp(grid: np.ndarray, x: float, y: float) -> float:
    """The value at a place given in cells, by the definition, in float64; beyond the outermost centres it is theirs."""
    height, width = grid.shape
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    upper = grid[top, left] * (1 - (x - left)) + grid[top, right] * (x - left)
    lower = grid[bottom, left] * (1 - (x - left)) + grid[bottom, right] * (x - left)
    return float(upper * (1 - (y - top)) + lower * (y - top))


@given(SIZES, SIZES)
@settings(max_examples=30, deadline=None)
def test_bilinear_is_its_definition(image: tuple[int, int], tensor: tuple[int, int]) -> None:
    grid = np.random.default_rng(3).random((tensor[1], tensor[0]), dtype=np.float32)
    found = bilinear(grid, place(Resize(), image, tensor).view)
    expected = [
        [lerp(grid, (x + 0.5) * tensor[0] / image[0], (y + 0.5) * tensor[1] / image[1]) for x in range(image[0])]
        for y in range(image[1])
    ]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_bilinear_is_that_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    grid = np.random.default_rng(4).random((31, 47), dtype=np.float32)
    found = bilinear(grid, place(Resize(), (200, 90), (47, 31)).view)
    np.testing.assert_allclose(found, cv2.resize(grid, (200, 90), interpolation=cv2.INTER_LINEAR), atol=1e-5)


def test_bars_do_not_leak_into_the_picture() -> None:
    grid = np.full((8, 8), 1000, np.float32)
    grid[2:6] = 1
    found = bilinear(grid, place(Resize("letterbox"), (32, 16), (8, 8)).view)
    assert found.shape == (16, 32)
    assert np.unique(found).tolist() == [1]


def test_what_was_not_seen_is_no_number() -> None:
    found = bilinear(np.ones((4, 4), np.float32), place(Resize("crop"), (10, 4), (4, 4)).view)
    assert np.isnan(found[0]).tolist() == [True] * 3 + [False] * 4 + [True] * 3


# --- bars cut away --------------------------------------------------------------------------------


@given(SIZES, SIZES, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_cutting_the_bars_leaves_the_pictures_part(
    image: tuple[int, int], tensor: tuple[int, int], factor: int
) -> None:
    placement = place(Resize("letterbox"), image, tensor)
    left, top, right, bottom = placement.target
    grid = np.zeros((tensor[1] * factor, tensor[0] * factor), np.uint8)
    grid[top * factor : bottom * factor, left * factor : right * factor] = 1
    part = without_bars(grid, placement.view)
    assert part.shape == ((bottom - top) * factor, (right - left) * factor)
    assert part.all()


def test_cutting_the_bars_copies_nothing() -> None:
    grid = np.zeros((8, 8, 3), np.uint8)
    assert np.shares_memory(without_bars(grid, place(Resize("letterbox"), (16, 8), (8, 8)).view), grid)
