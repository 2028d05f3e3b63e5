"""What the GPU delegate of TensorFlow Lite takes, from its documentation and its published source. None of it was run.

The delegate computes in float16 or float32. It takes int8 files too (on Android by default): weights become floats when
it is loaded, inputs and outputs at every run. What it does not take runs on the processor, and each change between both
costs time; by default it takes one group of ops, the largest.

Sources: "GPU delegates for TensorFlow Lite", tensorflow.org/lite/performance/gpu, "GPU ML operations support" and
"Support for quantized models"; ops beyond that page, and the conditions (`gpu_conditions`):
`CheckGpuDelegateCompatibility` in tensorflow/lite/tools/versioning/gpu_compatibility.cc of tensorflow/tensorflow;
types, lengths and the one group: `GetOpsToReplace` and `IsAllAllowedTensors` in
tflite/delegates/gpu/common/model_builder.cc of google-ai-edge/LiteRT; versions of ADD, CONCATENATION, CONV_2D,
DEPTHWISE_CONV_2D, FULLY_CONNECTED and MUL: `CheckMaxSupportedOpVersion` in
tensorflow/lite/delegates/gpu/common/model_builder.cc of tensorflow/tensorflow. The versions of other ops are those of
their int8 form. That ops are grouped by their data, in turns, is `PartitionGraphIntoIndependentNodeSubsets` in
tensorflow/lite/graph_info.cc, from memory and not read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from converters.gpu_conditions import unmet
from converters.partitions import groups
from edgeinfer.model.schema import Operator, Subgraph

__all__ = ["GPU_OPS", "gpu_reason", "gpu_reasons"]

# Version 1 is an op's float form, 2 its first quantized one; both are taken by all ops. These go further.
_USUAL = 2
_HIGHEST: Mapping[str, int] = MappingProxyType(
    {
        "CONV_2D": 6,
        "DEPTHWISE_CONV_2D": 6,
        "FULLY_CONNECTED": 9,
        "MUL": 3,
        "RESIZE_BILINEAR": 3,
        "RESIZE_NEAREST_NEIGHBOR": 3,
        "TRANSPOSE_CONV": 3,
    }
)
# The documentation's list.
_DOCUMENTED = frozenset(
    [
        "ADD",
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "EXP",
        "FULLY_CONNECTED",
        "LOGICAL_AND",
        "LOGISTIC",
        "LSTM",
        "MAX_POOL_2D",
        "MAXIMUM",
        "MINIMUM",
        "MUL",
        "PAD",
        "PRELU",
        "RELU",
        "RELU6",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "SOFTMAX",
        "STRIDED_SLICE",
        "SUB",
        "TRANSPOSE_CONV",
    ]
)
# Those that only the source names, as far as converted Keras models have them.
_IN_SOURCE = frozenset(
    [
        "ABS",
        "BATCH_MATMUL",
        "CAST",
        "CEIL",
        "COS",
        "DEPTH_TO_SPACE",
        "DEQUANTIZE",
        "DIV",
        "ELU",
        "EQUAL",
        "FLOOR",
        "FLOOR_DIV",
        "FLOOR_MOD",
        "GATHER",
        "GELU",
        "GREATER",
        "GREATER_EQUAL",
        "HARD_SWISH",
        "LEAKY_RELU",
        "LESS",
        "LESS_EQUAL",
        "LOG",
        "MEAN",
        "MIRROR_PAD",
        "NEG",
        "NOT_EQUAL",
        "ONE_HOT",
        "PACK",
        "PADV2",
        "POW",
        "QUANTIZE",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "REDUCE_PROD",
        "RELU_0_TO_1",
        "RELU_N1_TO_1",
        "RESIZE_NEAREST_NEIGHBOR",
        "RSQRT",
        "SELECT",
        "SELECT_V2",
        "SIGN",
        "SIN",
        "SLICE",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SPLIT_V",
        "SQRT",
        "SQUARE",
        "SQUARED_DIFFERENCE",
        "SUM",
        "TANH",
        "TILE",
        "TRANSPOSE",
        "UNPACK",
    ]
)
GPU_OPS = _DOCUMENTED | _IN_SOURCE

# What is computed while the model runs is of these types; some ops take or make more.
_TYPES = frozenset({"float32", "float16", "int8", "uint8"})
_MORE_IN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "CAST": frozenset({"bool", "int32"}),
        "GATHER": frozenset({"int32"}),
        "LOGICAL_AND": frozenset({"bool"}),
        "ONE_HOT": frozenset({"int32"}),
        "SELECT": frozenset({"bool"}),
        "SELECT_V2": frozenset({"bool"}),
    }
)
_BOOLEAN = frozenset({"bool"})
_MORE_OUT: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "CAST": frozenset({"bool", "int32"}),
        **dict.fromkeys(
            ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "NOT_EQUAL"), _BOOLEAN
        ),
    }
)
_MOST_LENGTHS = 4
_SMALLER = "the GPU delegate takes it, but only the largest group of ops goes there by default"


def gpu_reasons(graph: Subgraph) -> tuple[str, ...]:
    """Return of each op why it stays on the processor, "" for those of the one group that the delegate takes.

    Args:
        graph: The main graph.
    """
    alone = [gpu_reason(graph, operator) for operator in graph.operators]
    halves = {one.index for one in graph.operators if _is_half(graph, one)}
    kinds = groups(graph, [not reason for reason in alone], free=halves)
    largest = max((taken for fits, taken in kinds if fits), key=len, default=frozenset[int]())
    # float16 weights become float32 where they are used: such an op goes where those go that need it.
    users: dict[int, set[int]] = {}
    for one in graph.operators:
        for index in one.inputs:
            users.setdefault(index, set()).add(one.index)
    freed = {place for place in halves if users.get(graph.operators[place].outputs[0], set()) <= largest}
    return tuple(
        reason or ("" if place in largest or place in freed else _SMALLER) for place, reason in enumerate(alone)
    )


def gpu_reason(graph: Subgraph, operator: Operator) -> str:
    """Return why an op would stay on the processor if it were alone, "" where the GPU delegate takes it.

    Args:
        graph: That it stands in.
        operator: One of its ops.
    """
    if operator.custom or operator.op not in GPU_OPS:
        return "not among the GPU delegate's ops"
    highest = _HIGHEST.get(operator.op, _USUAL)
    if operator.version > highest:
        return f"version {operator.version}; the GPU delegate takes {highest} at most"
    return _wrong_tensor(graph, operator) or unmet(graph, operator)


def _wrong_tensor(graph: Subgraph, operator: Operator) -> str:
    more = (_MORE_IN, operator.inputs), (_MORE_OUT, operator.outputs)
    for table, indices in more:
        allowed = _TYPES | table.get(operator.op, frozenset())
        for tensor in (graph.tensors[index] for index in indices if index >= 0):
            if len(tensor.shape) > _MOST_LENGTHS:
                shape = "x".join(map(str, tensor.shape))
                return f"a tensor of {shape}; the GPU delegate takes {_MOST_LENGTHS} lengths at most"
            if tensor.dtype not in allowed and tensor.constant is None:
                return f"computed in {tensor.dtype}, which the GPU delegate does not take here"
    return ""


def _is_half(graph: Subgraph, operator: Operator) -> bool:
    """Whether an op only turns float16 weights into float32."""
    if operator.op != "DEQUANTIZE" or len(operator.inputs) != 1 or operator.inputs[0] < 0 or not operator.outputs:
        return False
    weights = graph.tensors[operator.inputs[0]]
    return weights.dtype == "float16" and weights.constant is not None
