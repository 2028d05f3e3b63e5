"""Which frame stands where in a video of one rate."""

from __future__ import annotations

import doctest
from collections.abc import Iterable

import numpy as np
import pytest

from edgeinfer.outputs import playback
from edgeinfer.outputs.playback import Playback


def played(player: Playback[int], times_s: Iterable[float]) -> list[int]:
    """The number of the picture that stands in each place."""
    places: list[int] = []
    for number, time_s in enumerate(times_s):
        for picture, times in player.take(number, round(time_s * 1e9)):
            places += [picture] * times
    for picture, times in player.finish():
        places += [picture] * times
    return places


def test_a_steady_source_at_the_videos_rate_is_one_to_one() -> None:
    assert played(Playback(10.0), np.arange(20) / 10) == list(range(20))


def test_a_slower_source_repeats_its_pictures() -> None:
    # Four pictures a second in a video of twelve: each stands three times, the last once.
    assert played(Playback(12.0), np.arange(3) / 4) == [0, 0, 0, 1, 1, 1, 2]


def test_a_faster_source_loses_pictures_and_keeps_the_time() -> None:
    places = played(Playback(10.0), np.arange(90) / 30)  # three seconds
    assert 29 <= len(places) <= 32
    assert places == sorted(set(places))


@pytest.mark.parametrize("fps", [None, 8.0], ids=["measured", "given"])
def test_a_source_whose_times_tremble_plays_at_the_speed_of_life(fps: float | None) -> None:
    times = np.cumsum(np.random.default_rng(3).uniform(0.09, 0.16, 200))
    player: Playback[int] = Playback(fps)
    places = played(player, times)
    assert len(places) / player.fps == pytest.approx(times[-1] - times[0], abs=3 / player.fps)
    # And at any moment, not only at its end: each picture stands within two places of its time.
    for number in sorted(set(places)):
        assert places.index(number) / player.fps == pytest.approx(times[number] - times[0], abs=2.01 / player.fps)


def test_a_camera_with_little_jitter_loses_nothing_and_repeats_nothing() -> None:
    rng = np.random.default_rng(4)
    times = np.arange(300) / 30 + rng.uniform(-0.008, 0.008, 300)
    places = played(Playback(30.0), times)
    assert sorted(set(places)) == list(range(300))
    assert len(places) <= 302


@pytest.mark.parametrize(
    ("distance_s", "rate"), [(1 / 29.97, 30.0), (1 / 7.6, 8.0), (0.001, 60.0), (3.0, 1.0)], ids=str
)
def test_the_rate_is_that_of_the_first_pictures(distance_s: float, rate: float) -> None:
    player: Playback[int] = Playback(None)
    played(player, np.arange(9) * distance_s)
    assert player.fps == rate


def test_a_slow_start_does_not_decide_the_rate() -> None:
    player: Playback[int] = Playback(None)
    played(player, [0.0, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6])
    assert player.fps == 10.0


def test_a_single_picture_is_played_too() -> None:
    player: Playback[int] = Playback(None)
    assert played(player, [5.0]) == [0]
    assert player.fps == 25.0


def test_pictures_of_one_moment_are_no_division_by_nought() -> None:
    assert played(Playback(None), [1.0] * 9)[0] == 0


def test_an_hour_of_silence_is_shortened() -> None:
    places = played(Playback(10.0), [0.0, 0.1, 3600.0, 3600.1, 3600.2])
    assert places == [0, 1, *[1] * 60, 2, 3, 4]


def test_a_clock_that_was_set_back_does_not_stop_the_video() -> None:
    places = played(Playback(10.0), [1000.0, 1000.1, 0.0, 0.1, 0.2])
    assert places == [0, 1, 2, 3, 4]


def test_every_frame_stands_once_whatever_its_time() -> None:
    player: Playback[int] = Playback(None, every_frame=True)
    assert played(player, [5.0, 5.0, 1.0, 100.0]) == [0, 1, 2, 3]
    assert player.fps == 25.0


def test_nothing_comes_of_nothing() -> None:
    assert played(Playback(None), []) == []


def test_the_example_is_true() -> None:
    assert doctest.testmod(playback).failed == 0
