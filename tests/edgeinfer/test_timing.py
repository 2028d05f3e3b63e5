"""Percentiles by hand, and the stopwatch that keeps the latest frames."""

from __future__ import annotations

import pytest

from edgeinfer.timing import Latency, Stopwatch, latency

MS = 1_000_000


def test_percentiles_lie_between_ranks() -> None:
    # 1..101 ms: rank p of 100 steps is p + 1.
    assert latency([number * MS for number in range(1, 102)]) == Latency(51.0, 91.0, 96.0, 100.0)


def test_percentiles_of_two_values_are_interpolated() -> None:
    found = latency([0, 10 * MS])
    assert (found.p50, found.p90, found.p95, found.p99) == pytest.approx((5.0, 9.0, 9.5, 9.9))


def test_the_order_of_the_times_does_not_matter() -> None:
    assert latency([3 * MS, MS, 2 * MS]) == latency([MS, 2 * MS, 3 * MS])


def test_no_times_give_zeros() -> None:
    assert latency([]) == Latency(0.0, 0.0, 0.0, 0.0)


def test_every_stage_is_the_time_between_two_marks() -> None:
    watch = Stopwatch()
    watch.add((0, 1 * MS, 3 * MS, 7 * MS, 15 * MS))
    assert watch.latest_ms() == {"read": 1.0, "pre": 2.0, "invoke": 4.0, "post": 8.0}
    timing = watch.timing()
    assert timing.frames == 1
    assert (timing.read.p50, timing.pre.p50, timing.invoke.p50, timing.post.p50) == (1.0, 2.0, 4.0, 8.0)


def test_before_the_first_frame_there_is_nothing() -> None:
    assert Stopwatch().latest_ms() == {}
    assert Stopwatch().timing().frames == 0


def test_only_the_latest_frames_are_kept() -> None:
    watch = Stopwatch(frames=2)
    for length in (100 * MS, 2 * MS, 4 * MS):
        watch.add((0, 0, 0, length, length))
    assert watch.timing().frames == 2
    assert watch.timing().invoke.p50 == 3.0
    assert watch.latest_ms()["invoke"] == 4.0


def test_json_holds_the_stages_and_their_percentiles() -> None:
    watch = Stopwatch()
    watch.add((0, MS, MS, MS, MS))
    stages = watch.timing().to_json()
    assert set(stages) == {"read", "pre", "invoke", "post", "frames"}
    assert stages["read"] == {"p50": 1.0, "p90": 1.0, "p95": 1.0, "p99": 1.0}


def test_as_text_it_says_median_and_p95() -> None:
    watch = Stopwatch()
    watch.add((0, MS, 2 * MS, 3 * MS, 4 * MS))
    assert str(watch.timing()) == (
        "read 1.000 ms (p95 1.000), pre 1.000 ms (p95 1.000), invoke 1.000 ms (p95 1.000), "
        "post 1.000 ms (p95 1.000), over 1 frames"
    )
