"""Rewrite layers that TensorFlow Lite has no integer kernels for, so that all of their ops have some.

LayerNormalization comes out of TensorFlow's converter as `x * s + (-m * s)`: NEG has no int8 kernel, and the squares of
differences lose in 8 bits whatever is small beside the largest. The same function can be computed so that every tensor
on the way has a moderate range, with kernels for int8 and int16 in all engines.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from converters.graph.copies import copy_state
from converters.graph.flat import flat_model
from converters.graph.network import read_network, rebuild

__all__ = ["lower", "needs_lowering"]

_KIND = "LayerNormalization"


def needs_lowering(kinds: Iterable[str]) -> bool:
    """Whether a model with layers of these classes (names, e.g. "Conv2D") has any that `lower` may rewrite."""
    return _KIND in kinds


def lower(model: Any) -> Any:
    """Return a model that computes the same from ops that have int8 and int16 kernels.

    With d = x - mean(x), a LayerNormalization is d / sqrt(mean(d^2) + epsilon). For any p > 0 and z = d p, this equals
    z / sqrt(mean(z^2) + epsilon p^2). Here p = 1 / (mean(|d|) + sqrt(epsilon)), which needs no squares. What p loses by
    rounding, the second factor takes back, because it is measured on z; and z has a similar range at all places, so
    that its squares do not vanish beside each other.

    Args:
        model: Functional or Sequential; it is not changed. Keras' own LayerNormalization layers are rewritten, shared
            ones and those in nested models too; subclasses and layers inside wrappers (TimeDistributed) are not.

    Returns:
        A flat functional model with the same inputs, outputs, layer names and weights, whose outputs differ by float
        rounding only; or the given model itself where there is nothing to rewrite. It is for the converter: files that
        are saved of it cannot be read without this package.

    Raises:
        ConversionError: The model is subclassed or holds a layer that cannot be copied.

    Source: Ba et al. 2016, arXiv:1607.06450, section 3 (the function).
    """
    if not any(_is_rewritten(layer) for layer in model._flatten_layers()):
        return model
    network = read_network(flat_model(model))
    made: dict[int, Any] = {}
    replace: dict[int, Callable[..., Any] | int] = {}
    for node in network.nodes:
        if _is_rewritten(node.layer):
            replace[node.index] = made.setdefault(id(node.layer), _lowered_class().from_config(node.layer.get_config()))
    lowered = rebuild(network, replace)
    for node in network.nodes:
        if node.index in replace:
            copy_state(node.layer, made[id(node.layer)])
    return lowered


def _is_rewritten(layer: Any) -> bool:
    own = type(layer).__name__ == _KIND and type(layer).__module__.startswith("keras.")
    # The deprecated `rms_scaling` computes something else.
    return own and not getattr(layer, "rms_scaling", False)


@functools.cache
def _lowered_class() -> Any:
    import keras
    from keras import ops

    class LoweredLayerNormalization(keras.layers.LayerNormalization):  # type: ignore[misc]
        """The same weights and the same function, step by step as `lower` says."""

        def call(self, inputs: Any) -> Any:
            rank = len(inputs.shape)
            axes = sorted(axis % rank for axis in self.axis)

            def mean(values: Any) -> Any:
                count = values.shape[-1]
                if axes == [rank - 1]:
                    # As a product, because engines have fast kernels for it; 1 / count is exact in 8 bits.
                    return ops.matmul(values, np.full((count, 1), 1 / count, np.float32))
                return ops.mean(values, axis=axes, keepdims=True)

            difference = inputs - mean(inputs)
            # The differences add up to 0, so those above 0, doubled, have the mean of all absolute ones. The second
            # reader matters: TensorFlow 2.21 calibrates a tensor with one reader after that may have overwritten it.
            distance = mean(ops.relu(difference * 2.0))
            root = ops.rsqrt(distance + self.epsilon**0.5)
            coarse = root * root
            scaled = difference * coarse
            outputs = scaled * ops.rsqrt(mean(scaled * scaled) + self.epsilon * (coarse * coarse))
            shape = [inputs.shape[axis] if axis in axes else 1 for axis in range(rank)]
            if self.gamma is not None:
                outputs = outputs * ops.reshape(self.gamma, shape)
            if self.beta is not None:
                outputs = outputs + ops.reshape(self.beta, shape)
            return outputs

    return LoweredLayerNormalization
