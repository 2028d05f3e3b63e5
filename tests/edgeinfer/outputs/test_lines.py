"""JSON lines."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeinfer.errors import OutputError
from edgeinfer.outputs import lines
from edgeinfer.outputs.lines import Lines


def test_each_frame_is_one_line(shown: Any) -> None:
    stream = io.StringIO()
    with Lines(stream) as output:
        assert output.write(shown(number=3))
        assert output.write(shown(number=4))
    said = stream.getvalue()
    assert said.endswith("\n")
    assert [json.loads(line)["frame"] for line in said.splitlines()] == [3, 4]


def test_without_a_stream_they_go_to_standard_output(shown: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Lines().write(shown())
    assert json.loads(capsys.readouterr().out)["model"] == "birds"


def test_a_line_is_there_before_the_next_one_comes(shown: Any) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "r") as other_end:
        Lines(stream).write(shown(number=5))
        assert json.loads(other_end.readline())["frame"] == 5


def test_closing_leaves_the_stream_open(shown: Any) -> None:
    stream = io.StringIO()
    output = Lines(stream)
    output.close()
    output.close()
    assert not stream.closed


def test_a_reader_that_has_gone_is_told_by_pythons_own_error(shown: Any) -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        Lines(stream).write(shown())
    with contextlib.suppress(BrokenPipeError):
        stream.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_output_error(shown: Any) -> None:
    stream = Path("/dev/full").open("w")  # noqa: SIM115 - its end fails too
    with pytest.raises(OutputError, match="No space left"):
        Lines(stream).write(shown())
    with contextlib.suppress(OSError):
        stream.close()


def test_a_closed_stream_is_an_output_error(shown: Any) -> None:
    stream = io.StringIO()
    output = Lines(stream)
    stream.close()
    with pytest.raises(OutputError, match="closed file"):
        output.write(shown())


def test_a_process_without_standard_output_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="no standard output"):
        Lines()


def test_the_example_is_true() -> None:
    assert doctest.testmod(lines).failed == 0
