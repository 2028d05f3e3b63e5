"""Which Edge TPUs the system shows, and what keeps this user from one, read from `/sys` and `/dev` without touching it.

Sources: USB ids from `debian/edgetpu-accelerator.rules` of google-coral/libedgetpu (an accelerator answers to the first
until a program has used it, and to the second from then on); PCI id and `/dev/apex_N` from google/gasket-driver.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgeinfer.frozen import dataclass
from edgeinfer.runtime.edgetpu.address import Bus

USB_IDS = (("1a6e", "089a"), ("18d1", "9302"))
PCI_ID = ("1ac1", "089a")

USB3_MBIT_S = 5000  # the slowest rate of USB 3; USB 2 has 480

_USB, _PCI, _APEX = "sys/bus/usb/devices", "sys/bus/pci/devices", "sys/class/apex"
_NODE = re.compile(r"apex_(\d+)")
# 189 is the number of USB devices' kind, Documentation/admin-guide/devices.txt of the Linux kernel. The node itself
# would not do: an accelerator gets a new one when it is used for the first time.
_NO_NODE: dict[Bus, str] = {
    "usb": "In a container: docker run -v /dev/bus/usb:/dev/bus/usb --device-cgroup-rule='c 189:* rmw' ...",
    "pci": "sudo dmesg | grep -E 'apex|gasket', or in a container: docker run --device /dev/apex_0 ...",
}


@dataclass(frozen=True, slots=True)
class FoundEdgeTpu:
    """An Edge TPU that the system shows.

    Attributes:
        bus: "usb" or "pci".
        place: Where the system has it, e.g. "/sys/bus/usb/devices/2-1".
        node: What a program opens, "/dev/bus/usb/002/003" or "/dev/apex_0"; "" where the system has made none.
        allowed: False where this user may not open the node.
        is_used: False for one on USB that no program has used since it was plugged in.
        mbit_s: Rate of the USB port, in megabits a second; None on PCIe and where the system does not say it.
    """

    bus: Bus
    place: str
    node: str
    allowed: bool = True
    is_used: bool = True
    mbit_s: int | None = None

    @property
    def is_slow(self) -> bool:
        """True on a port of USB 2: every frame takes longer on its way."""
        return self.mbit_s is not None and self.mbit_s < USB3_MBIT_S

    def __str__(self) -> str:
        """Return bus and node, e.g. "usb /dev/bus/usb/002/003"."""
        slow = f" (on a USB 2 port, {self.mbit_s} Mbit/s)" if self.is_slow else ""
        return f"{self.bus} {self.node or self.place}{slow}"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a program from an Edge TPU.

    Attributes:
        what: What is wrong, a sentence.
        cure: The line to type.
    """

    what: str
    cure: str


def find_edgetpus(root: str | Path = "/") -> tuple[FoundEdgeTpu, ...]:
    """Return the Edge TPUs that the system shows, those on PCIe last.

    Args:
        root: Where `/sys` and `/dev` lie, for tests.
    """
    return (*_on_usb(Path(root)), *_on_pci(Path(root)))


def say_edgetpus(found: tuple[FoundEdgeTpu, ...]) -> str:
    """Return them in one line, or what was looked for where there is none."""
    if found:
        return ", ".join(map(str, found))
    usb = " or ".join(":".join(one) for one in USB_IDS)
    return f"no USB device {usb}, no PCI device {':'.join(PCI_ID)}, no /dev/apex_0"


def find_obstacle(found: FoundEdgeTpu, root: str | Path = "/") -> Obstacle | None:
    """Return what keeps this user from an Edge TPU; None where nothing is seen.

    Args:
        found: From `find_edgetpus`.
        root: Where `/sys`, `/dev` and `/etc` lie, for tests.
    """
    place = Path(root)
    if found.bus == "pci" and not found.node and not (place / "sys/module/apex").exists():
        return Obstacle(
            f"The kernel has no driver for the Edge TPU at {found.place}.",
            "sudo apt install gasket-dkms && sudo modprobe apex",
        )
    if not found.node:
        return Obstacle(f"The Edge TPU at {found.place} has no device node here.", _NO_NODE[found.bus])
    if found.allowed:
        return None
    group = "plugdev" if found.bus == "usb" else "apex"
    return Obstacle(f"This user may not open {found.node}.", _permission_line(place, found, group))


