"""The first files of a boot: the modules that reach the host's folders and give a camera, and the first process."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

from tools.pi_lab.host import run

FIRST_PROCESS = Path(__file__).parent / "guest" / "init"
# Folders of the host; a camera that shows a test picture.
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "vivid")
_DECOMPRESSED = {".xz": lzma.decompress, ".gz": gzip.decompress}


def make_initrd(kernel: Path, busybox: Path, target: Path) -> None:
    """Write the initial file system of a machine.

    Args:
        kernel: The unpacked kernel package.
        busybox: The guest's static one.
        target: Where it goes.
    """
    folder = target.with_suffix(".files")
    for name in ("bin", "modules", "root", "proc", "dev"):
        (folder / name).mkdir(parents=True)
    shutil.copy2(busybox, folder / "bin" / "busybox")
    shutil.copy2(FIRST_PROCESS, folder / "init")
    (folder / "init").chmod(0o755)
    (version,) = (path.name for path in (kernel / "lib" / "modules").iterdir())
    run(["depmod", "-b", kernel, version])
    names = []
    for path in _in_loading_order(kernel, version):
        unpack = _DECOMPRESSED.get(path.suffix)
        name = path.stem if unpack else path.name
        (folder / "modules" / name).write_bytes(unpack(path.read_bytes()) if unpack else path.read_bytes())
        names.append(name)
    (folder / "modules" / "order").write_text("\n".join(names) + "\n")
    files = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet"],
        cwd=folder,
        input=files.encode(),
        capture_output=True,
        check=True,
    ).stdout
    target.write_bytes(gzip.compress(packed, 1))
    shutil.rmtree(folder)


def _in_loading_order(kernel: Path, version: str) -> list[Path]:
    """Return the modules' files and those of what they need, each once, what is needed first."""
    found: dict[Path, None] = {}
    for name in _MODULES:
        said = run(["modprobe", "--dirname", kernel, "--set-version", version, "--show-depends", name])
        for line in said.splitlines():
            if line.startswith("insmod "):  # else "builtin NAME"
                found[Path(line.split()[1])] = None
    return list(found)
