"""A machine without a kernel: its programs run under qemu's user mode, on this machine's kernel, in their own root.

Each process of the guest is one of qemu. The host's kernel is not told to start qemu for programs of another processor
(binfmt_misc), so the guest's Python is a script that does; a program that starts `sys.executable` finds it.
The shell and its programs are this machine's own kind, because no test is about them.
"""

from __future__ import annotations

import os
from pathlib import Path

from tools.pi_lab.debian import Archive
from tools.pi_lab.host import run

_ENTRANCE = Path(__file__).parent / "guest" / "enter"
# Debian's first release in which qemu's user mode is one static file; bookworm's 7.2 also fails in what LiteRT 2 does.
_SUITE = "trixie"
_FOLDER = "emulator"
# busybox begins it, since a script's first line can give its interpreter no more than one word. `-0` makes the script
# what Python takes for its own place.
_PYTHON = """#!/{folder}/busybox sh
exec /{folder}/qemu-arm -cpu {processor} -0 "$0" /usr/bin/{python} "$@"
"""


def install_emulator(root: Path, processor: str, folder: Path) -> None:
    """Put the emulator into a system, and in front of its Python.

    Args:
        root: The system: Debian armhf, unpacked.
        processor: As qemu calls it.
        folder: For apt's state, as long as this takes.

    Raises:
        LabError: The packages are not to be had.
    """
    archive = Archive(_SUITE, run(["dpkg", "--print-architecture"]).strip(), folder)
    (root / _FOLDER).mkdir()
    archive.take("qemu-user", "usr/bin/qemu-arm", root / _FOLDER / "qemu-arm")
    archive.take("busybox-static", "usr/bin/busybox", root / _FOLDER / "busybox")
    (root / "bin" / "sh").symlink_to(f"/{_FOLDER}/busybox")
    command = root / "usr" / "bin" / "python3"
    real = command.readlink()
    command.unlink()
    command.write_text(_PYTHON.format(folder=_FOLDER, processor=processor, python=real.name))
    command.chmod(0o755)


def enter_command(root: Path, luggage: Path, bytecode: Path, out: Path) -> list[str]:
    """Return the command that runs the guest's first program, and prints what a machine with a kernel prints.

    It has mounts, processes and a network of its own, which end with it. Who is not root becomes the only user of the
    guest.

    Args:
        root: The system.
        luggage: A folder that the guest reads, at /luggage.
        bytecode: A folder that it writes into, at /bytecode.
        out: Another, at /out.
    """
    own = ["--mount", "--pid", "--fork", "--kill-child", "--net"]
    if os.getuid() != 0:
        own += ["--user", "--map-root-user"]
    return ["unshare", *own, "sh", *(str(path) for path in (_ENTRANCE, root, luggage, bytecode, out))]
