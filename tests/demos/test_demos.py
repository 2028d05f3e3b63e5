"""The demos run on the shared pictures: each writes its picture and says in one line what it found and how fast."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeinfer

ROOT = Path(__file__).resolve().parents[2]
# What stands in the answer: the right classes by the pictures' own names and COCO's annotations.
ANSWERS = {
    "classify": "macaw",
    "detect": "dog",
    "segment": "bird",
    "pose": "of 17 points seen",
    "embed": "cat",
    "tiles": "with tiles",
}
demos = pytest.mark.parametrize("name", ANSWERS)


def run(name: str, *arguments: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "EDGEINFER_TEST_DATA"}
    environment["PYTHONPATH"] = str(ROOT)
    if data is not None:
        environment["EDGEINFER_TEST_DATA"] = str(data)
    line = [sys.executable, "-W", "error", str(ROOT / "demos" / f"{name}.py"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


@demos
def test_a_demo_answers_in_one_line_and_writes_its_picture(name: str, test_data: Path, tmp_path: Path) -> None:
    place = tmp_path / "new" / "picture.png"
    done = run(name, "--output", str(place), data=test_data)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert ANSWERS[name] in done.stdout
    assert re.search(r"\d+\.\d ms", done.stdout)
    assert np.ptp(edgeinfer.read_image(place)) > 0


@demos
def test_help_shows_an_example(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert f"python demos/{name}.py " in done.stdout


@demos
def test_a_demo_is_short_and_uses_public_names_only(name: str) -> None:
    text = (ROOT / "demos" / f"{name}.py").read_text()
    assert len(text.splitlines()) < 100
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgeinfer"):
            assert node.module == "edgeinfer"
            assert {alias.name for alias in node.names} <= set(edgeinfer.__all__)
