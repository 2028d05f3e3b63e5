"""The output of a classification model -> `Classifications`, ranked on the stored integers.

A model answers with one row of scores, a class each, or with the best of them, ranked in its graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, MetadataError, ModelError, WrongTaskError
from edgeinfer.frozen import replace
from edgeinfer.model.label_rule import class_count
from edgeinfer.model.metadata import ModelMetadata, OutputSpec
from edgeinfer.preprocess.geometry import View
from edgeinfer.quantization import dequantize
from edgeinfer.results import Classifications, name_of
from edgeinfer.runtime.runtime import Tensors

__all__ = ["check_labels", "class_count", "classification_post", "classify", "ranked_outputs"]


def classification_post(
    metadata: ModelMetadata, *, labels: Sequence[str] | None = None, top_k: int = 5
) -> Callable[[Tensors, View], Classifications]:
    """Return what makes classes of the outputs.

    Args:
        metadata: Of the model: one row of scores, or the roles "scores" and "classes", (1, k) each, best first and
            with confidences for scores, as the converter's ending "top-k" leaves them.
        labels: Names of all classes; None takes the file's.
        top_k: How many an answer has at most.

    Raises:
        InputError: `top_k` is below 1.
        WrongTaskError: The outputs are neither.
        MetadataError: The labels do not fit the scores.
    """
    if top_k < 1:
        raise InputError("`top_k` counts classes.", received=str(top_k), expected="1 or more")
    places = ranked_outputs(metadata)
    if places is not None:
        scores, classes = (metadata.outputs[place] for place in places)
        names = tuple(labels) if labels is not None else classes.labels

        def ranked(outputs: Tensors, view: View) -> Classifications:  # noqa: ARG001 - classes have no place
            found = outputs.view(places[0]).reshape(-1)[:top_k]
            _check_numbers(found, scores)
            ids = outputs.view(places[1]).reshape(-1)[:top_k].astype(np.int64)
            confidence = dequantize(found, scale=scores.scale, zero_point=scores.zero_point)
            return Classifications(ids, confidence, tuple(name_of(names, one) for one in ids.tolist()) if names else ())

        return ranked
    if len(metadata.outputs) != 1 or any(size != 1 for size in metadata.outputs[0].shape[:-1]):
        raise WrongTaskError(
            "The model answers with no row of class scores.",
            received=", ".join(f"output `{one.name}` {one.shape}" for one in metadata.outputs),
            expected="one output of shape (1, classes), or scores and classes of the best",
        )
    (spec,) = metadata.outputs
    spec = spec if labels is None else replace(spec, labels=tuple(labels))
    check_labels(spec)

    def row(outputs: Tensors, view: View) -> Classifications:  # noqa: ARG001 - classes have no place in the picture
        return classify(outputs.raw(), spec, top_k=top_k)

    return row


def ranked_outputs(metadata: ModelMetadata) -> tuple[int, int] | None:
    """Return where the scores and the classes of the best stand, if the model ranks in its graph; else None."""
    roles = [one.role for one in metadata.outputs]
    if sorted(roles) != ["classes", "scores"] or metadata.task == "detection":
        return None
    return roles.index("scores"), roles.index("classes")


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
    _check_numbers(scores, spec)
    if scores.size == 1:
        return _two_classes(scores, spec).top(top_k)
    # Ranking needs no floats: dequantization keeps the order. All bits flipped is the reverse order of every integer
    # dtype, without the overflow of a negative (-128 has none in int8).
    order = _first(~scores if scores.dtype.kind in "iu" else -scores, top_k)
    if spec.activation == "none":
        logits = dequantize(scores, scale=spec.scale, zero_point=spec.zero_point)
        powers = np.exp(logits - logits[order[0]])
        confidence = powers[order] / powers.sum()
    else:
        confidence = dequantize(scores[order], scale=spec.scale, zero_point=spec.zero_point)
    labels = tuple([spec.labels[index] for index in order.tolist()]) if spec.labels else ()
    return Classifications(order, confidence, labels)


def _first(keys: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Return where the `count` smallest keys stand, in their order; among equals, common in 8 bit, the first."""
    if count >= keys.size:
        return np.argsort(keys, kind="stable")
    # Only these few are sorted: a stable sort of 1001 keys takes 22 KB of memory in NumPy 2.5.
    last = np.partition(keys, count - 1)[count - 1]
    smaller = np.flatnonzero(keys < last)
    equal = np.flatnonzero(keys == last)[: count - smaller.size]
    return np.concatenate((smaller[np.argsort(keys[smaller], kind="stable")], equal))


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


def _check_numbers(scores: NDArray[Any], spec: OutputSpec) -> None:
    if scores.dtype.kind == "f" and np.isnan(scores).any():
        raise ModelError(
            f"The model answers with what is not a number in `{spec.name}`.",
            received=f"{int(np.isnan(scores).sum())} of {scores.size} values are NaN",
            next_step="Its weights are damaged, or its input lies far outside what it was trained on.",
        )


def _two_classes(score: NDArray[Any], spec: OutputSpec) -> Classifications:
    value = float(dequantize(score, scale=spec.scale, zero_point=spec.zero_point)[0])
    if spec.activation == "none":
        value = 0.5 * (1.0 + math.tanh(0.5 * value))  # the sigmoid, without an exponential that could overflow
    order = np.array([1, 0] if value >= 0.5 else [0, 1], dtype=np.int64)
    both = np.array([1.0 - value, value], dtype=np.float32)
    labels = tuple(spec.labels[index] for index in order) if spec.labels else ()
    return Classifications(order, both[order], labels)