def _permission_line(place: Path, found: FoundEdgeTpu, group: str) -> str:
    """Return the line that lets this user open a node: into its group, or first give the node to that group."""
    join = f"sudo usermod -aG {group} $USER"
    owner = _group_name(place / found.node.lstrip("/"))
    if owner == group:
        if group in _groups_of_user():
            return "Log in again: this session began before the user came into the group " + group
        return f"{join}  # then log in again"
    if found.bus == "usb":
        rules = "\\n".join(
            f'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}", GROUP="{group}"'
            for vendor, product in USB_IDS
        )
        make, name = "", "60-libedgetpu1.rules"
    else:
        rules = f'SUBSYSTEM=="apex", MODE="0660", GROUP="{group}"'
        make, name = f"sudo groupadd -f {group} && ", "65-apex.rules"
    return (
        f"{make}printf '{rules}\\n' | sudo tee /etc/udev/rules.d/{name} && sudo udevadm control --reload-rules "
        f"&& sudo udevadm trigger && {join}  # then log in again"
    )


def _group_name(node: Path) -> str:
    """Return the group that a node belongs to, where its members may open it; else ""."""
    try:
        import grp

        status = node.stat()
        return grp.getgrgid(status.st_gid).gr_name if status.st_mode & 0o060 == 0o060 else ""
    except (ImportError, KeyError, OSError):
        return ""


def _groups_of_user() -> list[str]:
    """Return the groups that this user has by the system's files, whether or not this session has them yet."""
    try:
        import grp
        import pwd

        user = pwd.getpwuid(os.getuid())
        return [grp.getgrgid(number).gr_name for number in os.getgrouplist(user.pw_name, user.pw_gid)]
    except (ImportError, KeyError, OSError):
        return []


def _on_usb(place: Path) -> list[FoundEdgeTpu]:
    found = []
    for entry in sorted((place / _USB).glob("*")):
        ids = (_read(entry / "idVendor"), _read(entry / "idProduct"))
        if ids not in USB_IDS:
            continue
        bus, number = _read(entry / "busnum"), _read(entry / "devnum")
        node = f"/dev/bus/usb/{int(bus):03}/{int(number):03}" if bus.isdigit() and number.isdigit() else ""
        rate = _read(entry / "speed")
        found.append(
            FoundEdgeTpu(
                "usb",
                f"/{_USB}/{entry.name}",
                node if node and (place / node.lstrip("/")).exists() else "",
                _allowed(place, node),
                is_used=ids != USB_IDS[0],
                mbit_s=int(rate) if rate.isdigit() else None,
            )
        )
    return found


def _on_pci(place: Path) -> list[FoundEdgeTpu]:
    # A container may have the node without `/sys`, and a system without the driver has the card without the node.
    names = (path.name for path in (place / "dev").glob("apex_*"))
    numbers = sorted(int(match[1]) for name in names if (match := _NODE.fullmatch(name)))
    nodes = [
        FoundEdgeTpu("pci", f"/dev/apex_{number}", f"/dev/apex_{number}", _allowed(place, f"/dev/apex_{number}"))
        for number in numbers
    ]
    driven = {(place / _APEX / f"apex_{number}" / "device").resolve().name for number in numbers}
    cards = [entry for entry in sorted((place / _PCI).glob("*")) if _pci_id(entry) == PCI_ID]
    bare = [entry for entry in cards if entry.name not in driven][: max(0, len(cards) - len(nodes))]
    return [*nodes, *(FoundEdgeTpu("pci", f"/{_PCI}/{entry.name}", "") for entry in bare)]


def _pci_id(entry: Path) -> tuple[str, str]:
    return _read(entry / "vendor").removeprefix("0x"), _read(entry / "device").removeprefix("0x")


def _allowed(place: Path, node: str) -> bool:
    path = place / node.lstrip("/")
    return not node or not path.exists() or os.access(path, os.R_OK | os.W_OK)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
