"""MediaPipe, in an environment of its own: another reader of our files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

_SCRIPT = Path(__file__).with_name("in_mediapipe.py")


class MediaPipe:
    """Asks MediaPipe's tasks what they answer."""

    def __init__(self, python: str, folder: Path) -> None:
        self._python = python
        self._pictures, self._answers = folder / "pictures.npz", folder / "answers.json"

    def asked(self, task: str, model: Path, pictures: Iterable[NDArray[np.uint8]]) -> Any:
        """What it answers for each picture."""
        done = self._run(task, model, pictures)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(self._answers.read_text())

    def refused(self, task: str, model: Path, pictures: Iterable[NDArray[np.uint8]]) -> str:
        """What it says where it does not answer."""
        done = self._run(task, model, pictures)
        assert done.returncode != 0
        return done.stderr

    def _run(self, task: str, model: Path, pictures: Iterable[NDArray[np.uint8]]) -> subprocess.CompletedProcess[str]:
        arrays: dict[str, Any] = {f"{number:04d}": picture for number, picture in enumerate(pictures)}
        np.savez(self._pictures, **arrays)
        command = [self._python, str(_SCRIPT), task, str(model), str(self._pictures), str(self._answers)]
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


@pytest.fixture(scope="module")
def mediapipe(tmp_path_factory: pytest.TempPathFactory) -> MediaPipe:
    python = os.environ.get("EDGEINFER_MEDIAPIPE_PYTHON")
    if not python or not Path(python).exists():
        pytest.skip("EDGEINFER_MEDIAPIPE_PYTHON names no interpreter that has MediaPipe")
    found = subprocess.run([python, "-c", "import mediapipe"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip("the environment that EDGEINFER_MEDIAPIPE_PYTHON names has no MediaPipe")
    return MediaPipe(python, tmp_path_factory.mktemp("mediapipe"))
