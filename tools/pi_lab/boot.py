"""One boot of a machine, from qemu's start to its end."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tools.pi_lab.host import LabError
from tools.pi_lab.setup import Image

# Without the random layout of the kernel its cost in instructions is the same at every boot; an error ends qemu.
_KERNEL_LINE = "console=ttyAMA0 quiet panic=-1 nokaslr"

# A nanosecond an instruction. Where the guest waits, for a folder of the host or a frame, the clock goes on with ours:
# without `sleep` it would leap to the next alarm, by minutes, and what has a time limit would run into it.
_INSTRUCTION_CLOCK = "shift=0,sleep=on"


def qemu_command(image: Image, luggage: Path, out: Path, *, count_instructions: bool) -> list[str]:
    """Return the command that boots the machine.

    Args:
        image: The machine.
        luggage: A folder that the guest reads, at /luggage.
        out: A folder that the guest writes into, at /out.
        count_instructions: The guest's clock counts instructions: one nanosecond each, however fast this machine is.
    """
    folders = {
        "root": (image.root, "on"),
        "luggage": (luggage, "on"),
        "bytecode": (image.bytecode, "off"),
        "out": (out, "off"),
    }
    shares = [
        f"local,path={path},mount_tag={tag},security_model=none,readonly={readonly},multidevs=remap"
        for tag, (path, readonly) in folders.items()
    ]
    return [
        "qemu-system-aarch64",
        *("-machine", "virt", "-accel", "tcg", "-cpu", image.machine.processor, "-smp", "1"),
        *("-m", str(image.machine.memory_mib), "-nodefaults", "-no-reboot", "-nographic", "-serial", "stdio"),
        *(("-icount", _INSTRUCTION_CLOCK) if count_instructions else ()),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _KERNEL_LINE),
        *(word for share in shares for word in ("-virtfs", share)),
    ]


def boot(command: list[str], console: Path, *, patience_s: float, hear: Callable[[str], None]) -> None:
    """Boot a machine and wait until it has switched itself off.

    Args:
        command: Of `qemu_command`.
        console: Where everything goes that it prints.
        patience_s: It is ended after so many seconds.
        hear: Called with each line.

    Raises:
        LabError: It did not come to its end by itself.
    """
    ended = False
    with (
        console.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        ) as machine,
    ):
        alarm = threading.Timer(patience_s, machine.kill)
        alarm.start()
        try:
            for line in machine.stdout or ():
                log.write(line)
                log.flush()
                ended |= line.startswith("LAB ended 0")
                hear(line.rstrip())
        finally:
            alarm.cancel()
            machine.kill()
    if not ended:
        last = "\n".join(console.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise LabError(f"The machine did not come to its end (patience: {patience_s:.0f} s). It last said:\n{last}")
