"""What a child process of this package needs to find the same code as its parent."""

from __future__ import annotations

import os
from pathlib import Path


def child_environment() -> dict[str, str]:
    """Return the environment for `python -m edgeinfer...` in a child that works in a folder of its own.

    `-m` puts the current folder in front of the search, where a downloaded `numpy.py` could lie: so a child works
    elsewhere, this package comes first in its `PYTHONPATH`, and what was given relative to our folder is made absolute.
    """
    root = str(Path(__file__).resolve().parents[2])
    given = [str(Path(part).absolute()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *given])}
