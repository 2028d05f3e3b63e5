"""What a model ends in: probabilities or plain numbers, and how its logits are had without changing it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from converters.errors import TrainingError
from converters.graph.network import computable_order, functional_graph

__all__ = ["Ending", "find_ending", "kind_on", "looks_like_probabilities", "only_output", "without_activation"]

Kind = Literal["softmax", "sigmoid", "linear", "unknown"]

# They change neither the values nor which of them belong together at the last axis.
_PASSING = frozenset({"ActivityRegularization", "Dropout", "Identity", "Reshape", "SpatialDropout2D"})
# An activation attribute of these is not what they return.
_INNER = frozenset({"ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "GRU", "LSTM", "MultiHeadAttention", "SimpleRNN"})


@dataclass(frozen=True, slots=True, eq=False)
class Ending:
    """What the only output of a model is.

    Attributes:
        kind: "softmax" and "sigmoid" are probabilities; "linear" is anything else of Keras' own, taken for logits or
            values; "unknown" comes out of a layer that is not Keras' own.
        layer: Whose activation makes the probabilities, and can be left out by `without_activation`; or None.
        tensor: The symbolic logits before a separate softmax or sigmoid at the model's very end; or None.
        behind: Of "unknown": "softmax" or "sigmoid" where the foreign layer's only input is that, else "".
    """

    kind: Kind
    layer: Any = None
    tensor: Any = None
    behind: str = ""


def kind_on(model: Any, ending: Ending, x: Any) -> Kind:
    """Return what a model ends in, and look at its answers to a batch where its layers do not say.

    Args:
        model: With one output.
        ending: From `find_ending`.
        x: A batch of its inputs; read for an "unknown" ending only.
    """
    if ending.kind != "unknown":
        return ending.kind
    answers = np.asarray(model(x, training=False))
    if ending.behind == "sigmoid" and answers.min() >= 0 and answers.max() <= 1:
        return "sigmoid"
    return "softmax" if looks_like_probabilities(answers) else "linear"


def only_output(model: Any) -> Any:
    """Return the symbolic tensor of a model's only output.

    Raises:
        TrainingError: It has several.
        ConversionError: It is neither functional nor Sequential.
    """
    outputs = functional_graph(model).outputs
    if len(outputs) != 1:
        raise TrainingError(
            f"The model `{model.name}` has {len(outputs)} outputs, and nobody says what each one is trained to.",
            received=", ".join(str(tuple(one.shape)) for one in outputs),
            expected="one output",
            next_step="Train one output at a time: `keras.Model(model.inputs, model.outputs[0])` shares the layers.",
        )
    return outputs[0]


def find_ending(model: Any) -> Ending:
    """Return what a model with one output ends in.

    Raises:
        TrainingError: It has several outputs, or its softmax runs along another axis than the last.
        ConversionError: It is neither functional nor Sequential.
    """
    tensor = only_output(model)
    return _ending(functional_graph(model), tensor, _Way())


@dataclass(frozen=True, slots=True)
class _Way:
    """From the model's output to where the search stands."""

    direct: bool = True  # nothing lies between: no model around, no reshape behind
    once: bool = True  # every layer and model on it is called once


def _ending(graph: Any, tensor: Any, way: _Way) -> Ending:
    import keras

    operation, place, index = tensor._keras_history
    calls = sum(node.operation is operation for node in computable_order(graph))
    way = _Way(way.direct, way.once and calls <= 1)
    before = operation._inbound_nodes[place].input_tensors
    while not isinstance(operation, (keras.Model, keras.Function)) and hasattr(operation, "layer"):
        operation, way = operation.layer, _Way(False, way.once)  # a wrapper: TimeDistributed, rounded weights
    kind = type(operation).__name__
    if isinstance(operation, (keras.Model, keras.Function)):
        inner = functional_graph(operation)
        return _ending(inner, inner.outputs[index], _Way(False, way.once))
    if kind in _PASSING and len(before) == 1:
        return _ending(graph, before[0], _Way(False, way.once))
    if kind in ("Softmax", "Sigmoid"):  # a layer of its own, or `keras.ops.softmax(x)`
        _check_axis(getattr(operation, "axis", -1), len(tensor.shape), operation.name)
        return Ending("softmax" if kind == "Softmax" else "sigmoid", tensor=before[0] if way.direct else None)
    activation = "" if kind in _INNER else getattr(getattr(operation, "activation", None), "__name__", "")
    if activation in ("softmax", "sigmoid"):
        # It is left out of every call, so there must be only one.
        return Ending("softmax" if activation == "softmax" else "sigmoid", layer=operation if way.once else None)
    if type(operation).__module__.startswith("keras."):
        return Ending("linear")
    behind = _ending(graph, before[0], way).kind if len(before) == 1 else "linear"
    return Ending("unknown", behind=behind if behind in ("softmax", "sigmoid") else "")


def _check_axis(axis: Any, rank: int, name: str) -> None:
    if axis not in (-1, rank - 1):
        raise TrainingError(
            "The model's softmax does not run over the last axis.",
            received=f"`{name}` with axis={axis} of {rank} axes",
            expected="classes at the last axis",
        )


def looks_like_probabilities(values: Any) -> bool:
    """Return whether all rows along the last axis are shares of one whole, as far as int8 rounding lets them.

    Args:
        values: (n, ..., classes) floats.
    """
    array = np.asarray(values, np.float64)
    if array.shape[-1] < 2 or array.min() < 0 or array.max() > 1:
        return False
    # Each of k values rounded to 1/256 is off by 1/512 at most.
    return bool(np.abs(array.sum(axis=-1) - 1).max() <= 1e-3 + array.shape[-1] / 512)


@contextlib.contextmanager
def without_activation(layer: Any | None) -> Iterator[None]:
    """Let a layer return what its activation would get, while a model that holds it is called or traced."""
    import keras

    if layer is None:
        yield
        return
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        yield
    finally:
        layer.activation = activation
