"""What the lab needs of the machine it runs on, and how it runs other programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

# Debian's package for each program.
PROGRAMS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "unshare": "util-linux",
    "mount": "mount",
    "cpio": "cpio",
    "depmod": "kmod",
    "modprobe": "kmod",
    "qemu-system-aarch64": "qemu-system-arm",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KEYRING_PACKAGE = "debian-archive-keyring"


class LabError(Exception):
    """The lab cannot work here; the message says what is missing and what to type."""


def check_host() -> None:
    """Say what is missing before anything begins.

    Raises:
        LabError: A program or Debian's keys are not installed.
    """
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program, path=_path()) is None}
    if not KEYRING.exists():
        missing.add(KEYRING_PACKAGE)
    if missing:
        line = f"apt-get install --no-install-recommends {' '.join(sorted(missing))}"
        raise LabError(f"The Pi lab needs {', '.join(sorted(missing))}.\nTo install: {line}")


def run(command: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        LabError: It failed; with the end of what it said.
    """
    environment = {**os.environ, "PATH": _path(), "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise LabError(f"{Path(command[0]).name} ended with {done.returncode}:\n{said}")
    return done.stdout


def cache_root() -> Path:
    """Return the folder in which set-up machines are kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if Path(base).is_absolute() else Path.home() / ".cache") / "edgeinfer" / "pi_lab"


def _path() -> str:
    # Users other than root do not have the folders of kmod's programs.
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
