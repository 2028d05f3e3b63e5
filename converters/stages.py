"""Finished steps on disk: what a run leaves behind, so that the next one can go on from there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.errors import ConversionError
from edgeinfer.errors import OutputError
from edgeinfer.files import write_whole

__all__ = ["Ranges", "Stage", "hold", "keep", "made_of", "model_hash", "restored", "sweep", "weights_hash"]

Ranges = tuple[tuple[str, float, float], ...]

# What is being written; `write_whole` names the records' own temporary files.
_UNFINISHED = (".*.unfinished.keras", ".*.unfinished.npy", ".[0-9]*-*.json.*.tmp")


@dataclass(frozen=True, slots=True)
class Stage:
    """The Keras model after a step.

    Attributes:
        step: What was done, "original" before the first step.
        path: The `.keras` file.
        seconds: That the step took, when it was done.
        notes: What is to be said of it.
        key: What the step was made of: model, steps so far, data, versions.
        ranges: Of activations, by layer name, where the step has found some: (layer, low, high).
    """

    step: str
    path: Path
    seconds: float
    notes: tuple[str, ...]
    key: str
    ranges: Ranges = ()


def keep(model: Any, stage: Stage) -> None:
    """Write a finished step: the model first, what it was made of last, each whole or not at all.

    Raises:
        OutputError: The folder cannot be written.
    """
    # Keras goes by the ending.
    unfinished = stage.path.with_name(f".{stage.path.stem}.unfinished.keras")
    try:
        model.save(unfinished)
        unfinished.replace(stage.path)
    except OSError as error:
        raise OutputError("A finished step cannot be kept.", received=f"`{stage.path}`: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    record = {"key": stage.key, "seconds": stage.seconds, "notes": stage.notes, "sha256": _file_hash(stage.path)}
    record["ranges"] = stage.ranges
    write_whole(_record(stage.path), (json.dumps(record, indent=2) + "\n").encode())


def restored(path: Path, step: str, key: str) -> Stage | None:
    """Return a step that a former run has finished with the same model, settings and data, or None."""
    try:
        record = json.loads(_record(path).read_bytes())
        if record["key"] != key or record["sha256"] != _file_hash(path):
            return None
        ranges = tuple((str(layer), float(low), float(high)) for layer, low, high in record["ranges"])
        return Stage(step, path, float(record["seconds"]), tuple(map(str, record["notes"])), key, ranges)
    except (OSError, ValueError, KeyError, TypeError):  # nothing there, or not ours
        return None


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder: two in one would take each other's half-finished work for their own.

    The system lets go where a run is killed. Where it knows no such locks, nothing is kept out.

    Raises:
        ConversionError: Another run is at work there.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise ConversionError(
                    "Another run is at work in this folder.",
                    received=f"`{folder}`",
                    expected="a folder for each run that goes on at the same time",
                ) from error
        yield
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what a run that was killed had not finished."""
    for pattern in _UNFINISHED:
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()


def _record(path: Path) -> Path:
    return path.with_suffix(".json")


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_of(*parts: str) -> str:
    """Return one hash of all that a step was made of."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def weights_hash(model: Any) -> str:
    """Return a hash of a Keras model's settings and weights."""
    digest = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def model_hash(model: Any) -> str:
    """Return a hash of a model file or a Keras model; "" for None."""
    if model is None:
        return ""
    return _file_hash(Path(model)) if isinstance(model, str | Path) else weights_hash(model)
