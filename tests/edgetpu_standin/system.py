"""Folder trees that look like `/sys` and `/dev` of a machine with Edge TPUs; ordinary files stand for the nodes.

Where the entries lie and what is in them: Documentation/ABI/testing/sysfs-bus-usb and sysfs-bus-pci of the Linux
kernel, and google/gasket-driver for `/sys/class/apex`.
"""

from __future__ import annotations

from pathlib import Path

FRESH, USED = ("1a6e", "089a"), ("18d1", "9302")


def add_usb(
    root: Path,
    *,
    ids: tuple[str, str] = USED,
    port: str = "2-1",
    number: int = 3,
    speed: str = "5000",
    has_node: bool = True,
) -> Path:
    """Plug a USB device into bus 2; returns its node, "dev/bus/usb/002/<number>"."""
    entry = root / "sys/bus/usb/devices" / port
    entry.mkdir(parents=True)
    for name, value in zip(
        ("idVendor", "idProduct", "busnum", "devnum", "speed"), (*ids, "2", str(number), speed), strict=True
    ):
        (entry / name).write_text(f"{value}\n")
    node = root / f"dev/bus/usb/002/{number:03}"
    if has_node:
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()
    return node


def add_pci(root: Path, *, slot: str = "0000:01:00.0", number: int | None = 0) -> Path | None:
    """Put a card into a slot; `number` is that of its `/dev/apex_N`, None where the kernel has no driver for it."""
    card = root / "sys/bus/pci/devices" / slot
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x1ac1\n")
    (card / "device").write_text("0x089a\n")
    if number is None:
        return None
    entry = root / f"sys/class/apex/apex_{number}"
    entry.mkdir(parents=True)
    (entry / "device").symlink_to(card)
    node = root / f"dev/apex_{number}"
    node.parent.mkdir(exist_ok=True)
    node.touch()
    return node
