"""What is read from a child that may have ended at any point."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer.runtime.edgetpu.asked import Told, read_told
from edgeinfer.runtime.edgetpu.library import ListedDevice

pytestmark = pytest.mark.device

WHOLE = (
    b'{"step": "library"}\n'
    b'{"step": "version"}\n'
    b'{"step": "devices", "version": "RuntimeVersion(14)"}\n'
    b'{"devices": [["usb", "/sys/bus/usb/devices/2-1"]]}\n'
    b'{"step": "delegate"}\n'
    b'{"step": "done"}\n'
)


def test_a_child_that_came_to_its_end_has_told_everything() -> None:
    assert read_told(WHOLE, ended="", said="") == Told(
        step="done",
        version="RuntimeVersion(14)",
        devices=(ListedDevice("usb", "/sys/bus/usb/devices/2-1"),),
    )


def test_a_child_that_said_nothing_did_not_start() -> None:
    assert read_told(b"", ended="exit code 1", said="no") == Told("start", ended="exit code 1", said="no")


def test_a_crash_while_things_are_put_away_is_no_reason_against_a_device() -> None:
    assert read_told(WHOLE, ended="SIGSEGV", said="").ended == ""


def test_a_refusal_is_told_with_its_parts() -> None:
    parts = {"type": "DeviceError", "message": "No.", "received": "", "expected": "", "next": ""}
    line = json.dumps({"refused": parts}).encode()
    assert read_told(b'{"step": "delegate"}\n' + line, ended="", said="") == Told("delegate", refused=parts)


@given(st.integers(0, len(WHOLE)))
def test_a_line_that_was_cut_off_is_left_out(length: int) -> None:
    whole = [json.loads(line) for line in WHOLE[:length].split(b"\n")[:-1]]
    steps = ["start", *(one["step"] for one in whole if "step" in one)]
    told = read_told(WHOLE[:length], ended="SIGKILL", said="")
    # The last line may be whole without its end.
    assert told.step in (steps[-1], "done", "delegate", "devices", "version", "library")
    assert told.ended in ("SIGKILL", "")
    assert (told.version == "") == (b'"version": "RuntimeVersion(14)"}' not in WHOLE[:length])
