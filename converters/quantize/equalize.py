"""Cross-layer equalization: bring the weights of the same channel in neighbouring layers to the same range.

Behind a ReLU, a channel that leaves one layer s times smaller and enters the next with weights s times larger gives the
same answer. Choosing s for every channel so that both layers' weights reach equally far makes better use of one scale
for the whole tensor.

What it brings (benchmarks/quantize_methods.py): nothing. The converter has one scale per output channel of the weights
anyway, so only activations could gain: on ResNet-8 accuracy cannot be told from the plain file's (3 seeds, p 0.08 to
1.0), and the output error is 4 to 8 % larger. MobileNet has no pair at all because of its ReLU6. It is therefore not
done by default; it is for kernels with one scale per tensor.

Source: Nagel et al. 2019, arXiv:1906.04721, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.graph.network import Network, Node, read_network, rebuild
from converters.quantize.fake_layers import kernel_axes
from converters.quantize.scales import WEIGHTED, activation_name

__all__ = ["LeftOut", "Pair", "channel_precision", "equalize", "find_pairs"]

_SWEEPS = 200
_STEADY = 1e-6

# Of these the output grows by s where the input grows by s > 0, channel by channel, and zeros stay zeros.
_PASSES = (
    *("AveragePooling1D", "AveragePooling2D", "Dropout", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "Identity", "LeakyReLU", "MaxPooling1D", "MaxPooling2D", "ReLU"),
    *("SpatialDropout1D", "SpatialDropout2D", "UpSampling1D", "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D"),
)
_FIRST = ("Conv1D", "Conv2D", "Dense", "DepthwiseConv1D", "DepthwiseConv2D")
_HOMOGENEOUS = ("leaky_relu", "linear", "relu")
_RELU6 = "a ReLU6 stands between them, and it would have to be replaced by a ReLU, which changes the model"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers whose channels can be scaled against each other.

    Attributes:
        first: Name of the layer that makes the channels.
        second: Name of the layer that reads them.
        places: How often each channel occurs on the input axis of the second kernel: as often as a Flatten between the
            layers has positions to put in a row, else 1.
    """

    first: str
    second: str
    places: int = 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A layer with weights whose output channels cannot be scaled.

    Attributes:
        layer: Its name.
        reason: A clause, e.g. "2 layers read its output".
    """

    layer: str
    reason: str


def equalize(model: Any) -> Any:
    """Return a model that computes the same, with the weight ranges of neighbouring layers equalized.

    Every pair of `find_pairs` in turn, until nothing moves: so a depthwise layer between two others ends with the range
    of both. Pairs with a ReLU6 between them stay as they are, see `find_pairs`.

    Args:
        model: A flat Keras model with its batch normalizations folded (`fold_batch_norms`). It stays as it is.

    Raises:
        ConversionError: The model is not flat.

    Source: Nagel et al. 2019, arXiv:1906.04721, section 4.1: `s_i = sqrt(r1_i * r2_i) / r2_i`, with r1_i the largest
    weight that makes channel i and r2_i the largest that reads it; then `W1_i / s_i`, `b1_i / s_i`,
    `W2_i * s_i`.
    """
    network = read_network(model)
    pairs, _ = find_pairs(model)
    layers = {node.name: node.layer for node in network.nodes}
    kernels = {
        name: np.asarray(layers[name].kernel, dtype=np.float64) for pair in pairs for name in (pair.first, pair.second)
    }
    biases = {
        pair.first: np.asarray(layers[pair.first].bias, dtype=np.float64)
        for pair in pairs
        if getattr(layers[pair.first], "bias", None) is not None
    }
    for _ in range(_SWEEPS):
        moved = 0.0
        for pair in pairs:
            first = _made_by(kernels[pair.first], type(layers[pair.first]).__name__)
            second = _read_by(kernels[pair.second], pair.places)
            made, read = np.abs(first).max(axis=0), np.abs(second).max(axis=(0, 2))
            alive = (made > 0) & (read > 0)
            factors = np.sqrt(np.where(alive, made, 1.0) / np.where(alive, read, 1.0))
            moved = max(moved, float(np.abs(np.log(factors)).max(initial=0.0)))
            kernels[pair.first] = (first / factors).reshape(kernels[pair.first].shape)
            kernels[pair.second] = (second * factors[:, None]).reshape(kernels[pair.second].shape)
            if pair.first in biases:
                biases[pair.first] = biases[pair.first] / factors
        if moved < _STEADY:
            break
    made_anew = rebuild(network)
    for name, kernel in kernels.items():
        layer = made_anew.get_layer(name)
        layer.kernel.assign(kernel)
        if name in biases:
            layer.bias.assign(biases[name])
    return made_anew


def find_pairs(model: Any) -> tuple[tuple[Pair, ...], tuple[LeftOut, ...]]:
    """Return the pairs of layers that can be equalized, and why each other layer with weights cannot start one.

    A pair is a convolution, depthwise convolution or dense layer with a ReLU, a leaky ReLU or nothing on its output,
    read by one other such layer alone; pooling, padding, dropout and Flatten may stand between. ReLU6 is left out: it
    cuts at 6, wherever a channel was scaled to.

    Args:
        model: A flat Keras model.

    Raises:
        ConversionError: The model is not flat.
    """
    network = read_network(model)
    pairs, left_out = [], []
    for node in network.nodes:
        if node.kind not in WEIGHTED:
            continue
        found = _second(network, node)
        if isinstance(found, Pair):
            pairs.append(found)
        else:
            left_out.append(LeftOut(node.name, found))
    return tuple(pairs), tuple(left_out)


def channel_precision(kernel: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Return which share of a tensor's range each channel uses, (channels,) in 0..1.

    Args:
        kernel: Any shape.
        axes: Those that number the channels.

    Source: Nagel et al. 2019, arXiv:1906.04721, section 4.1: `p_i = r_i / R`, where R is the largest r_i.
    """
    reach = np.abs(kernel).max(axis=tuple(axis for axis in range(kernel.ndim) if axis not in axes)).ravel()
    return np.asarray(reach / reach.max())


