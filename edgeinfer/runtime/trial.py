"""A first run in a child process, for an engine that a damaged file could end by a signal.

tflite-runtime 2.14 does not verify a file: with one to four random bytes overwritten, 16 to 33 % of the files that it
loads end the process. `model.check` refuses what can be seen from outside; the rest is loaded, allocated and invoked
once in a limited child process. The answer is remembered by the file's hash and the engine's version, so that a file
pays once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgeinfer.errors import DamagedModelError, EdgeInferError
from edgeinfer.runtime.engines import Engine, engine_error, find_engine, open_interpreter

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
    """
    mark = _cache_folder() / "tried" / f"{sha256}-{engine.name}-{engine.version}"
    if mark.exists():
        return
    with tempfile.TemporaryDirectory(prefix="edgeinfer-") as folder:
        if isinstance(model, bytes):
            path = Path(folder) / "model.tflite"
            path.write_bytes(model)
        else:
            path = model
        _run_child(path, engine, timeout_s)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:
        return  # a read-only home: the trial is repeated at the next start, no more than that


def _run_child(path: Path, engine: Engine, timeout_s: float) -> None:
    package_root = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(part for part in (package_root, os.environ.get("PYTHONPATH", "")) if part)
    try:
        child = subprocess.run(
            [sys.executable, "-m", "edgeinfer.runtime.trial", str(path), engine.name],
            env={**os.environ, "PYTHONPATH": search},
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


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgeinfer"


def _limit_child() -> None:
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
    _limit_child()
    try:
        interpreter = open_interpreter(find_engine(engine_name), Path(path))
        random = np.random.default_rng(0)
        for detail in interpreter.get_input_details():
            view = interpreter.tensor(detail["index"])()
            if view.dtype.kind in "iu":
                low, high = np.iinfo(view.dtype).min, np.iinfo(view.dtype).max
                view[...] = random.integers(low, high, size=view.shape, endpoint=True, dtype=view.dtype)
            elif view.dtype.kind == "f":
                view[...] = random.random(size=view.shape).astype(view.dtype)
            del view
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
