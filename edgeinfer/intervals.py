"""How sure a measured share is: intervals at 95 %."""

from __future__ import annotations

import math

_Z = 1.959963984540054  # the normal distribution's 97.5 % point


def share_interval(hits: int, samples: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, both ends 0..1.

    It stays inside 0..1 and is not of zero width at 0 % or 100 %, where the textbook interval fails.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22:209-212.

    Example:
        >>> low, high = share_interval(9, 10)
        >>> round(low, 3), round(high, 3)
        (0.596, 0.982)
    """
    if samples == 0:
        return 0.0, 1.0
    share = hits / samples
    squared = _Z * _Z
    centre = (share + squared / (2 * samples)) / (1 + squared / samples)
    half = _Z / (1 + squared / samples) * math.sqrt(share * (1 - share) / samples + squared / (4 * samples**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def drop_interval(lost: int, won: int, samples: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy drop that was measured on the same samples.

    Args:
        lost: Samples that only the first model answered rightly.
        won: Samples that only the second model answered rightly.
        samples: All of them.

    Returns:
        Lowest and highest drop (first minus second), as shares; below 0 where the second may be better. Samples that
        both answer alike say nothing of the difference, so this is far narrower than two intervals side by side.

    Source: Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24:729-740 (Wald's interval after half a sample is added to each of the four cells).
    """
    if samples == 0:
        return -1.0, 1.0
    total = samples + 2
    first, second = lost + 0.5, won + 0.5
    drop = (first - second) / total
    half = _Z * math.sqrt(first + second - (first - second) ** 2 / total) / total
    return max(-1.0, drop - half), min(1.0, drop + half)
