"""A child finds the code of its parent, wherever it works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgeinfer
from edgeinfer.runtime.child import child_environment

pytestmark = pytest.mark.device


def test_a_child_in_another_folder_has_this_package(tmp_path: Path) -> None:
    code = "import edgeinfer; print(edgeinfer.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == edgeinfer.__file__


def test_a_relative_place_of_the_parent_is_absolute_for_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["lib", "", "/opt/lib"]))
    assert child_environment()["PYTHONPATH"].split(os.pathsep)[1:] == [str(tmp_path / "lib"), "/opt/lib"]


def test_everything_else_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_TEST_VALUE", "1")
    assert child_environment()["EDGEINFER_TEST_VALUE"] == "1"
