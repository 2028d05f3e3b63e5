"""A class mask over a picture: half picture, half the class's colour, by table."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edgeinfer.drawing.palette import PALETTE
from edgeinfer.errors import InputError
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.image import Image
from edgeinfer.results import Mask

# The picture in strips that stay in a core's cache: of 1280x720, 1.5 ms instead of 3.3 with OpenCV, 5.1 instead of 7.1
# without (x86, one thread).
_ROWS = 32
_BACKGROUND = ("background", "__background__", "bg", "unlabeled", "unlabelled", "none", "void", "")


def first_class(labels: Sequence[str]) -> int:
    """Return 1 where class 0 is the background, which keeps the picture's pixels, else 0.

    It is the background where the model has no labels, or where its name says so.
    """
    return 0 if labels and labels[0].strip().casefold() not in _BACKGROUND else 1


def overlay(image: Image, mask: Mask) -> None:
    """Blend the classes' colours into a picture.

    A pixel becomes (picture + colour) / 2, rounded; OpenCV and NumPy round by at most one grey level differently. The
    background's pixels stay exactly as they are.

    Args:
        image: (height, width, 3) uint8, changed in place.
        mask: Of the same size.
    """
    clear = first_class(mask.labels) == 1
    cv2 = libraries.opencv()
    for top in range(0, image.shape[0], _ROWS):
        rows, class_id = image[top : top + _ROWS], _bytes(mask.class_id[top : top + _ROWS])
        if clear and not class_id.any():
            continue
        if cv2 is None:
            _blend(rows, class_id, clear=clear)
        else:
            _blend_opencv(cv2, rows, class_id, clear=clear)


def classes_seen(mask: Mask) -> list[int]:
    """Return the classes of a mask without its background, the largest first.

    Looked for on a grid of about 128 points a side: counting all pixels would cost more than drawing them. So a class
    that is nowhere as large as the step between two points (5 pixels in 1280x720) may be missed.
    """
    step = max(1, min(mask.class_id.shape) // 128)
    counts = np.bincount(mask.class_id[::step, ::step].reshape(-1))
    counts[: first_class(mask.labels)] = 0
    ranked = np.argsort(-counts, kind="stable")
    return [int(one) for one in ranked[: np.count_nonzero(counts)]]


def _bytes(class_id: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the classes as rows of the colour table, which has 256; larger ones as another row of the same colour."""
    if class_id.dtype == np.uint8:
        return np.ascontiguousarray(class_id, np.uint8)
    colours = len(PALETTE)
    return np.where(class_id < 256, class_id, colours + class_id % colours).astype(np.uint8)


def _blend(image: Image, class_id: NDArray[np.uint8], *, clear: bool) -> None:
    """Blend by integers: a pixel of a class is halved by a shift and gets its colour's half, others add 0."""
    data = class_id.tobytes()
    shifts, halves = _byte_tables(clear=clear)
    # `bytes.translate` is several times as fast as an array of indices, which NumPy first makes eight bytes wide.
    shift = np.frombuffer(data.translate(shifts), np.uint8).reshape(class_id.shape)
    for channel, table in enumerate(halves):
        plane = image[:, :, channel]
        np.right_shift(plane, shift, out=plane)
        plane += np.frombuffer(data.translate(table), np.uint8).reshape(class_id.shape)


def _blend_opencv(cv2: ModuleType, image: Image, class_id: NDArray[np.uint8], *, clear: bool) -> None:
    try:
        blended = cv2.applyColorMap(class_id, _table()[:, np.newaxis])
        blended = cv2.addWeighted(image, 0.5, blended, 0.5, 0.0, dst=blended)
        if clear:
            # The classes are their own mask: OpenCV copies where they are not 0. It writes into plain arrays only.
            blended = cv2.copyTo(blended, class_id, image if image.flags.c_contiguous else image.copy())
    except cv2.error as error:
        raise InputError("OpenCV cannot blend this mask.", received=str(error)) from error
    if blended is not image:
        np.copyto(image, blended)


@functools.cache
def _table() -> NDArray[np.uint8]:
    """Return (256, 3) uint8: row n is the colour of class n."""
    table = np.array([PALETTE[index % len(PALETTE)] for index in range(256)], np.uint8)
    table.flags.writeable = False
    return table


@functools.cache
def _byte_tables(*, clear: bool) -> tuple[bytes, tuple[bytes, ...]]:
    """Return by how much a class shifts the picture, and half of its colour for each channel, rounded up."""
    shifts = bytearray(b"\x01" * 256)
    halves = (_table().astype(np.int32) + 1) // 2
    if clear:
        shifts[0] = 0
        halves[0] = 0
    return bytes(shifts), tuple(halves[:, channel].astype(np.uint8).tobytes() for channel in range(3))
