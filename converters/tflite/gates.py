"""What the bytes of a converted file must satisfy before anybody gets them.

TensorFlow's converter reports success for files that no device should see: a float op left in an int8
model, variables that were never frozen, an open batch, an op version that the target's engine refuses. Each
gate is one function that returns what it saw, or raises with the op, the layer and the cure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from converters.data import REFUSE_RATIO, WARN_RATIO
from converters.errors import CalibrationError, ConversionError
from converters.layers import layer_of, operator_layer
from converters.targets import Io, Scheme, Target
from edgeinfer.errors import MissingDependencyError, UnsupportedOpError
from edgeinfer.files import sha256
from edgeinfer.model.metadata import InputSpec
from edgeinfer.model.schema import ModelFile, Operator, Subgraph, Tensor, parse
from edgeinfer.runtime.engines import (
    Engine,
    EngineName,
    engine_error,
    find_engine,
    installed_engines,
    open_interpreter,
)
from edgeinfer.runtime.trial import try_first

__all__ = ["GateResult", "check_file", "check_input_range", "quantized_inputs", "try_engines"]

_FLOATS = ("float16", "bfloat16", "float32", "float64")
# What a tensor of a full integer file may be. int16 beside int8 is the cell state of a recurrent layer.
_INTEGERS: dict[Scheme, tuple[str, ...]] = {
    "int8": ("int8", "uint8", "int16", "int32", "int64", "bool"),
    "int16x8": ("int16", "int8", "int32", "int64", "bool"),
}
# Types that io= does not choose: indices, counts, and what an ArgMax answers.
_PLAIN = ("int32", "int64", "uint32", "bool")
_VARIABLE_OPS = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
_QUANTIZED = ("int8", "uint8", "int16")
_AS_IN_TRAINING = "Calibrate with data that is preprocessed as in training, or correct the declared normalization."
_CURES = {
    "FULLY_CONNECTED": 'Quantize in full ("int8"), or make the "dynamic" file for this target: '
    "it then has one scale per Dense weight.",
}


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate saw.

    Attributes:
        name: Of the gate.
        ok: True where the file passed; None where it could not be tried on this machine.
        detail: What was seen, one line.
    """

    name: str
    ok: bool | None
    detail: str


def check_file(tflite: bytes, *, scheme: Scheme, io: Io, target: Target, mixed: bool = False) -> tuple[GateResult, ...]:
    """Let a converted file through all gates.

    Args:
        tflite: The file.
        scheme: The quantization that was asked for.
        io: The element type that was asked for at both ends.
        target: The file must run in all of its engines; those that are installed here run it once.
        mixed: Whether some layers were asked to stay float. Whoever made the file has counted them.

    Returns:
        One row a gate, in the order in which they were tried.

    Raises:
        DamagedModelError: The file is no TFLite file, or an engine refuses it.
        UnsupportedOpError: It has a custom op, or an op in a version above a ceiling of the target.
        ConversionError: It is not what was asked for: float left, variables, an open shape, a batch other
            than 1.
    """
    file = parse(tflite)
    rows = [
        GateResult("no custom op", True, _no_custom_op(file)),
        GateResult("no variables", True, _no_variables(file)),
        GateResult("static shapes", True, _static_shapes(file)),
        GateResult("batch 1", True, _batch_one(file)),
        GateResult("ends", True, _ends(file, io)),
    ]
    if scheme in _INTEGERS and not mixed:
        rows.append(GateResult("integer only", True, _integer_only(file, scheme, io, target)))
    rows.append(GateResult("op versions", True, _op_versions(file, target)))
    return (*rows, *try_engines(tflite, target))


