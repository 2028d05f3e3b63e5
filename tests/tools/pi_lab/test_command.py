from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.pi_lab import host
from tools.pi_lab.__main__ import main
from tools.pi_lab.host import LabError, check_host

ROOT = Path(__file__).resolve().parents[3]


def test_help_is_good_and_names_the_machines() -> None:
    command = [sys.executable, "-m", "tools.pi_lab", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "trixie-litert" in done.stdout


@pytest.mark.parametrize("words", [["stretch"], ["--parts", "tests,sleep"]], ids=["machine", "part"])
def test_what_there_is_not_is_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "There are: " in capsys.readouterr().err


def test_what_is_missing_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(host.PROGRAMS, "qemu-system-riscv32-of-nobody", "qemu-system-nobody")
    with pytest.raises(LabError, match=r"apt-get install --no-install-recommends .*qemu-system-nobody"):
        check_host()
