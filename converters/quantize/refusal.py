"""Turn the converter's long messages into one that names the op, the Keras layer and the cure.

The converter's own message quotes Python source lines and no layer. The layer is found in the graph instead: TensorFlow
names a node after the layers that it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from converters.errors import ConversionError
from edgeinfer.errors import EdgeInferError, UnsupportedOpError

__all__ = ["explain_refusal"]

_ARGMAX = "Leave the argmax out of the model: the device takes the largest output anyway."
_RECURRENT = "Build the recurrent layers with `unroll=True` and the model with batch 1."
_NORM = 'Use the scheme "int8", which has integer ops for LayerNormalization, or "float16", which computes in floats.'
_ACTIVATION = "Use ReLU, ReLU6 or silu as the activation."
# By the name of TensorFlow's op, lower case and without underscores.
_CURES = {
    "argmax": _ARGMAX,
    "bitwiseand": _ARGMAX,
    "conv3d": 'Use the scheme "int8", or 2-D convolutions.',
    "conv3dtranspose": 'Use the scheme "int8", or 2-D convolutions.',
    "elu": _ACTIVATION,
    "neg": _NORM,
    "selu": _ACTIVATION,
    "softplus": _ACTIVATION,
    "softsign": _ACTIVATION,
    "tensorlistfromtensor": _RECURRENT,
    "tensorlistgetitem": _RECURRENT,
    "tensorlistreserve": _RECURRENT,
    "tensorlistsetitem": _RECURRENT,
    "tensorliststack": _RECURRENT,
}
_DEFAULT = "Replace the layer by one whose ops TensorFlow Lite has, or do this step outside the model."


def explain_refusal(text: str, scheme: str, graph: Any, layers: Sequence[str]) -> EdgeInferError:
    """Return the error to raise for what the converter said.

    Args:
        text: The converter's message.
        scheme: What it was asked for.
        graph: The GraphDef that was converted.
        layers: Names of the Keras layers, those of nested models behind a slash; empty where they are unknown.
    """
    lists = re.findall(r"^(?:TF Select|Custom) ops: (.+)$", text, re.MULTILINE)
    missing = [name.strip() for line in lists for name in line.split(",")] or re.findall(r"error: 'tf\.(\w+)' op", text)
    missing = list(dict.fromkeys(missing))
    if missing:
        return UnsupportedOpError(
            "The model has ops that TensorFlow Lite does not have.",
            received=", ".join(_place(name, graph, layers) for name in missing),
            expected="TensorFlow Lite's builtin ops; TensorFlow's own (Select TF ops) do not run on a device",
            next_step=_cure(missing),
        )
    unquantized = re.search(r"not yet supported for op: '(\w+)'", text)
    if unquantized:
        return UnsupportedOpError(
            f'The scheme "{scheme}" has no kernel for an op of this model.',
            received=_place(unquantized[1], graph, layers),
            next_step=_cure([unquantized[1]], 'Use the scheme "int8".'),
        )
    if "should be recorded during calibration" in text:
        return UnsupportedOpError(
            f'The scheme "{scheme}" cannot quantize a tensor of this model.',
            received=_short(text),
            next_step='Use the scheme "dynamic"; models with integer inputs (tokens) need it.',
        )
    if "variable != nullptr" in text or "VarHandle" in text:
        return ConversionError(
            "The model keeps variables that it writes to.",
            received=_short(text),
            next_step="Hand the state over as an input and an output of the model.",
        )
    return ConversionError(
        f'TensorFlow\'s converter failed on the scheme "{scheme}".',
        received=_short(text),
        next_step='Try `scheme="float32"`: if that fails too, an op of the model is the cause.',
    )


def _short(text: str) -> str:
    return " ".join(text.split())[:400]


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _cure(ops: Iterable[str], otherwise: str = _DEFAULT) -> str:
    cures = [_CURES[_plain(name)] for name in ops if _plain(name) in _CURES]
    return " ".join(dict.fromkeys(cures)) or otherwise


def _place(op: str, graph: Any, layers: Sequence[str]) -> str:
    """Name an op with the layers that it stands in."""
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    found = dict.fromkeys(_layer(node.name, layers) for node in nodes if _plain(node.op) == _plain(op))
    where = [f"`{layer}`" for layer in found if layer]
    return f"`{op}`" + (f" in layer {', '.join(where[:5])}" if where else "")


def _layer(node: str, layers: Sequence[str]) -> str:
    """Return the layer that a node belongs to: the innermost part of its name that is one.

    TensorFlow counts calls: layer `stem` is `stem_1` in the graph when it was called before.
    """
    known = {one.rpartition("/")[2]: one for one in layers}
    for part in reversed(node.split("/")[:-1]):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in known:
                return known[name]
    if layers:
        return ""
    return "/".join(part for part in node.split("/")[:-1] if not part.endswith("PartitionedCall"))
