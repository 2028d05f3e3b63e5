"""The kernels of a model of which single weights can go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kernel", "named_layers", "prunable_kernels"]

# Where the input channels stand: a transposed convolution has its kernel the other way round.
_BEFORE_LAST = ("Dense", "Conv1D", "Conv2D", "Conv3D", "SeparableConv1D", "SeparableConv2D")
_LAST = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A weight array of which single weights may go.

    Attributes:
        layer: Name of the layer that holds it.
        names: That name and those of the wrappers and models around it, outermost first.
        kind: Class of the layer, e.g. "Conv2D".
        variable: The Keras variable, float.
        axis: The one of its input channels, counted from the end.
    """

    layer: str
    names: tuple[str, ...]
    kind: str
    variable: Any
    axis: int

    def values(self) -> NDArray[np.float32]:
        """Return a copy of the weights."""
        import keras

        return np.array(keras.ops.convert_to_numpy(self.variable), dtype=np.float32)


def prunable_kernels(model: Any) -> tuple[Kernel, ...]:
    """Return the kernels of which single weights may go.

    Those of Dense and of convolutions, plain and transposed, and the pointwise one of separable convolutions. Depthwise
    kernels stay: in MobileNet they are 1 % of the parameters, and each of their outputs is computed from 9 weights
    only. Biases and the scales of normalizations stay likewise: there is one for each channel, and it moves all of it.
    Recurrent, attention and embedding layers are left alone.

    Args:
        model: A built Keras model; layers in wrappers and in nested models are found as well.

    Source: Howard et al. 2017, arXiv:1704.04861, table 2 (parameters by kind of layer).
    """
    import keras

    def found(classes: tuple[str, ...]) -> tuple[Any, ...]:
        return tuple(getattr(keras.layers, name) for name in classes)

    kernels: list[Kernel] = []
    known: set[int] = set()
    for names, layer in named_layers(model):
        if not isinstance(layer, found(_BEFORE_LAST + _LAST)):
            continue
        name = "pointwise_kernel" if hasattr(layer, "pointwise_kernel") else "kernel"
        for variable in layer.weights:
            # A kernel that Keras itself has quantized holds integers.
            if variable.name == name and "float" in str(variable.dtype) and id(variable) not in known:
                known.add(id(variable))
                axis = -1 if isinstance(layer, found(_LAST)) else -2
                kernels.append(Kernel(layer.name, names, type(layer).__name__, variable, axis))
    return tuple(kernels)


def named_layers(model: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every layer with its name and those of the layers around it, outermost first."""
    import keras

    for layer in model.layers:
        yield (layer.name,), layer
        if isinstance(layer, keras.Model):
            yield from (((layer.name, *names), inner) for names, inner in named_layers(layer))
        else:
            yield from (((layer.name, inner.name), inner) for inner in layer._flatten_layers(include_self=False))
