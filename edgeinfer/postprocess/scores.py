"""Scores against a threshold, on the stored numbers: which rows are worth a float.

Dequantization keeps the order, so a threshold in 0..1 is one stored integer, looked up once when the model is loaded.
A comparison of stored integers then decides as dequantizing everything and comparing floats would.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import MetadataError, ModelError
from edgeinfer.frozen import dataclass
from edgeinfer.model.specs import OutputSpec
from edgeinfer.quantization import dequantize


@dataclass(frozen=True, slots=True)
class ScoreThreshold:
    """A threshold in one output's own numbers.

    Attributes:
        least: The smallest stored number that counts, or None where none does. For floats that still need a sigmoid it
            lies a little too low: what passes must be compared again as a confidence.
        spec: The output.
        logits: Whether a confidence is the sigmoid of the real value.
        confidence: The same threshold as a confidence, 0..1.
    """

    least: np.generic | None
    spec: OutputSpec
    logits: bool
    confidence: np.float32

    def confidences(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return stored scores as confidences, 0..1."""
        return real_scores(stored, self.spec, logits=self.logits)


def score_threshold(spec: OutputSpec, confidence: float, *, logits: bool) -> ScoreThreshold:
    """Return the threshold in the output's own numbers: `confidence` itself still counts.

    Args:
        spec: An output that holds scores: int8, uint8, int16, or a float.
        confidence: 0..1.
        logits: Whether the scores still need a sigmoid.

    Raises:
        MetadataError: Integers without a quantization; or steps so wide that scores of 0..1 are all the same.

    Example:
        >>> spec = OutputSpec("scores", (1, 10), "uint8", scale=1 / 256)
        >>> int(score_threshold(spec, 0.25, logits=False).least)
        64
    """
    limit = np.float32(confidence)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        least = limit
        if logits:
            share = min(max(float(limit), 1e-30), 1.0 - 2.0**-25)
            # float32 sigmoids differ from the exact one in the last places: a margin, and then the real comparison.
            least = np.float32(math.log(share / (1.0 - share)) - 0.01)
        return ScoreThreshold(least.astype(dtype), spec, logits, limit)
    if dtype not in (np.int8, np.uint8, np.int16) or spec.scale <= 0.0:
        raise MetadataError(
            f"Output `{spec.name}` holds scores as integers that say nothing of their scale.",
            received=f"{spec.dtype}, scale {spec.scale}",
            expected="int8, uint8 or int16 with a scale, or floats",
        )
    if not logits and spec.scale > 0.5:
        # A whole tensor has one scale. Boxes in pixels (0..640) leave no two numbers for scores between 0 and 1.
        raise MetadataError(
            f"Output `{spec.name}` has steps so wide that every score becomes 0.",
            received=f"scale {spec.scale:g}",
            expected="a scale of 0.5 or less",
            next_step="Convert the model again with boxes as shares of the input's sides (0..1), or keep this output "
            "in floats.",
        )
    limits = np.iinfo(dtype)
    every = np.arange(limits.min, limits.max + 1).astype(dtype)
    passing = np.flatnonzero(real_scores(every, spec, logits=logits) >= limit)
    return ScoreThreshold(every[passing[0]] if passing.size else None, spec, logits, limit)


def real_scores(stored: NDArray[Any], spec: OutputSpec, *, logits: bool) -> NDArray[np.float32]:
    """Return stored scores as float32 confidences: dequantized, through a sigmoid where they are logits."""
    real = dequantize(stored, scale=spec.scale, zero_point=spec.zero_point)
    if logits:
        # The sigmoid 1 / (1 + exp(-x)), without an exponential that could overflow.
        real = np.float32(0.5) * (np.float32(1.0) + np.tanh(np.float32(0.5) * real))
    return real


def rows_above(table: NDArray[Any], least: np.generic, *, first: int) -> NDArray[np.intp]:
    """Return the rows in which any score reaches `least`, in their order.

    A maximum along so short an axis is slow (0.32 ms for 8400 rows of 84 int8, measured); one comparison of everything,
    boxes too since only whole memory is compared fast, and a search for the few that pass take less than half of that.

    Args:
        table: (rows, columns), stored numbers.
        least: From `score_threshold`.
        first: The column in which the scores begin.
    """
    reached = table >= least
    reached[:, :first] = False
    if np.count_nonzero(reached) > len(reached):  # a low threshold: a list of all hits would be longer than the rows
        return np.flatnonzero(reached.any(axis=1))
    rows: NDArray[np.intp] = np.flatnonzero(reached) // reached.shape[1]
    is_first = np.ones(len(rows), dtype=np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
    return rows[is_first]


def check_finite(values: NDArray[Any], name: str) -> None:
    """Refuse floats that are no numbers, or infinite, in what has survived the threshold.

    Raises:
        ModelError: There are some.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise not_a_number(name)


def not_a_number(name: str) -> ModelError:
    """Return the error for an output that holds NaN or infinities."""
    return ModelError(
        f"The model answers with what is not a number in `{name}`.",
        received="NaN or an infinity",
        next_step="Its weights are damaged, or its input lies far outside what it was trained on.",
    )
