"""Which cameras there are, read from `/sys` and `/dev` without opening one."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgeinfer.frozen import dataclass

# On Debian and Raspberry Pi OS video devices belong to this group; it counts from the next login on.
GROUP_LINE = "sudo usermod -aG video $USER"

_CLASS = "sys/class/video4linux"
# Source: the drivers' own names in the Raspberry Pi kernel: `bcm2835-unicam` (Pi 4 and before) and `rp1-cfe` (Pi 5).
# Their video nodes are there only once a sensor has answered, and give raw Bayer data: libcamera makes pictures of it.
_CSI = ("unicam", "rp1-cfe")
# Parts of the board that are video devices and no cameras.
_BOARD = ("bcm2835-codec", "bcm2835-isp", "pispbe", "rpivid", "rpi-hevc")
_SENSOR = re.compile(r"([a-z]+\d\w*) \d+-[0-9a-f]{4}")
_LENS = ("dw", "ad5")  # what moves a lens sits on the same bus and is named alike
_NODE = re.compile(r"video(\d+)")


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that this machine says it has.

    Attributes:
        name: The driver's or the sensor's; "" where nothing says it.
        source: What to hand to `Camera`: "/dev/video0", or "csi:0" for one on the ribbon cable of a Raspberry Pi.
        nodes: Numbers of the video devices that belong to it.
        allowed: False where this user may not open it.
    """

    name: str
    source: str
    nodes: tuple[int, ...]
    allowed: bool = True

    @property
    def is_csi(self) -> bool:
        """True for a camera that Picamera2 reads."""
        return self.source.startswith("csi:")

    def __str__(self) -> str:
        """Return name and source."""
        return f"{self.name} ({self.source})" if self.name else self.source


def find_cameras(root: str | Path = "/") -> tuple[FoundCamera, ...]:
    """Return the cameras, those on a ribbon cable last.

    Args:
        root: Where `/sys` and `/dev` lie, for tests.
    """
    place = Path(root)
    plain: list[FoundCamera] = []
    bridges: dict[str, list[int]] = {}
    for number in _numbers(place):
        entry = place / _CLASS / f"video{number}"
        name = _read(entry / "name")
        if name.startswith(_CSI):
            bridges.setdefault(str((entry / "device").resolve()), []).append(number)
        # A webcam has a second node for its metadata; the first of a driver's nodes has the index 0.
        elif not name.startswith(_BOARD) and _read(entry / "index") in ("", "0"):
            plain.append(FoundCamera(name, f"/dev/video{number}", (number,), _allowed(place, number)))
    sensors = _sensors(place)
    csi = [
        FoundCamera(
            sensors[0] if len(sensors) == len(bridges) == 1 else "camera on a ribbon cable",
            f"csi:{index}",
            tuple(nodes),
            all(_allowed(place, number) for number in nodes),
        )
        for index, nodes in enumerate(bridges.values())
    ]
    return (*plain, *csi)


def say_cameras(cameras: tuple[FoundCamera, ...]) -> str:
    """Return them in one line, or that there is none."""
    return ", ".join(map(str, cameras)) or "none found"


def node_name(number: int, root: str | Path = "/") -> str:
    """Return the driver's name of `/dev/video<number>`, or ""."""
    return _read(Path(root) / _CLASS / f"video{number}" / "name")


def _numbers(place: Path) -> list[int]:
    # Both places: a container may have the device without `/sys`.
    names = [path.name for folder in (place / _CLASS, place / "dev") for path in folder.glob("video*")]
    return sorted({int(found[1]) for name in names if (found := _NODE.fullmatch(name))})


def _allowed(place: Path, number: int) -> bool:
    node = place / "dev" / f"video{number}"
    return not node.exists() or os.access(node, os.R_OK | os.W_OK)


def _sensors(place: Path) -> list[str]:
    names = (_read(path / "name") for path in sorted((place / _CLASS).glob("v4l-subdev*")))
    found = [match[1] for name in names if (match := _SENSOR.fullmatch(name))]
    return [name for name in found if not name.startswith(_LENS)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
