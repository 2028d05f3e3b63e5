from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tools.pi_lab import setup
from tools.pi_lab.host import LabError
from tools.pi_lab.machines import MACHINES
from tools.pi_lab.setup import Image, key, prepared

MACHINE = MACHINES[0]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made; a folder stands for the machine, because a real one takes a network and a minute."""
    names: list[str] = []

    def make(image: Image, say: object) -> None:
        image.folder.mkdir()
        names.append(image.folder.name)

    monkeypatch.setattr(setup, "_make", make)
    return names


def quiet(text: str) -> None:
    pass


def test_another_definition_has_another_key() -> None:
    assert key(replace(MACHINE, wheels=("numpy<2",))) != key(MACHINE)
    assert key(replace(MACHINE, processor="cortex-a53")) != key(MACHINE)


def test_other_tests_do_not_make_another_machine() -> None:
    assert key(replace(MACHINE, tests=("test_cli.py",))) == key(MACHINE)


def test_pip_takes_what_debian_has_installed_for_installed(tmp_path: Path) -> None:
    wheel = setup._empty_wheel("numpy==1.24.2", tmp_path / "held")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-index", "--quiet"]
    command += [f"--find-links={wheel.parent}", f"--dest={tmp_path}", "numpy>=1.24"]
    subprocess.run(command, check=True)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_a_machine_is_made_once(made: list[str]) -> None:
    for _ in range(2):
        with prepared(MACHINE, quiet) as image:
            assert image.folder.is_dir()
    assert len(made) == 1


def test_a_machine_is_made_anew_when_asked(made: list[str]) -> None:
    for _ in range(2):
        with prepared(MACHINE, quiet, rebuild=True):
            pass
    assert len(made) == 2


def test_what_an_interruption_or_another_definition_left_is_removed(made: list[str]) -> None:
    with prepared(MACHINE, quiet) as image:
        left = image.folder.with_name(f"{MACHINE.name}-x7_a2k")
        other = image.folder.with_name("trixie-litert-0123456789ab")
    left.mkdir()
    other.mkdir()
    with prepared(MACHINE, quiet):
        assert not left.exists()
        assert other.exists()


def test_a_second_run_waits_for_the_first(made: list[str]) -> None:
    order: list[str] = []
    waits = threading.Event()

    def say(text: str) -> None:
        waits.set()

    def second() -> None:
        with prepared(MACHINE, say):
            order.append("second")

    with prepared(MACHINE, quiet):
        run = threading.Thread(target=second)
        run.start()
        assert waits.wait(60)
        order.append("first")
    run.join(60)
    assert order == ["first", "second"]


def test_a_failure_leaves_no_machine_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PI_LAB_MIRROR", f"file://{tmp_path}/nothing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises((LabError, OSError)), prepared(MACHINE, quiet):
        pass
    assert [path.name for path in (tmp_path / "edgeinfer" / "pi_lab").iterdir()] == [f"{MACHINE.name}.lock"]
