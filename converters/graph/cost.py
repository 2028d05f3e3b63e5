"""What a Keras model costs before it is converted: multiply-accumulates (MACs) and parameters, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from converters.errors import ConversionError
from converters.graph.flat import flat_model, is_flat
from converters.graph.network import read_network

__all__ = ["Costs", "LayerCost", "call_macs", "costs"]


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one layer costs.

    Attributes:
        name: Of the layer or operation.
        kind: Its class, e.g. "Conv2D".
        macs: Multiply-accumulates of one run with batch 1, over all calls of the layer.
        parameters: Its weights, trained or not. A layer that is called twice has them once.
    """

    name: str
    kind: str
    macs: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Costs:
    """What a model costs, layer by layer.

    Attributes:
        layers: In the order of their first call. Printing shows those that cost something.
    """

    layers: tuple[LayerCost, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run with batch 1."""
        return sum(one.macs for one in self.layers)

    @property
    def parameters(self) -> int:
        """Number of weights, trained or not."""
        return sum(one.parameters for one in self.layers)

    def __str__(self) -> str:
        shown = [one for one in self.layers if one.macs or one.parameters]
        shown.append(LayerCost("total", "", self.macs, self.parameters))
        name_width = max(len("layer"), *(len(one.name) for one in shown))
        kind_width = max(len("kind"), *(len(one.kind) for one in shown))
        lines = [f"{'layer':<{name_width}}  {'kind':<{kind_width}}  {'MACs':>15}  {'parameters':>12}"]
        lines += [
            f"{one.name:<{name_width}}  {one.kind:<{kind_width}}  {one.macs:>15,}  {one.parameters:>12,}"
            for one in shown
        ]
        return "\n".join(lines)


def costs(model: Any) -> Costs:
    """Count multiply-accumulates and parameters of a model, with batch 1.

    Counted are convolutions (1D to 3D, grouped, dilated, depthwise, separable, transposed) and Dense; a bias costs no
    MAC. All other layers and operations count 0 MACs: attention, recurrent layers and `keras.ops.matmul` too, so that a
    model made of those costs more than this says.

    Args:
        model: Functional or Sequential; models within it are unfolded, on a copy.

    Raises:
        ConversionError: The model is subclassed or nests one that is, or a size that the MACs depend on is not fixed.
    """
    network = read_network(model if is_flat(model) else flat_model(model))
    rows: dict[int, LayerCost] = {}
    for node in network.nodes:
        before = rows.get(id(node.layer))
        macs = call_macs(
            node.layer, network.shapes[node.inputs[0]], network.shapes[node.outputs[0]] if node.outputs else ()
        )
        if before is None:
            parameters = sum(_product(one.shape) for one in getattr(node.layer, "weights", ()))
            rows[id(node.layer)] = LayerCost(node.name, node.kind, macs, parameters)
        else:
            rows[id(node.layer)] = LayerCost(node.name, node.kind, before.macs + macs, before.parameters)
    return Costs(tuple(rows.values()))


def call_macs(layer: Any, source: Sequence[int | None], result: Sequence[int | None]) -> int:
    """Return the multiply-accumulates of one call of a layer with batch 1; 0 for a kind that is not counted.

    Args:
        layer: A built Keras layer, or an operation.
        source: Shape of the tensor that goes in, batch first.
        result: Shape of the one that comes out, batch first.

    Every element of a convolution's output takes one MAC per element of its window and input channel of its group;
    every element of a transposed convolution's input reaches one window of every output channel, cut off by "same"
    padding or not.

    Source: Dumoulin and Visin 2016, arXiv:1603.07285, chapters 2 and 4 (sizes of convolutions and transposed ones).

    Raises:
        ConversionError: A size is None.
    """
    from keras import layers as kinds

    if isinstance(layer, (kinds.Dense, kinds.Conv1D, kinds.Conv2D, kinds.Conv3D)) and not isinstance(
        layer, (kinds.Conv1DTranspose, kinds.Conv2DTranspose, kinds.Conv3DTranspose)
    ):
        # (*window, input channels of a group, output channels); for Dense (inputs, outputs).
        return _elements(layer, result) * _product(layer.kernel.shape[:-1])
    if isinstance(layer, (kinds.Conv1DTranspose, kinds.Conv2DTranspose, kinds.Conv3DTranspose)):
        # (*window, output channels, input channels)
        return _elements(layer, source) * _product(layer.kernel.shape[:-1])
    if isinstance(layer, (kinds.DepthwiseConv1D, kinds.DepthwiseConv2D)):
        # (*window, input channels, multiplier)
        return _elements(layer, result) * _product(layer.kernel.shape[:-2])
    if isinstance(layer, (kinds.SeparableConv1D, kinds.SeparableConv2D)):
        # The depthwise kernel as above, and (1, ..., channels between, output channels).
        between, channels = (int(size) for size in layer.pointwise_kernel.shape[-2:])
        places = _elements(layer, result) // channels
        return places * between * (_product(layer.depthwise_kernel.shape[:-2]) + channels)
    return 0


def _elements(layer: Any, shape: Sequence[int | None]) -> int:
    if None in shape[1:]:
        raise ConversionError(
            f"The cost of layer `{layer.name}` depends on a size that is not fixed.",
            received=f"shape {tuple(shape)}",
            expected="numbers everywhere but for the batch",
            next_step="Build the model with an input of a fixed size, e.g. `keras.Input((224, 224, 3))`.",
        )
    return _product(shape[1:])


def _product(sizes: Sequence[int | None]) -> int:
    return math.prod(int(size) for size in sizes if size is not None)
