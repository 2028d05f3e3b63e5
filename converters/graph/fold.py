"""Fold batch normalizations into the layers before them: at inference they are one scale and offset per channel.

The converter does the same. Doing it before makes the weights those that will be quantized, which equalization, bias
correction and quantization-aware training need to see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.graph.copies import fresh_layer
from converters.graph.network import Network, Node, read_network, rebuild

__all__ = ["fold_batch_norms"]

# By class: the weight that makes the output channels, and the axes of it that number them.
_KERNELS: dict[str, tuple[str, tuple[int, ...]]] = {
    **dict.fromkeys(("Dense", "Conv1D", "Conv2D", "Conv3D"), ("kernel", (-1,))),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), ("kernel", (-2,))),
    # Channel c * multiplier + m of the output belongs to kernel[..., c, m].
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), ("kernel", (-2, -1))),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), ("pointwise_kernel", (-1,))),
}


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A layer, its call, and the batch normalization behind it."""

    node: Node
    norm: Node


def fold_batch_norms(model: Any) -> Any:
    """Return a model in which batch normalizations are part of the layers before them.

    A BatchNormalization is folded where it follows a Conv1D/2D/3D, DepthwiseConv, SeparableConv, transposed Conv or
    Dense of Keras' own that has no activation, where nothing else reads that layer's output, where each of the two is
    called once, and where it normalizes the channel axis. All others stay, e.g. behind an Add. The layer keeps its name
    and gets a bias if it had none. Its constraints are dropped: they were meant for the kernel before.

    With gamma, beta, mean and variance of the normalization, per channel:
    `s = gamma / sqrt(variance + epsilon)`, `kernel' = s * kernel`, `bias' = beta + s * (bias - mean)`.

    The folded model is for inference and for training at the very end: what it normalized, it normalizes by fixed
    numbers now.

    Source: Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.1 (inference); Jacob et al. 2018, arXiv:1712.05877,
    section 3.2 (folding).

    Args:
        model: A flat model, see `converters.graph.flat.flat_model`. It stays as it is.

    Returns:
        A flat model with weights of its own. Where a folded normalization was an output, `output_names` keeps its name.

    Raises:
        ConversionError: The model is not flat, or holds a layer that cannot be copied.
    """
    network = read_network(model)
    pairs = _pairs(network)
    while pairs:
        network = read_network(_folded(network, pairs))
        # A second normalization in a row follows a bare layer now.
        pairs = _pairs(network)
    return rebuild(network) if network.model is model else network.model


def _folded(network: Network, pairs: list[_Pair]) -> Any:
    replace: dict[int, Callable[..., Any] | int] = {}
    made = []
    for pair in pairs:
        new = _with_bias(pair.node.layer)
        replace[pair.node.index], replace[pair.norm.index] = new, 0
        made.append((pair, new))
    model = rebuild(network, replace)
    for pair, new in made:
        _assign(pair, new)
    return model


def _pairs(network: Network) -> list[_Pair]:
    pairs = []
    for norm in network.nodes:
        node = network.producer(norm.inputs[0]) if norm.inputs else None
        if node is None or not (_is_keras(norm.layer, "BatchNormalization") and _is_keras(node.layer, *_KERNELS)):
            continue
        between = norm.inputs[0]
        alone = network.consumers(between) == (norm,) and between not in network.outputs
        once = len(network.calls(node.layer)) == len(network.calls(norm.layer)) == 1
        # Called with training=True, it uses the statistics of the batch, which nobody knows beforehand.
        fixed = not (norm.kwargs or {}).get("training")
        if alone and once and fixed and _is_bare(node.layer) and _on_channels(network, node, norm):
            pairs.append(_Pair(node, norm))
    return pairs


def _is_keras(layer: Any, *names: str) -> bool:
    """Whether the layer is exactly one of Keras' own: a subclass may compute with other weights than it stores."""
    return type(layer).__name__ in names and type(layer).__module__.startswith("keras.")


def _is_bare(layer: Any) -> bool:
    """Whether the layer's output is linear in its kernel, and the kernel the one that is stored."""
    import keras

    plain = not getattr(layer, "lora_enabled", False) and getattr(layer, "quantization_mode", None) is None
    return plain and layer.activation is keras.activations.linear


def _on_channels(network: Network, node: Node, norm: Node) -> bool:
    rank = len(network.shapes[node.outputs[0]])
    first = getattr(node.layer, "data_format", "channels_last") == "channels_first"
    axis = norm.layer.axis
    return isinstance(axis, int) and axis % rank == (1 if first else rank - 1)


def _with_bias(layer: Any) -> Any:
    changes: dict[str, Any] = {name: None for name in layer.get_config() if name.endswith("_constraint")}
    return fresh_layer(layer, changes={**changes, "use_bias": True})


def _assign(pair: _Pair, new: Any) -> None:
    """Compute the folded weights in float64 and put them into the new layer."""
    old, norm = pair.node.layer, pair.norm.layer
    mean = _numbers(norm.moving_mean)
    scale = 1.0 / np.sqrt(_numbers(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * _numbers(norm.gamma)
    bias = _numbers(old.bias) if old.use_bias else np.zeros_like(mean)
    shift = _numbers(norm.beta) if norm.center else np.zeros_like(mean)
    name, axes = _KERNELS[type(old).__name__]
    if name == "pointwise_kernel":
        new.depthwise_kernel.assign(old.depthwise_kernel)
    kernel = _numbers(getattr(old, name))
    shape = [size if axis - kernel.ndim in axes else 1 for axis, size in enumerate(kernel.shape)]
    getattr(new, name).assign((kernel * scale.reshape(shape)).astype(np.float32))
    new.bias.assign((shift + scale * (bias - mean)).astype(np.float32))


def _numbers(variable: Any) -> NDArray[np.float64]:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(variable), dtype=np.float64)
