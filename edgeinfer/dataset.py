"""Data on disk as samples: folders of pictures and NumPy files, labelled or not, for evaluation and calibration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, InputFileError
from edgeinfer.files import PICTURES
from edgeinfer.frozen import dataclass

# Nine digits are more classes than any data has, and fit every integer.
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")
_ARRAY_MAGIC = b"\x93NUMPY"  # Source: NumPy, numpy.lib.format, "Format Version 1.0"
FORMATS = (
    "a folder of class folders, a folder with labels.csv (file,class), a folder of pictures, "
    "an .npz with x (and y), an .npz with jpeg, offset, label, classes, or an .npy"
)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples that can be counted and taken one by one; a picture is read only when it is taken.

    Attributes:
        name: Where it came from.
        sources: What each sample is: a path, an encoded picture's bytes, or an array. uint8 arrays are pictures,
            float arrays the model's own input.
        truth: (n,) int64 class per sample, counted as `classes` or the file counts them; None without labels.
        classes: Names of the classes where the data has them; `truth` indexes it.
    """

    name: str
    sources: Sequence[Any] | NDArray[Any]
    truth: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.truth is None:
            return
        if self.truth.shape != (len(self.sources),):
            raise InputError(
                f"The labels of {self.name} do not fit its samples.",
                received=f"labels of shape {self.truth.shape}",
                expected=f"({len(self.sources)},)",
            )
        if self.classes and self.truth.size and not 0 <= self.truth.min() <= self.truth.max() < len(self.classes):
            raise InputError(
                f"The labels of {self.name} name classes that are not there.",
                received=f"{int(self.truth.min())} to {int(self.truth.max())}",
                expected=f"0 to {len(self.classes) - 1}, an index of `classes`",
            )

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[Any]:
        return (self.sources[index] for index in range(len(self)))

    def take(self, indices: NDArray[np.int64]) -> Dataset:
        """Return the samples at these indices, in their order."""
        return Dataset(
            self.name,
            [self.sources[int(index)] for index in indices],
            None if self.truth is None else self.truth[indices],
            self.classes,
        )


class _Packed(Sequence[bytes]):
    """Encoded pictures that lie one behind the other in one array: picture i is `data[offset[i]:offset[i + 1]]`."""

    def __init__(self, data: NDArray[np.uint8], offset: NDArray[np.integer[Any]]) -> None:
        self._data = data
        self._offset = offset

    def __len__(self) -> int:
        return len(self._offset) - 1

    def __getitem__(self, index: Any) -> Any:
        return self._data[int(self._offset[index]) : int(self._offset[index + 1])].tobytes()


def sample_name(source: Any, number: int) -> str:
    """Return what a person calls a sample: its file's name, or its number."""
    return source.name if isinstance(source, Path) else f"sample {number}"


def open_dataset(path: str | Path) -> Dataset:
    """Open data in any of the known formats.

    Args:
        path: A folder or a file; see `FORMATS`.

    Raises:
        InputFileError: There is nothing at this path.
        InputError: The format is not known, or the data contradicts itself.
    """
    place = Path(path)
    if place.is_dir():
        data = _open_folder(place)
    elif place.suffix.lower() in (".npz", ".npy"):
        data = _open_numpy(place)
    elif place.exists():
        raise InputError("This is no data set.", received=f"`{place}`", expected=FORMATS)
    else:
        raise InputFileError("There is no data here.", received=f"`{place}`", expected=FORMATS)
    if not len(data):
        raise InputError(f"`{place}` holds no samples.", expected=FORMATS)
    return data


def match_classes(
    data: Dataset, labels: Sequence[str], class_count: int, *, class_offset: int | None = None
) -> NDArray[np.int64]:
    """Return the truth in the model's own counting.

    Names beat numbers: where every class name of the data is one of the model's labels (case, spaces, `_` and `-`
    ignored), they are matched by name. Else class i of the data is class `i + class_offset` of the model, if the data
    gives numbers, the model has no labels, or an offset is given. Names that count wrongly in silence are refused.

    Args:
        data: Labelled data.
        labels: The model's, index by index; may be empty.
        class_count: How many classes the model tells apart.
        class_offset: 1 where the model counts a background class in front of the data's classes, 0 where both count
            alike. None is 0, but refuses what is likely to be another: names that are none of the labels, and numbers
            for a model whose first label is "background".

    Returns:
        (n,) int64.

    Raises:
        InputError: The data has no labels, no samples, more classes than the model, names of which only some are
            the model's, or, without an offset, names or numbers that may count otherwise than the model.
    """
    if data.truth is None:
        raise InputError(f"`{data.name}` has no labels.", expected=f"labelled data: {FORMATS}")
    if not len(data):
        raise InputError(f"`{data.name}` holds no samples.", expected=FORMATS)
    unknown = _unknown_names(data, labels)
    if matches_by_name(data, labels):
        index = {plain_name(label): number for number, label in reversed(list(enumerate(labels)))}
        truth = np.array([index[plain_name(name)] for name in data.classes], dtype=np.int64)[data.truth]
    elif 0 < len(unknown) < len(data.classes):
        raise InputError(
            f"Some classes of `{data.name}` are none of the model's labels.",
            received=", ".join(unknown[:5]),
            expected="the names that the labels have",
            next_step="Rename these classes, or give the labels in use with --labels.",
        )
    else:
        if class_offset is None:
            _check_numbers(data, labels, int(data.truth.max()), class_count)
        truth = data.truth + (class_offset or 0)
    if truth.min() < 0 or truth.max() >= class_count:
        raise InputError(
            f"`{data.name}` has classes that the model has not.",
            received=f"classes {int(truth.min())} to {int(truth.max())}",
            expected=f"0 to {class_count - 1}",
            next_step="Check --labels and --class-offset.",
        )
    return truth


