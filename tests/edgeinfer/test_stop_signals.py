"""Ctrl-C, `kill` and a closed terminal, as real signals to a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeinfer.stop_signals import StopSignals

ROOT = Path(__file__).resolve().parents[2]
GENEROUS_S = 60
# Says when it can be stopped, waits for it, and says what came.
LOOP = """
import sys, threading
from edgeinfer.stop_signals import StopSignals
ended = threading.Event()
with StopSignals(to_reader=False) as signals:
    signals.stop = ended.set
    print("ready", flush=True)
    while not ended.wait(0.05):
        pass
    print(signals.received, flush=True)
    if "hang" in sys.argv:
        threading.Event().wait()
"""
# Fills a pipe that nobody reads, and says on standard error when it is through.
WRITER = """
import os, sys
from edgeinfer.stop_signals import StopSignals
ended = []
with StopSignals(to_reader=True) as signals:
    signals.stop = lambda: ended.append(True)
    os.set_blocking(1, True)
    while not ended:
        print("x" * 1000, flush=True)
    sys.stderr.write("through")
"""


def start(code: str, *words: str, ignored: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: signal.signal(ignored, signal.SIG_IGN)) if ignored else None,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_for_the_end_once(number: signal.Signals) -> None:
    child = start(LOOP)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    out, _ = child.communicate(timeout=GENEROUS_S)
    assert (child.returncode, out) == (0, f"{number.value}\n")


def test_the_second_signal_ends_the_process_at_once() -> None:
    child = start(LOOP, "hang")
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == f"{signal.SIGINT.value}\n"
    child.send_signal(signal.SIGINT)
    assert child.wait(GENEROUS_S) == -signal.SIGINT
    child.communicate()


def test_what_was_ignored_before_stays_ignored() -> None:
    child = start(LOOP, ignored=signal.SIGHUP)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGHUP)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=GENEROUS_S)
    assert (child.returncode, out) == (0, f"{signal.SIGTERM.value}\n")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_reader_that_does_not_read_does_not_hold_up_the_end() -> None:
    child = start(WRITER)
    stat = Path(f"/proc/{child.pid}/stat")
    ends = time.monotonic() + GENEROUS_S
    asleep = 0
    while asleep < 20 and time.monotonic() < ends:
        asleep = asleep + 1 if stat.read_text().rpartition(")")[2].split()[0] == "S" else 0
        time.sleep(0.02)  # there is no event for it: the other process does nothing
    assert asleep == 20
    child.send_signal(signal.SIGINT)
    assert child.wait(GENEROUS_S) == 0
    assert child.stderr is not None
    assert child.stderr.read() == "through"
    child.communicate()


def test_before_anything_runs_an_interrupt_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals(to_reader=False):
        signal.raise_signal(signal.SIGINT)


def test_before_anything_runs_kill_ends_the_process_without_a_failure() -> None:
    with pytest.raises(SystemExit) as caught, StopSignals(to_reader=False):
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 0


def test_afterwards_the_signals_are_handled_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)]
    with StopSignals(to_reader=True) as signals:
        signals.stop = lambda: None
        signal.raise_signal(signal.SIGTERM)
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)]
    assert after == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
