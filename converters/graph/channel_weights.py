"""What the layers with weights do to channels: they make new ones, or pass theirs on with a weight for each."""

from __future__ import annotations

import numpy as np

from converters.graph.channel_call import Call, Rule, channels_last, elementwise
from converters.graph.channel_ids import ChannelIds, Ids

__all__ = ["LAYERS"]

_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")


def _unexpected(call: Call, *weights: str) -> str:
    """Return why a layer with weights is not what its class says, or "": quantized and adapted ones hold others."""
    if len(call.inputs) != 1:
        return "is called on several tensors"
    if not channels_last(call.layer):
        return "has its channels first"
    others = [one.name for one in call.layer.weights if one.name not in weights]
    if others or getattr(call.layer, "lora_enabled", False) or getattr(call.layer, "quantization_mode", None):
        return f"holds weights of another kind ({', '.join(others) or 'adapted'})"
    return ""


def _activated(call: Call, channels: ChannelIds, ids: Ids) -> Ids:
    """Freeze a layer's output if its activation computes across the channels."""
    activation = getattr(call.layer, "activation", None)
    if activation is not None and not elementwise(activation):
        name = getattr(activation, "__name__", type(activation).__name__)
        channels.freeze(ids, f"activation `{name}` of layer `{call.node.name}`")
    return ids


def _convolution(call: Call, channels: ChannelIds) -> Ids | str:
    """Conv and its transposed form: kernel (*window, in, out), transposed (*window, out, in)."""
    layer = call.layer
    problem = _unexpected(call, "kernel", "bias")
    if problem:
        return problem
    source = call.inputs[0]
    reading, making = (-1, -2) if call.node.kind.endswith("Transpose") else (-2, -1)
    groups = getattr(layer, "groups", 1)
    if groups > 1 and groups == len(source):
        return _depthwise_by_groups(call, channels)
    channels.tie_calls(layer, source)
    made, first = channels.created(layer, call.channels)
    if groups > 1:
        channels.tie_groups(source, groups)
        channels.tie_groups(made, groups)
    if first:
        channels.touch(layer, "kernel", reading, source[: len(source) // groups])
        channels.touch(layer, "kernel", making, made, producing=True)
        channels.touch(layer, "bias", 0, made, producing=True)
        channels.size(layer, "filters", made)
    return _activated(call, channels, made)


def _depthwise_by_groups(call: Call, channels: ChannelIds) -> Ids:
    """A convolution with a group for each channel: kernel (*window, 1, out), neighbours in `out` share a channel."""
    layer, source = call.layer, call.inputs[0]
    passed = np.repeat(source, call.channels // len(source))
    if channels.tie_calls(layer, source):
        channels.touch(layer, "kernel", -1, passed)
        channels.touch(layer, "bias", 0, passed)
        channels.size(layer, "filters", passed)
        channels.size(layer, "groups", source)
    return _activated(call, channels, passed)


def _depthwise(call: Call, channels: ChannelIds) -> Ids | str:
    """Kernel (*window, in, multiplier): channel i becomes the channels i * multiplier and following."""
    layer, source = call.layer, call.inputs[0]
    problem = _unexpected(call, "kernel", "bias")
    if problem:
        return problem
    passed = np.repeat(source, layer.depth_multiplier)
    if channels.tie_calls(layer, source):
        channels.touch(layer, "kernel", -2, source)
        channels.touch(layer, "bias", 0, passed)
    return _activated(call, channels, passed)


def _separable(call: Call, channels: ChannelIds) -> Ids | str:
    """Depthwise kernel (*window, in, multiplier), then a pointwise one (*ones, in * multiplier, out)."""
    layer, source = call.layer, call.inputs[0]
    problem = _unexpected(call, "depthwise_kernel", "pointwise_kernel", "bias")
    if problem:
        return problem
    channels.tie_calls(layer, source)
    made, first = channels.created(layer, call.channels)
    if first:
        channels.touch(layer, "depthwise_kernel", -2, source)
        channels.touch(layer, "pointwise_kernel", -2, np.repeat(source, layer.depth_multiplier))
        channels.touch(layer, "pointwise_kernel", -1, made, producing=True)
        channels.touch(layer, "bias", 0, made, producing=True)
        channels.size(layer, "filters", made)
    return _activated(call, channels, made)


def _dense(call: Call, channels: ChannelIds) -> Ids | str:
    """Kernel (in, out), on the last axis of a tensor of any rank."""
    layer, source = call.layer, call.inputs[0]
    problem = _unexpected(call, "kernel", "bias")
    if problem:
        return problem
    channels.tie_calls(layer, source)
    made, first = channels.created(layer, call.channels)
    if first:
        channels.touch(layer, "kernel", 0, source)
        channels.touch(layer, "kernel", 1, made, producing=True)
        channels.touch(layer, "bias", 0, made, producing=True)
        channels.size(layer, "units", made)
    return _activated(call, channels, made)


def _batch_norm(call: Call, channels: ChannelIds) -> Ids | str:
    """Four vectors (channels,)."""
    layer, source = call.layer, call.inputs[0]
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else (layer.axis,)
    rank = len(call.output)
    if [one % rank for one in axes] != [rank - 1]:
        return "normalizes along another axis than the last"
    problem = _unexpected(call, *_BATCH_NORM)
    if problem:
        return problem
    if channels.tie_calls(layer, source):
        for name in _BATCH_NORM:
            channels.touch(layer, name, 0, source)
    return source


def _prelu(call: Call, channels: ChannelIds) -> Ids | str:
    """Slopes of the shape of one sample, with 1 on shared axes."""
    layer, source = call.layer, call.inputs[0]
    problem = _unexpected(call, "alpha")
    if problem:
        return problem
    # An axis that shares its slopes has size 1 in the weight.
    if layer.alpha.shape[-1] == len(source) and channels.tie_calls(layer, source):
        channels.touch(layer, "alpha", -1, source)
    return source


def _layer_scale(call: Call, channels: ChannelIds) -> Ids | str:
    """One vector (channels,) of ConvNeXt's, which Keras leaves without a name of its own."""
    layer, source = call.layer, call.inputs[0]
    problem = _unexpected(call, layer.weights[0].name)
    if problem:
        return problem
    if channels.tie_calls(layer, source):
        channels.touch(layer, layer.weights[0].name, 0, source)
        channels.size(layer, "projection_dim", source)
    return source


LAYERS: dict[str, Rule] = {
    "BatchNormalization": _batch_norm,
    "Dense": _dense,
    "LayerScale": _layer_scale,
    "PReLU": _prelu,
    **{f"Conv{rank}D": _convolution for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _convolution for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _separable for rank in (1, 2)},
}
