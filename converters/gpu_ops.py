"""What the GPU delegate of TensorFlow Lite takes, from its documentation and its published source. None of it was run.

The delegate computes in float16 or float32. It takes int8 files too (on Android by default): weights become floats when
it is loaded, inputs and outputs at every run. What it does not take runs on the processor, and each change between both
costs time.

Sources: "GPU delegates for TensorFlow Lite", tensorflow.org/lite/performance/gpu, "GPU ML operations support" and
"Support for quantized models"; ops beyond that page, and the conditions: `CheckGpuDelegateCompatibility` in
tensorflow/lite/tools/versioning/gpu_compatibility.cc of tensorflow/tensorflow; versions of ADD, CONCATENATION, CONV_2D,
DEPTHWISE_CONV_2D, FULLY_CONNECTED and MUL: `CheckMaxSupportedOpVersion` in
tensorflow/lite/delegates/gpu/common/model_builder.cc there. The versions of other ops are those of their int8 form.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgeinfer.model.schema import Operator, Subgraph

__all__ = ["GPU_OPS", "gpu_reason"]

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
    {
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
    }
)
# Those that only the source names, as far as converted Keras models have them.
_IN_SOURCE = frozenset(
    {
        "ABS",
        "BATCH_MATMUL",
        "COS",
        "DEPTH_TO_SPACE",
        "DEQUANTIZE",
        "DIV",
        "ELU",
        "FLOOR",
        "GATHER",
        "GELU",
        "HARD_SWISH",
        "LEAKY_RELU",
        "LOG",
        "MEAN",
        "MIRROR_PAD",
        "NEG",
        "PACK",
        "PADV2",
        "POW",
        "QUANTIZE",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RELU_N1_TO_1",
        "RESIZE_NEAREST_NEIGHBOR",
        "RSQRT",
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
    }
)
GPU_OPS = _DOCUMENTED | _IN_SOURCE


def gpu_reason(graph: Subgraph, operator: Operator) -> str:
    """Return why an op stays on the processor, "" where the GPU delegate takes it.

    Args:
        graph: That it stands in.
        operator: One of its ops.
    """
    if operator.custom or operator.op not in GPU_OPS:
        return "not among the GPU delegate's ops"
    highest = _HIGHEST.get(operator.op, _USUAL)
    if operator.version > highest:
        return f"version {operator.version}; the GPU delegate takes {highest} at most"
    if any(graph.tensors[index].dtype == "int16" for index in (*operator.inputs, *operator.outputs) if index >= 0):
        return "16-bit integers, which the GPU delegate does not take"
    if operator.op == "STRIDED_SLICE" and any(
        operator.options.get(mask) for mask in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    ):
        return "a slice that drops or adds an axis"
    if operator.op == "SOFTMAX" and operator.options.get("beta", 1.0) != 1.0:
        return "a softmax whose beta is not 1"
    return ""
