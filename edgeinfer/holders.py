"""Which processes have a device open."""

from __future__ import annotations

import os
from pathlib import Path


def holders(device: str, root: str | Path = "/") -> tuple[str, ...]:
    """Return which processes have a device open, e.g. "motion (612)", as far as this user may see it.

    Args:
        device: Its node, e.g. "/dev/video0".
        root: Where `/proc` lies, for tests.
    """
    wanted = os.path.realpath(device)
    found = []
    for link in Path(root).glob("proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) != wanted:  # noqa: PTH115 - Path.readlink makes a path of each of thousands
                continue
        except OSError:  # the process has ended, or is somebody else's
            continue
        process = link.parents[1]
        if process.name != str(os.getpid()):
            found.append(f"{_name(process)} ({process.name})")
    return tuple(dict.fromkeys(found))


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip("\0\n ") or "process"
    except OSError:
        return "process"
