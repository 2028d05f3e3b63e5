"""An ending behind a frozen model: argmax or top-k as ops of the graph, so that the device need not do them.

The ending stands behind everything that trains and quantizes; it is put there in the child process, when the rest is
one function already. Both ops have integer kernels: the converter gives the top scores the scale of all scores, and
class numbers are int32 in every scheme.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from converters.errors import ConversionError
from converters.quantize.frozen import Frozen, graph_names, named_function
from converters.steps import Ending

__all__ = ["with_ending"]

# They change what is stored and not what it means.
_TRANSPARENT = frozenset({"Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims"})
_PROBABILITIES = frozenset({"Softmax", "Sigmoid"})


def with_ending(frozen: Frozen, ending: Ending, top_k: int) -> Frozen:
    """Return the function with an ending behind its only output.

    Args:
        frozen: A model with one output of floats.
        ending: "argmax": (1, height, width, classes) becomes (1, height, width) int32, the lowest class among equals.
            "top-k": (1, ..., 1, classes) becomes the scores (1, k) of the `top_k` best, best first, and their
            classes (1, k) int32. Logits pass a softmax before: of k logits nobody can make probabilities.
        top_k: At most as many as there are classes.

    Raises:
        ConversionError: The model has several outputs, or its output is no map, no row, or has too few classes.
    """
    import tensorflow as tf

    spec = _only_output(frozen, ending, top_k)
    rescale = ending == "top-k" and not _ends_in_probabilities(frozen)

    def body(*tensors: Any) -> list[Any]:
        scores = frozen.function(*tensors)
        scores = scores[0] if isinstance(scores, list | tuple) else scores
        if ending == "argmax":
            return [tf.math.argmax(scores, axis=-1, output_type=tf.int32)]
        row = tf.reshape(scores, (1, spec.shape[-1]))
        best = tf.math.top_k(tf.nn.softmax(row) if rescale else row, k=top_k, sorted=True)
        return [best.values, best.indices]

    in_names = [one.name for one in frozen.inputs]
    wanted = [spec.name] if ending == "argmax" else [spec.name, f"{spec.name}_classes"]
    out_names = graph_names([*in_names, *wanted])[len(in_names) :]
    function = named_function(body, frozen.inputs, out_names)
    outputs = tuple(
        replace(spec, name=name, shape=tuple(tensor.shape), dtype=tensor.dtype.name)
        for name, tensor in zip(out_names, function.outputs, strict=True)
    )
    return replace(frozen, function=function, outputs=outputs)


def _only_output(frozen: Frozen, ending: Ending, top_k: int) -> Any:
    shapes = ", ".join(f"`{one.name}` {one.shape} {one.dtype}" for one in frozen.outputs)
    if len(frozen.outputs) != 1 or not frozen.outputs[0].dtype.startswith("float"):
        raise ConversionError(
            f'The ending "{ending}" needs one output of scores.', received=shapes, expected="one output of floats"
        )
    (spec,) = frozen.outputs
    is_map = len(spec.shape) == 4 and min(spec.shape[1:3]) > 1
    if ending == "argmax" and (not is_map or spec.shape[-1] < 2):
        raise ConversionError(
            'The ending "argmax" needs a map of class scores.',
            received=shapes,
            expected="(1, height, width, classes) with 2 classes or more",
            next_step='For a row of classes: ending="top-k".' if not is_map else "Compare its one score with 0.5.",
        )
    is_row = len(spec.shape) >= 2 and all(size == 1 for size in spec.shape[:-1])
    if ending == "top-k" and (not is_row or spec.shape[-1] < max(2, top_k)):
        raise ConversionError(
            'The ending "top-k" needs a row of class scores.',
            received=f"{shapes}, top_k={top_k}",
            expected="(1, classes) with `top_k` classes or more",
            next_step='For a map: ending="argmax".' if is_map else "",
        )
    return spec


def _ends_in_probabilities(frozen: Frozen) -> bool:
    """Whether the last op that computes is a softmax or a sigmoid."""
    operation = frozen.function.outputs[0].op
    while operation.type in _TRANSPARENT and operation.inputs:
        operation = operation.inputs[0].op
    return operation.type in _PROBABILITIES
