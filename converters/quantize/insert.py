"""Put rounding between a model's calls: what simulation, training and the converter's child have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from converters.graph.flat import flat_model
from converters.graph.network import Network, Node, read_network, rebuild
from converters.quantize.fake_layers import fake_layers
from converters.quantize.scales import AVERAGE_POOLING, Ranges, Scales, checked_ranges, read_scales

__all__ = ["range_layer_name", "ranged_model", "rounded_calls"]


def range_layer_name(name: str) -> str:
    """Return the name of the layer that rounds what is known by `name` among the ranges."""
    return f"{name}_int8_range"


def ranged_model(model: Any, ranges: Ranges) -> Any:
    """Return a model with an 8-bit FakeQuant behind every tensor that a range is given for.

    TensorFlow's converter then takes these ranges instead of what it sees in the calibration data, to the last bit
    (measured, TensorFlow 2.21); the scale of the input as well.

    Args:
        model: Functional or Sequential; stays as it is.
        ranges: (layer name, low, high), see `converters.quantize.scales`. Tensors without one are calibrated.

    Raises:
        ConversionError: A name is none of a tensor with a scale of its own, a range is none, or tensors that share a
            scale have different ranges.
    """
    scales = read_scales(read_network(flat_model(model)))
    given = checked_ranges(scales, ranges, complete=False)
    fixed_range = fake_layers().fixed_range
    made = {name: fixed_range(*ends, name=range_layer_name(name)) for name, ends in given.items()}
    roundings = {tensor: made[name] for tensor, name in scales.sources.items() if name in made}
    # The flat copy is nobody else's, so its own layers can be called again, all of them.
    calls = {node.index: _placed(node, node.layer, scales.network, roundings) for node in scales.network.nodes}
    return rebuild(scales.network, calls)


def rounded_calls(
    network: Network, scales: Scales, instead: Callable[[Node], Any], behind: Callable[[int], Any]
) -> dict[int, Callable[..., Any]]:
    """Return what `rebuild` shall call in place of a model's nodes so that all tensors of the int8 file are rounded.

    Args:
        network: What is built again. Its tensors have the numbers of `scales.network`. Its layers become part of the
            new model as they are, they are not copied.
        scales: Which tensors are rounded.
        instead: Gives the layer to call for a node: its own, or one that computes with rounded weights.
        behind: Gives the layer that rounds the tensor of a number, or None for a tensor that stays float. Asked once
            for each tensor that is computed on a scale of its own, and for each whose scale the op itself defines.
    """
    asked = {tensor: behind(tensor) for tensor in dict.fromkeys([*scales.sources, *scales.fixed])}
    roundings = {tensor: rounding for tensor, rounding in asked.items() if rounding is not None}
    by_group = {scales.tensors[one]: rounding for one, rounding in roundings.items() if one in scales.tensors}
    calls: dict[int, Callable[..., Any]] = {}
    for node in network.nodes:
        layer = instead(node)
        group = scales.tensors.get(node.outputs[0])
        if node.kind in AVERAGE_POOLING and group in by_group:
            layer = fake_layers().rounded_pool(layer, by_group[group], name=node.name)
        calls[node.index] = _placed(node, layer, network, roundings)
    return calls


def _placed(node: Node, layer: Any, network: Network, roundings: Mapping[int, Any]) -> Callable[..., Any]:
    """Return a function that calls a layer with the layers around it that round its inputs and outputs."""
    import keras

    # Only what no node makes is rounded where it is read.
    before: Sequence[Any] = [roundings.get(one) if one in network.inputs else None for one in node.inputs]
    behind: Sequence[Any] = [roundings.get(one) for one in node.outputs]

    def call(*args: Any, **kwargs: Any) -> Any:
        waiting, leaving = iter(before), iter(behind)

        def enter(value: Any) -> Any:
            rounding = next(waiting) if isinstance(value, keras.KerasTensor) else None
            return value if rounding is None else rounding(value)

        def leave(value: Any) -> Any:
            rounding = next(leaving)
            return value if rounding is None else rounding(value)

        # Keras has written down `training=None` where nobody said anything, and not every layer here takes it.
        said = {name: value for name, value in kwargs.items() if value is not None}
        args, kwargs = keras.tree.map_structure(enter, (args, said))
        return keras.tree.map_structure(leave, layer(*args, **kwargs))

    return call
