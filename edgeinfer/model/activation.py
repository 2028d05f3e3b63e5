"""What the last op of a graph leaves in an output: probabilities, or anything else."""

from __future__ import annotations

from typing import Literal

from edgeinfer.model.ops import EDGETPU_OP
from edgeinfer.model.schema import Subgraph
from edgeinfer.model.tensors import Tensor

# They move or store values and change none that matters to what the values mean.
_TRANSPARENT = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE", "DEQUANTIZE"})
_LOWEST = {"int8": -128, "uint8": 0}


def output_activation(subgraph: Subgraph, tensor: int) -> Literal["softmax", "sigmoid", "none"]:
    """Return what made an output's values.

    Args:
        subgraph: The graph.
        tensor: The output's index.
    """
    makers = {index: operator for operator in subgraph.operators for index in operator.outputs}
    for _ in subgraph.operators:
        maker = makers.get(tensor)
        if maker is None or not maker.inputs:
            return "none"
        if maker.op == EDGETPU_OP:
            return _compiled_activation(subgraph.tensors[tensor])
        if maker.op not in _TRANSPARENT:
            return "softmax" if maker.op == "SOFTMAX" else "sigmoid" if maker.op == "LOGISTIC" else "none"
        tensor = maker.inputs[0]
    return "none"


def _compiled_activation(tensor: Tensor) -> Literal["softmax", "sigmoid", "none"]:
    """Return what a compiled op, which hides its last step, has left in a tensor, by how the tensor is quantized.

    A quantized softmax or logistic has exactly this scale and zero point, and logits would have it by chance only.
    Source: "LiteRT 8-bit quantization specification", LOGISTIC and SOFTMAX: scale 1/256, zero point -128.
    """
    if tensor.scale != (1 / 256,) or tensor.zero_point != (_LOWEST.get(tensor.dtype),):
        return "none"
    return "softmax" if tensor.shape[-1:] > (1,) else "sigmoid"
