"""A Keras model that answers as the int8 file will, without making the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np

from converters.graph.network import Node, read_network, rebuild
from converters.quantize.fake_layers import KernelScales, fake_layers, stored_kernel
from converters.quantize.insert import range_layer_name, rounded_calls
from converters.quantize.scales import (
    WEIGHTED,
    Range,
    Ranges,
    Scales,
    activation_name,
    checked_ranges,
    read_scales,
)

__all__ = ["Kernels", "simulate"]

Kernels = Literal["xnnpack", "builtin", "reference"]


def simulate(model: Any, ranges: Ranges, *, only: Collection[str] | None = None, kernels: Kernels = "xnnpack") -> Any:
    """Make a model that computes what the full int8 file computes in integers.

    Kernels are whole numbers per output channel, biases whole multiples of input scale times kernel scale, every tensor
    of the file lies on the 256 steps of its range, and sums are brought to the output's scale as the engine does it.

    Args:
        model: As `converters.quantize.standard.standard_model` makes it.
        ranges: (layer name, low, high) of every layer that has a scale of its own, see `Scales.names`.
        only: Names of layers whose weights and outputs are rounded, for a look at one layer at a time; None: all. The
            input is rounded too where its name is among them.
        kernels: Whose arithmetic: "xnnpack" (LiteRT as it comes) rounds a sum once; "builtin" (tflite-runtime 2.14 as
            it comes, LiteRT without its delegate) rounds it twice, first to a finer step. The two answer differently
            on some samples: on 2.7 % with ResNet-8 and CIFAR-10.

    Returns:
        A new model with the same inputs and outputs, in the units of `model`; not for training.

    Raises:
        ConversionError: A range is missing, or belongs to no tensor of the file, or two tensors of one scale have
            different ranges.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 2.2 (sums, biases and factors).
    """
    scales = read_scales(read_network(model))
    given = checked_ranges(scales, ranges, complete=only is None)
    copy = rebuild(scales.network)
    # The same calls in the same order, so tensor numbers hold for both.
    network = read_network(copy)
    layers = fake_layers()
    instead: dict[int, Any] = {}
    for node in network.nodes:
        if node.kind not in WEIGHTED or (only is not None and node.name not in only) or id(node.layer) in instead:
            continue
        whole = None
        if only is None and len(network.calls(node.layer)) == 1:
            whole = _kernel_scales(node, scales, given)
        instead[id(node.layer)] = (
            _rounded(node, scales.range_of(node.inputs[0], given)) if whole is None else _integer(node, whole, kernels)
        )

    def behind(tensor: int) -> Any:
        producer = scales.network.producer(tensor)
        name = scales.sources.get(tensor) or ("" if producer is None else producer.name)
        ends = scales.range_of(tensor, given)
        if ends is None or (only is not None and name not in only):
            return None
        return layers.fixed_range(*ends, name=range_layer_name(name))

    calls = rounded_calls(network, scales, lambda node: instead.get(id(node.layer), node.layer), behind)
    return rebuild(network, calls)


def _step(ends: Range) -> float:
    """Return the scale of a tensor with 256 values, float32 as the file holds it."""
    return float(np.float32((ends[1] - ends[0]) / 255))


def _rounded(node: Node, incoming: Range | None) -> Any:
    """Put a layer's kernel and bias on the file's grid, as floats, and return the layer."""
    layer = node.layer
    kernel, *bias = layer.get_weights()
    steps, scale = stored_kernel(kernel, node.kind)
    if bias and incoming is not None and len(node.inputs) == 1:
        unit = scale.reshape(-1).astype(np.float64) * _step(incoming)
        bias = [(np.round(bias[0] / unit) * unit).astype(np.float32)]
    layer.set_weights([steps * scale, *bias])
    return layer


def _kernel_scales(node: Node, scales: Scales, given: Mapping[str, Range]) -> KernelScales | None:
    """Return the scales that a layer's kernel works between, or None where one of them is not known."""
    written = scales.fused.get(node.outputs[0], node.outputs[0])
    incoming, outgoing = scales.range_of(node.inputs[0], given), scales.range_of(written, given)
    if incoming is None or outgoing is None or activation_name(node.layer) not in ("linear", "relu", "relu6"):
        return None
    _, scale = stored_kernel(node.layer.get_weights()[0], node.kind)
    factors = scale.reshape(-1).astype(np.float64) * _step(incoming) / _step(outgoing)
    return KernelScales(_step(incoming), _step(outgoing), factors)


def _integer(node: Node, whole: KernelScales, kernels: Kernels) -> Any:
    """Put whole numbers into a layer's kernel and bias, and return a layer that computes with it."""
    import keras

    layer = node.layer
    kernel, *bias = layer.get_weights()
    steps, scale = stored_kernel(kernel, node.kind)
    unit = scale.reshape(-1).astype(np.float64) * whole.incoming
    layer.set_weights([steps, *(np.round(one / unit).astype(np.float32) for one in bias)])
    activation, layer.activation = layer.activation, keras.activations.linear
    rounding = {"xnnpack": "once", "builtin": "twice, up", "reference": "twice, away"}[kernels]
    return fake_layers().integer_kernel(layer, whole, rounding, activation, name=node.name)
