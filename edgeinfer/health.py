"""Is this machine too hot, short of power or held back: read where the system says so, and never a failure."""

from __future__ import annotations

from pathlib import Path

from edgeinfer.frozen import dataclass

# What the firmware of a Raspberry Pi reports, bit by bit. Source: the documentation of `vcgencmd get_throttled`
# (raspberrypi.com, "vcgencmd").
_BITS = (
    (0, "under-voltage"),
    (1, "frequency capped"),
    (2, "throttled"),
    (3, "soft temperature limit"),
    (16, "under-voltage has occurred"),
    (17, "frequency capping has occurred"),
    (18, "throttling has occurred"),
    (19, "soft temperature limit has occurred"),
)
_THERMAL = "sys/class/thermal"
_GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """What the machine says of itself; None or empty where it says nothing.

    Attributes:
        temperature_c: Of the processor, degrees Celsius.
        throttled: What holds the processor back now or has since it was started, in the firmware's order.
        governor: Which rule chooses the processor's frequency.
    """

    temperature_c: float | None = None
    throttled: tuple[str, ...] = ()
    governor: str | None = None


def read_health(root: str | Path = "/") -> Health:
    """Return what the machine says now.

    Args:
        root: Where `/sys` lies, for tests.
    """
    place = Path(root)
    return Health(_temperature(place), throttled(_throttled_word(place)), _read(place / _GOVERNOR))


def throttled(word: str | None) -> tuple[str, ...]:
    """Return what a Raspberry Pi's word of bits means, e.g. "throttled=0x50000" or "50005".

    Example:
        >>> throttled("throttled=0x50000")
        ('under-voltage has occurred', 'throttling has occurred')
    """
    try:
        bits = int((word or "0").rpartition("=")[2], 16)
    except ValueError:
        return ()
    return tuple(name for bit, name in _BITS if bits >> bit & 1)


def _throttled_word(root: Path) -> str | None:
    word = _read(root / _FIRMWARE)
    if word is not None or root != Path("/"):
        return word
    import shutil  # with `subprocess` 28 million instructions (callgrind, x86) that few machines need
    import subprocess

    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        out = subprocess.run(
            [program, "get_throttled"], capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return out.stdout.strip()


def _temperature(root: Path) -> float | None:
    """Return the processor's temperature: of the zone that is named for it, else of the first."""
    zones = sorted((root / _THERMAL).glob("thermal_zone*"))
    named = [zone for zone in zones if "cpu" in (_read(zone / "type") or "").lower()]
    for zone in [*named, *zones]:
        text = _read(zone / "temp")
        if text is not None and text.lstrip("-").isdecimal():
            return int(text) / 1000
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None
