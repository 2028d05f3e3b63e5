"""The output of a segmentation model -> `Mask`: classes chosen on the stored numbers, then spread over the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, MetadataError, ModelError, WrongTaskError
from edgeinfer.model.metadata import ModelMetadata, OutputSpec
from edgeinfer.postprocess.grid import ClassMap, nearest
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import View
from edgeinfer.quantization import dequantize
from edgeinfer.results import Mask
from edgeinfer.runtime.runtime import Tensors

# How many bytes of scores are turned from pixel by pixel to class by class at once. Measured with 2 to 150 classes of
# 1 and 4 bytes: below half of it the calls cost more, above twice of it the cache no longer holds a block.
_BLOCK_BYTES = 1 << 20
_MANY = 256  # classes from which on a number needs 16 bits


def segmentation_post(
    metadata: ModelMetadata, *, labels: Sequence[str] | None = None
) -> Callable[[Tensors, View], Mask]:
    """Return what makes a mask of the picture's own size out of a model's output.

    The output is one of these, in this order of preference where there are several:

    * a class map, with the argmax in the graph: (1, h, w) or (1, h, w, 1) of whole numbers that are not quantized;
    * scores (1, h, w, classes): the first of the highest classes wins, compared as they are stored;
    * one score (1, h, w, 1): class 1 from a probability of 0.5 on, or from a logit of 0 on.

    The class is chosen at the output's size and then spread over the picture: each pixel takes the class of the cell
    under its centre. Bars are left out; what the model has not seen (a crop, outside a region) is class 0.

    Args:
        metadata: What the file says of itself.
        labels: Names of the classes; None takes the file's.

    Returns:
        A function of the outputs and the view, which returns a mask: uint16 where there are more than 256 classes,
        else uint8. It raises ModelError where scores are not numbers or classes lie outside 0..65535.

    Raises:
        WrongTaskError: No output, or more than one, is of that kind.
        MetadataError: The labels are not one per class.
    """
    index, is_map = _find(metadata)
    spec = metadata.outputs[index]
    names = tuple(spec.labels if labels is None else labels)
    classes = 0 if is_map else max(2, spec.shape[3])
    if classes and names and len(names) != classes:
        raise MetadataError(
            "The labels do not fit the model's output.",
            received=f"{len(names)} labels",
            expected=f"{classes}, one per class",
        )
    if is_map:

        def choose(outputs: Tensors) -> ClassMap:
            return _as_stored(outputs, index, len(names))

    elif spec.shape[3] == 1:
        least = _least(spec)

        def choose(outputs: Tensors) -> ClassMap:
            scores = outputs.view(index)[0, :, :, 0]
            chosen: NDArray[np.uint8] = np.greater_equal(scores, least).view(np.uint8)
            is_number = scores.dtype.kind != "f" or not np.isnan(scores).any()
            del scores  # an error that somebody keeps must not keep the tensor
            if not is_number:
                raise _not_a_number(spec)
            return chosen

    else:

        def choose(outputs: Tensors) -> ClassMap:
            chosen, is_number = _argmax(outputs.view(index)[0])
            if not is_number:
                raise _not_a_number(spec)
            return chosen

    def segment(outputs: Tensors, view: View) -> Mask:
        return Mask(nearest(choose(outputs), view), names)

    return segment


def argmax(scores: NDArray[Any]) -> ClassMap:
    """Return the class with the highest score of each pixel, the first of equals, as `np.argmax(scores, axis=2)` does.

    That walks along the short axis. Here the scores are turned so that each class is one long row, and a running
    maximum goes over the rows. For 257x257x21 it takes 0.14 of NumPy's time with int8 and 0.35 with float32; without
    OpenCV, which turns faster, 0.29 and 0.61. The gain shrinks with the classes: 256x256x150 int8 takes 0.58, and
    without OpenCV as long as NumPy. (`benchmarks/segmentation.py`: NumPy 2.4, OpenCV 5, Intel Xeon.)

    Args:
        scores: (h, w, classes), any number type, at most 65536 classes.

    Returns:
        (h, w) uint8, or uint16 where there are more than 256 classes.

    Raises:
        InputError: Another shape, or a score that is not a number.
    """
    if scores.ndim != 3 or not 1 <= scores.shape[2] <= 1 << 16:
        raise InputError(
            "These are no scores of classes.", received=f"shape {scores.shape}", expected="(h, w, 1 to 65536 classes)"
        )
    classes, is_number = _argmax(scores)
    if not is_number:
        raise InputError("A score is not a number.", received="NaN", expected="numbers")
    return classes


def _argmax(scores: NDArray[Any]) -> tuple[ClassMap, bool]:
    """Return the classes, and whether all scores are numbers."""
    height, width, count = scores.shape
    pixels = scores.reshape(-1, count)
    dtype = np.uint8 if count <= _MANY else np.uint16
    chosen: ClassMap = np.zeros(len(pixels), dtype=dtype)
    length = max(1, min(len(pixels), _BLOCK_BYTES // (count * scores.itemsize)))
    higher, number = np.empty(length, dtype=np.bool_), np.empty(length, dtype=dtype)
    is_number = True
    for start in range(0, len(pixels), length):
        rows = _turned(pixels[start : start + length])
        best, classes = rows[0], chosen[start : start + length]
        above, named = higher[: len(best)], number[: len(best)]
        for one in range(1, count):
            np.greater(rows[one], best, out=above)
            np.maximum(best, rows[one], out=best)  # where a NaN is, one stays
            # Later classes have higher numbers, so a maximum writes them; an assignment through a mask takes 10 times
            # as long.
            np.multiply(above.view(np.uint8), dtype(one), out=named)
            np.maximum(classes, named, out=classes)
        if best.dtype.kind == "f" and np.isnan(best).any():
            is_number = False
    return chosen.reshape(height, width), is_number


def _turned(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (classes, n) of (n, classes), a new array."""
    cv2 = libraries.opencv()
    if cv2 is None or pixels.dtype.itemsize > 4 or min(pixels.shape) < 2:
        return np.array(pixels.T, order="C")
    turned: NDArray[Any] = cv2.transpose(pixels)
    return turned


