"""What a caller may call a sample: a path, a picture, an array, a tensor, alone or wrapped as TensorFlow does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import CalibrationError

__all__ = ["ONE_BY_ONE", "as_array", "each_sample"]

ONE_BY_ONE = "Hand over one sample at a time: `data.unbatch()` with TensorFlow, `for batch in data for one in batch`."
_FORMS = (
    "samples one by one: paths, uint8 pictures (height, width, 3), or the model's own input as arrays, with or without "
    "a batch of 1; a list or tuple with one of these is understood too"
)


def each_sample(source: Any, most: int) -> Iterator[Any]:
    """Yield the samples of an iterable: paths, encoded pictures as they are, and arrays.

    Args:
        source: An iterable of samples in any form of these; what TensorFlow's converter takes, `[batch of 1]`, too.
        most: How many to take.

    Raises:
        CalibrationError: It is no iterable, or one of its samples is none of these.
    """
    try:
        iterator = iter(source)
    except TypeError as error:
        raise CalibrationError(
            "This is no calibration data.",
            received=f"an object of type `{type(source).__name__}`",
            expected=f"a path, an array, or {_FORMS}",
            next_step="Call the function that yields the samples." if callable(source) else "",
        ) from error
    for number, sample in enumerate(islice(iterator, most)):
        yield _sample(sample, f"Calibration sample {number}")


def _sample(value: Any, what: str) -> Any:
    """Return one sample as a path, a picture or an array, out of whatever it was wrapped in."""
    while isinstance(value, list | tuple) and len(value) == 1 and not isinstance(value[0], int | float):
        value = value[0]
    if isinstance(value, str | Path):
        return Path(value)
    if isinstance(value, bytes | bytearray | memoryview) or type(value).__module__.split(".")[0] == "PIL":
        return value
    array = as_array(value, what)
    if array.dtype != np.uint8:
        return array
    if array.ndim == 4 and len(array) > 1:
        raise CalibrationError(
            f"{what} is a batch of pictures.",
            received=f"shape {array.shape}",
            expected=_FORMS,
            next_step=ONE_BY_ONE,
        )
    # One grey picture with its batch: a width that could be channels leaves it a picture of one line.
    one_grey = array.ndim == 3 and len(array) == 1 and array.shape[2] not in (1, 3, 4)
    return array[0] if one_grey or array.ndim == 4 else array


def as_array(value: Any, what: str) -> NDArray[Any]:
    """Return an array of numbers, made of an array, a tensor or nested lists.

    Args:
        value: What the caller handed over.
        what: What an error calls it.

    Raises:
        CalibrationError: It is no such thing, or a bare number.
    """
    array = None
    if hasattr(value, "__array__") or isinstance(value, list | tuple):
        with suppress(ValueError, TypeError, RuntimeError):  # RuntimeError: a tensor without values, or with a gradient
            array = np.asarray(value)
    if array is not None and array.dtype.kind in "fiub" and array.ndim:
        return array
    raise CalibrationError(
        f"{what} is no array of numbers.",
        received=f"an object of type `{type(value).__name__}`"
        + (f" of {len(value)}" if isinstance(value, list | tuple) else ""),
        expected=_FORMS,
        next_step="Leave labels away: `(picture for picture, label in data)`." if isinstance(value, tuple) else "",
    )
