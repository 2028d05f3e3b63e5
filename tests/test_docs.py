"""What the pages under docs/ tell people to type is what the program takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeinfer.camera_command import _EXAMPLES
from edgeinfer.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/pi-camera.md").read_text(encoding="utf-8")
UNIT = ROOT / "docs/edgeinfer-camera.service"
LINE = re.compile(
    r"^\W*(?:ExecStart=)?(?:/opt/edgeinfer/bin/)?(edgeinfer (?:camera|bench|inspect|models|doctor)\b.*)$", re.M
)


def lines(text: str) -> list[str]:
    """The commands of this program in a text, without what is said of them behind two blanks, `#` or a pipe."""
    return [re.split(r"\s{2,}|\s+[#|]", found)[0] for found in LINE.findall(text)]


@pytest.mark.parametrize("line", lines(PAGE) + lines(UNIT.read_text()) + lines(_EXAMPLES))
def test_a_line_is_taken_as_it_stands_there(line: str) -> None:
    options = build_parser().parse_args(shlex.split(line)[1:])
    assert callable(options.handler)


def test_enough_lines_are_looked_at() -> None:
    assert len(lines(PAGE)) > 10
    assert len(lines(UNIT.read_text())) == 2
    assert len(lines(_EXAMPLES)) > 5


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", PAGE))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    # The program is looked for, and there is none at that place here.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/edgeinfer/bin/edgeinfer", shutil.which("true") or "/bin/true"))
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, UNIT.name in done.stderr) == (0, False), done.stderr


def test_the_unit_ends_the_program_with_the_signal_that_it_calls_no_failure() -> None:
    said = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] not in "#[")
    assert said["KillSignal"] == "SIGTERM"
    assert said["Restart"] == "on-failure"
    assert set(said["RestartPreventExitStatus"].split()) == {"2", "4", "5"}