def try_engines(tflite: bytes, target: Target) -> tuple[GateResult, ...]:
    """Load and run a file once in each of the target's engines that is installed here; without any, in another one.

    The other one says nothing of the target's engine, but finds what no engine could run.

    Raises:
        DamagedModelError: An engine refuses the file.
        UnsupportedOpError: An engine does not know an op of it.
        ConversionError: An output is not finite.
    """
    rows = [_runs(tflite, name) for name in target.engines]
    others = [one.name for one in installed_engines() if one.name not in target.engines]
    if others and not any(row.ok for row in rows):
        rows.append(_runs(tflite, others[0]))
    return tuple(rows)


def check_input_range(spec: InputSpec, *, declared: tuple[float, float]) -> tuple[str, ...]:
    """Compare the range that an input's scale and zero point imply with the range that its data should have.

    Calibration data that was preprocessed in another way than the training data shows here: 0..255 instead
    of 0..1 is 255 times too wide.

    Args:
        spec: From `quantized_inputs`. An input that is not quantized has no range and passes.
        declared: Lowest and highest real value, e.g. `Normalization.range`.

    Returns:
        One warning where the spans differ by more than 4 times, else none.

    Raises:
        CalibrationError: The scale is 0, the ranges do not touch, or the spans differ by more than 16 times.

    Source: an affine tensor holds `scale * (limits of its dtype - zero point)`, and always 0.
    """
    if spec.dtype not in _QUANTIZED:
        return ()
    if spec.scale == 0:
        raise CalibrationError(
            f"Input `{spec.name}` has scale 0: every value becomes the same number.",
            expected=f"a scale for {_show(declared)}",
            next_step="The calibration data is constant: take real samples.",
        )
    # No integer tensor can leave 0 out, so a range of 1..2 is stored as 0..2.
    span = max(declared[1], 0.0) - min(declared[0], 0.0)
    if not (declared[0] < declared[1] and math.isfinite(span)):
        raise CalibrationError(
            f"The range declared for input `{spec.name}` is empty.",
            received=_show(declared),
            expected="low < high",
        )
    limits = np.iinfo(spec.dtype)
    low, high = (spec.scale * (int(limit) - spec.zero_point) for limit in (limits.min, limits.max))
    ratio = (high - low) / span
    apart = high < declared[0] or low > declared[1]
    if 1 / WARN_RATIO <= ratio <= WARN_RATIO and not apart:
        return ()
    how = f"{ratio:.1f} times wider" if ratio > 1 else f"{1 / ratio:.1f} times narrower"
    said = f"Input `{spec.name}` was calibrated for another range than its data has, {how}"
    if 1 / REFUSE_RATIO <= ratio <= REFUSE_RATIO and not apart:
        return (f"{said}: {_show((low, high))} instead of {_show(declared)}. {_AS_IN_TRAINING}",)
    raise CalibrationError(f"{said}.", received=_show((low, high)), expected=_show(declared), next_step=_AS_IN_TRAINING)


def quantized_inputs(tflite: bytes) -> tuple[InputSpec, ...]:
    """Return the inputs with the scale and zero point of the first quantized tensor.

    For a float32 input that is the output of the QUANTIZE op behind it; where there is none, the input
    stays as it is, with scale 0.0.

    Raises:
        DamagedModelError: It is no TFLite file, or damaged.
    """
    graph = parse(tflite).main
    behind = {one.inputs[0]: one.outputs[0] for one in graph.operators if one.op == "QUANTIZE" and one.inputs}
    specs = []
    for index in graph.inputs:
        tensor = graph.tensors[index]
        if tensor.dtype in _FLOATS and index in behind:
            tensor = graph.tensors[behind[index]]
        scale, zero_point = (tensor.scale[0], tensor.zero_point[0]) if tensor.scale else (0.0, 0)
        specs.append(InputSpec(graph.tensors[index].name, tensor.shape, tensor.dtype, scale, zero_point))
    return tuple(specs)


def _show(span: tuple[float, float]) -> str:
    return f"{span[0]:.4g} to {span[1]:.4g}"


def _operators(file: ModelFile) -> Iterator[tuple[Subgraph, Operator]]:
    for graph in file.subgraphs:
        for operator in graph.operators:
            yield graph, operator


