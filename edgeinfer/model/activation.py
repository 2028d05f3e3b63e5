"""What the last op of a graph leaves in an output: probabilities, or anything else."""

from __future__ import annotations

from typing import Literal

from edgeinfer.model.schema import Subgraph

# They move or store values and change none that matters to what the values mean.
_TRANSPARENT = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE", "DEQUANTIZE"})


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
        if maker.op not in _TRANSPARENT:
            return "softmax" if maker.op == "SOFTMAX" else "sigmoid" if maker.op == "LOGISTIC" else "none"
        tensor = maker.inputs[0]
    return "none"
