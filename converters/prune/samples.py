"""The part of the training data on which pruning measures: evenly spread, normalized, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from converters.errors import TrainingError
from converters.graph.network import functional_graph
from converters.steps import Fit
from converters.train.batches import Examples, batches

__all__ = ["labelled_batches", "model_outputs", "sample_batches"]


def labelled_batches(model: Any, data: Any, count: int, batch_size: int) -> Iterator[tuple[list[Any], Any]]:
    """Yield (inputs, labels), at most `count` samples in all.

    Args:
        model: Whose inputs they are.
        data: `Examples`: of these, samples that are spread evenly over all of them, mixed with a fixed seed. Or the
            caller's own batches (x, y): the first ones.
        count: Samples at most.
        batch_size: Of `Examples`; the caller's own batches stay as large as they are.

    Yields:
        One tensor per input, in the model's order, normalized; the labels.

    Raises:
        TrainingError: The data has no samples, or yields something else than batches of (x, y).
    """
    if isinstance(data, Examples):
        # Data sets often lie sorted by class: the first samples would be one class, and so would each batch.
        rows = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(np.int64))
        rows = np.random.default_rng(0).permutation(rows)
        chosen = Examples(tuple(one[rows] for one in data.inputs), data.labels[rows], data.normalization)
        data = batches(chosen, Fit(batch_size=batch_size), seed=0, training=False)
    seen = 0
    for item in _each(data):
        if not isinstance(item, list | tuple) or len(item) < 2:
            raise TrainingError(
                "The training data does not yield inputs with labels.",
                received=type(item).__name__,
                expected="batches (x, y), e.g. a `tf.data.Dataset` that is batched",
            )
        inputs = _in_order(model, item[0])
        yield inputs, item[1]
        seen += len(inputs[0])
        if seen >= count:
            return
    if not seen:
        raise TrainingError("The training data is empty.", received="no batch", expected="batches (x, y)")


def sample_batches(model: Any, data: Any, count: int, batch_size: int) -> Iterator[list[Any]]:
    """Yield what `labelled_batches` yields, without the labels."""
    for inputs, _ in labelled_batches(model, data, count, batch_size):
        yield inputs


def model_outputs(model: Any, inputs: list[Any]) -> list[Any]:
    """Return the outputs of a model as it is used, not as it is trained: no dropout, stored batch statistics."""
    import keras

    # A single input may be a tensor or a list, or a dict, in what the model was made of.
    packed = keras.tree.pack_sequence_as(model.input, inputs)
    return list(keras.tree.flatten(model(packed, training=False)))


def _each(data: Any) -> Iterator[Any]:
    """Yield batches, of a sequence by number: Keras' `PyDataset` has no end when it is iterated over."""
    if hasattr(data, "num_batches") and hasattr(data, "__getitem__"):
        length = data.num_batches
        number = 0
        while length is None or number < length:
            yield data[number]
            number += 1
    else:
        yield from data


def _in_order(model: Any, inputs: Any) -> list[Any]:
    import keras

    names = [str(tensor.name) for tensor in functional_graph(model).inputs]
    if isinstance(inputs, dict):
        missing = [name for name in names if name not in inputs]
        if missing:
            raise TrainingError(
                "The training data has no values for an input of the model.",
                received=", ".join(map(str, inputs)),
                expected=", ".join(names),
            )
        return [inputs[name] for name in names]
    flat = list(keras.tree.flatten(inputs))
    if len(flat) != len(names):
        raise TrainingError(
            "The training data does not fit the model's inputs.",
            received=f"{len(flat)} arrays a batch",
            expected=", ".join(names),
        )
    return flat
