"""The bar is drawn on a terminal, and only there."""

from __future__ import annotations

import io
import sys

import pytest

from edgeinfer import progress
from edgeinfer.progress import Progress, terminal_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal in place of standard error; in the test's own call, since pytest swaps it between phases."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.delenv("CI", raising=False)
    return screen


def drawn(monkeypatch: pytest.MonkeyPatch, report: Progress) -> str:
    screen = open_terminal(monkeypatch)
    draw = terminal_progress()
    assert draw is not None
    draw(report)
    return screen.getvalue()


def test_a_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    line = drawn(monkeypatch, Progress("bench", 50, 100))
    assert "bench" in line
    assert f"[{'#' * 12}{'.' * 12}] 50/100" in line
    assert "\n" not in line


def test_the_last_report_ends_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, Progress("bench", 100, 100)).endswith(f"[{'#' * 24}] 100/100\n")


def test_a_fast_series_is_drawn_now_and_then_and_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = open_terminal(monkeypatch)
    clock = iter([0.0, 0.01, 0.02, 0.15, 0.16])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    draw = terminal_progress()
    assert draw is not None
    for done in (1, 2, 3, 4, 5):
        draw(Progress("bench", done, 5))
    assert [f"{done}/5" in screen.getvalue() for done in (1, 2, 3, 4, 5)] == [True, False, False, True, True]


def test_an_unknown_total_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    line = drawn(monkeypatch, Progress("load", 0, 0))
    assert "load" in line
    assert "[#" not in line
    assert line.endswith("\n")


def test_nothing_is_drawn_when_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    assert terminal_progress(quiet=True) is None


def test_nothing_is_drawn_under_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    monkeypatch.setenv("CI", "true")
    assert terminal_progress() is None


def test_nothing_is_drawn_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert terminal_progress() is None
