"""Follow the channels of a whole network from its inputs to its outputs.

Each kind of layer has a rule: it returns the channels of the layer's output, or, as text, why nothing may change around
the layer. What no rule knows freezes everything that it touches: a channel that stays by mistake costs time, one that
goes by mistake costs the model.
"""

from __future__ import annotations

from typing import Any

from converters.graph.channel_call import Call, Rule
from converters.graph.channel_ids import ChannelIds, Ids
from converters.graph.channel_moves import MOVES, OPERATIONS
from converters.graph.channel_weights import LAYERS
from converters.graph.network import Network, Node, functional_graph

__all__ = ["trace_channels"]

_OWN_MODULES = ("keras.src.layers.", "keras.src.ops.", "keras.src.applications.")
# Not rules, only better words: Keras' own kinds of which it is known why they have none.
_ACROSS = (
    "Attention",
    "Bidirectional",
    "Dot",
    "GRU",
    "GroupNormalization",
    "LSTM",
    "LayerNormalization",
    "RMSNormalization",
    "RNN",
    "UnitNormalization",
)


def trace_channels(network: Network) -> ChannelIds:
    """Return which channels of a network are one, which must stay and why, and which weights they stand on."""
    channels = ChannelIds()
    tensors: dict[int, Ids] = {}
    graph = functional_graph(network.model)
    for number, one in zip(network.inputs, graph.inputs, strict=True):
        tensors[number] = channels.fresh(_count(network, number))
        channels.freeze(tensors[number], f"model input `{one.name}`")
    for node in network.nodes:
        made = _run(network, node, tensors, channels)
        if isinstance(made, str):
            kind = "layer" if hasattr(node.layer, "weights") else "operation"
            reason = f"{kind} `{node.name}` ({node.kind}) {made}"
            for number in node.inputs:
                channels.freeze(tensors[number], reason)
            for number in node.outputs:
                tensors[number] = channels.fresh(_count(network, number))
                channels.freeze(tensors[number], reason)
        else:
            tensors[node.outputs[0]] = made
    for number, name in zip(network.outputs, graph.output_names, strict=True):
        channels.freeze(tensors[number], f"model output `{name}`")
    return channels


def _count(network: Network, tensor: int) -> int:
    """Return the size of a tensor's last axis; 0 where it has no channels, or their number is not known."""
    shape = network.shapes[tensor]
    return int(shape[-1] or 0) if len(shape) > 1 else 0


def _run(network: Network, node: Node, tensors: dict[int, Ids], channels: ChannelIds) -> Ids | str:
    rule = _rule_for(node.layer)
    if rule is None:
        return "computes across channels" if node.kind.endswith(_ACROSS) else "is of a kind without a rule for channels"
    if len(node.outputs) != 1 or any(_count(network, one) == 0 for one in (*node.inputs, *node.outputs)):
        return "has tensors without a known number of channels"
    call = Call(
        node,
        tuple(tensors[number] for number in node.inputs),
        tuple(network.shapes[number] for number in node.inputs),
        network.shapes[node.outputs[0]],
    )
    made = rule(call, channels)
    if not isinstance(made, str) and len(made) != call.channels:
        return "does not treat channels as expected"
    return made


def _rule_for(layer: Any) -> Rule | None:
    """Return the rule for a layer or operation of Keras' own: a class of another module may do anything."""
    import keras

    if not type(layer).__module__.startswith(_OWN_MODULES):
        return None
    kind = type(layer).__name__
    if isinstance(layer, keras.Layer):
        return LAYERS.get(kind) or MOVES.get(kind)
    return OPERATIONS.get(kind)
