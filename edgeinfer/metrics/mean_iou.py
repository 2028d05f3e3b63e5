"""Mean intersection over union: how well the pixels of every class are found.

Source: Everingham et al. 2015, "The PASCAL visual object classes challenge: a retrospective", IJCV 111:98-136,
section 2.2.3: true positives / (true positives + false positives + false negatives), pixels of all pictures together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError

IGNORED = 255  # the class of pixels that nobody judges, as PASCAL VOC and Cityscapes have it


def confusion(
    found: NDArray[np.unsignedinteger[Any]], truth: NDArray[np.unsignedinteger[Any]], classes: int
) -> NDArray[np.int64]:
    """Count the pixels of one picture by their true class and the class that was found.

    Args:
        found: (height, width) class of every pixel.
        truth: (height, width) the same; `IGNORED` where a pixel does not count.
        classes: How many there are.

    Returns:
        (classes, classes) int64, row: truth, column: found.

    Raises:
        InputError: Different sizes, or a class that is not there.
    """
    if found.shape != truth.shape:
        raise InputError(
            "Both masks have one class a pixel of the same picture.",
            received=f"{found.shape[1]} x {found.shape[0]} found, {truth.shape[1]} x {truth.shape[0]} true",
            expected="the same size",
        )
    judged = truth != IGNORED
    true, seen = truth[judged].astype(np.intp), found[judged].astype(np.intp)
    highest = max(int(true.max(initial=0)), int(seen.max(initial=0)))
    if highest >= classes:
        raise InputError("A mask has a class that is not there.", received=str(highest), expected=f"0 to {classes - 1}")
    return np.bincount(true * classes + seen, minlength=classes * classes).reshape(classes, classes)


def overlap(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what `iou` needs of a confusion matrix: (3, classes), pixels right, true and found of each class."""
    return np.stack([counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)])


def iou(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the IoU of every class.

    Args:
        pixels: (..., 3, classes), sums of what `overlap` returns.

    Returns:
        (..., classes) float64, 0..1; NaN for a class that is neither there nor found, and so says nothing.
    """
    right = pixels[..., 0, :].astype(np.float64)
    union = pixels[..., 1, :] + pixels[..., 2, :] - right
    share: NDArray[np.float64] = np.divide(right, union, out=np.full_like(right, np.nan), where=union > 0)
    return share