def _second(network: Network, node: Node) -> Pair | str:
    """Return the pair that a layer with weights starts, or why it starts none."""
    if node.kind not in _FIRST:
        return f"a {node.kind} is not equalized"
    if len(network.calls(node.layer)) != 1:
        return "it is called more than once"
    if getattr(node.layer, "data_format", "channels_last") != "channels_last":
        return "its channels stand first"
    at, places = node, 1
    while True:
        reason = _breaks(at)
        if reason:
            return reason
        tensor = at.outputs[0]
        readers = network.consumers(tensor)
        if tensor in network.outputs:
            return "its output is an output of the model"
        if len(readers) != 1:
            return f"{len(readers)} layers read its output"
        at = readers[0]
        if at.kind == "Flatten":
            sizes = network.shapes[tensor][1:-1]
            if None in sizes:
                return "a Flatten of unknown size stands behind it"
            places *= int(np.prod([size or 1 for size in sizes]))
        elif at.kind not in (*_PASSES, "Activation"):
            return _taken(network, node, at, places)


def _taken(network: Network, node: Node, reader: Node, places: int) -> Pair | str:
    """Return the pair of a layer and the one that reads its channels, or why they make none."""
    if reader.kind not in _FIRST:
        return f"`{reader.name}` ({reader.kind}) reads its output"
    if len(network.calls(reader.layer)) != 1:
        return f"`{reader.name}`, which reads its output, is called more than once"
    if getattr(reader.layer, "groups", 1) != 1:
        return f"`{reader.name}`, which reads its output, computes in groups"
    return Pair(node.name, reader.name, places)


def _breaks(node: Node) -> str:
    """Say why scaled channels do not pass a layer, or "" where they do."""
    layer = node.layer
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return f"the channels of `{node.name}` stand first"
    function = activation_name(layer)
    if function == "relu6":
        return _RELU6
    if node.kind == "ReLU":
        if layer.max_value is not None:
            return _RELU6 if layer.max_value == 6 else f"`{node.name}` cuts at {layer.max_value}"
        if float(layer.threshold or 0):
            return f"`{node.name}` has a threshold"
        return ""
    # A LeakyReLU's own `activation` is none, and that of all others decides.
    return "" if function in _HOMOGENEOUS else f"the function {function} stands between"


def _made_by(kernel: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Return a kernel as (weights of one channel, channels that it makes)."""
    axes = kernel_axes(kind, kernel.ndim)
    return kernel.reshape(-1, int(np.prod([kernel.shape[axis] for axis in axes])))


def _read_by(kernel: NDArray[np.float64], places: int) -> NDArray[np.float64]:
    """Return a kernel as (places, channels that it reads, the rest)."""
    channels = kernel.shape[-2] // (places if places > 1 else 1)
    return kernel.reshape(-1, channels, kernel.shape[-1])
