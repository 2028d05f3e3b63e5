"""Intervals against published values, against the equation they solve, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer.intervals import drop_interval, share_interval

NORMAL_975 = 1.959963984540054


# Source: Newcombe 1998, "Two-sided confidence intervals for the single proportion", Statistics in Medicine
# 17:857-872, table I, method 3 (score method without continuity correction).
@pytest.mark.parametrize(
    ("hits", "samples", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(hits: int, samples: int, low: float, high: float) -> None:
    assert share_interval(hits, samples) == pytest.approx((low, high), abs=5e-5)


def score_end(hits: int, samples: int, low: float, high: float) -> float:
    """Solve (share - p)^2 = z^2 p (1 - p) / n for p between two values, by bisection."""

    def excess(p: float) -> float:
        return (hits / samples - p) ** 2 - NORMAL_975**2 * p * (1 - p) / samples

    for _ in range(200):
        middle = (low + high) / 2
        if (excess(low) > 0) == (excess(middle) > 0):
            low = middle
        else:
            high = middle
    return (low + high) / 2


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_ends_solve_the_score_equation(case: tuple[int, int]) -> None:
    hits, samples = case
    low, high = share_interval(hits, samples)
    expected_low = 0.0 if hits == 0 else score_end(hits, samples, 0.0, hits / samples)
    expected_high = 1.0 if hits == samples else score_end(hits, samples, 1.0, hits / samples)
    assert low == pytest.approx(expected_low, abs=1e-9)
    assert high == pytest.approx(expected_high, abs=1e-9)


def test_without_samples_anything_is_possible() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)
    assert drop_interval(0, 0, 0) == (-1.0, 1.0)


def test_a_drop_by_hand() -> None:
    # 98 samples, 9 lost, 4 won. With half a sample a cell: n = 100, b = 9.5, c = 4.5, so the drop is 0.05 and
    # its half width z * sqrt(14 - 25 / 100) / 100 = 1.959964 * 3.708099 / 100 = 0.0726774.
    assert drop_interval(9, 4, 98) == pytest.approx((0.05 - 0.0726774, 0.05 + 0.0726774), abs=1e-7)


def test_nothing_lost_and_nothing_won_still_has_a_width() -> None:
    # n = 100, b = c = 0.5: half width z / 100.
    assert drop_interval(0, 0, 98) == pytest.approx((-NORMAL_975 / 100, NORMAL_975 / 100))


def test_losses_and_gains_mirror_each_other() -> None:
    low, high = drop_interval(9, 4, 98)
    assert drop_interval(4, 9, 98) == pytest.approx((-high, -low))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))))
def test_a_drop_stays_between_minus_one_and_one(case: tuple[int, int, int]) -> None:
    lost, won, samples = case
    if lost + won > samples:
        lost, won = lost // 2, won // 2
    low, high = drop_interval(lost, won, samples)
    assert -1.0 <= low <= high <= 1.0
    assert math.isfinite(low)
    assert math.isfinite(high)


def test_nineteen_of_twenty_intervals_hold_the_true_drop() -> None:
    random = np.random.default_rng(0)
    chances = (0.83, 0.06, 0.03, 0.08)  # both right, lost, won, both wrong: a drop of 0.03
    rounds = random.multinomial(400, chances, size=3000)
    held = 0
    for _, lost, won, _ in rounds:
        low, high = drop_interval(int(lost), int(won), 400)
        held += low <= 0.03 <= high
    # The binomial deviation of 3000 rounds at 95 % is 0.4 points.
    assert 0.935 < held / len(rounds) < 0.965


def test_nineteen_of_twenty_shares_hold_the_true_share() -> None:
    hits = np.random.default_rng(1).binomial(300, 0.88, size=3000)
    held = [low <= 0.88 <= high for low, high in (share_interval(int(one), 300) for one in hits)]
    assert 0.935 < sum(held) / len(held) < 0.968
