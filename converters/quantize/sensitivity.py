"""Find the layers that int8 hurts most: quantize one layer at a time and look at what comes out of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.graph.network import Node, read_network
from converters.quantize.activations import Samples, checked_samples, tensor_batches
from converters.quantize.ranges import activation_ranges
from converters.quantize.scales import WEIGHTED, Scales, read_scales
from converters.quantize.simulate import simulate
from converters.steps import Ranges as RangeKind
from edgeinfer.progress import Progress, ProgressReport

__all__ = ["LayerSensitivity", "Sensitivity", "sensitivity", "suggest_fallback"]


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """What it costs to quantize one layer alone.

    Attributes:
        layer: Its name.
        kind: Its class, e.g. "Conv2D".
        parameters: Number of its weights.
        error: Root mean square of what changes in the model's outputs, over that of the float outputs; several outputs:
            the largest.
        agreement: Share of samples on which the largest output is the same, 0..1; None for a model without one row of
            classes as its only output.
    """

    layer: str
    kind: str
    parameters: int
    error: float
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The layers with weights, the most sensitive first. `print` gives a table.

    Attributes:
        layers: By falling error; equal ones in the order of the model.
        samples: How many they were measured on.
    """

    layers: tuple[LayerSensitivity, ...]
    samples: int

    def __str__(self) -> str:
        """Return a table, one line a layer."""
        width = max((len(one.layer) for one in self.layers), default=5)
        lines = [f"{'layer':<{width}}  {'kind':<16}  {'parameters':>10}  {'error':>9}  {'agreement':>9}"]
        for one in self.layers:
            agreement = "-" if one.agreement is None else f"{one.agreement:.4f}"
            lines.append(
                f"{one.layer:<{width}}  {one.kind:<16}  {one.parameters:>10}  {one.error:>9.5f}  {agreement:>9}"
            )
        return "\n".join([*lines, f"{self.samples} samples, one layer quantized at a time"])

    def to_json(self) -> dict[str, object]:
        """Return plain numbers and texts, as `json.dumps` takes them."""
        return {
            "samples": self.samples,
            "layers": [
                {
                    "layer": one.layer,
                    "kind": one.kind,
                    "parameters": one.parameters,
                    "error": one.error,
                    "agreement": one.agreement,
                }
                for one in self.layers
            ],
        }


def sensitivity(
    model: Any, samples: Samples, *, ranges: RangeKind = "minmax", progress: ProgressReport | None = None
) -> Sensitivity:
    """Measure what quantizing each layer with weights alone does to the outputs.

    The layer's kernel is rounded to int8 with one scale per output channel, and its output, after a ReLU that belongs
    to it, to 8 bits over its range; all else stays float. See `converters.quantize.simulate`.

    Args:
        model: A flat Keras model with its batch normalizations folded (`fold_batch_norms`). It stays as it is.
        samples: What the model itself takes, see `checked_samples`. They give the ranges too.
        ranges: How the range of an output is chosen, see `activation_ranges`.
        progress: Called after every layer.

    Raises:
        ConversionError: The model is not flat, or its outputs are all zero or not finite.
        CalibrationError: The samples do not fit the model.
    """
    network = read_network(model)
    arrays = checked_samples(network, samples)
    spans = activation_ranges(model, samples, ranges)
    scales = read_scales(network)
    plain = _answers(model, arrays)
    _check(plain)
    rows = []
    # A layer that is called twice is one layer.
    nodes = list({node.name: node for node in network.nodes if node.kind in WEIGHTED}.values())
    for number, node in enumerate(nodes):
        results = {_own_tensor(scales, call) for call in network.calls(node.layer)}
        answers = _answers(simulate(model, spans, only={node.name, *results}), arrays)
        rows.append(
            LayerSensitivity(
                node.name,
                node.kind,
                sum(math.prod(weight.shape) for weight in node.layer.weights),
                max(_error(one, other) for one, other in zip(answers, plain, strict=True)),
                _agreement(answers, plain),
            )
        )
        if progress is not None:
            progress(Progress("measure sensitivity", number + 1, len(nodes)))
    return Sensitivity(tuple(sorted(rows, key=lambda row: -row.error)), len(arrays[0]))


def suggest_fallback(result: Sensitivity, *, remaining: float = 0.5, most: int = 3) -> tuple[tuple[str, str], ...]:
    """Choose the layers that should stay float, for `Quantize(fallback=...)`.

    The fewest, from the most sensitive on, that bring the expected error down to a share of what it is. Errors of
    different layers are taken as independent, so that their squares add up: an estimate, to be checked on the file.

    Args:
        result: From `sensitivity`.
        remaining: Share of the error that may be left, within (0, 1).
        most: Layers at most.

    Returns:
        Pairs (pattern, "float32"). () where no layer stands out: where `most` layers would not be enough, as the whole
        model is then better made "int16x8".

    Raises:
        ConversionError: A setting outside its range.
    """
    if not (0 < remaining < 1 and most >= 1):
        raise ConversionError(
            "These settings choose no layers.",
            received=f"remaining={remaining}, most={most}",
            expected="0 < remaining < 1, most >= 1",
        )
    squares = np.square([one.error for one in result.layers], dtype=np.float64)
    for count in range(most + 1):
        if squares[count:].sum() <= remaining**2 * squares.sum():
            return tuple((_literal(one.layer), "float32") for one in result.layers[:count])
    return ()


def _literal(name: str) -> str:
    """Return the pattern that matches this name alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _own_tensor(scales: Scales, node: Node) -> str:
    """Return the name under which the result of a layer is rounded: its own, or that of a ReLU that belongs to it."""
    tensor = node.outputs[0]
    while tensor not in scales.sources and tensor not in scales.fixed:
        readers = scales.network.consumers(tensor)
        if len(readers) != 1:
            return node.name
        tensor = readers[0].outputs[0]
    producer = scales.network.producer(tensor)
    return scales.sources.get(tensor) or (producer.name if producer is not None else node.name)


def _answers(model: Any, samples: tuple[NDArray[Any], ...]) -> list[NDArray[np.float64]]:
    """Return all outputs for all samples."""
    network = read_network(model)
    batches = list(tensor_batches(network, network.outputs, samples))
    return [np.concatenate(one).astype(np.float64) for one in zip(*batches, strict=True)]


def _check(answers: Sequence[NDArray[np.float64]]) -> None:
    for answer in answers:
        if not np.isfinite(answer).all() or not np.any(answer):
            raise ConversionError(
                "The float model's own outputs say nothing, so no error can be measured against them.",
                received="outputs that are all zero" if np.isfinite(answer).all() else "outputs that are not finite",
                next_step="Give samples that the model was trained for.",
            )


def _error(answer: NDArray[np.float64], plain: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(answer - plain)) / np.mean(np.square(plain))))


def _agreement(answers: Sequence[NDArray[np.float64]], plain: Sequence[NDArray[np.float64]]) -> float | None:
    if len(plain) != 1 or plain[0].ndim != 2 or plain[0].shape[1] < 2:
        return None
    return float(np.mean(answers[0].argmax(axis=1) == plain[0].argmax(axis=1)))
