"""Mixed precision: an int8 file in which the layers that int8 hurts most stay float.

The converter's own way is its quantizer's list of refused ops ("denylisted nodes" of TensorFlow's quantization
debugger): what it lists stays float, with DEQUANTIZE in front and QUANTIZE behind. The ends of the file stay what was
asked for.

Single layers in int16x8 cannot be had from it. Tried on TensorFlow 2.21, none of it gives a file that is worth
having:

* the quantizer with activations of int16 and the same list: it takes a zero point of -1, and the kernels of
  CONV_2D and DEPTHWISE_CONV_2D want 0;
* that on an int8 file whose refused layers are still float: it quantizes them with the int8 ranges;
* 16-bit FakeQuant around a layer in the graph: the quantizer merges it with the neighbour's 8-bit range, so that
  CONV_2D has int8 in and int16 out, and gives DEPTHWISE_CONV_2D biases of int32 where int64 is wanted; a Dense loads
  and runs, with an error nine times that of int8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from converters.errors import ConversionError, RecipeError
from converters.settings import check_fallback, close_name
from edgeinfer.model.schema import Subgraph, parse

if TYPE_CHECKING:
    from converters.quantize.frozen import Frozen

__all__ = ["Mixed", "fallback_layers", "float_operators", "quantize_mixed"]

_IO_STEPS = ("DEQUANTIZE", "QUANTIZE")


@dataclass(frozen=True, slots=True)
class Mixed:
    """An int8 file with float layers in it.

    Attributes:
        tflite: The file.
        layers: The layers that stayed float, those included whose op the converter had merged with one that was named.
        operators: How many ops of the file compute in float.
    """

    tflite: bytes
    layers: tuple[str, ...]
    operators: int


def fallback_layers(fallback: Sequence[tuple[str, str]], layers: Sequence[str]) -> tuple[str, ...]:
    """Return the layers that shall stay float.

    Args:
        fallback: (pattern, "float32"). A pattern is `fnmatch`'s and matches a whole name, or its part behind the models
            around it: "stem" finds "base/stem".
        layers: Names of all layers, those of nested models behind a slash.

    Returns:
        Of `layers`, in their order.

    Raises:
        RecipeError: A pattern matches no layer, or a layer shall be "int16x8", or the model does not say its layers.
    """
    check_fallback(fallback)
    if fallback and not layers:
        raise RecipeError(
            "A fallback goes by layers, and this model does not say its layers.",
            received="a SavedModel",
            expected="a `.keras` or `.h5` file",
            next_step='Save the model with `model.save("model.keras")`.',
        )
    found: set[str] = set()
    for pattern, _ in fallback:
        matched = {one for one in layers if fnmatchcase(one, pattern) or fnmatchcase(one.rpartition("/")[2], pattern)}
        if not matched:
            raise RecipeError(
                "A fallback names no layer of the model.",
                received=f"`{pattern}`",
                expected=", ".join(f"`{one}`" for one in layers[:20]) + (", ..." if len(layers) > 20 else ""),
                next_step=close_name(pattern, layers),
            )
        found |= matched
    return tuple(one for one in layers if one in found)


def quantize_mixed(converter: Any, frozen: Frozen, layers: Sequence[str]) -> Mixed:
    """Convert to int8 with some layers left float.

    Args:
        converter: TensorFlow's, set up for full int8 with a representative dataset. Its types at both ends are kept.
        frozen: What it converts.
        layers: Names of the layers that stay float, from `fallback_layers`.

    Raises:
        RecipeError: A layer has no op of its own in the file (dropout, a batch normalization that is folded).
        ConversionError: The quantizer did not do what it was told.
        ConverterError: TensorFlow's own, of the calibration.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    ends = converter.inference_input_type, converter.inference_output_type
    converter.inference_input_type = converter.inference_output_type = tf.float32
    # Not public settings. What is public, tf.lite.experimental.QuantizationDebugger, does the same, but its files have
    # float ends, and it builds and runs a second model on the way.
    converter._experimental_calibrate_only = True
    calibrated = bytes(converter.convert())
    owners = _owners(parse(calibrated).main, frozen)
    missing = [layer for layer in layers if not any(layer in found for found in owners.values())]
    if missing:
        raise RecipeError(
            "A fallback names a layer that has no op of its own in the file.",
            received=", ".join(f"`{one}`" for one in missing),
            expected=", ".join(
                f"`{one}`" for one in dict.fromkeys(name for names in owners.values() for name in names)
            ),
            next_step="Name the layer in front of it: its op computes this one along.",
        )
    refused = [tensor for tensor, found in owners.items() if not found.isdisjoint(layers)]
    tflite = bytes(
        mlir_quantize(calibrated, input_data_type=ends[0], output_data_type=ends[1], denylisted_nodes=refused)
    )
    count = float_operators(tflite)
    if count != len(refused):
        raise ConversionError(
            "TensorFlow's quantizer left other ops float than it was told.",
            received=f"{count} float ops",
            expected=f"{len(refused)}: " + ", ".join(f"`{one}`" for one in refused[:10]),
            next_step="Leave `fallback` away, or name other layers.",
        )
    stayed = {layer for tensor in refused for layer in owners[tensor]}
    return Mixed(tflite, tuple(one for one in frozen.layers if one in stayed), count)


def float_operators(tflite: bytes) -> int:
    """Return how many ops of a file compute floats, conversions from and to integers not counted.

    Raises:
        DamagedModelError: It is no TFLite file, or damaged.
    """
    return sum(
        operator.op not in _IO_STEPS and graph.tensors[operator.outputs[0]].dtype == "float32"
        for graph in parse(tflite).subgraphs
        for operator in graph.operators
        if operator.outputs
    )


def _owners(graph: Subgraph, frozen: Frozen) -> dict[str, frozenset[str]]:
    """Return the layers that each op computes, by the name of the op's first output.

    TensorFlow names a tensor by model, layers and op, and joins what was merged with semicolons. The outputs of the
    model have names of our own; there the graph says what is behind them.
    """
    behind = {}
    for one in frozen.outputs:
        node = frozen.function.graph.get_operation_by_name(one.name)
        behind[one.name] = node.inputs[0].op.name if node.type == "Identity" and node.inputs else node.name
    names: dict[str, list[str]] = {}
    for layer in frozen.layers:
        names.setdefault(layer.rpartition("/")[2], []).append(layer)
    found = {}
    for operator in graph.operators:
        tensor = graph.tensors[operator.outputs[0]].name
        parts = behind.get(tensor, tensor).split(";")
        found[tensor] = frozenset(layer for layer in (_layer(part, names) for part in parts) if layer)
    return found


def _layer(node: str, names: Mapping[str, Sequence[str]]) -> str:
    """Return the layer that a graph node belongs to, "" for none: the innermost part of its name that is one.

    TensorFlow counts calls: layer `stem` is `stem_1` in the graph when it was called before.

    Args:
        node: Its name.
        names: By their last part, the whole names of the layers.
    """
    parts = [{part, re.sub(r"_\d+$", "", part)} for part in node.split("/")[:-1]]
    for depth in reversed(range(len(parts))):
        for last in sorted(parts[depth], key=len, reverse=True):
            # Nested models may have layers of the same name: the models around them tell them apart.
            around = set().union(*parts[:depth])
            fits = [one for one in names.get(last, ()) if around.issuperset(one.split("/")[:-1])]
            if fits:
                return max(fits, key=len)
    return ""