def matches_by_name(data: Dataset, labels: Sequence[str]) -> bool:
    """Return whether every class of the data is one of the model's labels, so that no offset counts."""
    return bool(data.classes) and not _unknown_names(data, labels)


def _unknown_names(data: Dataset, labels: Sequence[str]) -> list[str]:
    known = {plain_name(label) for label in labels}
    return [name for name in data.classes if plain_name(name) not in known]


def _check_numbers(data: Dataset, labels: Sequence[str], highest: int, class_count: int) -> None:
    """Refuse to count by number where that is likely to be wrong and nobody has said how to count."""
    if labels and any(not _WHOLE.fullmatch(name) for name in data.classes):
        raise InputError(
            f"The classes of `{data.name}` are none of the model's labels.",
            received=", ".join(data.classes[:5]),
            expected=f"names out of the model's {len(labels)} labels: {', '.join(labels[:5])} ...",
            next_step="Rename the classes, or give the labels in use with --labels. If the classes in the order of "
            "their names are the model's: --class-offset 0 (1 with a background class in front).",
        )
    # Data that reaches the last class counts the background too: one more would be beyond the model.
    if labels and plain_name(labels[0]) == "background" and highest < class_count - 1:
        raise InputError(
            f"The model counts a background class in front, and `{data.name}` may not.",
            received=f'classes given as numbers, the highest {highest}; label 0 is "{labels[0]}"',
            expected=f"0 to {class_count - 1}, as the model counts",
            next_step="Say --class-offset 1 where the data counts without the background, --class-offset 0 where it "
            "counts with it.",
        )


def plain_name(name: str) -> str:
    """Return a class's name as names are compared: without case, spaces, `_` and `-`.

    Example:
        >>> plain_name("Traffic_light") == plain_name("trafficlight")
        True
    """
    return "".join(character for character in name.casefold() if character not in " _-")


def _open_folder(folder: Path) -> Dataset:
    table = folder / "labels.csv"
    if table.is_file():
        return _open_table(folder, table)
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    paths: list[Path] = []
    truth: list[int] = []
    for number, name in enumerate(classes):
        found = _pictures(folder / name, "**/*")
        paths += found
        truth += [number] * len(found)
    beside = _pictures(folder, "*")
    if paths and beside:
        raise InputError(
            f"`{folder}` holds pictures beside class folders: do they belong to a class?",
            received=f"{len(beside)} pictures, e.g. `{beside[0].name}`, beside {', '.join(classes[:5])}",
            expected="pictures in class folders, or pictures alone",
            next_step="Move the pictures into their class folders, or the folders elsewhere.",
        )
    if paths:
        return Dataset(str(folder), paths, np.array(truth, dtype=np.int64), tuple(classes))
    return Dataset(str(folder), beside)


def _pictures(folder: Path, pattern: str) -> list[Path]:
    found = (path for path in folder.glob(pattern) if path.suffix.lower() in PICTURES and path.is_file())
    # Hidden ones are left by file managers and version control ("._1.jpg", ".thumbnails/1.jpg").
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _open_table(folder: Path, table: Path) -> Dataset:
    import csv

    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"`{table}` cannot be read as CSV.", received=str(error)) from error
    if rows and len(rows[0][1]) > 1 and not _WHOLE.fullmatch(rows[0][1][1]):
        rows = rows[1:]  # the heading
    truth: list[int] = []
    for number, row in rows:
        if len(row) < 2 or not _WHOLE.fullmatch(row[1]):
            raise InputError(
                f"Row {number} of `{table}` is not `file,class`.", received=",".join(row), expected="parrot.jpg,88"
            )
        truth.append(int(row[1]))
    paths = [folder / row[0] for _, row in rows]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise InputFileError(
            f"`{table}` names {len(missing)} files that are not there.", received=", ".join(missing[:5])
        )
    return Dataset(str(folder), paths, np.array(truth, dtype=np.int64))


