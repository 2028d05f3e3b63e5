"""Floats that a caller hands over, the model's own input as it was trained, into the input tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.model.metadata import InputSpec
from edgeinfer.quantization import quantize


def floats_into(values: NDArray[Any], spec: InputSpec, out: NDArray[Any]) -> None:
    """Write the model's own input: floats as the model was trained on, past all preprocessing of pictures.

    A rescaling that was folded away at conversion is applied, then the tensor's quantization.

    Args:
        values: Floats of `spec.shape`, with or without the batch.
        spec: The model's input.
        out: The tensor's own memory, written in place.

    Raises:
        InputError: Another shape, no floats, or values that are not finite.
    """
    array = np.asarray(values)
    if array.dtype.kind != "f":
        raise InputError(
            f"The model's own input `{spec.name}` is handed over as floats.",
            received=f"shape {array.shape}, dtype {array.dtype}",
            expected=f"float32 of shape {spec.shape}",
            next_step="If these are pixels, hand them over as uint8 to a `Pipeline`."
            if spec.is_image
            else "Turn them into floats as the training did: `values.astype(np.float32)`.",
        )
    sample_shape = spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape
    if array.shape not in (spec.shape, sample_shape):
        raise InputError(
            f"The array does not fit the input `{spec.name}`.",
            received=f"shape {array.shape}",
            expected=" or ".join(dict.fromkeys((str(spec.shape), str(sample_shape)))),
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
    stored = quantize(array, scale=spec.scale, zero_point=spec.zero_point, dtype=spec.dtype)
    out[...] = stored.reshape(spec.shape)