def _as_stored(outputs: Tensors, index: int, labels: int) -> ClassMap:
    """Return a class map in as few bytes as its numbers need."""
    spec = outputs.specs[index]
    # A disjunction of all numbers is below 0 if one of them is, and below 256 if all of them are: one pass, no copy.
    # The tensor's memory gets no name here: an error that somebody keeps would keep it, and block the interpreter.
    bits = int(np.bitwise_or.reduce(outputs.view(index), axis=None))
    if not 0 <= bits < 1 << 16:
        raise ModelError(
            f"The model answers with what is no class in `{spec.name}`.",
            received=f"numbers from {outputs.raw(index).min()} to {outputs.raw(index).max()}",
            expected="0..65535",
            next_step="Where this output is no class map, use `Pipeline` with a post-processing of your own.",
        )
    dtype = np.uint16 if bits >= _MANY or labels > _MANY else np.uint8
    return outputs.view(index).reshape(spec.shape[1:3]).astype(dtype)


def _least(spec: OutputSpec) -> float | int:
    """Return the lowest stored number that means class 1: a probability of 0.5, a logit of 0."""
    threshold = 0.0 if spec.activation == "none" else 0.5
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f" or spec.scale == 0.0:
        return threshold
    limits = np.iinfo(dtype)
    levels = np.arange(limits.min, limits.max + 1)
    real = dequantize(levels, scale=spec.scale, zero_point=spec.zero_point)
    # One above the highest number where none of them reaches it: the comparison is in a wider type, and finds none.
    return int(limits.min) + int(np.searchsorted(real, threshold))


def _find(metadata: ModelMetadata) -> tuple[int, bool]:
    """Return which output holds the classes, and whether it is a class map."""
    outputs = metadata.outputs
    maps = [index for index, spec in enumerate(outputs) if _is_map(spec)]
    named = [index for index in maps if outputs[index].role == "classmap"]
    scores = [index for index, spec in enumerate(outputs) if _is_scores(spec) and index not in maps]
    for found, is_map in ((named, True), (maps, True), (scores, False)):
        if len(found) == 1:
            return found[0], is_map
        if found:
            break
    raise WrongTaskError(
        "The model's outputs are no segmentation." if not maps + scores else "Several outputs could be the mask.",
        received=", ".join(f"output `{spec.name}` {spec.shape} {spec.dtype}" for spec in outputs),
        expected="one output (1, height, width, classes) of scores, or (1, height, width) of class numbers",
        next_step="Use `Pipeline(Runtime(...), pre=..., post=...)` with a post-processing of your own.",
    )


def _is_map(spec: OutputSpec) -> bool:
    shape = spec.shape
    is_grid = len(shape) == 3 or (len(shape) == 4 and shape[3] == 1)
    is_whole = np.dtype(spec.dtype).kind in "iub"
    # Whole numbers with a scale are quantized scores, unless the file says otherwise.
    return is_grid and _is_wide(shape) and is_whole and (spec.scale == 0.0 or spec.role == "classmap")


def _is_scores(spec: OutputSpec) -> bool:
    is_free = spec.role in ("", "heatmap", "predictions")
    return is_free and len(spec.shape) == 4 and _is_wide(spec.shape) and 1 <= spec.shape[3] <= 1 << 16


def _is_wide(shape: tuple[int, ...]) -> bool:
    """Say whether this is a grid: a row of classes or key points with axes of length 1 before it is none."""
    return shape[0] == 1 and min(shape[1:3]) > 1


def _not_a_number(spec: OutputSpec) -> ModelError:
    return ModelError(
        f"The model answers with what is not a number in `{spec.name}`.",
        received="NaN among its scores",
        next_step="Its weights are damaged, or its input lies far outside what it was trained on.",
    )
