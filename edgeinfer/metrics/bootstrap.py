"""How sure a metric is that is no share of samples: pictures drawn again and again, with replacement.

Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Source: Efron and Tibshirani 1993, section 13.3: about 1000 for an interval.
RESAMPLES = 1000


def draws(pictures: int, *, count: int = RESAMPLES, seed: int = 0) -> NDArray[np.uint16]:
    """Return how often each picture is drawn in each of `count` samples of as many pictures.

    Returns:
        (count, pictures) uint16; each row sums up to `pictures`.
    """
    generator = np.random.default_rng(seed)
    result = np.empty((count, pictures), dtype=np.uint16)
    for row in result:
        row[:] = np.bincount(generator.integers(pictures, size=pictures), minlength=pictures)
    return result


def interval(value: float, resampled: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a metric, both ends 0..1: the basic one, `2 · value - percentile`.

    Average precision over few pictures comes out too high, and over resampled pictures higher again. The basic
    interval turns that difference round and so takes it off; percentiles alone would add it and may even miss `value`.
    Where all resamples measure the same it has no width: too few pictures to say how sure they are.

    Args:
        value: Measured on all pictures, 0..1.
        resampled: (r,) the same over resampled pictures; NaN, where nothing was to measure, is left out.

    Source: Davison and Hinkley 1997, "Bootstrap methods and their application", section 5.2.1.

    Example:
        >>> tuple(round(one, 3) for one in interval(0.5, np.linspace(0.42, 0.62, 101)))
        (0.385, 0.575)
    """
    present = resampled[~np.isnan(resampled)]
    low, high = np.percentile(present, (2.5, 97.5)) if present.size else (value, value)
    return max(0.0, min(value, 2 * value - float(high))), min(1.0, max(value, 2 * value - float(low)))


def mean_of_present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis of what is not NaN; NaN where nothing is.

    Example:
        >>> mean_of_present(np.array([[1.0, np.nan, 3.0]]))
        array([2.])
    """
    present = ~np.isnan(values)
    count = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
    return mean