def _where(graph: Subgraph, operator: Operator) -> str:
    """Say where an op stands, in the words of the Keras model as far as the tensors' names tell them."""
    names = [graph.tensors[index].name for index in operator.outputs]
    layer = operator_layer(graph, operator)
    place = f"op {operator.index} {operator.op} version {operator.version} -> "
    place += ", ".join(f"`{name}`" for name in names)
    return f"{place} (layer `{layer}`)" if layer else place


def _no_custom_op(file: ModelFile) -> str:
    for graph, operator in _operators(file):
        if operator.custom:
            flex = operator.op.startswith("Flex")
            raise UnsupportedOpError(
                f"The model needs {'TensorFlow itself' if flex else 'a custom op'} for `{operator.op}`.",
                received=_where(graph, operator),
                expected="built-in ops of TFLite",
                next_step="Replace the layer by one that TFLite knows, or cut the model before it.",
            )
    declared = [one.op for one in file.op_codes if one.custom]
    if declared:
        raise UnsupportedOpError("The file declares custom ops.", received=", ".join(declared), expected="built-in ops")
    return f"{sum(len(graph.operators) for graph in file.subgraphs)} built-in ops"


def _no_variables(file: ModelFile) -> str:
    for graph, operator in _operators(file):
        if operator.op in _VARIABLE_OPS:
            raise ConversionError(
                "The file still has variables instead of constants, so its weights are lost.",
                received=_where(graph, operator),
                next_step="Freeze the model before; no layer may assign to a variable at inference.",
            )
    return "all weights are constants"


def _static_shapes(file: ModelFile) -> str:
    for graph, operator in _operators(file):
        if operator.op == "SHAPE":
            raise ConversionError(
                "The model asks for a shape while it runs: some size was left open.",
                received=_where(graph, operator),
                expected="sizes that are known when it is converted",
                next_step="Give the Input a full shape, and use Reshape or Flatten instead of tf.shape.",
            )
    for graph in file.subgraphs:
        for tensor in graph.tensors:
            if min(tensor.shape_signature, default=0) < 0:
                raise ConversionError(
                    f"Tensor `{tensor.name}` has an open size.",
                    received=f"shape {tensor.shape_signature}",
                    expected="every size known when the model is converted",
                    next_step="Give the model's Input a full shape.",
                )
    return f"{sum(len(graph.tensors) for graph in file.subgraphs)} tensors"


def _batch_one(file: ModelFile) -> str:
    for index in file.main.inputs:
        tensor = file.main.tensors[index]
        if not tensor.shape or tensor.shape[0] != 1:
            raise ConversionError(
                f"Input `{tensor.name}` does not take one sample.",
                received=f"shape {tensor.shape}",
                expected="(1, ...)",
            )
    return ", ".join(str(file.main.tensors[index].shape) for index in file.main.inputs)


def _ends(file: ModelFile, io: Io) -> str:
    graph = file.main
    for kind, indices in (("input", graph.inputs), ("output", graph.outputs)):
        for index in indices:
            tensor = graph.tensors[index]
            if tensor.dtype != io and tensor.dtype not in _PLAIN:
                raise ConversionError(
                    f"The {kind} `{tensor.name}` has another type than was asked for.",
                    received=tensor.dtype,
                    expected=io,
                )
    return " -> ".join(
        ", ".join(graph.tensors[index].dtype for index in ends) for ends in (graph.inputs, graph.outputs)
    )


