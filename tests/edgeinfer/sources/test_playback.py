"""Files at their own pace, by a clock that the test turns."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from edgeinfer.errors import InputError
from edgeinfer.sources import playback
from edgeinfer.sources.playback import Playback

from .conftest import Script, card, files, grey, number_of

MS = 1_000_000


class Clock:
    """A clock that goes only when somebody waits, or when the test says so."""

    def __init__(self) -> None:
        self.now_ns = 5_000 * MS

    def event(self) -> Any:
        clock = self

        class Waits(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                if not self.is_set() and timeout is not None:
                    clock.now_ns += round(timeout * 1e9)
                return self.is_set()

        return Waits()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(playback, "monotonic_ns", lambda: made.now_ns)
    monkeypatch.setattr(playback, "Event", made.event)
    return made


def cards(count: int) -> list[Any]:
    return [*(grey(number) for number in range(count)), "end"]


def taken(way: Playback) -> tuple[int, int, int] | None:
    """Number, what the card says, and when it was due, ms after the start."""
    frame = way.take()
    return frame and (frame.number, number_of(frame.pixels), (frame.time_ns - 5_000 * MS) // MS)


def test_each_frame_comes_when_it_is_due(clock: Clock) -> None:
    way = Playback(files(Script(*cards(3))), realtime=True, repeat=False)
    assert taken(way) == (0, 0, 0)
    assert (taken(way), clock.now_ns) == ((1, 1, 100), 5_100 * MS)
    assert (taken(way), clock.now_ns) == ((2, 2, 200), 5_200 * MS)
    assert taken(way) is None


def test_the_time_begins_with_the_first_frame_that_is_asked_for(clock: Clock) -> None:
    way = Playback(files(Script(*cards(3))), realtime=True, repeat=False)
    clock.now_ns += 60_000 * MS  # a model was loaded
    assert taken(way) == (0, 0, 60_000)


def test_a_frame_that_is_still_on_is_given_late(clock: Clock) -> None:
    way = Playback(files(Script(*cards(4))), realtime=True, repeat=False)
    taken(way)
    clock.now_ns += 170 * MS
    assert (taken(way), clock.now_ns) == ((1, 1, 100), 5_170 * MS)
    assert (taken(way), clock.now_ns) == ((2, 2, 200), 5_200 * MS)


def test_frames_whose_time_has_passed_are_left_out_with_their_numbers(clock: Clock) -> None:
    way = Playback(files(Script(*cards(8))), realtime=True, repeat=False)
    taken(way)
    clock.now_ns += 450 * MS
    assert taken(way) == (4, 4, 400)
    assert taken(way) == (5, 5, 500)
    assert way.dropped == 3


def test_a_video_that_is_over_ends(clock: Clock) -> None:
    way = Playback(files(Script(*cards(4))), realtime=True, repeat=False)
    taken(way)
    clock.now_ns += 10_000 * MS
    assert taken(way) is None


def test_the_second_round_is_due_one_interval_after_the_first(clock: Clock) -> None:
    way = Playback(files(Script(*cards(2)), Script(*cards(2)), Script(*cards(2))), realtime=True, repeat=True)
    assert [taken(way) for _ in range(5)] == [(0, 0, 0), (1, 1, 100), (2, 0, 200), (3, 1, 300), (4, 0, 400)]


def test_a_reader_that_is_slower_than_its_video_stretches_the_time(clock: Clock) -> None:
    script = Script(*cards(8))
    slow = script.advance

    def advance() -> int | None:
        clock.now_ns += 250 * MS  # each frame takes longer to get at than it is on
        return slow()

    script.advance = advance  # type: ignore[method-assign]
    way = Playback(files(script), realtime=True, repeat=False)
    numbers, ages = [], []
    while (frame := way.take()) is not None:
        numbers.append(frame.number)
        ages.append((clock.now_ns - frame.time_ns) // MS)
    assert len(numbers) >= 3  # it leaves out some, and comes to its end
    assert max(ages) <= 100  # and what it gives is never older than one interval


def test_an_endless_repetition_of_nothing_ends() -> None:
    assert Playback(files(Script("end"), Script("end")), realtime=False, repeat=True).take() is None


def test_a_damaged_frame_is_left_out_and_counted() -> None:
    way = Playback(files(Script(grey(0), None, grey(2), "end")), realtime=False, repeat=False)
    assert [frame.number for frame in iter(way.take, None) if frame] == [0, 2]
    assert way.damaged == 1


def test_an_error_does_not_end_it() -> None:
    way = Playback(files(Script(InputError("broken"), grey(1), "end")), realtime=False, repeat=False)
    with pytest.raises(InputError, match="broken"):
        way.take()
    assert way.take() is not None


def test_closing_from_another_thread_does_not_wait_for_a_read_and_leaves_the_reader_to_it() -> None:
    begun, free = threading.Event(), threading.Event()
    script = Script(begun.set, "hang", free=free)
    way = Playback(files(script), realtime=False, repeat=False)
    thread = threading.Thread(target=way.take)
    thread.start()
    assert begun.wait(60)
    way.close()
    assert not script.closed.is_set()  # it is being read
    free.set()
    thread.join(60)
    assert script.closed.is_set()


def test_closing_ends_the_wait_for_a_frame() -> None:
    script = Script(card((1, 1, 1)), card((2, 2, 2)))
    script.interval_ns = 3_600_000 * MS  # an hour
    way = Playback(files(script), realtime=True, repeat=False)
    assert way.take() is not None
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(way.take()))
    thread.start()
    way.close()
    thread.join(60)
    assert got == [None]
    assert script.closed.is_set()
