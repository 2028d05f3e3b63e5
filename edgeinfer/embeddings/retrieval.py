"""`Index`: find the most similar of known pictures by their embeddings; kept in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinfer.embeddings.file import (
    Embeddings,
    LoadedModel,
    Origin,
    check_label,
    cosines,
    labels_in,
    origin_in,
    read_arrays,
    unit_rows,
    unit_rows_in,
    write_arrays,
)
from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass
from edgeinfer.results import Embedding

_START_ROWS = 16


@dataclass(frozen=True, slots=True)
class Match:
    """One known picture that is similar.

    Attributes:
        label: As it was added.
        similarity: Cosine of the angle, -1..1.
    """

    label: str
    similarity: float


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The most similar of the known pictures, most similar first.

    Attributes:
        labels: n labels; several may be the same.
        similarity: (n,) float32, -1..1, descending.
    """

    labels: tuple[str, ...]
    similarity: NDArray[np.float32]

    @property
    def label(self) -> str:
        """The label of the most similar one.

        Raises:
            InputError: Nothing is in the index.
        """
        if not self.labels:
            raise InputError("Nothing was found: the index is empty.")
        return self.labels[0]

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Match]:
        for label, similarity in zip(self.labels, self.similarity.tolist(), strict=True):
            yield Match(label, similarity)


class Index:
    """Known pictures as rows of one matrix; a search is one product with it.

    Args:
        model: What the embeddings come from (`embed.runtime`); it is remembered in the file, so that the embeddings of
            another model are refused. None remembers nothing.

    Example:
        embed = embedder("features.tflite")
        index = Index(embed.runtime)
        index.add("Ada", [embed("ada-1.jpg"), embed("ada-2.jpg")])
        print(index.search(embed("door.jpg")).label)
        index.save("faces.npz")
        index = Index.load("faces.npz", embed.runtime)
    """

    def __init__(self, model: LoadedModel | None = None) -> None:
        self.origin = Origin.of(model)
        self._labels: list[str] = []
        # Twice as much room each time it is full: adding one by one costs no more than adding all at once.
        self._rows: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)

    def add(self, label: str, embeddings: Embeddings) -> None:
        """Add pictures under one label; a label may have many.

        Args:
            label: Any text.
            embeddings: One, several, or an array (d,) or (n, d).

        Raises:
            InputError: They have another length than those before, are not finite, or all zeros.
        """
        check_label(label)
        rows = unit_rows(embeddings, length=self._rows.shape[1] if self._labels else None)
        count = len(self._labels)
        if count + len(rows) > len(self._rows) or not count:
            grown = np.empty((max(_START_ROWS, 2 * count, count + len(rows)), rows.shape[1]), dtype=np.float32)
            if count:
                grown[:count] = self._rows[:count]
            self._rows = grown
        self._rows[count : count + len(rows)] = rows
        self._labels += [label] * len(rows)

    def remove(self, label: str) -> int:
        """Forget all pictures of a label, and return how many they were."""
        kept = [place for place, one in enumerate(self._labels) if one != label]
        gone = len(self._labels) - len(kept)
        if gone:
            self._rows = self._rows[kept]
            self._labels = [self._labels[place] for place in kept]
        return gone

    def search(self, embedding: Embedding, k: int = 5) -> Matches:
        """Return the `k` most similar pictures; of equals, the one that was added first.

        An embedding of all zeros has no direction: its similarity to all is 0.

        Args:
            embedding: Of the same model.
            k: At least 1; more than there are gives all.

        Raises:
            InputError: `k` is below 1; the embedding has another length, or is not finite.
        """
        if k < 1:
            raise InputError("`k` counts matches.", received=str(k), expected="1 or more")
        count = len(self._labels)
        if not count:
            return Matches((), np.empty(0, dtype=np.float32))
        similarity = cosines(self._rows[:count], embedding)
        places = np.arange(count)
        if k < count:
            places = np.flatnonzero(similarity >= np.partition(similarity, count - k)[count - k])
        places = places[np.argsort(-similarity[places], kind="stable")][:k]
        return Matches(tuple([self._labels[place] for place in places.tolist()]), similarity[places])

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, each once, in the order in which they were added."""
        return tuple(dict.fromkeys(self._labels))

    def __len__(self) -> int:
        return len(self._labels)

    def save(self, path: str | Path) -> None:
        """Write the index, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        rows = self._rows[: len(self._labels)]
        write_arrays(path, "index", self.origin, {"labels": self._labels}, {"vectors": rows})

    @classmethod
    def load(cls, path: str | Path, model: LoadedModel | None = None) -> Index:
        """Read an index that `save` has written.

        Args:
            path: The file.
            model: What the next embeddings come from; None does not compare.

        Raises:
            InputFileError: There is no such file.
            InputError: It is damaged, no index, or from another model.
        """
        about, arrays = read_arrays(path, "index", ("vectors",))
        origin = origin_in(about, path)
        origin.check(model, path)
        index = cls()
        index.origin = origin
        index._labels = labels_in(about, path)
        index._rows = unit_rows_in(arrays["vectors"], len(index._labels), path)
        return index
