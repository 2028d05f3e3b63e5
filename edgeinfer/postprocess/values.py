"""Ready-made post-processing for `Pipeline` where the answer is numbers: regression, depth, a larger picture.

A model with several outputs has no first one: a converter orders them by its own rule (LiteRT files made of a Keras
model often by name). So each of these takes the only output, or the one that is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, ModelError, WrongTaskError
from edgeinfer.model.metadata import ModelMetadata, OutputSpec
from edgeinfer.postprocess.grid import bilinear, without_bars
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.image import Image
from edgeinfer.quantization import dequantize, round_half_away
from edgeinfer.runtime.runtime import Tensors


def values(outputs: Tensors, view: View) -> NDArray[np.float32]:  # noqa: ARG001 - numbers have no place in the picture
    """Return the only output as floats: what a regression model answers.

    Returns:
        float32, dequantized, of the output's shape without the batch; (1,) where it is a single number. A new array.

    Raises:
        WrongTaskError: The model has several outputs; take one by name: `lambda outputs, view: outputs["angle"]`.
        ModelError: A number is none (NaN or infinite).

    Example:
        runtime = Runtime("steering.tflite")
        steer = Pipeline(runtime, pre=stretch(runtime.input), post=values)
    """
    index = _only(outputs.specs, None)
    spec = outputs.specs[index]
    shape = spec.shape[1:] if len(spec.shape) > 1 and spec.shape[0] == 1 else spec.shape
    numbers = dequantize(outputs.view(index), scale=spec.scale, zero_point=spec.zero_point).reshape(shape or (1,))
    _check_numbers(numbers, spec)
    return numbers


def depth_map(metadata: ModelMetadata, *, output: str | None = None) -> Callable[[Tensors, View], NDArray[np.float32]]:
    """Return what spreads a map of numbers (depth, height, heat) over the picture.

    Args:
        metadata: What the file says of itself.
        output: The output's name, (1, h, w) or (1, h, w, 1); None takes the only one.

    Returns:
        A function of the outputs and the view, which returns (height, width) float32 of the picture: the model's own
        numbers, bilinear between the cells, the bars cut away; NaN where the model has seen nothing (a crop, outside a
        region). It raises ModelError where the model answers with what is no number.

    Raises:
        WrongTaskError: The output is no map, is not there, or is one of several.
    """
    index = _only(metadata.outputs, output)
    spec = metadata.outputs[index]
    if not (len(spec.shape) == 3 or (len(spec.shape) == 4 and spec.shape[3] == 1)) or spec.shape[0] != 1:
        raise _wrong("This output is no map of numbers.", [spec], "(1, height, width) or (1, height, width, 1)")
    size = spec.shape[1:3]

    def spread(outputs: Tensors, view: View) -> NDArray[np.float32]:
        numbers = dequantize(outputs.view(index).reshape(size), scale=spec.scale, zero_point=spec.zero_point)
        _check_numbers(numbers, spec)
        return bilinear(numbers, view)

    return spread


def picture(
    metadata: ModelMetadata, *, pixel_range: tuple[float, float], output: str | None = None
) -> Callable[[Tensors, View], Image]:
    """Return what makes a picture of an output that is one: super-resolution, denoising, colouring.

    The picture has the output's own resolution; the bars are cut away, and it shows what the model has seen of the
    given one. An 8-bit output goes through a table of 256 pixels, and no float.

    Args:
        metadata: What the file says of itself.
        pixel_range: The real values that mean black and white: (0, 1), (0, 255) or (-1, 1), as the model was trained.
            Nothing in a file says it.
        output: The output's name, (1, h, w, 3) RGB or (1, h, w, 1) grey; None takes the only one.

    Returns:
        A function of the outputs and the view, which returns (height, width, 3) uint8 RGB, a new array; values beyond
        the range become black or white. It raises ModelError where the model answers with what is no number.

    Raises:
        WrongTaskError: The output is no picture, is not there, or is one of several.
        InputError: The range is empty or not finite.
    """
    index = _only(metadata.outputs, output)
    spec = metadata.outputs[index]
    if len(spec.shape) != 4 or spec.shape[0] != 1 or spec.shape[3] not in (1, 3):
        raise _wrong("This output is no picture.", [spec], "(1, height, width, 3) or (1, height, width, 1)")
    black, white = (float(number) for number in pixel_range)
    if not (np.isfinite((black, white)).all() and black < white):
        raise InputError(
            "`pixel_range` is what black and white mean.",
            received=repr(pixel_range),
            expected="two numbers, the first the lower: (0, 1), (0, 255), (-1, 1)",
        )
    table = _table(spec, black, white) if np.dtype(spec.dtype).itemsize == 1 else None

    def show(outputs: Tensors, view: View) -> Image:
        if table is not None:
            pixels = _look_up(without_bars(outputs.view(index)[0], view), table)
        else:
            stored = without_bars(outputs.view(index)[0], view)
            numbers = dequantize(stored, scale=spec.scale, zero_point=spec.zero_point)
            del stored  # an error that somebody keeps must not keep the tensor
            _check_numbers(numbers, spec)
            pixels = _to_pixels(numbers, black, white)
        return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)

    return show


def _only(specs: Sequence[OutputSpec], name: str | None) -> int:
    names = [spec.name for spec in specs]
    if name is None and len(specs) == 1:
        return 0
    if name in names:
        return names.index(name)
    if name is None:
        raise _wrong("The model has several outputs, and none was named.", specs, "the name of one of them")
    raise _wrong(f"The model has no output `{name}`.", specs, "one of these names")


def _wrong(message: str, specs: Sequence[OutputSpec], expected: str) -> WrongTaskError:
    return WrongTaskError(
        message,
        received=", ".join(f"output `{spec.name}` {spec.shape} {spec.dtype}" for spec in specs),
        expected=expected,
        next_step="Use `Pipeline(Runtime(...), pre=..., post=...)` with a post-processing of your own that takes "
        "`outputs[name]`.",
    )


def _check_numbers(numbers: NDArray[np.float32], spec: OutputSpec) -> None:
    if np.dtype(spec.dtype).kind == "f" and not np.isfinite(numbers).all():
        raise ModelError(
            f"The model answers with what is not a number in `{spec.name}`.",
            received=f"{int((~np.isfinite(numbers)).sum())} of {numbers.size} values are not finite",
            next_step="Its weights are damaged, or its input lies far outside what it was trained on.",
        )


def _table(spec: OutputSpec, black: float, white: float) -> NDArray[np.uint8]:
    """Return (256,): the pixel of each stored byte, an int8 by its bits."""
    stored = np.arange(256, dtype=np.uint8).view(spec.dtype)
    return _to_pixels(dequantize(stored, scale=spec.scale, zero_point=spec.zero_point), black, white)


def _to_pixels(numbers: NDArray[np.float32], black: float, white: float) -> NDArray[np.uint8]:
    steps = (numbers - np.float32(black)) * np.float32(255.0 / (white - black))
    np.clip(steps, 0.0, 255.0, out=steps)
    return round_half_away(steps).astype(np.uint8)


def _look_up(stored: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    levels = np.ascontiguousarray(stored).view(np.uint8)
    cv2 = libraries.opencv()
    if cv2 is None:
        return table.take(levels)
    rows = levels.reshape(len(levels), -1)
    found: NDArray[np.uint8] = cv2.LUT(rows, table).reshape(levels.shape)
    return found
