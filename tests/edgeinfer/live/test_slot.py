"""The place for one thing between two threads."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from edgeinfer.live.slot import Slot

pytestmark = pytest.mark.device

PATIENCE_S = 20.0


def test_the_newest_takes_the_place_of_what_nobody_took() -> None:
    slot: Slot[int] = Slot(newest_wins=True)
    assert [slot.put(number) for number in (1, 2, 3)] == [True, True, True]
    assert slot.take() == 3
    assert slot.dropped == 2


def test_a_patient_giver_waits_until_the_place_is_free() -> None:
    slot: Slot[int] = Slot(newest_wins=False)
    giver = threading.Thread(target=lambda: [slot.put(number) for number in range(50)])
    giver.start()
    assert [slot.take() for _ in range(50)] == list(range(50))
    giver.join(PATIENCE_S)
    assert slot.dropped == 0


def test_what_lies_in_a_closed_slot_can_still_be_taken_once() -> None:
    slot: Slot[int] = Slot(newest_wins=True)
    slot.put(1)
    slot.close()
    assert (slot.take(), slot.take()) == (1, None)


def test_an_emptied_slot_gives_nothing() -> None:
    slot: Slot[int] = Slot(newest_wins=True)
    slot.put(1)
    slot.close(empty=True)
    assert slot.take() is None


def test_a_closed_slot_takes_nothing() -> None:
    slot: Slot[int] = Slot(newest_wins=True)
    slot.close()
    assert not slot.put(1)


@pytest.mark.parametrize("waiting", ["giver", "taker"])
def test_closing_wakes_whoever_waits(waiting: str) -> None:
    slot: Slot[int] = Slot(newest_wins=False)
    if waiting == "giver":
        slot.put(0)
    thread = threading.Thread(target=(lambda: slot.put(1)) if waiting == "giver" else slot.take)
    thread.start()
    slot.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_signal_that_closes_the_slot_wakes_the_thread_that_it_interrupts() -> None:
    slot: Slot[int] = Slot(newest_wins=True)
    before = signal.signal(signal.SIGALRM, lambda *_: slot.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        begin = time.monotonic()
        assert slot.take() is None
        assert time.monotonic() - begin < PATIENCE_S
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
