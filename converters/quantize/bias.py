"""Bias correction: take the mean error that rounded weights cause out of the biases.

Rounding a kernel to int8 is noise of mean 0, but a layer has few weights for each output and inputs that are mostly
positive behind a ReLU, so each channel keeps a mean error, and the next layers add it up.

What it brings (benchmarks/quantize_methods.py, 200 calibration samples, 3 seeds), against the plain int8 file:

* MobileNet 0.25, 200 photos: the answers are those of the float model on 93 % instead of 83 % (p 0.003 and less for
  each seed), top-1 accuracy is 42.2 % instead of 37.7 % (p 0.09, 0.04, 0.004; float 41.7 %), and the output error is 38
  to 41 % smaller. The paper names the reason: a depthwise kernel has 9 weights for each output, too few to average out.
* ResNet-8, 5000 pictures: the output error is 6 to 12 % smaller; accuracy (76.4 % for both) and agreement cannot be
  told apart.

Source: Nagel et al. 2019, arXiv:1906.04721, section 4.2 and appendix D (the empirical variant).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.graph.network import Network, Node, read_network, rebuild
from converters.quantize.activations import Samples, checked_samples, tensor_batches
from converters.quantize.fake_layers import stored_kernel
from converters.quantize.scales import WEIGHTED
from edgeinfer.progress import Progress, ProgressReport

__all__ = ["correct_bias"]


def correct_bias(model: Any, samples: Samples, *, progress: ProgressReport | None = None) -> Any:
    """Return the model with biases that make up for the rounding of its weights.

    Layer by layer from the front: the mean output of each channel, before the activation, is measured in the float
    model and in one whose weights are rounded up to this layer and whose biases are corrected before it; the
    difference goes into the bias. The kernels of the result are those of the model: the converter rounds them. A layer
    without a bias gets one. Layers that are called more than once stay as they are.

    Args:
        model: A flat Keras model with its batch normalizations folded (`fold_batch_norms`). It stays as it is.
        samples: What the model itself takes, see `checked_samples`. 100 to 500: only means are estimated.
        progress: Called after every layer.

    Raises:
        ConversionError: The model is not flat.
        CalibrationError: The samples do not fit the model.

    Source: Nagel et al. 2019, arXiv:1906.04721, appendix D: `b_c - (E[y~_c] - E[y_c])`, with y the output of the layer
    in the float model, y~ that in the quantized one, and the mean over samples and positions.
    """
    network = read_network(model)
    arrays = checked_samples(network, samples)
    corrected, plain = _with_biases(network), _with_biases(network)
    result = read_network(corrected)
    # The float model's means first, in one pass; what the kernels become afterwards is rounded front to back.
    nodes = [node for node in result.nodes if _can_be_corrected(result, node)]
    floats = read_network(plain)
    wanted = _means(floats, [floats.nodes[node.index] for node in nodes], arrays)
    kernels: dict[str, NDArray[np.float32]] = {}
    for number, (node, mean) in enumerate(zip(nodes, wanted, strict=True)):
        kernels[node.name] = np.asarray(node.layer.kernel, dtype=np.float32)
        steps, scale = stored_kernel(kernels[node.name], node.kind)
        node.layer.kernel.assign(steps * scale)
        (measured,) = _means(result, [node], arrays)
        node.layer.bias.assign(np.asarray(node.layer.bias, dtype=np.float64) - (measured - mean))
        if progress is not None:
            progress(Progress("correct biases", number + 1, len(nodes)))
    for node in nodes:
        node.layer.kernel.assign(kernels[node.name])
    return corrected


def _can_be_corrected(network: Network, node: Node) -> bool:
    return (
        node.kind in WEIGHTED
        and len(network.calls(node.layer)) == 1
        and getattr(node.layer, "data_format", "channels_last") == "channels_last"
    )


def _with_biases(network: Network) -> Any:
    """Copy the model; layers that can be corrected and have no bias get one of zeros."""
    without = [node for node in network.nodes if _can_be_corrected(network, node) and not node.layer.use_bias]
    made = rebuild(network, {node.index: _biased(node.layer) for node in without})
    for node in without:
        made.get_layer(node.name).kernel.assign(node.layer.kernel)
    return made


def _biased(layer: Any) -> Callable[..., Any]:
    made: Callable[..., Any] = type(layer).from_config(
        {**layer.get_config(), "use_bias": True, "bias_initializer": "zeros"}
    )
    return made


def _means(network: Network, nodes: list[Node], samples: tuple[NDArray[Any], ...]) -> list[NDArray[np.float64]]:
    """Return the mean output of each channel of some layers, before their activation: (channels,) each."""
    sums: list[Any] = [0.0] * len(nodes)
    count = [0] * len(nodes)
    for batch in tensor_batches(network, [node.inputs[0] for node in nodes], samples):
        for row, values in enumerate(_before_activation(nodes, batch)):
            flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
            sums[row] = sums[row] + flat.sum(axis=0)
            count[row] += len(flat)
    return [np.asarray(total / one) for total, one in zip(sums, count, strict=True)]


def _before_activation(nodes: list[Node], inputs: list[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Call layers without their activation. They are copies of our own, and get it back."""
    import keras

    for node, values in zip(nodes, inputs, strict=True):
        activation, node.layer.activation = getattr(node.layer, "activation", None), keras.activations.linear
        try:
            yield np.asarray(node.layer(values))
        finally:
            node.layer.activation = activation
