"""Arrays that a caller hands over, the model's own input as it was trained, into the input tensor's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.model.metadata import InputSpec
from edgeinfer.quantization import quantize

_WHOLE = ("int32", "int64", "uint32", "bool")


def takes_whole_numbers(spec: InputSpec) -> bool:
    """True where the model's own input is tokens or indices, not floats."""
    return spec.dtype in _WHOLE and not spec.scale


def stored_input(values: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    """Return the model's own input as the tensor stores it: checked, rescaled, quantized.

    Floats are what the model was trained on, past all preprocessing of pictures: a rescaling that was folded away at
    conversion is applied, then the tensor's quantization. An input of whole numbers that is not quantized (tokens,
    indices) takes whole numbers as they are.

    Args:
        values: Of `spec.shape`, with or without the batch.
        spec: The model's input.

    Returns:
        An array of `spec.shape` and `spec.dtype`. Nothing holds on to the tensor's own memory, so that an error which
        somebody keeps does not block the next frame.

    Raises:
        InputError: Another shape, another kind of number, or values that are not finite or out of range.
    """
    array = np.asarray(values)
    sample_shape = spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape
    if array.shape not in (spec.shape, sample_shape):
        raise InputError(
            f"The array does not fit the input `{spec.name}`.",
            received=f"shape {array.shape}, {array.dtype}",
            expected=" or ".join(dict.fromkeys((str(spec.shape), str(sample_shape)))),
            next_step="Floats are the model's own input. A picture of any size is uint8: for floats of 0..1, "
            "`(picture * 255).round().astype(np.uint8)`."
            if spec.is_image and array.ndim == 3
            else "",
        )
    stored = _whole_numbers(array, spec) if takes_whole_numbers(spec) else _floats(array, spec)
    return stored.reshape(spec.shape)


def _whole_numbers(array: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    stored = array.astype(spec.dtype) if array.dtype.kind in "iub" else None
    if stored is None or not np.array_equal(stored, array):
        raise InputError(
            f"The input `{spec.name}` takes whole numbers.",
            received=f"shape {array.shape}, dtype {array.dtype}",
            expected=f"{spec.dtype} of shape {spec.shape}, or another integer type with values that fit",
        )
    return stored


def _floats(array: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    if array.dtype.kind != "f":
        raise InputError(
            f"The model's own input `{spec.name}` is handed over as floats.",
            received=f"shape {array.shape}, dtype {array.dtype}",
            expected=f"float32 of shape {spec.shape}",
            next_step="If these are pixels, hand them over as uint8 to a `Pipeline`."
            if spec.is_image
            else "Turn them into floats as the training did: `values.astype(np.float32)`.",
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused below
        array = array.astype(np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        raise InputError(
            f"The array for the input `{spec.name}` holds values that are not finite.",
            received=f"{int(np.count_nonzero(~finite))} of {array.size} are NaN or infinite in float32",
            expected="finite floats",
        )
    if spec.rescaling is not None:
        array = array * np.float32(spec.rescaling.scale) + np.float32(spec.rescaling.offset)
    return quantize(array, scale=spec.scale, zero_point=spec.zero_point, dtype=spec.dtype)
