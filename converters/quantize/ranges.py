"""Choose the range that each activation is quantized over, from samples.

An 8-bit tensor has 256 steps between the ends of its range: a range that holds every value that was ever seen spends
steps on values that hardly come; a narrower one clips them.

Handing ranges over is a cure as well: the calibration of TensorFlow 2.21 takes what an ADD computes for values of its
first input too (LiteRT adds in place), so the range of a convolution in front of an Add comes out as wide as the sum's:
4 times too wide where the other summand is 3 times larger (measured with identity convolutions).

What it brings (benchmarks/quantize_methods.py, 200 calibration samples, 3 seeds), against the converter's own ranges:

* ResNet-8, 5000 pictures: "percentile" answers as the float model on 97.1 % instead of 96.2 % (p 0.0005, 0.06, 0.0006),
  but top-1 accuracy of 76.7 % instead of 76.4 % can be chance (p 0.10 to 0.43). "mse" is nearer with one seed of three.
  "minmax" cannot be told from the converter's.
* MobileNet 0.25, 200 photos: the answers do not differ beyond chance, and "percentile" and "mse" raise the output
  error, by 9 to 22 % and 3 to 8 %.

So neither beats "minmax" for sure, and that is the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.graph.network import Network, read_network
from converters.quantize.activations import Samples, checked_samples, tensor_batches
from converters.quantize.scales import Range, Ranges, aligned_ranges, read_scales
from converters.steps import Ranges as RangeKind

__all__ = ["activation_ranges", "narrowed", "squared_error"]

_OUTSIDE = 1e-4  # of the values, at either end: percentile 99.99
_BINS = 8192
# Factors by which "mse" narrows one end: a tensor whose outermost value is 20 times too far out is still found.
_FACTORS = tuple(np.geomspace(0.05, 1.0, 60).tolist())
# A tensor that is 0 for all samples gets this range: a range needs a width, and its values say nothing of one.
_OF_ZEROS = (0.0, 1.0)


def activation_ranges(model: Any, samples: Samples, kind: RangeKind) -> Ranges:
    """Return the range of every tensor that has a scale of its own in the int8 file.

    Which those are says `converters.quantize.scales`: the model's inputs, then the layers' outputs; a ReLU behind a
    layer of its own kind stands for both; layers that only move numbers (pooling, reshape, concatenation, padding) have
    the range of what they move, so it stands with the layers in front of them.

    Args:
        model: As `converters.quantize.standard.standard_model` makes it, or at least flat. It stays as it is.
        samples: What the model itself takes, see `checked_samples`.
        kind: "minmax" holds every value. "percentile" leaves out the outermost 0.01 % at either end, to one part in
            8192 of the span. "mse" narrows both ends until the squared difference between the values and their 8-bit
            form is smallest. Inputs are always held in full: pixels come from 0 to 255, whatever the samples hold most.

    Returns:
        (layer, low, high) in the order of the model, low <= 0 <= high and low < high, in the unit of that tensor. A
        layer that is called twice has the range of both calls. They fit each other as `aligned_ranges` asks.

    Raises:
        ConversionError: The model is not flat, `kind` is not known, or a tensor is not finite.
        CalibrationError: The samples do not fit the model.

    Source: Krishnamoorthi 2018, arXiv:1806.08342, section 2.1 (zero must be in the range).
    """
    if kind not in get_args(RangeKind):
        raise ConversionError(
            "This way to choose ranges is not known.",
            received=repr(kind),
            expected=", ".join(f'"{one}"' for one in get_args(RangeKind)),
        )
    network = read_network(model)
    arrays = checked_samples(network, samples)
    scales = read_scales(network)
    tensors = [tensor for tensor in scales.sources if tensor not in scales.fixed]
    ends = _ends(network, tensors, arrays)
    for tensor, span in zip(tensors, ends, strict=True):
        if not np.isfinite(span).all():
            raise ConversionError(
                f"The output of layer `{scales.sources[tensor]}` is not finite.",
                received=f"{span[0]} to {span[1]}",
                expected="finite numbers",
                next_step="Look for weights that are not finite, or samples of another unit than the training's.",
            )
    if kind != "minmax":
        inner = [row for row, tensor in enumerate(tensors) if scales.sources[tensor] not in scales.inputs]
        spans = [ends[row] for row in inner]
        counted = _histograms(network, [tensors[row] for row in inner], spans, arrays)
        for row, (counts, zeros) in zip(inner, counted, strict=True):
            ends[row] = narrowed(counts, zeros, ends[row], kind)
    found = [(scales.sources[tensor], *span) for tensor, span in zip(tensors, ends, strict=True)]
    return tuple(
        (name, *((low, high) if low < high else _OF_ZEROS)) for name, low, high in aligned_ranges(scales, found)
    )


def _ends(network: Network, tensors: Sequence[int], samples: tuple[NDArray[Any], ...]) -> list[Range]:
    """Return the lowest and the highest value of each tensor, and 0."""
    lows, highs = np.zeros(len(tensors)), np.zeros(len(tensors))
    for batch in tensor_batches(network, tensors, samples):
        lows = np.minimum(lows, [float(one.min()) for one in batch])
        highs = np.maximum(highs, [float(one.max()) for one in batch])
    return list(zip(lows.tolist(), highs.tolist(), strict=True))


def _histograms(
    network: Network, tensors: Sequence[int], spans: Sequence[Range], samples: tuple[NDArray[Any], ...]
) -> Iterator[tuple[NDArray[np.float64], float]]:
    """Yield for each tensor how many of its values lie in each part of its span, and how many are 0."""
    counts, zeros = np.zeros((len(tensors), _BINS)), np.zeros(len(tensors))
    for batch in tensor_batches(network, tensors, samples):
        for row, values in enumerate(batch):
            if spans[row][0] < spans[row][1]:
                kept = values[values != 0]
                zeros[row] += values.size - kept.size
                counts[row] += np.histogram(kept, _BINS, spans[row])[0]
    yield from zip(counts, zeros.tolist(), strict=True)


def narrowed(counts: NDArray[np.float64], zeros: float, span: Range, kind: RangeKind) -> Range:
    """Narrow a range by the distribution of the values in it.

    Args:
        counts: (bins,) how many values lie in each part of the span, zeros left out.
        zeros: How many are exactly 0. They are many behind a ReLU, and 8 bits hold them without an error.
        span: Lowest and highest value, with 0 between them or at an end.
        kind: See `activation_ranges`.

    Returns:
        (low, high) within the span, with 0 between them or at an end.
    """
    low, high = span
    if kind == "minmax" or not counts.sum():
        return span
    edges = np.linspace(low, high, len(counts) + 1)
    if kind == "percentile":
        outside = _OUTSIDE * (counts.sum() + zeros)
        below = int(np.searchsorted(np.cumsum(counts), outside, side="right"))
        above = int(np.searchsorted(np.cumsum(counts[::-1]), outside, side="right"))
        return min(float(edges[min(below, len(counts))]), 0.0), max(float(edges[max(len(counts) - above, 0)]), 0.0)
    centres = (edges[:-1] + edges[1:]) / 2

    def error(candidate: Range) -> float:
        return squared_error(centres, counts, candidate)

    # The two ends share a step and nothing else, so one is searched after the other, and both once more.
    for _ in range(3):
        if high > 0:
            high = min(((low, span[1] * factor) for factor in _FACTORS), key=error)[1]
        if low < 0:
            low = min(((span[0] * factor, high) for factor in _FACTORS), key=error)[0]
    return low, high


def squared_error(values: NDArray[np.float64], counts: NDArray[np.float64], span: Range) -> float:
    """Return what 8 bits over a range cost: sum(counts * (value - its 8-bit form)^2).

    Args:
        values: (n,).
        counts: (n,), how often each occurs.
        span: Of the range, with 0 in it.

    Source: `scale = (high - low) / 255`, `zero_point = round(-low / scale)`,
    `form = scale * (clip(round(value / scale) + zero_point, 0, 255) - zero_point)`; Jacob et al. 2018,
    arXiv:1712.05877, section 3.
    """
    low, high = span
    scale = (high - low) / 255.0
    zero_point = np.round(-low / scale)
    form = scale * (np.clip(np.round(values / scale) + zero_point, 0, 255) - zero_point)
    return float(np.sum(counts * np.square(values - form)))
