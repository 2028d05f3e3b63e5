"""Pixels into the model's input tensor: by copy, by flipping a bit, or through a table.

A pixel has 256 values, so what becomes of it is a table of 256 numbers, made once: `(pixel - mean) / std`,
quantized. Where that table says "the pixel itself" (uint8) or "the pixel minus 128" (int8), the picture is
resized straight into the tensor's memory. Calibration uses the same pixels (`Preprocessor.pixels`)
and the same table. The integer path touches no float.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, MetadataError
from edgeinfer.model.metadata import Filter, InputSpec, Normalization, Resize
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import Placement, View, draw, place
from edgeinfer.preprocess.image import Image, check_image
from edgeinfer.quantization import round_half_away

_LEVELS = 256
_TOP_BIT = np.uint8(0x80)  # flipping it turns a pixel into the int8 `pixel - 128`, in two's complement
# Within one step of the exact table the pixel itself is as good: where the input's range is [0, 255] in steps
# of 1, rounding the scale and zero point already costs up to one.
_IDENTITY_STEPS = 1
# ITU-R BT.601, luma = 0.299 R + 0.587 G + 0.114 B, in units of 2^-15: OpenCV's RGB2GRAY to the last bit.
_LUMA = np.array([9798, 19235, 3735], dtype=np.uint32)
_LUMA_BITS = 15


class Preprocessor:
    """Resize a picture into the model's input and turn its pixels into the tensor's own numbers.

    It keeps its table, its buffers and the latest placing, so that a frame costs the resize and little more.
    It belongs to one thread. It does not change OpenCV's number of threads: a resize to a model's size does
    not use a second one (measured: 1280x720 to 224x224 takes the same with one and with two).

    Args:
        spec: The model's input; a picture.
        resize: How a picture becomes the model's size; None takes the file's (`spec.resize`).
        normalization: From pixels to real values; None takes the file's (`spec.normalization`). A uint8 input
            takes pixels as they are where neither says anything.

    Attributes:
        spec: As given.
        resize: What is in force.
        normalization: What is in force; None takes pixels as they are.
        table: (256,) of the input's dtype: what each pixel value becomes. Computed in float64 and rounded
            half away from zero, as TFLite's reference kernel does; in float32 arithmetic for float32 inputs.

    Raises:
        MetadataError: The input is no picture, has a dtype that pixels do not go into, nobody says how to
            normalize, or the file says it in a way that one mean and std cannot hold.
    """

    def __init__(
        self, spec: InputSpec, resize: Resize | None = None, normalization: Normalization | None = None
    ) -> None:
        if spec.picture_problem and normalization is None:
            raise _cannot_normalize(spec)
        self.spec = spec
        self.resize = spec.resize if resize is None else resize
        self.normalization = spec.normalization if normalization is None else normalization
        self.table = _table(spec, self.normalization)
        self._size = spec.size
        width, height = self._size
        self._rgb = np.empty((height, width, 3), dtype=np.uint8)
        self._pixels = np.empty((height, width, spec.shape[3]), dtype=np.uint8)
        self._dtype = np.dtype(spec.dtype)
        self._is_identity = self._dtype.itemsize == 1 and np.array_equal(self.table, _identity(self._dtype))
        self._is_signed = self._dtype == np.int8
        self._placements: dict[tuple[int, int], Placement] = {}

    def __call__(self, image: Image, out: NDArray[Any]) -> View:
        """Write one picture into the input tensor.

        Args:
            image: (height, width, 3) uint8 RGB of any size; any strides, so that a BGR picture is `image[...,
                ::-1]`.
            out: The tensor's own memory, shape and dtype of `spec`, written in place.

        Returns:
            Where the picture lies in the tensor.

        Raises:
            InputError: `image` is no picture, or `out` does not fit the input.
        """
        spec = self.spec
        if out.shape != spec.shape or out.dtype != self._dtype or not out.flags.c_contiguous:
            raise InputError(
                f"This array is not the input `{spec.name}`.",
                received=f"shape {out.shape}, dtype {out.dtype}",
                expected=f"shape {spec.shape}, dtype {spec.dtype}, contiguous",
            )
        placement = self._place(image)
        tensor = out[0]
        if self._is_identity:
            stored = tensor.view(np.uint8)
            self._draw(image, placement, stored)
            if self._is_signed:
                np.bitwise_xor(stored, _TOP_BIT, out=stored)
        else:
            self._draw(image, placement, self._pixels)
            self._translate(self._pixels, tensor)
        return placement.view

    def pixels(self, image: Image) -> NDArray[np.uint8]:
        """Return the resized picture before the table: (height, width, 1 or 3) uint8, the caller's own.

        Raises:
            InputError: `image` is no picture.
        """
        pixels = np.empty_like(self._pixels)
        self._draw(image, self._place(image), pixels)
        return pixels

    def _place(self, image: Image) -> Placement:
        check_image(image)
        size = (image.shape[1], image.shape[0])
        placement = self._placements.get(size)
        if placement is None:
            placement = place(self.resize, size, self._size)
            self._placements = {size: placement}  # the latest only: frames of a camera are of one size
        return placement

    def _draw(self, image: Image, placement: Placement, pixels: NDArray[np.uint8]) -> None:
        if pixels.shape[2] == 3:
            draw(image, placement, self.resize, pixels)
        else:
            draw(image, placement, self.resize, self._rgb)
            grey_into(self._rgb, pixels)

    def _translate(self, pixels: NDArray[np.uint8], tensor: NDArray[Any]) -> None:
        """Put pixels through the table."""
        if self._dtype == np.float32 and self.normalization is not None:
            # The same arithmetic as the table's, and faster than looking it up (224x224x3: 24 us; cv2.LUT 36,
            # np.take 80; dividing by `std` instead of multiplying 32).
            _normalize(pixels, self.normalization, tensor)
            return
        cv2 = libraries.opencv()
        if cv2 is None:
            np.take(self.table, pixels, out=tensor, mode="clip")
            return
        rows = pixels.reshape(pixels.shape[0], -1)
        target = tensor.reshape(rows.shape)
        try:
            result = cv2.LUT(rows, self.table, dst=target)
        except cv2.error as error:
            raise InputError("OpenCV cannot look up these pixels.", received=str(error)) from error
        if result is not target:
            np.copyto(target, result)


def stretch(
    spec: InputSpec,
    *,
    filter: Filter | None = None,  # noqa: A002
    normalization: Normalization | None = None,
) -> Preprocessor:
    """Return a preprocessor that changes the picture's aspect ratio to the model's.

    Args:
        spec: The model's input.
        filter: None takes the file's (`spec.resize.filter`).
        normalization: None takes the file's.
    """
    return Preprocessor(spec, Resize("stretch", filter or spec.resize.filter), normalization)


def letterbox(
    spec: InputSpec,
    *,
    filter: Filter | None = None,  # noqa: A002
    pad: int | None = None,
    normalization: Normalization | None = None,
) -> Preprocessor:
    """Return a preprocessor that keeps the aspect ratio and fills the rest with bars.

    Args:
        spec: The model's input.
        filter: None takes the file's (`spec.resize.filter`).
        pad: Grey level of the bars, 0..255, a pixel like any other; None takes the file's.
        normalization: None takes the file's.
    """
    bars = spec.resize.pad if pad is None else pad
    return Preprocessor(spec, Resize("letterbox", filter or spec.resize.filter, bars), normalization)


def crop(
    spec: InputSpec,
    *,
    filter: Filter | None = None,  # noqa: A002
    normalization: Normalization | None = None,
) -> Preprocessor:
    """Return a preprocessor that cuts the picture's long side about its centre.

    Args:
        spec: The model's input.
        filter: None takes the file's (`spec.resize.filter`).
        normalization: None takes the file's.
    """
    return Preprocessor(spec, Resize("crop", filter or spec.resize.filter), normalization)


def grey_into(rgb: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Turn RGB into grey by ITU-R BT.601: `0.299 R + 0.587 G + 0.114 B`, the same with and without OpenCV.

    Args:
        rgb: (height, width, 3) uint8.
        out: (height, width, 1) uint8, contiguous, written in place.

    Raises:
        InputError: OpenCV cannot convert this picture.
    """
    cv2 = libraries.opencv()
    if cv2 is None:
        luma = rgb @ _LUMA
        luma += 1 << (_LUMA_BITS - 1)
        out[:, :, 0] = luma >> _LUMA_BITS
        return
    plane = out[:, :, 0]
    try:
        result = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY, dst=plane)
    except cv2.error as error:
        raise InputError("OpenCV cannot convert this picture.", received=str(error)) from error
    if result is not plane:
        np.copyto(plane, result)


