"""Which single weights stay: masks from magnitudes, without a model and without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["magnitude_masks", "pattern_mask"]


def magnitude_masks(
    weights: Sequence[NDArray[Any]], sparsity: float, *, random: np.random.Generator
) -> list[NDArray[np.bool_]]:
    """Return masks that leave out the smallest weights of all arrays together, under one threshold.

    The number that goes is exact, `round(sparsity * n)`. Weights of exactly the threshold's magnitude are drawn at
    random: in a model that was int8 before there are many, and the first ones in memory order would all lie in the same
    corner of the kernels. The largest weight of every array stays whatever its size: one array of nothing but zeros
    makes the whole network constant.

    Args:
        weights: Float arrays of any shapes, finite, none of them empty. One array: a threshold for one layer.
        sparsity: Share of all weights to leave out, 0..1.
        random: Draws among equals, and is used for nothing else.

    Returns:
        One array for each of `weights`, of its shape, True where the weight stays.

    Source: Han et al. 2015, arXiv:1506.02626, section 3 (smallest magnitudes go); Zhu and Gupta 2017, arXiv:1710.01878,
    section 2 (a binary mask for each layer).
    """
    parts = [np.abs(one, dtype=np.float64).ravel() for one in weights]
    for part in parts:
        part[np.argmax(part)] = np.inf
    magnitudes = np.concatenate(parts)
    count = min(round(sparsity * magnitudes.size), magnitudes.size - len(parts))
    stays = np.ones(magnitudes.size, dtype=np.bool_)
    if count > 0:
        # A partition says the threshold alone for certain: in which order it leaves equals depends on the processor.
        threshold = np.partition(magnitudes, count - 1)[count - 1]
        below = magnitudes < threshold
        equals = np.flatnonzero(magnitudes == threshold)
        missing = count - int(np.count_nonzero(below))
        stays[below] = False
        stays[random.choice(equals, size=missing, replace=False)] = False
    ends = np.cumsum([part.size for part in parts])[:-1]
    return [part.reshape(one.shape) for part, one in zip(np.split(stays, ends), weights, strict=True)]


def pattern_mask(weight: NDArray[Any], kept: int, block: int, *, axis: int) -> NDArray[np.bool_]:
    """Return a mask that keeps the `kept` largest of every `block` neighbours along an axis.

    Among equal magnitudes the first stay, so that a block always keeps exactly `kept`.

    Args:
        weight: Float array of any shape, finite.
        kept: N of "N:M", 1 to M - 1.
        block: M of "N:M". It divides the length of the axis.
        axis: The axis of the input channels: the weights that are multiplied with neighbouring values in memory.

    Returns:
        Of the shape of `weight`, True where the weight stays.

    Source: Mishra et al. 2021, arXiv:2104.08378, section 3 (2:4 along the dimension that is summed over).
    """
    last = np.moveaxis(np.abs(weight), axis, -1)
    blocks = last.reshape(*last.shape[:-1], -1, block)
    order = np.argsort(-blocks, axis=-1, kind="stable")
    stays = np.zeros(blocks.shape, dtype=np.bool_)
    np.put_along_axis(stays, order[..., :kept], True, axis=-1)
    return np.ascontiguousarray(np.moveaxis(stays.reshape(last.shape), -1, axis))
