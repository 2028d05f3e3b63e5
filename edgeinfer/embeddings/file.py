"""Embeddings as rows of length 1, and the file that keeps them: what retrieval and imprinting share.

Only embeddings of one model can be compared. So the file names the model that they come from.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.files import read_bytes, write_whole
from edgeinfer.frozen import dataclass
from edgeinfer.results import Embedding

Embeddings: TypeAlias = Embedding | Sequence[Embedding] | NDArray[Any]

FORMAT = 1
# A stored row has length 1 up to float32's rounding; the rest is damage.
_LENGTH_TOLERANCE = 1e-3


class LoadedModel(Protocol):
    """What is asked of the model that embeddings come from; a `Runtime` is one."""

    @property
    def sha256(self) -> str:
        """The file's SHA-256."""

    @property
    def path(self) -> Path | None:
        """The file; None where it came as bytes."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The model that embeddings come from: only those of one model can be compared.

    Attributes:
        sha256: Of the model file; "" where nobody has said it.
        name: The file's name, for people.
    """

    sha256: str = ""
    name: str = ""

    @classmethod
    def of(cls, model: LoadedModel | None) -> Origin:
        """Return what is to be remembered of a model."""
        return cls() if model is None else cls(model.sha256, model.path.name if model.path else "")

    def check(self, model: LoadedModel | None, path: str | Path) -> None:
        """Refuse a file that was made with another model than the given one.

        Raises:
            InputError: It was. Nothing is said where one of the two is not known.
        """
        if model is None or not self.sha256 or self.sha256 == model.sha256:
            return
        other = Origin.of(model)
        raise InputError(
            "The embeddings in this file come from another model: they cannot be compared.",
            received=f"`{path}`, made with `{self.name}` (sha256 {self.sha256[:12]})",
            expected=f"made with `{other.name}` (sha256 {other.sha256[:12]})",
            next_step="Load the model that it was made with, or add the pictures again with this one.",
        )


def check_label(label: str) -> None:
    """Refuse a label that is no text, or none.

    Raises:
        InputError: As said.
    """
    if not isinstance(label, str) or not label:
        raise InputError("A label is a text.", received=repr(label), expected="a text that is not empty")


def unit_rows(embeddings: Embeddings, *, length: int | None) -> NDArray[np.float32]:
    """Return embeddings as rows of length 1.

    Args:
        embeddings: One, several, or an array (d,) or (n, d).
        length: How many numbers each has; None takes any.

    Returns:
        (n, d) float32, a new array.

    Raises:
        InputError: There is none, they have other lengths, are not finite, or all zeros.
    """
    if isinstance(embeddings, Embedding):
        embeddings = embeddings.vector
    if not isinstance(embeddings, np.ndarray):
        sizes = {one.vector.size for one in embeddings}
        if len(sizes) != 1:
            raise InputError(
                "There is no embedding." if not sizes else "These embeddings come from different models.",
                received="an empty list" if not sizes else f"{', '.join(str(size) for size in sorted(sizes))} numbers",
                expected="one or more, of the same length",
            )
        embeddings = np.stack([one.vector for one in embeddings])
    rows = embeddings[np.newaxis] if embeddings.ndim == 1 else embeddings
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "fiu":
        raise InputError(
            "These are no embeddings.",
            received=f"shape {embeddings.shape}, {embeddings.dtype}",
            expected="(d,) or (n, d) numbers",
        )
    _check_length(rows.shape[1], length)
    # float64: the squares of large float32 numbers would be infinite.
    wide = rows.astype(np.float64)
    if not np.isfinite(wide).all():
        raise InputError("An embedding is not finite.", received="NaN or infinity", expected="finite numbers")
    # By the largest first: its square cannot overflow, nor vanish.
    largest = np.abs(wide).max(axis=1, keepdims=True)
    if not largest.all():
        raise InputError(
            "An embedding is all zeros: it has no direction.",
            received=f"row {int(np.argmin(largest))} of {len(rows)}",
            next_step="Leave this picture out: the model has seen nothing in it.",
        )
    wide /= largest
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide.astype(np.float32)


