"""The rate that a machine can hold."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer.live.pace import Pace, next_limit


@pytest.mark.parametrize(
    ("limit", "fps", "temperature", "expected"),
    [
        pytest.param(None, 20.0, 79.9, None, id="cool enough: nothing changes"),
        pytest.param(None, 20.0, 80.0, 16.0, id="too hot: a fifth slower than it was"),
        pytest.param(16.0, 15.0, 85.0, 12.0, id="still too hot: a fifth slower again"),
        pytest.param(12.0, 12.0, 78.5, 12.0, id="a little cooler: held"),
        pytest.param(10.0, 10.0, 70.0, 11.0, id="cool again: a tenth back"),
        pytest.param(40.0, 10.0, 70.0, None, id="the limit no longer limits: gone"),
        pytest.param(None, 0.0, 90.0, None, id="too hot before the first frame: it is not the frames that heat"),
        pytest.param(None, 0.5, 90.0, 0.5, id="too hot at a low rate: not below one in two seconds"),
    ],
)
def test_the_limit_follows_the_temperature(
    limit: float | None, fps: float, temperature: float, expected: float | None
) -> None:
    assert next_limit(limit, fps, temperature, 80.0) == pytest.approx(expected)


def test_without_a_thermometer_nothing_changes() -> None:
    assert next_limit(7.0, 20.0, None, 80.0) == 7.0


@given(
    temperatures=st.lists(st.floats(20, 110), max_size=60),
    fps=st.floats(0.1, 200),
)
def test_a_limit_never_stops_the_frames_and_never_speeds_them_up(temperatures: list[float], fps: float) -> None:
    limit = None
    for temperature in temperatures:
        reached = fps if limit is None else min(fps, limit)
        limit = next_limit(limit, reached, temperature, 80.0)
        assert limit is None or limit >= 0.5 or limit >= 0.8 * reached
        assert not (temperature >= 80.0 and (limit is None or limit > max(0.5, reached)))


def test_a_pace_waits_until_the_next_frame_is_due() -> None:
    pace, stopped = Pace(50.0), threading.Event()
    begin = time.monotonic()
    for _ in range(11):
        pace.wait(stopped)
    assert time.monotonic() - begin >= 10 / 50 - 0.001


def test_a_pace_does_not_catch_up_what_was_missed() -> None:
    pace, stopped = Pace(20.0), threading.Event()
    pace.wait(stopped)
    time.sleep(0.3)  # six frames are late
    begin = time.monotonic()
    for _ in range(4):
        pace.wait(stopped)
    assert time.monotonic() - begin >= 2 / 20


def test_the_end_is_not_waited_for() -> None:
    pace, stopped = Pace(0.01), threading.Event()
    stopped.set()
    pace.wait(stopped)
    begin = time.monotonic()
    pace.wait(stopped)
    assert time.monotonic() - begin < 20


def test_the_lower_of_both_limits_holds() -> None:
    pace = Pace(10.0)
    pace.follow(10.0, 90.0, 80.0)
    assert pace.limit_fps == 8.0
    assert Pace(None).limit_fps is None