def _table(spec: InputSpec, normalization: Normalization | None) -> NDArray[Any]:
    if spec.dtype not in ("uint8", "int8", "int16", "float32"):
        raise MetadataError(
            f"Pixels do not go into the {spec.dtype} input `{spec.name}`.",
            received=spec.dtype,
            expected="uint8, int8, int16, float32",
            next_step="Hand over the model's own input as floats.",
        )
    dtype = np.dtype(spec.dtype)
    if normalization is None:
        if dtype != np.uint8:
            raise _says_nothing(spec)
        return _identity(dtype)
    levels = np.arange(_LEVELS)
    if dtype == np.float32:
        values = np.empty(_LEVELS, dtype=np.float32)
        _normalize(levels.astype(np.uint8), normalization, values)
        return values
    # An integer tensor without a scale stores the real value itself.
    steps = (levels - normalization.mean) / normalization.std / (spec.scale or 1.0)
    limits = np.iinfo(dtype)
    table: NDArray[Any] = np.clip(round_half_away(steps) + spec.zero_point, limits.min, limits.max)
    if dtype.itemsize == 1 and np.abs(table - _identity(dtype)).max() <= _IDENTITY_STEPS:
        return _identity(dtype)
    return table.astype(dtype)


def _identity(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the table of an 8-bit tensor that stores pixels as they are, or with the top bit flipped."""
    levels = np.arange(_LEVELS, dtype=np.uint8)
    flipped: NDArray[Any] = (levels ^ _TOP_BIT).view(np.int8)
    return flipped if dtype == np.int8 else levels


def _normalize(pixels: NDArray[np.uint8], normalization: Normalization, out: NDArray[np.float32]) -> None:
    np.subtract(pixels, np.float32(normalization.mean), out=out)
    np.multiply(out, np.float32(1.0 / normalization.std), out=out)


def _cannot_normalize(spec: InputSpec) -> MetadataError:
    return MetadataError(
        f"Input `{spec.name}` cannot take pictures as the file says.",
        received=spec.picture_problem,
        expected="one mean and one std for all channels",
        next_step="Give `normalization=(mean, std)` where one pair comes close enough, or put the channels' "
        "own pairs into the model as its first layer and convert again.",
    )


def _says_nothing(spec: InputSpec) -> MetadataError:
    return MetadataError(
        f"The file does not say how to normalize its {spec.dtype} input `{spec.name}`.",
        received="no normalization in the file and no `normalization=`",
        expected="`normalization=(mean, std)` in pixel units, e.g. (127.5, 127.5) for [-1, 1]",
        next_step="Give it in the call, or write it into the file once with `edgeinfer-convert annotate`.",
    )
