"""What a task answers: aligned arrays, checked when they are made, sliced like NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError

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
