from __future__ import annotations

import pytest

from tools.pi_lab.machines import MACHINES, find_machines


def test_without_names_all_machines_are_meant() -> None:
    assert find_machines(()) == MACHINES


def test_machines_come_in_the_tables_order() -> None:
    names = tuple(machine.name for machine in find_machines(("trixie-litert", "bookworm-tflite")))
    assert names == ("bookworm-tflite", "trixie-litert")


def test_an_unknown_machine_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"No machine is called stretch\. There are: bookworm-tflite, "):
        find_machines(("stretch",))
