"""Read a file with a size limit; write one whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edgeinfer.errors import InputError, InputFileError, OutputError

# How the files of pictures end.
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
# Above every model that runs on the devices meant here, below what a Raspberry Pi 3 has as memory.
LIMIT_BYTES = 512 * 1024 * 1024


def read_bytes(path: str | Path, *, limit_bytes: int = LIMIT_BYTES, expected: str = "") -> bytes:
    """Return a file's content.

    Args:
        path: The file.
        limit_bytes: Refuse more than this; the default is 512 MiB, half of a small device's memory.
        expected: What an empty file should have held, for its error.

    Raises:
        InputFileError: The file is missing, empty, a folder, or cannot be read.
        InputError: The file is larger than the limit.
    """
    place = Path(path)
    try:
        if place.is_fifo():  # opening one waits for a writer, for ever
            raise InputFileError("A file is needed, not a pipe.", received=f"`{place}`")
        with place.open("rb") as stream:
            # A file under /proc says 0 bytes and has more: so the limit holds on what is read.
            size = os.fstat(stream.fileno()).st_size
            data = stream.read(limit_bytes + 1) if size <= limit_bytes else b""
    except InputFileError:
        raise
    except FileNotFoundError as error:
        raise InputFileError("The file does not exist.", received=f"`{place}`") from error
    except IsADirectoryError as error:
        raise InputFileError("A file is needed, not a folder.", received=f"`{place}`") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputFileError(f"The file cannot be read: {reason}.", received=f"`{place}`") from error
    if size > limit_bytes or len(data) > limit_bytes:
        raise InputError(
            "The file is too large.",
            received=f"`{place}`, {max(size, len(data))} bytes or more",
            expected=f"at most {limit_bytes} bytes",
        )
    if not data:
        raise InputFileError(
            "The file is empty.",
            received=f"`{place}`, 0 bytes",
            expected=expected,
            # What people write by hand was not copied.
            next_step="" if expected else "If it was copied, copy it again: nothing has arrived.",
        )
    return data


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 hexadecimal digits."""
    import hashlib  # OpenSSL behind it costs 2 ms, which `import edgeinfer` need not pay

    return hashlib.sha256(data).hexdigest()


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    A temporary file beside it is written, flushed to the disk and moved into place. On any failure, an interrupt by
    the user included, the temporary file goes and the old file stays. A symbolic link is written through; a file that
    is replaced hands its permissions on.

    Args:
        path: Where it shall stand; its folder must exist.
        data: The content.

    Raises:
        OutputError: The folder is missing or not writable, the disk is full, or the place is a folder, a device or a
            pipe.
    """
    place = Path(path)
    try:
        # Without this a link would be replaced by a file, and what it pointed to would keep the old content.
        target = Path(os.path.realpath(place))
        if target.is_dir():
            raise OutputError("A file is needed, not a folder.", received=f"`{place}`")
        if target.exists() and not target.is_file():
            # Moving a file over a device or a pipe would destroy it: `-o /dev/null` must not cost the machine its own.
            raise OutputError("A file is needed, not a device or a pipe.", received=f"`{place}`")
        if not target.parent.is_dir():
            raise OutputError(
                "The folder to write into does not exist.",
                received=f"`{place}`",
                next_step=f"mkdir -p {target.parent}",
            )
        _write_and_move(target, data)
    except (OSError, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"The file cannot be written: {reason}.", received=f"`{place}`") from error


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write several files: each under another name first, so that whatever refuses does so before one is replaced.

    Args:
        files: The content by place.

    Raises:
        OutputError: One of them cannot be written.
    """
    waiting = {path: path.with_name(f".{path.name[:40]}.{os.urandom(8).hex()}.new") for path in files}
    try:
        for path, data in files.items():
            if path.is_dir():
                raise OutputError("A file is needed, not a folder.", received=f"`{path}`")
            write_whole(waiting[path], data)
        for path, written in waiting.items():
            written.replace(path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"The files cannot be written: {error.strerror or error}.", received=f"`{path}`") from error
    finally:
        for written in waiting.values():
            written.unlink(missing_ok=True)


def _write_and_move(target: Path, data: bytes) -> None:
    # The name is drawn here and not by `tempfile`, whose files are closed to everybody else (0600) and would stay
    # so after the move; O_EXCL with 0666 gives what a plain `open` gives under the user's umask.
    temporary = target.with_name(f".{target.name[:40]}.{os.urandom(8).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            if target.exists() and hasattr(os, "fchmod"):
                os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
            os.fsync(stream.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