def _open_numpy(path: Path) -> Dataset:
    import lzma
    import zipfile
    import zlib

    try:
        with path.open("rb") as stream:
            is_array = stream.read(len(_ARRAY_MAGIC)) == _ARRAY_MAGIC
            if is_array:
                return from_arrays(np.load(path, mmap_mode="r", allow_pickle=False), name=str(path))
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                names = set(archive.files)
                if {"jpeg", "offset"} <= names:
                    wanted = names & {"jpeg", "offset", "label", "classes"}
                    return _packed(path, {name: archive[name] for name in wanted})
                if "x" in names:
                    return from_arrays(archive["x"], archive["y"] if "y" in names else None, name=str(path))
    except FileNotFoundError as error:
        raise InputFileError("There is no such file.", received=f"`{path}`") from error
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        RuntimeError,
        MemoryError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"`{path}` cannot be read as a NumPy file.", received=str(error)) from error
    raise InputError(
        f"`{path}` holds none of the known arrays.", received=", ".join(sorted(names)) or "nothing", expected=FORMATS
    )


def _packed(path: Path, arrays: dict[str, NDArray[Any]]) -> Dataset:
    data, offset = arrays["jpeg"], arrays["offset"]
    rising = offset.ndim == 1 and len(offset) > 1 and offset.dtype.kind in "iu"
    if rising:
        offset = offset.astype(np.int64)  # a difference of unsigned numbers never falls
        rising = bool(np.all(np.diff(offset) > 0))
    if data.dtype != np.uint8 or data.ndim != 1 or not rising or offset[0] < 0 or offset[-1] > len(data):
        raise InputError(
            f"`offset` of `{path}` does not cut `jpeg` into pictures.",
            received=f"{data.dtype} jpeg of {data.size} bytes, offset of shape {offset.shape}",
            expected="uint8 bytes, and whole numbers that rise from 0 to their count",
        )
    truth = arrays.get("label")
    names = arrays.get("classes", np.array([], dtype=np.str_)).reshape(-1).tolist()
    classes = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    return Dataset(str(path), _Packed(data, offset), _truth(truth, len(offset) - 1, str(path)), classes)


def from_arrays(x: NDArray[Any], y: NDArray[Any] | None = None, *, name: str = "the arrays") -> Dataset:
    """Return arrays as a data set.

    Args:
        x: (n, ...) uint8 pictures (height, width[, 1 or 3]), or the model's own input: floats, or int32 or int64
            where the model takes tokens or indices.
        y: (n,) or (n, 1) whole numbers, one class a sample; one-hot rows (n, classes) are understood too.
        name: For messages.

    Raises:
        InputError: Wrong dtype or shape.
    """
    are_pictures = x.dtype == np.uint8 and x.ndim in (3, 4)
    # Rows of whole numbers are tokens; whole numbers in two dimensions and more are pixels of the wrong type.
    is_own_input = (x.dtype.kind == "f" and x.ndim >= 2) or (x.dtype in (np.int32, np.int64) and x.ndim == 2)
    if not are_pictures and not is_own_input:
        raise InputError(
            f"`x` of {name} is neither pictures nor model input.",
            received=f"shape {x.shape}, {x.dtype}",
            expected="(n, height, width[, channels]) uint8, (n, *input shape) floats, or (n, tokens) int32 or int64",
        )
    return Dataset(name, x, _truth(y, len(x), name))


def _truth(y: NDArray[Any] | None, samples: int, name: str) -> NDArray[np.int64] | None:
    if y is None:
        return None
    flat: NDArray[Any] = y.reshape(-1)
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "iubf" and _is_one_hot(y):
        flat = y.argmax(axis=1)
    whole = flat.dtype.kind in "iub" or (flat.dtype.kind == "f" and bool(np.all(np.abs(flat) < 1e9)))
    if whole and flat.dtype.kind == "f":
        whole = bool(np.all(flat == np.round(flat)))
    if len(flat) != samples or not whole:
        raise InputError(
            f"The labels of {name} do not fit its samples.",
            received=f"labels of shape {y.shape}, {y.dtype}",
            expected=f"({samples},) whole numbers, or one-hot rows",
        )
    truth: NDArray[np.int64] = flat.astype(np.int64)
    return truth


def _is_one_hot(rows: NDArray[Any]) -> bool:
    return bool(np.all((rows == 0) | (rows == 1)) and np.all(np.count_nonzero(rows, axis=1) == 1))