def cosines(rows: NDArray[np.float32], embedding: Embedding) -> NDArray[np.float32]:
    """Return (n,) float32, -1..1: the cosine of the angle to each row, rows of length 1; 0 for an embedding of zeros.

    Raises:
        InputError: The embedding has another length, or is not finite.
    """
    _check_length(embedding.vector.size, rows.shape[1])
    if not embedding.vector.any():
        return np.zeros(len(rows), dtype=np.float32)
    unit = unit_rows(embedding, length=None)[0]
    similarity: NDArray[np.float32] = np.clip(rows @ unit, -1.0, 1.0)
    return similarity


def write_arrays(
    path: str | Path,
    kind: str,
    origin: Origin,
    about: Mapping[str, object],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write a `.npz` of arrays with a JSON record of what they are, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    record = {
        "format": FORMAT,
        "kind": kind,
        "model": {"sha256": origin.sha256, "name": origin.name},
        **about,
    }
    # As bytes: an array of texts would give each of them the room of the longest.
    text = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
    out = io.BytesIO()
    np.savez(out, about=text, **dict(arrays))  # type: ignore[arg-type]  # `allow_pickle` takes no array
    write_whole(path, out.getvalue())


def read_arrays(path: str | Path, kind: str, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_arrays` has written: the record, and the arrays of these names. Nothing in it is run.

    Raises:
        InputFileError: There is no such file.
        InputError: It is damaged, of another kind, or from a newer edgeinfer.
    """
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Nothing was compressed, so what claims to be larger than the file is not ours: it would fill the memory.
            if sum(entry.file_size for entry in archive.infolist()) > len(data):
                raise damaged(path, "its contents claim to be larger than the file")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            record = json.loads(archive["about"].tobytes().decode())
            if not isinstance(record, dict) or type(record.get("format")) is not int:
                raise damaged(path, "its record is none")
            _check_kind(record, kind, path)
            return record, {name: archive[name] for name in names}
    except InputError:
        raise
    # A damaged zip or array header raises whatever is met first: BadZipFile, KeyError, ValueError, EOFError, ...
    except Exception as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def origin_in(about: Mapping[str, Any], path: str | Path) -> Origin:
    """Return the model that a record names.

    Raises:
        InputError: The record is damaged.
    """
    model = about.get("model")
    if not isinstance(model, dict) or not all(isinstance(model.get(key), str) for key in ("sha256", "name")):
        raise damaged(path, "its record names no model")
    return Origin(model["sha256"], model["name"])


def labels_in(about: Mapping[str, Any], path: str | Path) -> list[str]:
    """Return the labels of a record.

    Raises:
        InputError: The record is damaged.
    """
    labels = about.get("labels")
    if not isinstance(labels, list) or not all(isinstance(one, str) and one for one in labels):
        raise damaged(path, "its labels are no texts")
    return labels


def unit_rows_in(rows: NDArray[Any], count: int, path: str | Path) -> NDArray[np.float32]:
    """Return stored rows that are as many as the labels, finite, and of length 1.

    Raises:
        InputError: They are not.
    """
    if rows.dtype != np.float32 or rows.ndim != 2 or len(rows) != count or (count and not rows.size):
        raise damaged(path, f"{count} labels, vectors of shape {rows.shape}, {rows.dtype}")
    with np.errstate(all="ignore"):
        lengths = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    if not (np.abs(lengths - 1.0) < _LENGTH_TOLERANCE).all():  # not true of NaN either
        raise damaged(path, "vectors that are not of length 1")
    return rows


def damaged(path: str | Path, why: str) -> InputError:
    """Return the error for a file that does not hold what it should."""
    return InputError(
        "The file is damaged, or holds something else.",
        received=f"`{path}`: {why}",
        expected="a .npz that `save` has written",
        next_step="Copy it again, or add the pictures again and save.",
    )


def _check_kind(record: Mapping[str, Any], kind: str, path: str | Path) -> None:
    if record["format"] > FORMAT:
        raise InputError(
            "The file was written by a newer edgeinfer.",
            received=f"`{path}`, format {record['format']}",
            expected=f"format {FORMAT}",
            next_step="Update edgeinfer on this machine.",
        )
    if record.get("kind") != kind:
        raise InputError(
            "The file holds something else.",
            received=f"`{path}`, kind {record.get('kind')!r}",
            expected=f'kind "{kind}"',
            next_step='`Index.load` reads "index", `ImprintedClassifier.load` reads "imprinted".',
        )


def _check_length(size: int, length: int | None) -> None:
    if length is not None and size != length:
        raise InputError(
            "This embedding comes from another model.", received=f"{size} numbers", expected=f"{length} numbers"
        )
