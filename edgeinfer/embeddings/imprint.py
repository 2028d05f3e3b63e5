"""`ImprintedClassifier`: new classes from a few pictures, on the device, without training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinfer.embeddings.file import (
    Embeddings,
    LoadedModel,
    Origin,
    check_label,
    cosines,
    damaged,
    labels_in,
    origin_in,
    read_arrays,
    unit_rows,
    write_arrays,
)
from edgeinfer.errors import InputError
from edgeinfer.results import Classifications, Embedding

SCALE = 24.0
_KIND = "imprinted"
# The sum of n rows of length 1 is n long at most, up to rounding.
_SUM_TOLERANCE = 1e-3
_MOST = 2**53  # beyond it, JSON's whole numbers are no floats


class ImprintedClassifier:
    """A last layer whose weights are the embeddings of known pictures.

    The weight of a class is the mean of its pictures' embeddings, each of length 1, brought to length 1 again. The
    answer is `softmax(scale * cosine)`. A class can be added, given further pictures, and removed at any time; no other
    class's weight changes. Each picture is one of the known classes: to tell a stranger, look at the similarities of an
    `Index`.

    Args:
        model: What the embeddings come from (`embed.runtime`); it is remembered in the file, so that the embeddings of
            another model are refused. None remembers nothing.
        scale: How sharp the softmax is: a class whose cosine is 0.1 higher has exp(scale / 10) times the probability.
            It changes no ranking. The paper trains it; here nothing is trained. With 5 pictures a class, the mean
            negative log-likelihood is lowest at 24 for the features of MobileNet 0.25 128 (1.59; 2.24 at 1) and at 32
            for those of MobileNetV2 1.0 224 (1.55; 1.60 at 24), 10 classes of CIFAR-10, mean of 20 draws. With 1
            picture it is lowest at 12 for both, with 20 pictures at 32 and 48.

    Example:
        embed = embedder("features.tflite")
        classify = ImprintedClassifier(embed.runtime)
        classify.add("mug", [embed("mug-1.jpg"), embed("mug-2.jpg")])
        classify.add("plate", embed("plate.jpg"))
        print(classify(embed("table.jpg")).label)

    Source: Qi, Brown, Lowe 2018, "Low-shot learning with imprinted weights", arXiv:1712.07136, section 3.
    """

    def __init__(self, model: LoadedModel | None = None, *, scale: float = SCALE) -> None:
        if not (math.isfinite(scale) and scale > 0):
            raise InputError("`scale` multiplies the cosine.", received=str(scale), expected="a number above 0")
        self.origin = Origin.of(model)
        self.scale = scale
        self._labels: list[str] = []
        self._counts: list[int] = []
        self._sums: NDArray[np.float64] = np.empty((0, 0), dtype=np.float64)
        self._weights: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)

    def add(self, label: str, embeddings: Embeddings) -> None:
        """Add a class, or further pictures of one that is there.

        Args:
            label: Any text.
            embeddings: One, several, or an array (d,) or (n, d).

        Raises:
            InputError: They have another length than those before, are not finite, or all zeros; or they point in
                opposite directions, so that their mean has none.
        """
        check_label(label)
        rows = unit_rows(embeddings, length=self._sums.shape[1] if self._labels else None)
        total, count = rows.sum(axis=0, dtype=np.float64), len(rows)
        known = label in self._labels
        place = self._labels.index(label) if known else len(self._labels)
        if known:
            total += self._sums[place]
            count += self._counts[place]
        length = float(np.linalg.norm(total))
        if length <= _SUM_TOLERANCE * count:
            raise InputError(
                f"The pictures of `{label}` have nothing in common: their embeddings cancel each other out.",
                received=f"a mean of length {length / count:.1e}",
                expected="above 1e-3",
            )
        weight = (total / length).astype(np.float32)
        if known:
            self._sums[place], self._weights[place], self._counts[place] = total, weight, count
            return
        self._sums = np.vstack([self._sums, total]) if place else total[np.newaxis]
        self._weights = np.vstack([self._weights, weight]) if place else weight[np.newaxis]
        self._labels.append(label)
        self._counts.append(count)

    def remove(self, label: str) -> int:
        """Forget a class, and return of how many pictures it was made; 0 where there is none of this label."""
        if label not in self._labels:
            return 0
        place = self._labels.index(label)
        self._labels.pop(place)
        self._sums = np.delete(self._sums, place, axis=0)
        self._weights = np.delete(self._weights, place, axis=0)
        return self._counts.pop(place)

    def __call__(self, embedding: Embedding, *, top_k: int = 5) -> Classifications:
        """Return the most likely classes; `class_id` counts them in the order in which they were added.

        An embedding of all zeros has no direction: all classes are equally likely.

        Args:
            embedding: Of the same model.
            top_k: At least 1; more than there are classes gives all.

        Raises:
            InputError: There is no class yet, `top_k` is below 1, or the embedding has another length or is not finite.
        """
        if top_k < 1:
            raise InputError("`top_k` counts classes.", received=str(top_k), expected="1 or more")
        if not self._labels:
            raise InputError("There is no class yet.", next_step="Call `add(label, embeddings)` first.")
        logits = self.scale * cosines(self._weights, embedding).astype(np.float64)
        order = np.argsort(-logits, kind="stable")
        powers = np.exp(logits - logits[order[0]])
        order = order[:top_k]
        confidence = (powers[order] / powers.sum()).astype(np.float32)
        return Classifications(order, confidence, tuple([self._labels[place] for place in order.tolist()]))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order in which they were added."""
        return tuple(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def save(self, path: str | Path) -> None:
        """Write the classes, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        about = {"labels": self._labels, "counts": self._counts, "scale": self.scale}
        write_arrays(path, _KIND, self.origin, about, {"sums": self._sums})

    @classmethod
    def load(cls, path: str | Path, model: LoadedModel | None = None) -> ImprintedClassifier:
        """Read classes that `save` has written.

        Args:
            path: The file.
            model: What the next embeddings come from; None does not compare.

        Raises:
            InputFileError: There is no such file.
            InputError: It is damaged, something else, or from another model.
        """
        about, arrays = read_arrays(path, _KIND, ("sums",))
        origin = origin_in(about, path)
        origin.check(model, path)
        labels, counts, scale = labels_in(about, path), about.get("counts"), about.get("scale")
        if len(set(labels)) != len(labels):
            raise damaged(path, "two classes have the same label")
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < _MOST:
            raise damaged(path, f"scale {scale!r}")
        if not isinstance(counts, list) or not all(type(one) is int and 0 < one < _MOST for one in counts):
            raise damaged(path, "its counts are no whole numbers above 0")
        sums = arrays["sums"]
        if sums.dtype != np.float64 or sums.ndim != 2 or not len(sums) == len(labels) == len(counts):
            raise damaged(path, f"{len(labels)} labels, {len(counts)} counts, sums of shape {sums.shape}, {sums.dtype}")
        lengths = np.sqrt((np.clip(sums, -1e100, 1e100) ** 2).sum(axis=1, keepdims=True))
        shares = lengths[:, 0] / np.array(counts, dtype=np.float64)
        if not ((shares > _SUM_TOLERANCE) & (shares < 1 + _SUM_TOLERANCE)).all():  # not true of NaN either
            raise damaged(path, "sums that are none of embeddings")
        made = cls(scale=scale)
        made.origin, made._labels, made._counts, made._sums = origin, labels, counts, sums
        made._weights = (sums / lengths).astype(np.float32) if labels else made._weights
        return made
