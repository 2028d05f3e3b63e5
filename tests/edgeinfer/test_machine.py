"""The facts beside every figure; an absent one is None, never an error."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeinfer import machine as machine_room
from edgeinfer.health import Health
from edgeinfer.machine import machine, package_version, resident_bytes

pytestmark = pytest.mark.device


def test_the_facts_agree_with_python_itself() -> None:
    facts = machine()
    assert facts["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert facts["architecture"] == platform.machine()
    assert facts["pointer_bits"] == (64 if sys.maxsize > 2**32 else 32)
    assert facts["cores"] == os.cpu_count()
    packages = facts["packages"]
    assert isinstance(packages, dict)
    assert packages["numpy"] == np.__version__


def test_the_facts_are_json() -> None:
    facts = machine()
    assert json.loads(json.dumps(facts)) == facts


def test_a_machine_that_says_nothing_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_room, "_read", lambda _path: None)
    facts = machine()
    assert facts["board"] is None
    assert facts["memory_bytes"] is None
    assert resident_bytes() is None


def test_what_the_board_says_is_cleaned_of_its_last_byte(tmp_path: Path) -> None:
    # /proc/device-tree/model ends with a null byte.
    model = tmp_path / "model"
    model.write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    assert machine_room._read(str(model)) == "Raspberry Pi 4 Model B Rev 1.4"


def test_temperature_and_governor_are_those_of_the_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_room, "read_health", lambda: Health(temperature_c=48.3, governor="ondemand"))
    facts = machine()
    assert (facts["temperature_c"], facts["governor"]) == (48.3, "ondemand")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says it here")
def test_the_process_holds_more_than_numpy_alone_and_less_than_the_machine_has() -> None:
    held = resident_bytes()
    total = machine()["memory_bytes"]
    assert isinstance(held, int)
    assert isinstance(total, int)
    assert 10_000_000 < held < total


def test_the_version_of_a_package_that_is_not_there_is_none() -> None:
    assert package_version("no-such-package-anywhere") is None
