"""Does an Edge TPU work here? Tried in a child process, so that a crash or a hang of its library is an answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeinfer.errors import DamagedModelError, DeviceError
from edgeinfer.frozen import dataclass
from edgeinfer.runtime.child import child_environment
from edgeinfer.runtime.edgetpu.address import EdgeTpuAddress
from edgeinfer.runtime.edgetpu.asked import Told, read_told
from edgeinfer.runtime.edgetpu.diagnosis import Asked, diagnose, uncompiled
from edgeinfer.runtime.edgetpu.library import ListedDevice, library_name, runtime_version
from edgeinfer.runtime.engines import Engine

if TYPE_CHECKING:
    import subprocess

# A first use on USB sends the device its firmware and waits until it is back on the bus.
TIMEOUT_S = 60.0

_END_S = 5.0
_SAID = 300  # characters of what was printed last


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found.

    Attributes:
        library: Its name or path.
        version: What it calls its version, "" where it does not say it.
        runtime: The number in it, which compiled files ask for, e.g. 14; None where there is none.
        devices: The Edge TPUs that it lists; None where it cannot say it.
        min_runtime: The lowest runtime that the model asks for; None without a model, or where its file is not legible
            in this.
    """

    library: str
    version: str
    runtime: int | None
    devices: tuple[ListedDevice, ...] | None
    min_runtime: int | None = None


def probe(
    address: EdgeTpuAddress,
    model: Path | bytes | None = None,
    *,
    engine: Engine,
    library: str | None = None,
    timeout_s: float = TIMEOUT_S,
    root: str | Path = "/",
) -> Probed:
    """Open an Edge TPU in a child process, load a model onto it, and let it go again.

    Args:
        address: Which one.
        model: A compiled file, checked before (`model.check`); None opens the device only.
        engine: That loads the library.
        library: None is `library.library_name()`.
        timeout_s: After this the child is ended.
        root: Where `/sys`, `/dev` and `/proc` lie, for tests.

    Raises:
        UnsupportedOpError: The file is not compiled for an Edge TPU, or has an op that the engine lacks.
        MissingDependencyError: The library, or one that it needs, is not installed; or the engine is not.
        DeviceError: Everything else that keeps the model from running there, with its cure.
        DamagedModelError: The file cannot be read.
    """
    import tempfile

    lowest = None if model is None else _min_runtime(model, address)
    asked = Asked(library_name(library or ""), address, engine, lowest)
    with tempfile.TemporaryDirectory(prefix="edgeinfer-") as folder:
        path = ""
        if isinstance(model, bytes):
            path = str(Path(folder) / "model.tflite")
            Path(path).write_bytes(model)
        elif model is not None:
            path = str(model.absolute())
        told = _ask([asked.library, engine.name, address.option, path], timeout_s)
    return _judged(told, asked, root)


def look(library: str | None = None, *, timeout_s: float = TIMEOUT_S) -> Probed:
    """Ask the library for its version and its devices, in a child process, and open none.

    Raises:
        MissingDependencyError: It, or a library that it needs, is not installed.
        DeviceError: It is no library of an Edge TPU, crashes or hangs.
    """
    asked = Asked(library_name(library or ""), EdgeTpuAddress())
    return _judged(_ask([asked.library, "", "", ""], timeout_s), asked, "/")


def _judged(told: Told, asked: Asked, root: str | Path) -> Probed:
    error = diagnose(told, asked, root)
    if error is not None:
        raise error
    return Probed(asked.library, told.version, runtime_version(told.version), told.devices, asked.min_runtime)


def _min_runtime(model: Path | bytes, address: EdgeTpuAddress) -> int | None:
    from edgeinfer.files import read_bytes
    from edgeinfer.model.payload import is_compiled, min_runtime_version
    from edgeinfer.model.schema import parse

    file = parse(model if isinstance(model, bytes) else read_bytes(model))
    if not is_compiled(file):
        raise uncompiled(address)
    try:
        return min_runtime_version(file)
    except DamagedModelError:  # of another layout than the one that is known: the library may know better
        return None


def _ask(arguments: list[str], timeout_s: float) -> Told:
    """Start the child, wait for it, and return what it told."""
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as printed:
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "edgeinfer.runtime.edgetpu.asked", str(timeout_s + _END_S), *arguments],
                env=child_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=printed,
                start_new_session=True,  # Ctrl-C in a terminal reaches the caller only
            )
        except OSError as error:
            raise DeviceError(
                "The child process that tries the Edge TPU's library cannot be started.",
                received=str(error),
                next_step="Free some memory.",
            ) from error
        ended = ""
        try:
            lines, _ = child.communicate(timeout=timeout_s)
            ended = _ending(child.returncode)
        except subprocess.TimeoutExpired as error:
            lines, ended = error.stdout or b"", "no answer"
        finally:
            _end(child)
        size = printed.seek(0, 2)
        printed.seek(max(0, size - _SAID))
        said = " ".join(printed.read().decode(errors="replace").split())
    return read_told(lines, ended=ended, said=said)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child where it has not ended; one that hangs in the kernel is left to itself."""
    import subprocess
    from contextlib import suppress

    if child.poll() is None:
        child.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_END_S)
    if child.stdout is not None:
        child.stdout.close()


def _ending(code: int) -> str:
    import signal

    if code == 0:
        return ""
    if code > 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
