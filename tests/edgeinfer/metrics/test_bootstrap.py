"""Resampled pictures and the interval that they give."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinfer.metrics.bootstrap import draws, interval, mean_of_present


def test_every_sample_has_as_many_pictures() -> None:
    times = draws(7, count=50)
    assert times.shape == (50, 7)
    assert (times.sum(axis=1) == 7).all()


def test_the_same_seed_draws_the_same() -> None:
    assert (draws(5, count=9, seed=1) == draws(5, count=9, seed=1)).all()
    assert (draws(5, count=9, seed=1) != draws(5, count=9, seed=2)).any()


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    # 400 values of a coin: the standard error is sqrt(p q / n) = 0.025, so the interval is 1.96 of it wide each side.
    values = np.arange(400) % 2
    low, high = interval(0.5, draws(400) @ values / 400)
    assert (low, high) == pytest.approx((0.5 - 0.049, 0.5 + 0.049), abs=0.006)


def test_a_shift_of_the_resamples_is_turned_round() -> None:
    # Resamples lie from 0.5 to 0.7 about a value of 0.55: too high by 0.05, so the interval is centred on 0.5.
    low, high = interval(0.55, np.linspace(0.5, 0.7, 1001))
    assert (low, high) == pytest.approx((0.405, 0.595), abs=1e-9)


def test_the_interval_holds_the_value_and_stays_between_0_and_1() -> None:
    low, high = interval(0.1, np.linspace(0.2, 0.9, 100))
    assert (low, high) == (0.0, 0.1)
    low, high = interval(0.9, np.linspace(0.3, 0.8, 100))
    assert (low, high) == (0.9, 1.0)


def test_resamples_with_nothing_to_measure_are_left_out() -> None:
    assert interval(0.5, np.array([0.5, np.nan, 0.5])) == (0.5, 0.5)
    assert interval(0.5, np.array([np.nan])) == (0.5, 0.5)


def test_the_mean_of_nothing_is_not_a_number() -> None:
    assert mean_of_present(np.array([[1.0, np.nan], [np.nan, np.nan]])).tolist() == [
        1.0,
        pytest.approx(np.nan, nan_ok=True),
    ]
