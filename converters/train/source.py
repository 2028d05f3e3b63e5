"""Whatever training data a caller has, as batches that are known to fit the model before the first one is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from converters.errors import TrainingError
from converters.graph.network import functional_graph
from converters.steps import Fit
from converters.train.batches import Examples, batches, steps_per_epoch
from converters.train.endings import Ending, find_ending, kind_on, only_output
from converters.train.labels import Goal, Labels, check_labels, choose_goal, fits

__all__ = ["Batches", "open_batches"]

_PAIRS = "batches (x, y): a `tf.data.Dataset`, a `keras.utils.PyDataset`, or `Examples`"


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Training data that fits the model.

    Attributes:
        data: What Keras' `fit` iterates, once per epoch.
        steps: Batches of an epoch.
        samples: Of an epoch; None where nobody knows before they are read.
        inputs: The symbolic inputs of the model, in the structure that `data` hands over.
        ending: What the model ends in.
        goal: What its output is trained to.
        first: Returns the inputs of one batch.
        weighted: Whether the batches carry sample weights.
        examples: What the batches are made of, where they are ours.
    """

    data: Any
    steps: int
    samples: int | None
    inputs: Any
    ending: Ending
    goal: Goal
    first: Callable[[], Any]
    weighted: bool = False
    examples: Examples | None = None


def open_batches(model: Any, data: Any, fit: Fit, seed: int) -> Batches:
    """Return training data as batches, checked against the model.

    Args:
        model: Functional or Sequential, with one output.
        data: `Examples`, or the caller's own batches (x, y) or (x, y, sample weights).
        fit: Batch size and augmentation, for `Examples` only.
        seed: Likewise.

    Raises:
        TrainingError: The data does not fit the model, is empty or endless, or has no labels.
        ConversionError: The model is neither functional nor Sequential.
    """
    import keras
    import tensorflow as tf

    ending = find_ending(model)
    if isinstance(data, Examples):
        return _of_examples(model, data, fit, seed, ending)
    if isinstance(data, tf.data.Dataset):
        return _of_dataset(model, data, ending)
    if isinstance(data, keras.utils.PyDataset):
        return _of_sequence(model, data, ending)
    raise TrainingError("This is no training data.", received=type(data).__name__, expected=_PAIRS)


def _goal(model: Any, ending: Ending, labels: Labels, first: Callable[[], Any]) -> Goal:
    kind = kind_on(model, ending, first()) if ending.kind == "unknown" else ending.kind
    return choose_goal(kind, tuple(only_output(model).shape)[1:], labels)


def _of_examples(model: Any, examples: Examples, fit: Fit, seed: int, ending: Ending) -> Batches:
    inputs = functional_graph(model).inputs
    shapes = [tuple(one.shape) for one in inputs]
    given = [one.shape for one in examples.inputs]
    if len(given) != len(shapes) or not all(fits(a[1:], b[1:]) for a, b in zip(given, shapes, strict=True)):
        raise _misfit(model, ", ".join(f"{one.dtype} {one.shape}" for one in examples.inputs))
    labels = Labels(examples.labels.shape[1:], examples.labels.dtype.kind != "f")

    def first() -> Any:
        return next(iter(batches(examples, Fit(batch_size=fit.batch_size), seed=seed, training=False)))[0]

    goal = _goal(model, ending, labels, first)
    check_labels(examples.labels, goal, only_output(model).shape[-1])
    data = batches(examples, fit, seed=seed, training=True)
    symbols = inputs if len(inputs) > 1 else inputs[0]
    return Batches(data, steps_per_epoch(examples, fit), len(examples), symbols, ending, goal, first, examples=examples)


