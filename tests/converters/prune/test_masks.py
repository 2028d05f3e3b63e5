"""Masks against brute force."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from converters.prune.masks import magnitude_masks, pattern_mask

# Few different values, so that equal magnitudes and zeros are common.
COARSE = st.integers(-4, 4).map(float)
FINE = st.floats(-100, 100, width=32)


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("sparsity", [0.0, 0.29, 0.5, 0.8, 0.993])
def test_one_array_loses_exactly_its_smallest_weights(sparsity: float) -> None:
    weights = normal(3, 3, 10, 10)
    (mask,) = magnitude_masks([weights], sparsity, random=random())
    order = sorted(range(900), key=lambda place: abs(weights.ravel()[place]))
    wanted = np.ones(900, bool)
    wanted[order[: round(sparsity * 900)]] = False
    assert np.array_equal(mask.ravel(), wanted)


def test_arrays_that_are_ranked_together_share_one_threshold() -> None:
    small, large = 0.5 * normal(20, 10, seed=1), normal(30, 10, seed=2)
    masks = magnitude_masks([small, large], 0.6, random=random())
    threshold = np.sort(np.abs(np.concatenate([small.ravel(), large.ravel()])))[300]
    assert np.array_equal(masks[0], np.abs(small) >= threshold)
    assert np.array_equal(masks[1], np.abs(large) >= threshold)


def test_the_largest_weight_of_an_array_stays_however_small_it_is() -> None:
    small, large = 0.001 * normal(10, seed=1), 1 + np.abs(normal(90, seed=2))
    masks = magnitude_masks([small, large], 0.5, random=random())
    assert np.flatnonzero(masks[0]).tolist() == [int(np.argmax(np.abs(small)))]
    assert np.count_nonzero(~masks[1]) == 50 - 9


def test_equal_weights_go_at_random_and_not_from_one_corner_of_the_kernel() -> None:
    weights = np.full((3, 3, 8, 8), 0.5, np.float32)
    (mask,) = magnitude_masks([weights], 0.5, random=random())
    assert np.count_nonzero(~mask) == 288
    # Drawn without regard to the place: each of the 9 positions loses 32 of 64, give or take 3 standard deviations.
    assert np.abs(np.count_nonzero(~mask, axis=(2, 3)) - 32).max() <= 12


def test_equal_weights_go_alike_with_the_same_seed_and_otherwise_with_another() -> None:
    weights = [np.full((16, 16), 0.5, np.float32)]
    first, again, other = (magnitude_masks(weights, 0.5, random=random(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@given(
    weights=st.lists(arrays(np.float32, array_shapes(max_dims=3, max_side=5), elements=COARSE), min_size=1, max_size=3),
    sparsity=st.floats(0, 1),
)
def test_no_weight_that_goes_is_larger_than_one_that_stays(weights: list[Any], sparsity: float) -> None:
    masks = magnitude_masks(weights, sparsity, random=random())
    total = sum(one.size for one in weights)
    assert sum(np.count_nonzero(~mask) for mask in masks) == min(round(sparsity * total), total - len(weights))
    assert all(mask.any() for mask in masks)
    gone = [abs(value) for one, mask in zip(weights, masks, strict=True) for value in one[~mask]]
    # The pinned largest weight of each array may be smaller.
    stayed = [
        abs(value)
        for one, mask in zip(weights, masks, strict=True)
        for value in sorted(one[mask], key=abs)[: np.count_nonzero(mask) - 1]
    ]
    assert max(gone, default=0.0) <= min(stayed, default=np.inf)


def test_two_of_four_along_the_input_axis_by_hand() -> None:
    # (in, out): the first output's weights are 1 -4 2 3 | 0 0 5 6, the second's 9 8 -7 1 | 1 -1 1 -1.
    kernel = np.array([[1, 9], [-4, 8], [2, -7], [3, 1], [0, 1], [0, -1], [5, 1], [6, -1]], np.float32)
    wanted = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [0, 1], [1, 0], [1, 0]], bool)
    assert np.array_equal(pattern_mask(kernel, 2, 4, axis=-2), wanted)


@pytest.mark.parametrize("axis", [-2, -1])
def test_two_of_four_keeps_the_pair_with_the_largest_sum_of_magnitudes(axis: int) -> None:
    kernel = normal(3, 3, 8, 4)
    mask = pattern_mask(kernel, 2, 4, axis=axis)
    lines, stays = np.moveaxis(kernel, axis, -1), np.moveaxis(mask, axis, -1)
    for place in np.ndindex(lines.shape[:-1]):
        for start in range(0, lines.shape[-1], 4):
            block = np.abs(lines[place][start : start + 4])
            best = max(combinations(range(4), 2), key=lambda pair: float(sum(block[one] for one in pair)))
            assert tuple(np.flatnonzero(stays[place][start : start + 4])) == best


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Any, int, int, int]:
    block = draw(st.integers(2, 6))
    kept = draw(st.integers(1, block - 1))
    axis = draw(st.sampled_from([-1, -2]))
    shape = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(2, 4)))]
    shape[axis] = block * draw(st.integers(1, 3))
    return draw(arrays(np.float32, tuple(shape), elements=COARSE | FINE)), kept, block, axis


@given(blocks())
def test_every_block_keeps_its_n_largest_weights(drawn: tuple[Any, int, int, int]) -> None:
    kernel, kept, block, axis = drawn
    mask = pattern_mask(kernel, kept, block, axis=axis)
    assert mask.shape == kernel.shape
    lines = np.moveaxis(np.abs(kernel), axis, -1).reshape(-1, block)
    stays = np.moveaxis(mask, axis, -1).reshape(-1, block)
    for values, here in zip(lines, stays, strict=True):
        assert np.count_nonzero(here) == kept
        assert sorted(values[here]) == sorted(values)[block - kept :]
