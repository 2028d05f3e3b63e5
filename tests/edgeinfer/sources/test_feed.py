"""Live sources: the newest frame, patience, reconnection and the end. The cameras' failures are scripted (conftest)."""

from __future__ import annotations

import gc
import logging
import threading
import time
from typing import Any

import pytest

from edgeinfer.errors import DeviceError
from edgeinfer.sources import feed
from edgeinfer.sources.feed import Feed
from edgeinfer.sources.frame import Frame

from .conftest import Script, card, grey, live, number_of

PATIENT_S = 60.0


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(feed, "_LONGEST_WAIT_S", 0.04)
    monkeypatch.setattr(feed, "_LOOK_AGAIN_S", 0.02)


def opened(*readers: Any, patience_s: float = PATIENT_S, reconnect_s: float | None = None) -> Feed:
    return Feed(live(*readers), patience_s=patience_s, reconnect_s=reconnect_s)


def test_the_newest_frame_wins() -> None:
    all_given = threading.Event()
    way = opened(Script(grey(0), grey(1), grey(2), all_given.set))
    assert all_given.wait(PATIENT_S)
    frame = way.take()
    assert frame is not None
    assert (frame.number, number_of(frame.pixels)) == (2, 2)
    way.close()


def test_no_frame_is_given_twice() -> None:
    go_on = threading.Event()
    way = opened(Script(grey(0), lambda: go_on.wait(PATIENT_S), grey(1)))
    numbers = [way.take()]
    go_on.set()
    numbers.append(way.take())
    assert [frame and frame.number for frame in numbers] == [0, 1]
    way.close()


def test_a_source_that_cannot_be_opened_raises_at_once() -> None:
    with pytest.raises(DeviceError, match="There is no camera"):
        opened(DeviceError("There is no camera."))


def test_a_foreign_error_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        opened(ZeroDivisionError())


def test_a_driver_that_hangs_while_it_opens_is_given_up_in_time() -> None:
    free = threading.Event()
    source = live(Script())
    opens = source.open
    object.__setattr__(source, "open", lambda: (free.wait(PATIENT_S), opens())[1])
    begin = time.monotonic()
    with pytest.raises(DeviceError, match=r"given no picture within 0\.1 s") as caught:
        Feed(source, patience_s=0.1, reconnect_s=None)
    assert time.monotonic() - begin < 30
    assert caught.value.received == "it has not finished opening"
    free.set()


def test_the_time_begins_when_opencv_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        time.sleep(0.5)  # as it takes seconds on a small device

    monkeypatch.setattr(feed, "opencv", load)
    way = opened(Script(grey(7)), patience_s=0.3)
    frame = way.take()
    assert frame is not None
    assert number_of(frame.pixels) == 7
    way.close()


def test_a_driver_that_gives_no_first_frame_is_given_up_in_time() -> None:
    script = Script()
    way = opened(script, patience_s=0.1)
    with pytest.raises(DeviceError, match=r"given no picture within 0\.1 s") as caught:
        way.take()
    assert caught.value.received == "nothing"
    way.close()
    script.free.set()
    assert script.closed.wait(PATIENT_S)


def test_a_camera_that_gives_only_damaged_frames_says_so() -> None:
    way = opened(Script(None, None, None), patience_s=0.1)
    with pytest.raises(DeviceError) as caught:
        way.take()
    assert caught.value.received == "3 frames, all of them damaged"
    way.close()


def test_a_camera_that_ends_before_its_first_frame_is_tried_again() -> None:
    way = opened(Script("end"), Script(grey(5)))
    frame = way.take()
    assert frame is not None
    assert number_of(frame.pixels) == 5
    way.close()


def test_a_damaged_frame_is_left_out_and_counted_and_its_number_with_it() -> None:
    way = opened(Script(None, None, grey(2)))
    frame = way.take()
    assert frame is not None
    assert (frame.number, way.damaged) == (2, 2)
    way.close()


def test_frames_that_nobody_took_are_counted() -> None:
    all_given = threading.Event()
    way = opened(Script(grey(0), grey(1), grey(2), grey(3), all_given.set))
    assert all_given.wait(PATIENT_S)
    frame = way.take()
    assert frame is not None
    assert (frame.number, way.dropped) == (3, 3)
    way.close()


def test_many_damaged_frames_in_a_row_are_trouble() -> None:
    all_given = threading.Event()
    way = opened(Script(grey(0), *[None] * 10, all_given.set))
    assert all_given.wait(PATIENT_S)
    assert way.trouble == "The last 10 frames were damaged."
    way.close()


