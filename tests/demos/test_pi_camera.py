"""The camera demo as a person starts it, on pictures that are made here; and its video for where no camera is."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

import edgeinfer

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
ROOT = Path(__file__).resolve().parents[2]
GENEROUS_S = 60
SCRIPTS = pytest.mark.parametrize("name", ["pi_camera", "digits_video"])


def start(name: str, *words: object) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(ROOT / "demos" / f"{name}.py"), *map(str, words)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of red pictures."""
    folder = tmp_path / "red"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((48, 64, 3), (0, 0, 255), np.uint8))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that names colours, and says that it is a classifier."""
    path = tmp_path / "colours.tflite"
    record: dict[str, Any] = {"schema": 1, "task": "classification"}
    path.write_bytes(
        tiny_models.classifier(labels=("red", "green", "blue", "dark"), normalization=(0.0, 255.0), record=record)
    )
    return path


def test_it_ends_after_its_frames_and_says_how_it_went(model: Path, pictures: Path) -> None:
    child = start(
        "pi_camera", model, "--source", pictures, "--bind", "127.0.0.1:0", "--repeat", "--frames", 5, "--open"
    )
    out, err = child.communicate(timeout=GENEROUS_S)
    assert child.returncode == 0, err
    first, last = out.splitlines()
    assert first.startswith(f"{pictures} is on http://127.0.0.1:")
    assert last.startswith("5 frames, ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "kill"])
def test_the_page_answers_until_it_is_ended(number: int, model: Path, pictures: Path) -> None:
    child = start("pi_camera", model, "--source", pictures, "--bind", "127.0.0.1:0", "--repeat")
    try:
        assert child.stdout is not None
        url = next(word for word in child.stdout.readline().split() if word.startswith("http://"))
        with urllib.request.urlopen(f"{url}status.json", timeout=GENEROUS_S) as reply:
            assert json.load(reply)["models"] == ["colours"]
        child.send_signal(number)
        out, err = child.communicate(timeout=GENEROUS_S)
        assert (child.returncode, "Traceback" in err) == (0, False)
        assert " frames, " in out
    finally:
        child.kill()
        child.communicate()


def test_names_of_a_file_take_the_place_of_the_models_own(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("rot\n")
    child = start("pi_camera", model, "--labels", tmp_path / "few.txt", "--source", pictures, "--bind", "127.0.0.1:0")
    _, err = child.communicate(timeout=GENEROUS_S)
    assert child.returncode == 2
    assert "label" in err
    assert "Traceback" not in err


def test_without_a_camera_it_says_so(model: Path) -> None:
    child = start("pi_camera", model, "--source", "/dev/video99", "--bind", "127.0.0.1:0")
    _, err = child.communicate(timeout=GENEROUS_S)
    assert child.returncode == 3
    assert "There is no camera `/dev/video99`" in err


def test_the_video_shows_each_digit_and_fades_into_the_next(tmp_path: Path) -> None:
    # Two digits that are no digits: all white, and black.
    digits = np.stack([np.full((8, 8, 1), 255, np.uint8), np.zeros((8, 8, 1), np.uint8)])
    np.savez(tmp_path / "digits.npz", x=digits, y=np.array([0, 1]))
    child = start("digits_video", tmp_path / "digits.npz", tmp_path / "digits.avi", "--count", 2)
    _, err = child.communicate(timeout=GENEROUS_S)
    assert (child.returncode, err) == (0, "")
    with edgeinfer.Camera(tmp_path / "digits.avi") as camera:
        middles = [float(frame.pixels[140:180, 140:180].mean()) for frame in camera]
    assert len(middles) == 80
    assert middles[0] == pytest.approx(255, abs=3)
    assert middles[29] == pytest.approx(255, abs=3)
    assert middles[34] == pytest.approx(255 / 2, abs=3)
    assert middles[40] == pytest.approx(0, abs=3)
    assert middles[79] == pytest.approx(255, abs=3)


@SCRIPTS
def test_help_shows_an_example(name: str) -> None:
    child = start(name, "--help")
    out, _ = child.communicate(timeout=GENEROUS_S)
    assert child.returncode == 0
    assert f"python demos/{name}.py " in out


@SCRIPTS
def test_it_is_short_and_uses_public_names_only(name: str) -> None:
    text = (ROOT / "demos" / f"{name}.py").read_text()
    assert len(text.splitlines()) < 100
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgeinfer"):
            assert node.module == "edgeinfer"
            assert {alias.name for alias in node.names} <= set(edgeinfer.__all__)
