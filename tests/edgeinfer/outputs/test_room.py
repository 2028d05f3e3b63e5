"""How much a file may grow."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeinfer.errors import OutputError
from edgeinfer.outputs import room
from edgeinfer.outputs.room import free, largest_file


def mounts(folder: Path, kind: str, device: str) -> Path:
    path = folder / "mountinfo"
    # The first line is the example of proc(5).
    path.write_text(
        "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
        f"40 35 {device} / /media/stick rw,relatime shared:7 - {kind} /dev/sda1 rw\n"
    )
    return path


def device_of(path: Path) -> str:
    number = path.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux' own")
def test_a_file_on_fat_ends_below_four_gibibytes(tmp_path: Path) -> None:
    assert largest_file(tmp_path, mounts(tmp_path, "vfat", device_of(tmp_path))) == 4294967295


@pytest.mark.parametrize(("kind", "device"), [("ext4", None), ("vfat", "250:99")], ids=["other-kind", "other-disk"])
def test_a_file_elsewhere_has_no_limit(tmp_path: Path, kind: str, device: str | None) -> None:
    assert largest_file(tmp_path, mounts(tmp_path, kind, device or device_of(tmp_path))) is None


def test_a_system_that_does_not_say_what_is_mounted_has_no_limit(tmp_path: Path) -> None:
    assert largest_file(tmp_path, tmp_path / "missing") is None


def test_this_machine_is_asked_without_an_error(tmp_path: Path) -> None:
    assert largest_file(tmp_path) in (None, 4294967295)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_limit_of_the_process_counts(tmp_path: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (12345, resource.RLIM_INFINITY));"
        "from pathlib import Path; from edgeinfer.outputs.room import largest_file;"
        "print(largest_file(Path(sys.argv[1])))"
    )
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "12345"


def test_the_free_bytes_are_the_systems(tmp_path: Path) -> None:
    stats = os.statvfs(tmp_path)
    assert free(tmp_path) == pytest.approx(stats.f_bavail * stats.f_frsize, rel=0.2)


def test_a_folder_that_has_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        free(tmp_path / "gone")


def test_the_example_is_true() -> None:
    assert doctest.testmod(room).failed == 0
