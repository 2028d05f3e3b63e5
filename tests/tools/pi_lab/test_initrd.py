from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.pi_lab import initrd
from tools.pi_lab.initrd import make_initrd

needs_cpio = pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`depmod` and `modprobe` as scripts: they answer for modules, and real ones would need a real kernel."""
    modules = tmp_path / "kernel" / "lib" / "modules" / "6.1.0-50-arm64"
    modules.mkdir(parents=True)
    for name in ("9pnet.ko", "9p.ko", "vivid.ko"):
        (modules / name).write_text(name)
    needs = {"9pnet_virtio": "9pnet", "9p": "9pnet 9p", "vivid": "vivid", "virtio_pci": ""}
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    cases = "".join(
        f"{name}) echo builtin {name};;\n"
        if not wanted
        else f"{name}) " + "; ".join(f"echo 'insmod {modules}/{one}.ko '" for one in wanted.split()) + ";;\n"
        for name, wanted in needs.items()
    )
    for name, text in {"depmod": "exit 0", "modprobe": f'for last; do :; done\ncase "$last" in\n{cases}esac'}.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_folder), prepend=":")


@needs_cpio
def test_modules_are_packed_once_and_what_is_needed_first(programs: None, tmp_path: Path) -> None:
    (tmp_path / "busybox").write_text("shell")
    make_initrd(tmp_path / "kernel", tmp_path / "busybox", tmp_path / "initrd.gz")
    assert not list(tmp_path.glob("*.files"))
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    packed = gzip.decompress((tmp_path / "initrd.gz").read_bytes())
    subprocess.run(["cpio", "--extract", "--make-directories", "--quiet"], input=packed, cwd=unpacked, check=True)
    assert (unpacked / "modules" / "order").read_text().split() == ["9pnet.ko", "9p.ko", "vivid.ko"]
    assert (unpacked / "modules" / "9p.ko").read_text() == "9p.ko"
    assert (unpacked / "init").read_bytes() == initrd.FIRST_PROCESS.read_bytes()
    assert (unpacked / "init").stat().st_mode & 0o111
