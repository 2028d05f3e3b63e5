from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.pi_lab import userland
from tools.pi_lab.boot import boot
from tools.pi_lab.host import LabError
from tools.pi_lab.userland import enter_command, install_emulator

FOLDERS = [Path("/root-of-it"), Path("/luggage"), Path("/bytecode"), Path("/out")]


def namespaces_are_allowed() -> bool:
    command = [*enter_command(*FOLDERS)[: enter_command(*FOLDERS).index("sh")], "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def copy_shell(root: Path) -> None:
    said = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout
    for name in ["/bin/sh", *re.findall(r"/\S+", said)]:
        copy = root / name.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, copy)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is taken out of packages; a line of text stands for each program, because the real ones take a network."""
    taken: list[tuple[str, str]] = []

    class Packages:
        def __init__(self, suite: str, architecture: str, folder: Path) -> None:
            pass

        def take(self, package: str, path: str, target: Path) -> None:
            target.write_text(package)
            taken.append((package, path))

    monkeypatch.setattr(userland, "Archive", Packages)
    monkeypatch.setattr(userland, "run", lambda _: "amd64\n")
    return taken


@pytest.fixture
def root(tmp_path: Path, packages: list[tuple[str, str]]) -> Path:
    """A system with the emulator in it, whose programs are stand-ins."""
    programs = tmp_path / "root" / "usr" / "bin"
    programs.mkdir(parents=True)
    (programs.parents[1] / "bin").symlink_to("usr/bin")
    (programs / "python3").symlink_to("python3.11")
    install_emulator(tmp_path / "root", "cortex-a7", tmp_path / "apt")
    return tmp_path / "root"


def test_python_is_started_by_the_emulator_under_the_scripts_own_name(root: Path) -> None:
    script = root / "usr" / "bin" / "python3"
    assert script.stat().st_mode & 0o111 == 0o111
    first, second = script.read_text().splitlines()
    assert first == "#!/emulator/busybox sh"
    # `sys.executable` is what a child is started with: it must be the script again, and not the program of ARM.
    words = ["exec", "/emulator/qemu-arm", "-cpu", "cortex-a7", "-0", '"$0"', "/usr/bin/python3.11", '"$@"']
    assert second.split() == words


def test_the_shell_is_one_that_runs_here(root: Path, packages: list[tuple[str, str]]) -> None:
    assert (root / "bin" / "sh").readlink() == Path("/emulator/busybox")
    assert [package for package, _ in packages] == ["qemu-user", "busybox-static"]


@pytest.mark.parametrize(("user", "mapped"), [(0, False), (1000, True)], ids=["root", "an ordinary user"])
def test_only_who_is_not_root_needs_a_user_namespace(
    monkeypatch: pytest.MonkeyPatch, user: int, *, mapped: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: user)
    assert ("--map-root-user" in enter_command(*FOLDERS)) == mapped


def test_the_guest_has_its_places_and_cannot_change_its_system(tmp_path: Path) -> None:
    """A native shell stands for the guest's Python: its folders are looked at, not its processor."""
    if not namespaces_are_allowed():
        pytest.skip("namespaces are not allowed here")
    root, luggage, bytecode, out = (tmp_path / name for name in ("root", "luggage", "bytecode", "out"))
    for place in ("proc", "run", "tmp", "dev", "home/pi", "luggage", "bytecode", "out", "usr/bin", "emulator"):
        (root / place).mkdir(parents=True)
    for folder in (luggage, bytecode, out):
        folder.mkdir()
    copy_shell(root)
    busybox = root / "emulator" / "busybox"
    busybox.write_text("#!/bin/sh\nexit 0\n")
    python = root / "usr" / "bin" / "python3"
    python.write_text(
        "#!/bin/sh\n"
        "for place in / /luggage /bytecode /out /tmp /home/pi /dev/shm; do\n"
        "  if (: > $place/x) 2> /dev/null; then echo writes $place; else echo reads $place; fi\n"
        "done\n"
        "exit 7\n"
    )
    for program in (busybox, python):
        program.chmod(0o755)
    heard: list[str] = []
    with pytest.raises(LabError, match="LAB ended 7"):
        boot(enter_command(root, luggage, bytecode, out), tmp_path / "console.log", patience_s=60, hear=heard.append)
    assert [line.split()[1] for line in heard if line.startswith("reads")] == ["/", "/luggage"]
    assert [line.split()[1] for line in heard if line.startswith("writes")] == [
        "/bytecode",
        "/out",
        "/tmp",
        "/home/pi",
        "/dev/shm",
    ]
    assert heard[0] == "LAB userland"
    assert heard[-1] == "LAB ended 7"
    assert (out / "x").exists()
