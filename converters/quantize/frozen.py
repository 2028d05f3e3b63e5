"""A model as one function of batch 1 whose weights are constants: what the converter takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from converters.errors import ConversionError

if TYPE_CHECKING:
    from converters.facts import Loaded, TensorFacts
    from converters.graph.leading import Leading

__all__ = ["Frozen", "freeze", "graph_names", "named_function"]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A batch-1 function whose weights are constants.

    Attributes:
        function: TensorFlow's concrete function.
        inputs: In the order of the function.
        outputs: In the order of the function.
        leading: The map that was taken off the front, or None.
        layers: Names of the Keras layers, to find one again in the graph.
    """

    function: Any
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    leading: Leading | None = None
    layers: tuple[str, ...] = ()


def freeze(loaded: Loaded) -> Frozen:
    """Trace a loaded model at batch 1 and turn its variables into constants.

    The result needs the model no more, so the caller can drop it and its copy of the weights.

    Raises:
        ConversionError: The model cannot be traced at batch 1, or keeps variables that it writes to.
    """
    inputs, outputs = loaded.facts.inputs, loaded.facts.outputs
    names = graph_names([one.name for one in (*inputs, *outputs)])
    in_names, out_names = names[: len(inputs)], names[len(inputs) :]

    traced_inputs = tuple(replace(one, name=name) for one, name in zip(inputs, in_names, strict=True))
    function = named_function(lambda *tensors: loaded.call(tensors), traced_inputs, out_names)
    return Frozen(
        function,
        traced_inputs,
        tuple(
            replace(
                one,
                name=name,
                shape=tuple(-1 if size is None else size for size in tensor.shape),
                dtype=tensor.dtype.name,
            )
            for one, name, tensor in zip(outputs, out_names, function.outputs, strict=True)
        ),
        loaded.facts.leading,
        tuple(one.name for one in loaded.facts.layers),
    )


def named_function(call: Callable[..., Sequence[Any]], inputs: Sequence[TensorFacts], out_names: Sequence[str]) -> Any:
    """Trace a function of batch-1 tensors, with constants for variables and a name for each output.

    Args:
        call: Takes the tensors in the order of `inputs` and returns as many as there are `out_names`.
        inputs: With names that a graph takes, see `graph_names`.
        out_names: Likewise.

    Raises:
        ConversionError: The function cannot be traced at batch 1, or keeps variables that it writes to.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def serve(*tensors: Any) -> list[Any]:
        return [tf.identity(tensor, name=name) for tensor, name in zip(call(*tensors), out_names, strict=True)]

    specification = [tf.TensorSpec(one.shape, one.dtype, name=one.name) for one in inputs]
    try:
        traced = tf.function(serve, input_signature=specification, autograph=False)
        frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ConversionError(
            "The model cannot be traced with batch 1.",
            received=_first_lines(str(error)),
            expected="a model whose layers work on one sample and keep no state between calls",
            next_step="Build it again with a fixed input shape, without `stateful=True` and without a batch size.",
        ) from error
    return _with_named_outputs(frozen, [one.name for one in inputs], out_names)


def graph_names(wanted: Sequence[str]) -> list[str]:
    """Make names that a TensorFlow graph takes, each once."""
    names: list[str] = []
    for name in wanted:
        clean = "".join(
            letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "_" for letter in name
        )
        if not clean or not clean[0].isalnum():
            clean = "tensor" + clean
        unique, count = clean, 1
        while unique.lower() in [one.lower() for one in names]:
            unique, count = f"{clean}_{count}", count + 1
        names.append(unique)
    return names


def _with_named_outputs(frozen: Any, in_names: Sequence[str], out_names: Sequence[str]) -> Any:
    """Return the function with its outputs called by their names instead of `Identity_1`."""
    known = {operation.name for operation in frozen.graph.get_operations()}
    if not known.issuperset((*in_names, *out_names)):
        return frozen
    return frozen.prune([f"{name}:0" for name in in_names], [f"{name}:0" for name in out_names])


def _first_lines(text: str, count: int = 4) -> str:
    return " ".join(line.strip() for line in text.strip().splitlines()[:count])[:600]
