"""A first run in a child process, for an engine that a damaged file could end by a signal.

tflite-runtime 2.14 does not verify a file: with one to four random bytes overwritten, 16 to 33 % of the files that it
loads end the process. `model.check` refuses what can be seen from outside; the rest is loaded, allocated and invoked
once in a limited child process. The answer is remembered by the file's hash and the engine's version, so that a file
pays once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import DamagedModelError, DeviceError, EdgeInferError
from edgeinfer.runtime.child import child_environment
from edgeinfer.runtime.engines import Engine, engine_error, find_engine, import_engine, open_interpreter

TIMEOUT_S = 60.0
_REFUSED = 9


def try_first(model: Path | bytes, *, sha256: str, engine: Engine, timeout_s: float = TIMEOUT_S) -> None:
    """Load and invoke a model in a child process, unless this file and engine passed before.

    Args:
        model: A path or the file's bytes.
        sha256: Of the bytes, hexadecimal: the name under which success is remembered.
        engine: To try it with.
        timeout_s: After this the child is ended and the file refused.

    Raises:
        DamagedModelError: The child was ended by a signal, ran into the time limit, or the engine refused the file.
        UnsupportedOpError: The engine does not know an op.
        MissingDependencyError: The engine cannot be imported, or cannot run beside the installed NumPy.
        DeviceError: No child process can be started.
    """
    # Imported here and not with this file: a file that passed before needs neither of the two.
    import tempfile

    mark = _mark(f"{sha256}-{engine.name}-{engine.version}")
    if mark is not None and _is_there(mark):
        return
    import_engine(engine)  # what is missing here would look like a damaged file in the child
    try:
        with tempfile.TemporaryDirectory(prefix="edgeinfer-") as folder:
            if isinstance(model, bytes):
                path = Path(folder) / "model.tflite"
                path.write_bytes(model)
            else:
                path = model.absolute()
            _run_child(path, engine, timeout_s, folder)
    except OSError as error:
        raise DeviceError(
            "The trial run of the model needs a child process and a temporary folder.",
            received=str(error),
            next_step="Free some space or memory, or pass `trial=False` for a file that you trust.",
        ) from error
    if mark is not None:
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        except OSError:
            return  # a read-only home: the trial is repeated at the next start, no more than that


def fill(tensor: NDArray[Any], random: np.random.Generator) -> None:
    """Write an input that any model can take, in place.

    Quantized numbers (8 and 16 bits) are drawn from their whole range, floats from 0..1. Other whole numbers become
    0, since they are mostly indices, and the engine may read beyond a table's end with any other.

    Args:
        tensor: The input's own memory.
        random: Where the numbers come from.
    """
    if tensor.dtype.kind in "iu" and tensor.dtype.itemsize <= 2:
        limits = np.iinfo(tensor.dtype)
        tensor[...] = random.integers(limits.min, limits.max, size=tensor.shape, endpoint=True, dtype=tensor.dtype.type)
    elif tensor.dtype.kind == "f":
        tensor[...] = random.random(size=tensor.shape, dtype=np.float32)
    else:
        tensor[...] = 0


def _run_child(path: Path, engine: Engine, timeout_s: float, folder: str) -> None:
    import signal
    import subprocess

    try:
        child = subprocess.run(
            [sys.executable, "-m", "edgeinfer.runtime.trial", str(path), engine.name],
            env=child_environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DamagedModelError(
            f"`{path.name}` did not finish a trial run.",
            received=f"no answer after {timeout_s:g} s in {engine.name} {engine.version}",
            next_step="The file is damaged, or far too large for this machine.",
        ) from error
    if child.returncode == 0:
        return
    said = child.stderr.decode(errors="replace").strip()
    if child.returncode == _REFUSED:
        raise engine_error(said, engine)
    if child.returncode < 0:
        what = f"ended by {signal.Signals(-child.returncode).name}"
    else:
        what = f"exit code {child.returncode}: {said[-300:]}"
    raise DamagedModelError(
        f"`{path.name}` stopped the engine in a trial run.",
        received=f"{what} in {engine.name} {engine.version}",
        next_step="The file is damaged: copy or convert it again and compare its sha256.",
    )


def _mark(name: str) -> Path | None:
    """Return the file that says that a model passed; None where this user has no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # a service's user without an entry in the password file
        return None
    return folder / "edgeinfer" / "tried" / name


def _is_there(mark: Path) -> bool:
    try:
        return mark.exists()
    except OSError:  # a folder on the way may not be entered
        return False


def limit_child() -> None:
    """Take core files and more than 4 GiB of memory from this process: what a damaged file could ask for."""
    try:
        import resource
    except ImportError:  # not a Unix system
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.maxsize > 2**32:
        limit = 4 * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(arguments: list[str]) -> int:
    """Load, allocate and invoke once: the child's whole life. Returns 9 where the engine refuses in words."""
    path, engine_name = arguments
    limit_child()
    try:
        interpreter = open_interpreter(find_engine(engine_name), Path(path))
        random = np.random.default_rng(0)
        for detail in interpreter.get_input_details():
            fill(interpreter.tensor(detail["index"])(), random)
        interpreter.invoke()
    except EdgeInferError as error:
        sys.stderr.write(error.received or str(error))
        return _REFUSED
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(str(error))
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
