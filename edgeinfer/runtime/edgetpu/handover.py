"""What the caller's process hands to the model's own: the file, and the memory of its tensors, as open descriptors.

Neither has a name in a file system, so nothing is left there, however the two processes end: memfd_create where the
system has it, else a temporary file that is unlinked before it is used.

Source: memfd_create(2), which lists ENOSYS for older kernels and sandboxes; fcntl(2), F_ADD_SEALS.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from pathlib import Path

from edgeinfer.errors import DeviceError, InputFileError
from edgeinfer.frozen import dataclass

# Memory, where a system has it: an unlinked file elsewhere is written to the disk from time to time.
_SHARED_MEMORY = "/dev/shm"
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class HeldModel:
    """A model's file, held open: the same file whatever is moved into its place.

    Attributes:
        descriptor: Of the file.
        name: For messages.
        stamp: Its size, time of change (ns) and inode when it was opened; None for a copy that nobody else can write.
    """

    descriptor: int
    name: str
    stamp: tuple[int, int, int] | None


def hold_model(model: Path | bytes) -> HeldModel:
    """Open a model's file, or make one of its bytes.

    Raises:
        InputFileError: It cannot be read.
        DeviceError: There is no room for the bytes.
    """
    if not isinstance(model, bytes):
        try:
            descriptor = os.open(model, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputFileError(f"`{model}` cannot be read.", received=error.strerror or str(error)) from error
        return HeldModel(descriptor, str(model), _stamp(descriptor))
    descriptor = nameless("edgeinfer model")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(model)
    except OSError as error:
        os.close(descriptor)
        raise _no_room(error) from error
    except BaseException:
        os.close(descriptor)
        raise
    return HeldModel(descriptor, "the model", None)


def check_unchanged(held: HeldModel) -> None:
    """Refuse a file that was written to since it was opened: nobody has checked what is in it now.

    Raises:
        DeviceError: Its size or time of change is another.
    """
    if held.stamp is not None and _stamp(held.descriptor) != held.stamp:
        raise DeviceError(
            "The model's file was overwritten since it was loaded, and is not run unchecked.",
            received=f"`{held.name}`",
            next_step="Load it again: `Runtime(...)`; write models elsewhere and move them into place.",
        )


def _stamp(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns, status.st_ino


def nameless(name: str) -> int:
    """Return the descriptor of an empty file without a name, to be shared with a child process.

    Args:
        name: What `/proc` shows of it.

    Raises:
        DeviceError: The system has no memory, disk or descriptor left for it.
    """
    with suppress(AttributeError):  # a Python that was built for an older C library has none, on any kernel
        try:
            return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:
                raise _no_room(error) from error
    import tempfile

    folder = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.dup(file.fileno())
    except OSError as error:
        raise _no_room(error) from error


def map_shared(descriptor: int, size: int) -> mmap.mmap:
    """Map the memory that the process has given its size.

    Args:
        descriptor: Of `nameless`.
        size: In bytes.

    Raises:
        DeviceError: There is less room than that.
    """
    import fcntl

    try:
        # Taken now: memory that turns out to be missing at a touch ends the process that touches it (SIGBUS).
        os.posix_fallocate(descriptor, 0, size)
        # A size that can change no more, for the same reason. An unlinked file has no seals; only these two have it.
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return mmap.mmap(descriptor, size)
    except OSError as error:
        raise _no_room(error) from error


def close_all(*descriptors: int) -> None:
    """Close descriptors."""
    for one in descriptors:
        os.close(one)


def cure(error: OSError) -> str:
    """Return what to do where the system refuses a process, memory or a descriptor."""
    if error.errno in _NO_DESCRIPTOR:
        return "Close files and models that are open; `ulimit -n` says how many a program may have."
    return "Free some memory, or pass `edgetpu=EdgeTpuOptions(isolate=False)`."


def _no_room(error: OSError) -> DeviceError:
    return DeviceError(
        "There is no memory to share with the model's own process.", received=str(error), next_step=cure(error)
    )
