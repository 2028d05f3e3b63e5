"""The names of Keras layers, as far as the tensors of a converted file tell them."""

from __future__ import annotations

from edgeinfer.model.schema import Operator, Subgraph

__all__ = ["layer_of", "operator_layer"]


def layer_of(tensor: str) -> str:
    """Return the layer that a tensor's name tells, "" where it tells none.

    TensorFlow names a tensor by model, layers and op, and joins what was fused with semicolons.

    Example:
        >>> layer_of("functional/stem/Relu;functional/stem/convolution")
        'stem'
    """
    parts = tensor.split(";")[0].split("/")
    return "/".join(parts[1:-1]) if len(parts) > 2 else parts[0] if len(parts) == 2 else ""


def operator_layer(graph: Subgraph, operator: Operator) -> str:
    """Return the layer that an op belongs to by the names of its outputs, "" where they tell none."""
    names = (layer_of(graph.tensors[index].name) for index in operator.outputs)
    return next((name for name in names if name), "")
