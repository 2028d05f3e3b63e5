"""What is known of the latest frames."""

from __future__ import annotations

import time

import pytest

from edgeinfer.live.meter import Meter

MS = 1_000_000


def test_an_empty_meter_says_zero() -> None:
    meter = Meter()
    assert (meter.shown, meter.fps(), meter.stages(), meter.latencies()["age"].p50) == (0, 0.0, {}, 0.0)


def test_times_become_percentiles_in_milliseconds() -> None:
    meter = Meter()
    for time_ms in (1, 2, 3):
        meter.add("capture", time_ms * MS)
    assert meter.latencies()["capture"].p50 == 2.0


def test_a_rate_is_the_frames_of_the_latest_seconds() -> None:
    meter, now = Meter(), time.monotonic_ns()
    for number in range(21):
        meter.end(now - number * 50 * MS)
    meter._ends = type(meter._ends)(sorted(meter._ends), maxlen=300)
    assert meter.fps() == pytest.approx(20.0, rel=0.05)


def test_old_frames_do_not_count() -> None:
    meter, now = Meter(), time.monotonic_ns()
    meter.end(now - 60_000 * MS)
    meter.end(now - 59_000 * MS)
    assert meter.fps() == 0.0


def test_a_source_that_has_stopped_lets_the_rate_fall() -> None:
    meter, now = Meter(), time.monotonic_ns()
    for number in range(11):
        meter.end(now - 4_000 * MS + number * 100 * MS)  # ten a second, and nothing for three seconds
    assert meter.fps() < 3.0


def test_stages_are_medians() -> None:
    meter = Meter()
    for time_ms in (1.0, 9.0, 2.0):
        meter.add_stages({"invoke": time_ms})
    assert meter.stages() == {"invoke": 2.0}


def test_only_the_latest_frames_are_kept() -> None:
    meter = Meter()
    for number in range(1000):
        meter.add("age", (1 if number < 700 else 5) * MS)
    assert meter.latencies()["age"].p50 == 5.0
