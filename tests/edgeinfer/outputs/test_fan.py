"""Several outputs as one."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest

from edgeinfer.errors import DeviceError, InputError, OutputError
from edgeinfer.live.shown import Shown
from edgeinfer.outputs.fan import Fan
from edgeinfer.outputs.lines import Lines


class Noted:
    """An output that notes what happens to it, and fails when it is told to."""

    def __init__(
        self, *, fails: Exception | None = None, ends: bool = False, close_fails: Exception | None = None
    ) -> None:
        self.frames: list[int] = []
        self.closed = 0
        self.trouble = ""
        self.fails, self.ends, self.close_fails = fails, ends, close_fails

    def write(self, shown: Shown) -> bool:
        if self.fails:
            raise self.fails
        self.frames.append(shown.frame.number)
        return not self.ends

    def close(self) -> None:
        self.closed += 1
        if self.close_fails:
            raise self.close_fails


def test_each_output_gets_each_frame(shown: Any) -> None:
    one, other = Noted(), Noted()
    with Fan([one, other]) as fan:
        assert fan.write(shown(number=0))
        assert fan.write(shown(number=1))
    assert one.frames == other.frames == [0, 1]
    assert one.closed == other.closed == 1


def test_real_outputs_are_outputs(shown: Any) -> None:
    first, second = io.StringIO(), io.StringIO()
    with Fan([Lines(first), Lines(second)]) as fan:
        fan.write(shown())
    assert first.getvalue().count("\n") == second.getvalue().count("\n") == 1


def test_one_that_asks_for_the_end_ends_all_and_the_others_still_get_the_frame(shown: Any) -> None:
    window, other = Noted(ends=True), Noted()
    assert not Fan([window, other]).write(shown(number=7))
    assert other.frames == [7]


@pytest.mark.parametrize("error", [OutputError("The disk is full."), DeviceError("The screen has gone.")], ids=type)
def test_one_that_fails_is_closed_and_the_others_go_on(
    error: Exception, shown: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken, well = Noted(fails=error), Noted()
    fan = Fan([broken, well])
    with caplog.at_level(logging.WARNING):
        assert fan.write(shown(number=0))
        assert fan.write(shown(number=1))
    assert well.frames == [0, 1]
    assert broken.closed == 1
    assert fan.errors == (error,)
    assert fan.trouble == str(error)
    assert caplog.text.count(str(error)) == 1
    fan.close()
    assert (broken.closed, well.closed) == (1, 1)


def test_when_the_last_one_fails_its_error_is_raised(shown: Any) -> None:
    first, last = Noted(), Noted(fails=OutputError("full"))
    fan = Fan([first, last])
    fan.write(shown())
    first.fails = DeviceError("gone")
    with pytest.raises(DeviceError, match="gone"):
        fan.write(shown())
    assert [str(error) for error in fan.errors] == ["full", "gone"]
    assert first.closed == last.closed == 1


@pytest.mark.parametrize("error", [BrokenPipeError(), InputError("a mistake"), KeyError("a mistake")], ids=type)
def test_other_errors_are_not_for_the_fan(error: Exception, shown: Any) -> None:
    with pytest.raises(type(error)), Fan([Noted(), Noted(fails=error)]) as fan:
        fan.write(shown())


def test_an_output_that_fails_twice_is_told_twice(shown: Any) -> None:
    broken = Noted(fails=OutputError("first"), close_fails=OutputError("second"))
    fan = Fan([broken, Noted()])
    assert fan.write(shown())
    assert [str(error) for error in fan.errors] == ["first", "second"]


def test_all_are_closed_even_if_one_cannot_be() -> None:
    outputs = [Noted(close_fails=OutputError("first")), Noted(close_fails=KeyboardInterrupt()), Noted()]  # type: ignore[arg-type]
    fan = Fan(outputs)
    with pytest.raises(OutputError, match="first"):
        fan.close()
    fan.close()
    assert [output.closed for output in outputs] == [1, 1, 1]


def test_the_trouble_of_those_that_go_on_is_told(shown: Any) -> None:
    broken, broker = Noted(fails=OutputError("The disk is full.")), Noted()
    broker.trouble = "The broker is gone."
    fan = Fan([broken, broker, Lines(io.StringIO())])
    assert fan.trouble == "The broker is gone."
    fan.write(shown())
    assert fan.trouble == "The disk is full. The broker is gone."


def test_without_an_output_frames_go_nowhere(shown: Any) -> None:
    with Fan([]) as fan:
        assert fan.write(shown())
    assert fan.trouble == ""
