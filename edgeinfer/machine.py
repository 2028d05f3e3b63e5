"""The facts that stand beside every figure: which machine, which software. An absent fact is None, never a failure."""

from __future__ import annotations

import os
import platform
import struct
from pathlib import Path

from edgeinfer.health import read_health
from edgeinfer.runtime.engines import installed_engines

PACKAGES = ("numpy", "pillow", "opencv-python", "opencv-python-headless", "tensorflow", "keras")


def machine() -> dict[str, object]:
    """Return the machine's facts: board, processor, cores, governor, memory, system, Python and package versions."""
    health = read_health()
    return {
        "board": _read("/proc/device-tree/model"),
        "processor": _processor(),
        "architecture": platform.machine(),
        "pointer_bits": struct.calcsize("P") * 8,
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "governor": health.governor,
        "temperature_c": health.temperature_c,
        "memory_bytes": _memory_bytes(),
        "system": platform.platform(terse=True),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := package_version(name)) is not None},
        "engines": {engine.name: engine.version for engine in installed_engines()},
    }


def package_version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def resident_bytes() -> int | None:
    """Return the memory that this process holds now, or None where the system does not say."""
    text = _read("/proc/self/statm")
    if text is None:
        return None
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _processor() -> str | None:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or None


def _memory_bytes() -> int | None:
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None
