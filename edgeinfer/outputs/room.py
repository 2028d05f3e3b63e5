"""How many bytes a file may still grow by: the disk's room, and the largest file that the place allows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edgeinfer.errors import OutputError

# Source: Microsoft's FAT file system specification, section 6: DIR_FileSize is an unsigned 32-bit number.
_FAT_LIMIT_BYTES = 2**32 - 1
_FAT = ("vfat", "msdos")
_MOUNTS = Path("/proc/self/mountinfo")


def room(free_bytes: int, size_bytes: int, limit_bytes: int | None) -> int:
    """Return the bytes that are left, of the disk's and of the largest file's whichever are fewer.

    Example:
        >>> room(1000, 90, 100), room(1000, 90, None)
        (10, 1000)
    """
    return free_bytes if limit_bytes is None else min(free_bytes, limit_bytes - size_bytes)


def free(folder: Path) -> int:
    """Return the free bytes of the disk that a folder lies on, as far as this user may take them.

    Raises:
        OutputError: The folder or its disk has gone.
    """
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(
            f"The folder cannot be looked at any more: {error.strerror or error}.", received=f"`{folder}`"
        ) from error


def largest_file(path: Path, mounts: Path = _MOUNTS) -> int | None:
    """Return the size in bytes that no file may exceed there; None where there is no such limit that matters.

    Most memory sticks and cards for cameras come with FAT, whose files end at 4 GiB: half an hour of a video. A limit
    of the process (`ulimit -f`) counts too.

    Args:
        path: A file that exists.
        mounts: Linux' own list of what is mounted where, for tests.
    """
    limits = [_FAT_LIMIT_BYTES] if _file_system(path, mounts) in _FAT else []
    try:
        import resource  # not on Windows
    except ImportError:
        pass
    else:
        allowed = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if allowed != resource.RLIM_INFINITY:
            limits.append(allowed)
    return min(limits, default=None)


def _file_system(path: Path, mounts: Path) -> str:
    """Return the kind of file system that a file lies on, "" where nobody says so.

    Source: proc(5), /proc/[pid]/mountinfo: the third field is major:minor, the kind stands behind a lone hyphen.
    """
    try:
        device = path.stat().st_dev
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    own = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        fields, _, kind = line.partition(" - ")
        if fields.split()[2:3] == [own]:
            return kind.split(" ")[0]
    return ""
