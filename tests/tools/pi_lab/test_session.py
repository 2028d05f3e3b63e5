from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools.pi_lab import session
from tools.pi_lab.machines import Machine, find_machines
from tools.pi_lab.report import Part
from tools.pi_lab.session import COUNT, PARTS, Plan, run_machine
from tools.pi_lab.setup import Image

BOOTED, ENTERED = find_machines(("bookworm-tflite", "raspberrypi32"))
KIB = 1024


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would be started; a boot that writes down one part stands for a real one, which takes minutes."""
    started: list[list[str]] = []

    @contextmanager
    def prepared(machine: Machine, say: object, *, rebuild: bool) -> Iterator[Image]:
        yield Image(machine, tmp_path)

    def boot(command: list[str], console: Path, **_: object) -> None:
        started.append(command)
        (console.parent / "doctor.log").write_text("good")
        row = '{"part": "doctor", "exit": 0, "seconds": 5.0, "peak_rss_bytes": 61440}'
        (console.parent / "results.json").write_text(f"[{row}]")

    monkeypatch.setattr(session, "prepared", prepared)
    monkeypatch.setattr(session, "boot", boot)
    return started


def test_a_machine_with_a_kernel_is_booted(commands: list[list[str]], tmp_path: Path) -> None:
    run = run_machine(BOOTED, Plan(PARTS), tmp_path)
    assert commands[0][0] == "qemu-system-aarch64"
    assert run.parts == (Part("doctor", 0, 5.0, 60 * KIB, "good"),)


def test_a_machine_without_one_is_entered_and_says_what_is_not_part_of_it(
    commands: list[list[str]], tmp_path: Path
) -> None:
    run = run_machine(ENTERED, Plan(PARTS), tmp_path)
    assert commands[0][0] == "unshare"
    ran, absent = run.parts
    # Of its memory a large part is qemu's.
    assert ran == Part("doctor", 0, 5.0, 0, "good")
    assert (absent.name, absent.passed) == ("camera", True)
    assert "no camera" in absent.left_out


def test_a_machine_of_which_no_part_is_asked_for_is_not_started(commands: list[list[str]], tmp_path: Path) -> None:
    run = run_machine(ENTERED, Plan(COUNT, count_instructions=True), tmp_path)
    assert not commands
    assert run.passed
    assert {part.name for part in run.parts} == set(COUNT)
