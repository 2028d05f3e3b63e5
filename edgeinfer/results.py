"""What a task answers: aligned arrays, checked when they are made, sliced like NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass

Selection = NDArray[np.bool_] | NDArray[np.integer[Any]] | slice


@dataclass(frozen=True, slots=True)
class Classification:
    """One answer.

    Attributes:
        class_id: Index of the class in the model's output.
        confidence: 0..1.
        label: The class's name, or its number where the model has no labels.
    """

    class_id: int
    confidence: float
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Classifications:
    """The most likely classes of one picture, most confident first.

    Attributes:
        class_id: (n,) int64, index in the model's output.
        confidence: (n,) float32, 0..1, descending.
        labels: n names, one per row; empty where the model has none.

    Example:
        >>> found = Classifications(np.array([2, 0]), np.array([0.9, 0.1], np.float32), ("cat", "dog"))
        >>> found.label, len(found.top(1))
        ('cat', 1)
    """

    class_id: NDArray[np.int64]
    confidence: NDArray[np.float32]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.class_id)
        if self.class_id.ndim != 1 or self.confidence.shape != (rows,):
            raise InputError(
                "`class_id` and `confidence` are one row a class.",
                received=f"shapes {self.class_id.shape} and {self.confidence.shape}",
                expected="(n,) and (n,)",
            )
        if self.labels and len(self.labels) != rows:
            raise InputError("One label a row.", received=f"{len(self.labels)} labels", expected=f"{rows} or none")

    @property
    def label(self) -> str:
        """The name of the first class, or its number where the model has no labels.

        Raises:
            InputError: There is no row.
        """
        if not len(self):
            raise InputError("No class is left: the selection is empty.")
        return self._label(0)

    def top(self, k: int) -> Classifications:
        """Return the k most confident rows."""
        return self[:k]

    def __getitem__(self, rows: Selection | int) -> Classifications:
        """Return the rows that a mask, indices, a slice or one number selects.

        Raises:
            IndexError: A number beyond the rows.
        """
        if isinstance(rows, int | np.integer):
            rows = np.array([range(len(self))[rows]])
        labels = tuple(np.asarray(self.labels, dtype=object)[rows]) if self.labels else ()
        return Classifications(self.class_id[rows], self.confidence[rows], labels)

    def __len__(self) -> int:
        return len(self.class_id)

    def __iter__(self) -> Iterator[Classification]:
        for row in range(len(self)):
            yield Classification(int(self.class_id[row]), float(self.confidence[row]), self._label(row))

    def _label(self, row: int) -> str:
        return self.labels[row] if self.labels else str(int(self.class_id[row]))


@dataclass(frozen=True, slots=True)
class Detection:
    """One box.

    Attributes:
        xyxy: Left, top, right, bottom, pixels of the given picture; 0 is the left edge of the first pixel.
        confidence: 0..1.
        class_id: Index of the class in the model's labels.
        label: The class's name, or its number where the model has no labels.
    """

    xyxy: tuple[float, float, float, float]
    confidence: float
    class_id: int
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The boxes that were found in one picture, most confident first; maybe none.

    Attributes:
        xyxy: (n, 4) float32, left, top, right, bottom, pixels of the given picture, within its borders.
        confidence: (n,) float32, 0..1, descending.
        class_id: (n,) int64, index of the class in the model's labels.
        labels: The names of all classes, index by index; empty where the model has none.

    Example:
        >>> box = np.array([[10, 20, 30, 60]], np.float32)
        >>> found = Detections(box, np.array([0.9], np.float32), np.array([1]), ("person", "dog"))
        >>> len(found[found.confidence > 0.95]), [one.label for one in found]
        (0, ['dog'])
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.class_id)
        shapes = (self.xyxy.shape, self.confidence.shape, self.class_id.shape)
        if shapes != ((rows, 4), (rows,), (rows,)):
            raise InputError(
                "`xyxy`, `confidence` and `class_id` are one row a box.",
                received=f"shapes {shapes[0]}, {shapes[1]} and {shapes[2]}",
                expected="(n, 4), (n,) and (n,)",
            )

    def __getitem__(self, rows: Selection | int) -> Detections:
        """Return the rows that a mask, indices, a slice or one number selects.

        Raises:
            IndexError: A number beyond the rows.
        """
        if isinstance(rows, int | np.integer):
            rows = np.array([range(len(self))[rows]])
        return Detections(self.xyxy[rows], self.confidence[rows], self.class_id[rows], self.labels)

    def __len__(self) -> int:
        return len(self.class_id)

    def __iter__(self) -> Iterator[Detection]:
        for box, confidence, class_id in zip(
            self.xyxy.tolist(), self.confidence.tolist(), self.class_id.tolist(), strict=True
        ):
            yield Detection(tuple(box), confidence, class_id, name_of(self.labels, class_id))


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """What every pixel of a picture belongs to.

    Attributes:
        class_id: (height, width) uint8 or uint16, the class of each pixel of the given picture; 0 is the background
            where the model has one, and what the model did not see.
        labels: The names of all classes, index by index; empty where the model has none.

    Example:
        >>> mask = Mask(np.array([[0, 1], [1, 1]], np.uint8), ("background", "bird"))
        >>> mask.shares()
        {'bird': 0.75, 'background': 0.25}
    """

    class_id: NDArray[np.uint8] | NDArray[np.uint16]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.class_id.ndim != 2 or self.class_id.dtype not in (np.uint8, np.uint16):
            raise InputError(
                "A mask is one class number a pixel.",
                received=f"shape {self.class_id.shape}, {self.class_id.dtype}",
                expected="(height, width), uint8 or uint16",
            )

    def shares(self) -> dict[str, float]:
        """Return how much of the picture each class takes, 0..1, the largest first; only classes that are there."""
        counts = np.bincount(self.class_id.reshape(-1))
        present = np.flatnonzero(counts)
        ranked = present[np.argsort(-counts[present], kind="stable")]
        return {name_of(self.labels, int(one)): int(counts[one]) / self.class_id.size for one in ranked}

    def of(self, class_id: int) -> NDArray[np.bool_]:
        """Return (height, width) bool: where this class lies."""
        where: NDArray[np.bool_] = self.class_id == class_id
        return where


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """The key points of the bodies in one picture.

    Attributes:
        xy: (n, k, 2) float32, pixels of the given picture; not clipped: a point may lie outside.
        confidence: (n, k) float32, 0..1, of each point.
        names: k names, one per point; empty where the model has none.
    """

    xy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.xy.ndim != 3 or self.xy.shape[2] != 2 or self.confidence.shape != self.xy.shape[:2]:
            raise InputError(
                "`xy` and `confidence` are one row a body and one column a point.",
                received=f"shapes {self.xy.shape} and {self.confidence.shape}",
                expected="(n, k, 2) and (n, k)",
            )
        if self.names and len(self.names) != self.xy.shape[1]:
            raise InputError("One name a point.", received=f"{len(self.names)}", expected=f"{self.xy.shape[1]} or none")

    def __getitem__(self, rows: Selection | int) -> Keypoints:
        """Return the bodies that a mask, indices, a slice or one number selects.

        Raises:
            IndexError: A number beyond the bodies.
        """
        if isinstance(rows, int | np.integer):
            rows = np.array([range(len(self))[rows]])
        return Keypoints(self.xy[rows], self.confidence[rows], self.names)

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A picture as a point in the model's space: like pictures lie in like directions.

    Attributes:
        vector: (d,) float32.

    Example:
        >>> one, other = Embedding(np.array([3, 4], np.float32)), Embedding(np.array([0, 2], np.float32))
        >>> round(one.similarity(other), 3)
        0.8
    """

    vector: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vector.ndim != 1 or not self.vector.size:
            raise InputError("An embedding is one row.", received=f"shape {self.vector.shape}", expected="(d,)")

    def similarity(self, other: Embedding) -> float:
        """Return the cosine of the angle between both, -1..1; 0.0 where one of them is all zeros.

        Raises:
            InputError: They have different lengths, so they come from different models.
        """
        if self.vector.shape != other.vector.shape:
            raise InputError(
                "These embeddings come from different models.",
                received=f"{self.vector.size} and {other.vector.size} numbers",
                expected="as many",
            )
        # In float64 and by the largest number: squares of small float32 numbers would vanish.
        one, other_one = (_unit(each.vector) for each in (self, other))
        return float(np.dot(one, other_one))


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the vector with a length of 1; all zeros stay."""
    values = vector.astype(np.float64)
    values /= np.abs(values).max() or 1.0
    length = float(np.linalg.norm(values))
    return values / length if length else values


def name_of(labels: Sequence[str], class_id: int) -> str:
    """Return the class's name, or its number where there is none."""
    return labels[class_id] if 0 <= class_id < len(labels) else str(class_id)