def _integer_only(file: ModelFile, scheme: Scheme, io: Io, target: Target) -> str:
    """Refuse every tensor that is no integer, but for a QUANTIZE at the front and a DEQUANTIZE at the end."""
    allowed = _INTEGERS[scheme]
    counts: dict[str, int] = {}
    for graph in file.subgraphs:
        ends = _float_ends(graph) if io == "float32" and graph is file.main else ()
        for tensor in graph.tensors:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + 1
            if tensor.dtype not in allowed and tensor.index not in ends:
                raise ConversionError(
                    f'A {tensor.dtype} tensor is left in a model that was quantized with "{scheme}".',
                    received=_users(graph, tensor),
                    expected=", ".join(allowed) + " between the ends",
                    next_step="Replace the layer by one that TFLite runs in integers"
                    + (', or use the scheme "float16" or "dynamic": both compute in floats.' if target.floats else "."),
                )
    return ", ".join(f"{count} {dtype}" for dtype, count in sorted(counts.items()))


def _float_ends(graph: Subgraph) -> frozenset[int]:
    """Return the inputs that only QUANTIZE reads, and the outputs that DEQUANTIZE writes and nobody reads."""
    read: dict[int, set[str]] = {}
    written: dict[int, str] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            read.setdefault(index, set()).add(operator.op)
        for index in operator.outputs:
            written[index] = operator.op
    inputs = {index for index in graph.inputs if read.get(index, set()) <= {"QUANTIZE"}}
    outputs = {index for index in graph.outputs if written.get(index) == "DEQUANTIZE" and index not in read}
    return frozenset(inputs | outputs)


def _users(graph: Subgraph, tensor: Tensor) -> str:
    """Say which op writes a tensor, or else which op reads it."""
    readers = [one for one in graph.operators if tensor.index in one.inputs]
    for operator in graph.operators:
        # A DEQUANTIZE of the converter's own belongs to no layer: what reads it is why it is there.
        if tensor.index in operator.outputs and (layer_of(tensor.name) or not readers):
            return _where(graph, operator)
    for operator in readers:
        return f"`{tensor.name}`, read by {_where(graph, operator)}"
    return f"`{tensor.name}`"


def _op_versions(file: ModelFile, target: Target) -> str:
    highest = 0
    for graph, operator in _operators(file):
        highest = max(highest, operator.version)
        ceiling, who = target.highest(operator.op)
        if operator.version > ceiling:
            raise UnsupportedOpError(
                f"The target `{target.name}` cannot run {operator.op} in version {operator.version}.",
                received=_where(graph, operator),
                expected=f"version {ceiling} or lower in {who}" if ceiling else f"an op that {who} has",
                next_step=_CURES.get(operator.op, "Replace the layer, or convert for another target."),
            )
    return f"all in reach of {' and '.join(target.engines)}; highest version {highest}"


def _runs(tflite: bytes, name: EngineName) -> GateResult:
    what = f"runs in {name}"
    try:
        engine = find_engine(name)
        if not engine.verifies:
            try_first(tflite, sha256=sha256(tflite), engine=engine)
        return GateResult(what, True, _run_once(tflite, engine))
    except MissingDependencyError as error:
        return GateResult(what, None, f"not tried here: {error.message}")


def _run_once(tflite: bytes, engine: Engine) -> str:
    """Load the file and invoke it with random numbers; the answers must be finite."""
    interpreter = open_interpreter(engine, tflite)
    random = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        view = interpreter.tensor(detail["index"])()
        if view.dtype.kind == "f":
            view[...] = random.random(view.shape)
        elif view.dtype.itemsize <= 2:
            view[...] = random.integers(np.iinfo(view.dtype).min, np.iinfo(view.dtype).max, view.shape, endpoint=True)
        else:
            view[...] = 0  # an index or a count: no other number is surely one
        del view
    try:
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise engine_error(str(error), engine) from error
    for detail in interpreter.get_output_details():
        answer = interpreter.get_tensor(detail["index"])
        if answer.dtype.kind == "f" and not np.isfinite(answer).all():
            raise ConversionError(
                f"Output `{detail['name']}` is not finite in {engine.name}.",
                received=f"{np.count_nonzero(~np.isfinite(answer))} of {answer.size} numbers are not",
                next_step="Look for a division or a logarithm, or for weights that are not finite.",
            )
    return f"{engine.name} {engine.version}: one run, finite"
