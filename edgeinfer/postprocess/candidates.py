"""What every detection head hands on: boxes above the threshold, in the tensor's pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeinfer.model.heads import BoxOrder
from edgeinfer.preprocess.geometry import View
from edgeinfer.runtime.runtime import Tensors


class Candidates(NamedTuple):
    """Boxes that have reached the threshold, in any order.

    Attributes:
        xyxy: (n, 4) float32, pixels of the input tensor.
        confidence: (n,) float32, 0..1.
        class_id: (n,) int64.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]


Decoder = Callable[[Tensors, View], Candidates]

NOTHING = Candidates(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


def no_candidates(outputs: Tensors, view: View) -> Candidates:  # noqa: ARG001 - a decoder for unreachable thresholds
    """Return nothing: for a threshold that no number of the output can reach."""
    return NOTHING


def ordered(boxes: NDArray[np.float32], order: BoxOrder, sides: tuple[int, int]) -> NDArray[np.float32]:
    """Return boxes as xyxy in pixels.

    Args:
        boxes: (n, 4) float32.
        order: Of their four numbers.
        sides: What x and y are multiplied by: the tensor's (width, height) for shares, (1, 1) for pixels.

    Returns:
        (n, 4) float32, an array of its own.
    """
    by = np.array((*sides, *sides), dtype=np.float32)
    if order == "yxyx":
        turned: NDArray[np.float32] = boxes[:, (1, 0, 3, 2)] * by
        return turned
    scaled: NDArray[np.float32] = boxes * by
    if order == "cxcywh":
        scaled[:, :2] -= np.float32(0.5) * scaled[:, 2:]
        scaled[:, 2:] += scaled[:, :2]
    return scaled


def as_table(memory: NDArray[Any]) -> NDArray[Any]:
    """Return an output of batch 1 as (rows, columns), without a copy."""
    return memory.reshape(memory.shape[-2:])