def _of_dataset(model: Any, data: Any, ending: Ending) -> Batches:
    import tensorflow as tf

    x, y, weighted = _parts(data.element_spec)
    symbols = _symbols(model, x)
    labels = _labels_of(y, tuple(getattr(y, "shape", ()))[1:], getattr(y, "dtype", None))
    steps = int(data.cardinality())
    if steps == tf.data.INFINITE_CARDINALITY:
        raise TrainingError(
            "The training data never ends, so nobody knows what an epoch is.",
            received="a `tf.data.Dataset` that repeats for ever",
            expected="the batches of one epoch",
            next_step="Leave `.repeat()` out, or end it with `.take(batches)`.",
        )
    if steps == tf.data.UNKNOWN_CARDINALITY:
        # The learning rate falls along all steps, so they are counted first; a length that is set saves this pass.
        steps = sum(1 for _ in data)
        data = data.apply(tf.data.experimental.assert_cardinality(steps))
    _check_steps(steps)

    def first() -> Any:
        return next(iter(data))[0]

    goal = _goal(model, ending, labels, first)
    return Batches(data, steps, None, symbols, ending, goal, first, weighted)


def _of_sequence(model: Any, data: Any, ending: Ending) -> Batches:
    import numpy as np

    steps = data.num_batches
    if steps is None:
        raise TrainingError(
            "The training data does not say how many batches an epoch has.",
            received=type(data).__name__,
            expected="a `PyDataset` whose `num_batches` is a number",
        )
    _check_steps(steps)
    x, y, weighted = _parts(data[0])
    symbols = _symbols(model, x)
    labels = _labels_of(y, np.shape(y)[1:] if hasattr(y, "shape") else (), getattr(y, "dtype", None))

    def first() -> Any:
        return data[0][0]

    goal = _goal(model, ending, labels, first)
    return Batches(data, int(steps), None, symbols, ending, goal, first, weighted)


def _parts(batch: Any) -> tuple[Any, Any, bool]:
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3) or batch[1] is None:
        raise TrainingError("The training data has no labels.", received=_said(batch), expected=_PAIRS)
    return batch[0], batch[1], len(batch) == 3


def _labels_of(labels: Any, shape: tuple[int | None, ...], dtype: Any) -> Labels:
    import keras

    if dtype is None:
        raise TrainingError("The labels of a batch are one array.", received=_said(labels), expected=_PAIRS)
    name = keras.backend.standardize_dtype(dtype)
    return Labels(shape, "float" not in name)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise TrainingError("The training data is empty.", received="no batches", expected="at least one")


def _symbols(model: Any, x: Any) -> Any:
    """Return the model's symbolic inputs in the structure of a batch's x, which must fit them."""
    graph = functional_graph(model)
    if isinstance(x, Mapping):
        named = graph.input if isinstance(graph.input, Mapping) else ((one.name, one) for one in graph.inputs)
        symbols: Any = dict(named)
        if set(symbols) != set(x):
            raise _misfit(model, _said(x))
        pairs = [(x[name], symbols[name]) for name in symbols]
    else:
        several = isinstance(x, tuple | list)
        symbols = list(graph.inputs) if several else graph.inputs[0]
        parts = list(x) if several else [x]
        if len(parts) != len(graph.inputs):
            raise _misfit(model, _said(x))
        pairs = list(zip(parts, graph.inputs, strict=True))
    for part, symbol in pairs:
        shape = getattr(part, "shape", None)
        if shape is None:
            raise _misfit(model, _said(x))
        if getattr(shape, "rank", 0) is not None and not fits(tuple(shape)[1:], tuple(symbol.shape)[1:]):
            raise _misfit(model, _said(x))
    return symbols


def _misfit(model: Any, received: str) -> TrainingError:
    graph = functional_graph(model)
    expected = ", ".join(f"`{one._keras_history.operation.name}` {tuple(one.shape)}" for one in graph.inputs)
    return TrainingError(
        f"The training data does not fit the inputs of the model `{model.name}`.",
        received=received,
        expected=f"{expected}, with the batch in front",
        next_step="Batches are made by `data.batch(128)`; the rest of the shape is the model's own.",
    )


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"`{key}`: {_said(one)}" for key, one in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(_said(one) for one in value) + ")"
    shape = getattr(value, "shape", None)
    if shape is None:
        return type(value).__name__
    return f"{getattr(getattr(value, 'dtype', ''), 'name', '')} {tuple(shape) if shape else '?'}".strip()
