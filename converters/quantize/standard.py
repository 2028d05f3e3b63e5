"""Bring a model into the form that is quantized: one int8 op for every layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from converters.graph.flat import flat_model
from converters.graph.fold import fold_batch_norms
from converters.graph.network import Network, Node, read_network, rebuild
from converters.quantize.scales import WEIGHTED, activation_name

__all__ = ["standard_model"]

_FUSED = ("linear", "relu", "relu6")


def standard_model(model: Any) -> Any:
    """Return a model that computes the same with layers of which each becomes one op of the int8 file.

    Nested models are unfolded, BatchNorm is folded, SeparableConv2D becomes a DepthwiseConv2D and a Conv2D, and an
    activation other than ReLU and ReLU6 that a layer with weights applies itself becomes a layer behind it. Where that
    layer makes an output of the model, the activation gets its name, because the file names its outputs by the layers;
    elsewhere the layer with the weights keeps it.

    Args:
        model: Functional or Sequential; stays as it is.

    Raises:
        ConversionError: The model is subclassed or cannot be copied.
    """
    current = fold_batch_norms(flat_model(model))
    network = read_network(current)
    graph = getattr(current, "_functional", None) or current
    taken = {node.name for node in network.nodes} | {one._keras_history.operation.name for one in graph.inputs}
    calls: dict[int, Callable[..., Any]] = {}
    later: list[tuple[Any, list[Any]]] = []
    made: dict[int, Callable[..., Any]] = {}
    for node in network.nodes:
        if id(node.layer) not in made:
            parts = _parts(network, node, taken)
            if parts is None:
                continue
            layers, weights = parts
            made[id(node.layer)] = _in_a_row(layers)
            later += [(layer, values) for layer, values in zip(layers, weights, strict=True) if values]
        calls[node.index] = made[id(node.layer)]
    if not calls:
        return current
    result = rebuild(network, calls)
    for layer, values in later:
        layer.set_weights(values)
    return result


def _parts(network: Network, node: Node, taken: set[str]) -> tuple[list[Any], list[list[Any]]] | None:
    """Return the layers that a node's layer is split into and their weights, or None where it stays whole."""
    import keras

    layer, activation = node.layer, activation_name(node.layer)
    splits = node.kind in WEIGHTED | {"SeparableConv2D"} and activation not in _FUSED
    if not splits and node.kind != "SeparableConv2D":
        return None
    name, last = node.name, ""
    if splits and any(one in network.outputs for one in node.outputs):
        name, last = _free(f"{node.name}_linear", taken), node.name
    elif splits:
        last = _free(f"{node.name}_{activation}", taken)
    values, config = layer.get_weights(), layer.get_config()
    if node.kind == "SeparableConv2D":
        parts = list(_separated(config, _free(f"{node.name}_depthwise", taken), name))
        weights = [values[:1], values[1:]]
        parts[-1].activation = keras.activations.linear if splits else layer.activation
    else:
        parts = [type(layer).from_config({**config, "name": name, "activation": "linear"})]
        weights = [values]
    if splits:
        parts.append(keras.layers.Activation(layer.activation, name=last))
        weights.append([])
    return parts, weights


def _separated(config: dict[str, Any], depthwise: str, pointwise: str) -> tuple[Any, Any]:
    import keras

    shared = {"data_format": config["data_format"], "trainable": config["trainable"]}
    first = keras.layers.DepthwiseConv2D(
        config["kernel_size"],
        strides=config["strides"],
        padding=config["padding"],
        depth_multiplier=config["depth_multiplier"],
        dilation_rate=config["dilation_rate"],
        use_bias=False,
        name=depthwise,
        **shared,
    )
    return first, keras.layers.Conv2D(config["filters"], 1, use_bias=config["use_bias"], name=pointwise, **shared)


def _free(name: str, taken: set[str]) -> str:
    unique, count = name, 1
    while unique in taken:
        unique, count = f"{name}_{count}", count + 1
    taken.add(unique)
    return unique


def _in_a_row(layers: list[Any]) -> Callable[..., Any]:
    def call(value: Any, **options: Any) -> Any:  # noqa: ARG001
        for layer in layers:
            value = layer(value)
        return value

    return call
