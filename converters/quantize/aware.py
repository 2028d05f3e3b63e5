"""Quantization-aware training: the model learns weights and ranges that stand being rounded to int8.

BatchNorm is folded before: the int8 file rounds the folded kernels, so those are what training must see rounded. No
batch statistics follow the kernels any more, and a step that BatchNorm would have scaled back is taken in full: the
learning rate is a tenth of the usual (`Quantize.learning_rate`), and counts in shares of each channel's largest weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import RecipeError, TrainingError
from converters.graph.leading import take_off_leading
from converters.graph.network import read_network, rebuild
from converters.quantize.fake_layers import fake_layers
from converters.quantize.insert import range_layer_name, rounded_calls
from converters.quantize.ranges import activation_ranges
from converters.quantize.scales import WEIGHTED, Range, Ranges, Scales, read_scales
from converters.quantize.standard import standard_model
from converters.steps import Fit, Quantize
from converters.train import fit as training
from converters.train.batches import Examples, batches
from edgeinfer.progress import ProgressReport

__all__ = ["Aware", "train_aware"]


@dataclass(frozen=True, slots=True, eq=False)
class Aware:
    """What quantization-aware training leaves.

    Attributes:
        model: A Keras model of standard layers with float weights, BatchNorm folded, in the form of `standard_model`.
        ranges: (layer name, low, high) of the tensors of the int8 file, for `ConvertRequest.ranges` and `simulate`.
        notes: Sentences for the report: what the training could not foresee of the file.
    """

    model: Any
    ranges: Ranges
    notes: tuple[str, ...] = ()


def train_aware(
    model: Any,
    step: Quantize,
    data: Examples | Any,
    *,
    fit: Fit,
    seed: int,
    progress: ProgressReport | None = None,
) -> Aware:
    """Train a model with its weights and activations rounded as the full int8 file rounds them.

    Weights are rounded per output channel at every step; the gradient passes that rounding as if it were not there.
    Weights of exactly 0 stay 0.
    Activations are rounded to 256 steps of a range whose ends are trained too, as multiples of the smallest and largest
    value over the first `step.samples` samples; 0 stays inside. The range of the input stays as it is: for uint8
    pixels that of 0..255.

    Args:
        model: Functional or Sequential; stays as it is.
        step: `epochs` of 1 and more, `learning_rate`, and `samples` for the first ranges.
        data: Training data: `Examples`, or an iterable of (inputs, labels) batches that can be gone through again.
        fit: What all training steps have in common.
        seed: Of shuffling and augmentation.
        progress: Called as the training goes on.

    Raises:
        RecipeError: `step` trains nothing, or is not for int8.
        CalibrationError: The data does not fit the model's inputs.
        TrainingError: There is no data, it does not fit the model, or the loss is no number any more.
        ConversionError: The model cannot be read.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3 (rounding in training; folding first: 3.2); Bengio et al.
    2013, arXiv:1308.3432, section 3 (gradient through the rounding); Jain et al. 2019, arXiv:1903.08066, section 3
    (ends that are learned).
    """
    if step.epochs < 1 or step.scheme != "int8":
        raise RecipeError(
            "This step has no quantization-aware training.",
            received=f'scheme="{step.scheme}", epochs={step.epochs}',
            expected='scheme="int8" and epochs of 1 and more',
        )
    base = standard_model(model)
    scales = read_scales(read_network(base))
    ranges = _first_ranges(base, scales, data, step, fit)
    network, roundings, weighted = _rounded_model(scales, ranges)
    schedule = training.Schedule(step.epochs, step.learning_rate, fit, seed, "quantization-aware training")
    training.fit(network, data, schedule, progress=progress)
    for one in weighted:
        one.write_back()
    learned = tuple((name, *_ends(roundings[scales.groups[name]])) for name in scales.names)
    # A copy: the layers of `base` belong to the training's graph as well.
    return Aware(rebuild(read_network(base)), learned, scales.notes)


def _first_ranges(model: Any, scales: Scales, data: Examples | Any, step: Quantize, fit: Fit) -> dict[str, Range]:
    """Measure the ranges that the training starts from."""
    ranges = {
        name: (low, high)
        for name, low, high in activation_ranges(model, _first_samples(data, step.samples, fit), "minmax")
    }
    pixels = isinstance(data, Examples) and len(data.inputs) == 1 and data.inputs[0].dtype == np.uint8
    if pixels and len(scales.inputs) == 1:
        mean, std = data.normalization or (0.0, 1.0)
        ends = [(pixel - mean) / std for pixel in (0, 255)]
        _, leading, _ = take_off_leading(model)
        if leading is not None:
            ends = [one * leading.scale + leading.offset for one in ends]
        (name,) = scales.inputs
        full = min(ends[0], 0.0), max(ends[1], 0.0)
        # A tensor that shares the input's scale has its range.
        ranges |= {other: full for other in ranges if scales.groups[other] == scales.groups[name]}
    return ranges


def _first_samples(data: Examples | Any, count: int, fit: Fit) -> list[NDArray[Any]]:
    """Return samples of the training data, one array per input, as the model takes them."""
    import keras

    if isinstance(data, Examples):
        # Spread over all of them: folders of classes stand one behind the other.
        rows = np.unique(np.linspace(0, len(data.labels) - 1, min(count, len(data.labels))).astype(np.int64))
        data = Examples(tuple(one[rows] for one in data.inputs), data.labels[rows], data.normalization)
    source = batches(data, fit, seed=0, training=False) if isinstance(data, Examples) else _each_batch(data)
    taken: list[list[NDArray[Any]]] = []
    found = 0
    for batch in source:
        arrays = [np.asarray(one) for one in keras.tree.flatten(batch[0])]
        taken.append(arrays)
        found += len(arrays[0])
        if found >= count:
            break
    if not taken:
        raise TrainingError(
            "There is nothing to train on.", received="no batches", expected="(inputs, labels), again and again"
        )
    return [np.concatenate(one)[:count] for one in zip(*taken, strict=True)]


def _each_batch(data: Any) -> Iterator[Any]:
    if hasattr(data, "__iter__"):
        return iter(data)
    return (data[index] for index in range(len(data)))


def _rounded_model(scales: Scales, ranges: dict[str, Range]) -> tuple[Any, dict[int, Any], list[Any]]:
    """Return a model that rounds while it trains, its ranges by group, and its layers with rounded weights."""
    layers = fake_layers()
    still = {scales.groups[name] for name in scales.inputs}
    roundings: dict[int, Any] = {}
    for name in scales.names:
        group = scales.groups[name]
        if group not in roundings:
            kind = layers.fixed_range if group in still else layers.learned_range
            roundings[group] = kind(*ranges[name], name=range_layer_name(name))
    weighted: dict[int, Any] = {}
    for node in scales.network.nodes:
        if node.kind in WEIGHTED and id(node.layer) not in weighted:
            low, high = scales.range_of(scales.fused.get(node.outputs[0], node.outputs[0]), ranges) or (0.0, 1.0)
            weighted[id(node.layer)] = layers.rounded_weights(node.layer, high - low, name=node.name)

    def behind(tensor: int) -> Any:
        if tensor in scales.fixed:
            # A Softmax's own 256 steps: the loss is better off without them, no training can move them.
            return None
        return roundings[scales.tensors[tensor]]

    calls = rounded_calls(scales.network, scales, lambda node: weighted.get(id(node.layer), node.layer), behind)
    return rebuild(scales.network, calls), roundings, list(weighted.values())


def _ends(rounding: Any) -> Range:
    low, high = np.asarray(rounding.ends(), np.float32).tolist()
    return float(low), float(high)
