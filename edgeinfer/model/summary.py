"""What a model file costs: ops, parameters, multiply-accumulates, bytes. `edgeinfer inspect` prints it."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter

from edgeinfer.frozen import dataclass, field
from edgeinfer.model.metadata import InputSpec, ModelMetadata, OutputSpec, read
from edgeinfer.model.payload import Layer, Payload, payloads
from edgeinfer.model.schema import Operator, Subgraph, parse

# Where an op keeps what was trained: input places of weights and biases. A constant anywhere else (axes,
# shapes, the second operand of an addition) is counted where it is float or quantized, because a folded
# scale or offset is such.
_INDEX_DTYPES = frozenset({"int32", "int64", "bool", "string", "uint32"})
_BIASED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D"})


@dataclass(frozen=True, slots=True)
class OpCount:
    """An op of the file.

    Attributes:
        index: Place of its entry in the file's op code table.
        op: Name.
        version: Of the op.
        count: How many operators use it, over all subgraphs.
    """

    index: int
    op: str
    version: int
    count: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model file costs.

    Attributes:
        inputs: As `read` says them.
        outputs: As `read` says them.
        ops: Most used first.
        parameters: Elements of all constants that were trained: weights, biases (int32 in a quantized file), and
            float or quantized constants of other ops; no axes, shapes or indices. A constant that two operators share
            counts once. The converter folds batch normalization into weights and biases, so the number is lower than
            Keras' by four for each normalized channel (three where the convolution had no bias of its own). Of what is
            compiled for an Edge TPU nothing can be counted.
        macs: Multiply-accumulates of one run: convolutions, dense layers and matrix products; each operator once,
            loops too. As `parameters`, without what is compiled.
        size_bytes: Of the file.
        min_runtime_version: Of TFLite, as the converter says it, or None.
        edgetpu: What each op holds that was compiled for the Edge TPU; empty in a file that was not.
        metadata: All that the file says of itself.
    """

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    ops: tuple[OpCount, ...]
    parameters: int
    macs: int
    size_bytes: int
    min_runtime_version: str | None
    edgetpu: tuple[Payload, ...]
    metadata: ModelMetadata
    _data: bytes = field(repr=False, compare=False)

    @property
    def gzip_bytes(self) -> int:
        """Size after gzip at its highest level; computed on each call, about 0.1 s for 4 MB."""
        return len(gzip.compress(self._data, compresslevel=9, mtime=0))

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer inspect --json` prints."""
        from dataclasses import asdict

        metadata = asdict(self.metadata)
        inputs, outputs = metadata.pop("inputs"), metadata.pop("outputs")
        return {
            "inputs": inputs,
            "outputs": outputs,
            "ops": [asdict(op) for op in self.ops],
            "parameters": self.parameters,
            "macs": self.macs,
            "bytes": self.size_bytes,
            "metadata": metadata,
            "min_runtime_version": self.min_runtime_version,
            "edgetpu": _edgetpu_json(self.edgetpu) if self.edgetpu else None,
        }

    def __str__(self) -> str:
        lines = []
        if self.metadata.name:
            lines.append(f"{self.metadata.name} {self.metadata.version}".rstrip())
        lines.append(f"task      {self.metadata.task}")
        lines.extend(f"input     {_tensor_line(one)}{_input_words(one)}" for one in self.inputs)
        lines.extend(f"output    {_tensor_line(one)}{_output_words(one)}" for one in self.outputs)
        if self.metadata.head is not None:
            lines.append(f"head      {json.dumps(self.metadata.head.to_json())}")
        # What was compiled is closed to us: neither its weights nor its products can be counted.
        beside = " beside what is compiled" if self.edgetpu else ""
        counted = f"{self.parameters:,} parameters, {self.macs:,} MACs{beside}"
        lines.append(f"size      {self.size_bytes / 1024:.1f} KiB, {counted}")
        lowest = self.min_runtime_version
        # The converter's own claim: the ops' versions below decide.
        said = (
            f"minimum TFLite runtime {lowest} (as the converter wrote it)"
            if lowest
            else "minimum TFLite runtime not stated"
        )
        lines.append(f"runtime   {said}")
        for payload in self.edgetpu:
            lines.extend(f"edgetpu   {line}" for line in _edgetpu_lines(payload))
        lines.extend(f"op        {one.count:4d} x {one.op} v{one.version}" for one in self.ops)
        return "\n".join(lines)


def summarize(data: bytes) -> Summary:
    """Return what a model file costs.

    Args:
        data: The whole file.

    Raises:
        DamagedModelError: It is no TFLite file, or damaged.
        MetadataError: It contradicts itself.
    """
    model = parse(data)
    metadata = read(model)
    used = Counter((one.op, one.version) for graph in model.subgraphs for one in graph.operators)
    ops = [
        OpCount(index, code.op, code.version, used[code.op, code.version]) for index, code in enumerate(model.op_codes)
    ]
    return Summary(
        inputs=metadata.inputs,
        outputs=metadata.outputs,
        ops=tuple(sorted(ops, key=lambda one: (-one.count, one.index))),
        parameters=sum(_parameters(graph) for graph in model.subgraphs),
        macs=sum(_macs(graph, one) for graph in model.subgraphs for one in graph.operators),
        size_bytes=len(data),
        min_runtime_version=model.min_runtime_version,
        edgetpu=payloads(model),
        metadata=metadata,
        _data=data,
    )


def _parameters(graph: Subgraph) -> int:
    trained: set[int] = set()
    for operator in graph.operators:
        for place, index in enumerate(operator.inputs):
            if index < 0 or graph.tensors[index].constant is None:
                continue
            is_bias = place == (3 if operator.op == "TRANSPOSE_CONV" else 2) and operator.op in _BIASED
            if is_bias or graph.tensors[index].dtype not in _INDEX_DTYPES:
                trained.add(index)
    return sum(graph.tensors[index].elements for index in trained)


def _macs(graph: Subgraph, operator: Operator) -> int:
    """Return the multiply-accumulates of one operator, from the shapes in the file."""
    inputs = [graph.tensors[index] if index >= 0 else None for index in operator.inputs]
    output = graph.tensors[operator.outputs[0]] if operator.outputs else None
    if len(inputs) < 2 or output is None:
        return 0
    first, weights = inputs[0], inputs[1]
    if first is None or weights is None:
        return 0
    if operator.op == "CONV_2D":
        return output.elements * math.prod(weights.shape[1:])
    if operator.op == "DEPTHWISE_CONV_2D":
        return output.elements * math.prod(weights.shape[1:3])
    if operator.op == "FULLY_CONNECTED" and len(weights.shape) == 2:
        return first.elements * weights.shape[0]
    if operator.op == "TRANSPOSE_CONV" and len(inputs) > 2 and inputs[2] is not None:
        # Every element of the input reaches a window of every output channel.
        return inputs[2].elements * math.prod(weights.shape[:3])
    if operator.op == "BATCH_MATMUL" and len(first.shape) >= 2:
        return output.elements * first.shape[-2 if operator.options.get("transpose_x") else -1]
    return 0


def _edgetpu_json(held: tuple[Payload, ...]) -> dict[str, object]:
    return {
        "min_runtime_version": max(one.min_runtime_version for one in held),
        "cached_bytes": sum(one.cached_bytes for one in held),
        "streamed_bytes": sum(one.streamed_bytes for one in held),
        "instruction_bytes": sum(one.instruction_bytes for one in held),
        "ops": [one.to_json() for one in held],
    }


def _edgetpu_lines(one: Payload) -> list[str]:
    """Say what a compiled op needs. The compiler's log counts more on the chip: it rounds up, and the file does not."""
    return [
        f"op {one.operator} is compiled, for runtime version {one.min_runtime_version} or later (libedgetpu)",
        f"parameters: at least {one.cached_bytes / 1024:.1f} KiB kept on the chip, "
        f"{one.streamed_bytes / 1024:.1f} KiB sent with each inference; "
        f"instructions {one.instruction_bytes / 1024:.1f} KiB, scratch memory {one.scratch_bytes / 1024:.1f} KiB",
        *(f"takes {_layer_line(layer)}" for layer in one.inputs),
        *(f"gives {_layer_line(layer)}" for layer in one.outputs),
    ]


def _layer_line(one: Layer) -> str:
    scale = f", scale {one.scale:.6g}, zero point {one.zero_point}" if one.scale else ""
    return f"`{one.name}` {one.y}x{one.x}x{one.z} {one.dtype}{scale}"


def _tensor_line(one: InputSpec | OutputSpec) -> str:
    shape = "x".join(map(str, one.shape)) or "shape open"
    scale = f", scale {one.scale:.6g}, zero point {one.zero_point}" if one.scale else ""
    return f"`{one.name}` {shape} {one.dtype}{scale}"


def _input_words(one: InputSpec) -> str:
    words: list[str] = [one.colour] if one.colour else []
    if one.normalization is not None:
        words.append(f"(pixel - {one.normalization.mean:g}) / {one.normalization.std:g}")
    elif one.is_image:
        words.append(one.picture_problem or "no normalization stated")
    if one.is_image:
        words.append(f"{one.resize.mode}, {one.resize.filter}")
    return "".join(f", {word}" for word in words)


def _output_words(one: OutputSpec) -> str:
    words: list[str] = [one.activation] if one.activation != "none" else []
    words += [f"role {one.role}"] if one.role else []
    words += [f"{len(one.labels)} labels"] if one.labels else []
    return "".join(f", {word}" for word in words)
