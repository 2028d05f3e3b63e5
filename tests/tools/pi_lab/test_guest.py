from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.pi_lab.guest import main as guest
from tools.pi_lab.session import COUNT, PARTS


def test_every_part_has_a_command() -> None:
    assert {*PARTS, *COUNT, "script"} == set(guest.commands([]))


def test_a_machines_own_tests_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = tmp_path / "tests" / "edgeinfer"
    (tests / "runtime").mkdir(parents=True)
    for name in ("test_cli.py", "runtime/test_trial.py", "test_live.py", "runtime/test_long.py"):
        (tests / name).write_text("" if name.endswith("long.py") else "pytestmark = pytest.mark.device\n")
    monkeypatch.setattr(guest, "LUGGAGE", tmp_path)
    command = guest.commands([], ["runtime/test_*.py", "test_cli.py"])["tests"]
    files = [word for word in command if word.endswith(".py")]
    assert files == [str(tests / "runtime/test_trial.py"), str(tests / "test_cli.py")]


def test_options_for_pytest_reach_it() -> None:
    assert guest.commands(["-k", "trial"])["tests"][-2:] == ["-k", "trial"]


def test_a_part_is_run_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "OUT", tmp_path)
    monkeypatch.setattr(guest, "HOME", str(tmp_path))
    command = [sys.executable, "-c", "print(len(bytes(50_000_000))); raise SystemExit(3)"]
    found = guest.run("doctor", command, patience_s=60)
    assert (found["part"], found["exit"]) == ("doctor", 3)
    assert (tmp_path / "doctor.log").read_text() == "50000000\n"
    assert isinstance(found["peak_rss_bytes"], int)
    assert found["peak_rss_bytes"] > 50_000_000


def test_a_part_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "OUT", tmp_path)
    monkeypatch.setattr(guest, "HOME", str(tmp_path))
    assert guest.run("camera", ["sh", "-c", "sleep 600 & wait"], patience_s=0.2)["exit"] == -9


def test_the_camera_part_fails_where_a_frame_is_missing(tmp_path: Path) -> None:
    """A program that prints 2 lines stands for `edgeinfer camera`, because there is no camera here."""
    package = tmp_path / "edgeinfer"
    package.mkdir()
    (package / "__init__.py").touch()
    lines = [json.dumps({"frame": number, "results": [{"class_id": 1}]}) for number in (4, 7)]
    (package / "__main__.py").write_text("\n".join(f"print({line!r})" for line in lines))
    script = Path(guest.__file__).with_name("camera.py")
    codes = [
        subprocess.run(
            [sys.executable, script, "m.tflite", frames], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=False
        ).returncode
        for frames in ("2", "3")
    ]
    assert codes == [0, 1]