@pytest.mark.parametrize("failure", ["end", DeviceError("It is gone.")], ids=["end", "error"])
def test_a_lost_camera_comes_back_and_numbers_go_on(failure: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="edgeinfer")
    first, taken, back = Script(grey(0), grey(1)), threading.Event(), threading.Event()
    first.things += [lambda: taken.wait(PATIENT_S), failure]
    gone = DeviceError("There is no camera.")
    source = live(first, gone, gone, gone, Script(grey(2)))
    opens, troubles = source.open, []

    def open_next() -> Any:
        troubles.append(way.trouble if taken.is_set() else "")
        if len(troubles) == 5:
            back.wait(PATIENT_S)
        return opens()

    object.__setattr__(source, "open", open_next)
    way = Feed(source, patience_s=PATIENT_S, reconnect_s=None)
    seen = way.take()
    assert seen is not None
    while seen.number < 1:
        seen = way.take()
        assert seen is not None
    taken.set()
    back.set()
    frame = way.take()
    assert frame is not None
    assert (frame.number, number_of(frame.pixels), way.trouble) == (2, 2, "")
    assert first.closed.is_set()
    assert troubles[2:] == ["the scripted camera is lost, trying again: There is no camera."] * 3
    way.close()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_the_waits_double_and_begin_anew_with_the_next_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_FIRST_WAIT_S", 0.5)
    monkeypatch.setattr(feed, "_LONGEST_WAIT_S", 10.0)
    waits: list[float] = []
    enough = threading.Event()

    class Counts(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            if len(waits) == 8:
                enough.set()
                super().wait(PATIENT_S)
            return self.is_set()

    monkeypatch.setattr(feed, "Event", Counts)
    gone = DeviceError("gone")
    way = opened(Script(grey(0), "end"), gone, gone, gone, gone, gone, Script(grey(1), "end"), gone)
    assert enough.wait(PATIENT_S)
    assert waits == [0.5, 1, 2, 4, 8, 10, 0.5, 1]
    way.close()


def test_it_gives_up_after_the_time_that_was_said() -> None:
    gone = [DeviceError("There is no camera.")] * 100
    way = opened(Script(grey(0), "end"), *gone, reconnect_s=0.05)
    with pytest.raises(DeviceError, match=r"did not come back within 0\.05 s") as caught:
        list(iter(way.take, None))
    assert caught.value.received == "There is no camera."
    with pytest.raises(DeviceError):  # and stays so
        way.take()
    way.close()


def test_silence_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    way = opened(Script(grey(0)))
    assert way.take() is not None
    assert way.trouble == ""
    later = time.monotonic() + 7
    monkeypatch.setattr(feed, "monotonic", lambda: later)
    assert way.trouble in ("No frame for 7 s.", "No frame for 8 s.")
    way.close()


def test_black_frames_are_trouble() -> None:
    all_given = threading.Event()
    way = opened(Script(*[card((0, 0, 0))] * 30, all_given.set))
    assert all_given.wait(PATIENT_S)
    assert "lens cap" in way.trouble
    way.close()


def test_closing_while_a_driver_hangs_returns_and_the_reader_is_closed_when_it_comes_back() -> None:
    script = Script(grey(0))
    way = opened(script)
    assert way.take() is not None
    ended = threading.Event()
    threading.Thread(target=lambda: (way.take(), ended.set())).start()
    begin = time.monotonic()
    way.close()
    assert time.monotonic() - begin < 10
    assert ended.wait(PATIENT_S)
    assert not script.closed.is_set()  # a driver is inside: to release it now would crash
    script.free.set()
    assert script.closed.wait(PATIENT_S)


def test_closing_a_camera_that_works_waits_until_it_is_free() -> None:
    class Steady(Script):
        def advance(self) -> int | None:
            time.sleep(0.005)
            self.picture_is = grey(1)
            return time.monotonic_ns()

    script = Steady()
    way = opened(script)
    assert way.take() is not None
    way.close()
    assert script.closed.is_set()


def test_frames_do_not_pile_up() -> None:
    def frames() -> int:
        gc.collect()
        return sum(isinstance(thing, Frame) for thing in gc.get_objects())

    before, all_given = frames(), threading.Event()
    way = opened(Script(*[grey(1)] * 400, all_given.set))
    assert all_given.wait(PATIENT_S)
    assert frames() - before <= 1
    way.close()
