from __future__ import annotations

from pathlib import Path

import pytest

from tools.pi_lab.machines import MACHINES, find_machines
from tools.pi_lab.session import COUNT, PARTS


def test_without_names_all_machines_are_meant() -> None:
    assert find_machines(()) == MACHINES


def test_machines_come_in_the_tables_order() -> None:
    names = tuple(machine.name for machine in find_machines(("trixie-litert", "bookworm-tflite")))
    assert names == ("bookworm-tflite", "trixie-litert")


def test_what_takes_a_kernel_is_not_part_of_a_machine_without_one() -> None:
    booted, entered = find_machines(("bookworm-tflite", "raspberrypi32"))
    assert not booted.left_out
    assert "no camera" in entered.left_out["camera"]
    assert {*entered.left_out} < {*PARTS, *COUNT}
    assert {*PARTS} - {*entered.left_out} == {"doctor", "run", "bench", "tests"}


def test_every_pattern_of_a_machines_tests_finds_some() -> None:
    tests = Path(__file__).parents[2] / "edgeinfer"
    for machine in MACHINES:
        for pattern in machine.tests:
            assert any("mark.device" in path.read_text() for path in tests.glob(pattern)), (machine.name, pattern)


def test_an_unknown_machine_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"No machine is called stretch\. There are: bookworm-tflite, "):
        find_machines(("stretch",))
