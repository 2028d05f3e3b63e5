"""The output of a classification model -> `Classifications`, ranked on the stored integers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, MetadataError, ModelError
from edgeinfer.model.metadata import OutputSpec
from edgeinfer.quantization import dequantize
from edgeinfer.results import Classifications


def class_count(spec: OutputSpec) -> int:
    """Return how many classes an output tells apart: its last dimension; two where it is a single probability."""
    last = spec.shape[-1] if spec.shape else 1
    return 2 if last == 1 else last


def classify(raw: NDArray[Any], spec: OutputSpec, *, top_k: int = 5) -> Classifications:
    """Return the `top_k` most confident classes.

    Args:
        raw: The output's stored numbers, any shape whose last dimension counts the classes and all others are 1;
            int8, uint8, int16 or float32. A single number is the probability of class 1 of two.
        spec: Its quantization, activation and labels.
        top_k: At least 1; more than there are classes gives all of them.

    Returns:
        Rows by falling confidence, the lower class first among equals. Where the model ends in softmax or sigmoid,
        the confidence is its own; logits pass a softmax here (`exp(x - max) / sum`), one number a sigmoid.

    Raises:
        InputError: `top_k` is below 1.
        MetadataError: The labels do not fit the output.
        ModelError: A number of the output is not one (NaN), so there is no order.
    """
    if top_k < 1:
        raise InputError("`top_k` counts classes.", received=str(top_k), expected="1 or more")
    scores = raw.reshape(-1)
    check_labels(spec)
    if scores.dtype.kind == "f" and np.isnan(scores).any():
        raise ModelError(
            f"The model answers with what is not a number in `{spec.name}`.",
            received=f"{int(np.isnan(scores).sum())} of {scores.size} values are NaN",
            next_step="Its weights are damaged, or its input lies far outside what it was trained on.",
        )
    if scores.size == 1:
        return _two_classes(scores, spec).top(top_k)
    # Ranking needs no floats: dequantization keeps the order. int32 because the negative of -128 is no int8;
    # the stable sort makes ties (common in 8 bit) the same on every machine.
    keys = scores.astype(np.int32) if scores.dtype.kind in "iu" else scores
    order = np.argsort(-keys, kind="stable")[:top_k]
    if spec.activation == "none":
        logits = dequantize(scores, scale=spec.scale, zero_point=spec.zero_point)
        powers = np.exp(logits - logits[order[0]])
        confidence = powers[order] / powers.sum()
    else:
        confidence = dequantize(scores[order], scale=spec.scale, zero_point=spec.zero_point)
    labels = tuple([spec.labels[index] for index in order.tolist()]) if spec.labels else ()
    return Classifications(order, confidence, labels)


def check_labels(spec: OutputSpec) -> None:
    """Refuse labels that are not one per class.

    Raises:
        MetadataError: The output has labels, and another number of them than classes.
    """
    if spec.labels and len(spec.labels) != class_count(spec):
        raise MetadataError(
            "The labels do not fit the model's output.",
            received=f"{len(spec.labels)} labels",
            expected=f"{class_count(spec)}, one per class",
        )


def _two_classes(score: NDArray[Any], spec: OutputSpec) -> Classifications:
    value = float(dequantize(score, scale=spec.scale, zero_point=spec.zero_point)[0])
    if spec.activation == "none":
        value = 0.5 * (1.0 + math.tanh(0.5 * value))  # the sigmoid, without an exponential that could overflow
    order = np.array([1, 0] if value >= 0.5 else [0, 1], dtype=np.int64)
    both = np.array([1.0 - value, value], dtype=np.float32)
    labels = tuple(spec.labels[index] for index in order) if spec.labels else ()
    return Classifications(order, both[order], labels)
