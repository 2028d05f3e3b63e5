from __future__ import annotations

from pathlib import Path

import pytest

from tools.pi_lab.boot import boot, qemu_command
from tools.pi_lab.host import LabError
from tools.pi_lab.machines import MACHINES
from tools.pi_lab.setup import Image


def quiet(line: str) -> None:
    pass


def command(*, count_instructions: bool = False) -> list[str]:
    image = Image(MACHINES[0], Path("/machine"))
    return qemu_command(image, Path("/luggage"), Path("/out"), count_instructions=count_instructions)


def test_the_guest_cannot_write_into_its_system_or_the_luggage() -> None:
    shares = [word for word in command() if word.startswith("local,")]
    read_only = {"/machine/root": True, "/luggage": True, "/machine/bytecode": False, "/out": False}
    assert {share.split("path=")[1].split(",")[0]: "readonly=on" in share for share in shares} == read_only


def test_the_clock_counts_instructions_only_when_asked() -> None:
    assert "-icount" not in command()
    assert "shift=0,sleep=on" in command(count_instructions=True)


def test_what_a_machine_says_is_heard_and_kept(tmp_path: Path) -> None:
    heard: list[str] = []
    shell = ["sh", "-c", "echo LAB userland 1.8; echo LAB ended 0"]
    boot(shell, tmp_path / "console.log", patience_s=60, hear=heard.append)
    assert heard == ["LAB userland 1.8", "LAB ended 0"]
    assert (tmp_path / "console.log").read_text().splitlines() == heard


def test_a_machine_that_does_not_end_well_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    shell = ["sh", "-c", "echo Kernel panic"]
    with pytest.raises(LabError, match="Kernel panic"):
        boot(shell, tmp_path / "console.log", patience_s=60, hear=quiet)


def test_a_machine_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="did not come to its end"):
        boot(["sleep", "600"], tmp_path / "console.log", patience_s=0.1, hear=quiet)
