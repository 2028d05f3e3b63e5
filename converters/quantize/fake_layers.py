"""Keras layers that compute in floats as an int8 kernel does in integers.

They are made behind a function because this package imports Keras only where it is used.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FakeLayers", "KernelScales", "fake_layers", "kernel_axes", "stored_kernel"]

# What the converter takes for the scale of a channel that is all zeros, times 254 steps.
_NEAR_ZERO = 1e-6
# A range cannot shrink below this share of what was measured at first, so it never collapses or turns around.
_LEAST_STRETCH = 0.01


@dataclass(frozen=True, slots=True)
class FakeLayers:
    """The classes, all of them `keras.Layer`.

    Attributes:
        fixed_range: `(low, high, name=)`: rounds to 256 steps of a range.
        learned_range: `(low, high, name=)`: likewise, and training moves both ends.
        rounded_weights: `(layer, width of its output's range, name=)`: a layer of Keras' with its kernel rounded to
            int8 per output channel; the gradient passes the rounding as if it were not there. It trains variables of
            its own until `write_back()`.
        rounded_pool: `(layer, range layer, name=)`: average pooling between integers, which keep their scale.
        integer_kernel: `(layer, scales=, rounding=, activation=, name=)`: a layer whose kernel and bias are whole
            numbers already, from and to multiples of the scales of its input and its output.
    """

    fixed_range: Any
    learned_range: Any
    rounded_weights: Any
    rounded_pool: Any
    integer_kernel: Any


@dataclass(frozen=True, slots=True, eq=False)
class KernelScales:
    """Of a kernel that computes with whole numbers.

    Attributes:
        incoming: Scale of its input.
        outgoing: Scale of its output.
        factors: (output channels,) float64: what a sum of products is multiplied by to become steps of the output,
            input scale * kernel scale / output scale.
    """

    incoming: float
    outgoing: float
    factors: NDArray[np.float64]


def kernel_axes(kind: str, rank: int) -> tuple[int, ...]:
    """Return the axes of a kernel that its scales run over: those of the op's output channels.

    Source: TensorFlow Lite 8-bit quantization specification (quantized dimension: 0 of CONV_2D's (out, h, w, in), 3 of
    DEPTHWISE_CONV_2D's (1, h, w, in * multiplier)), in the order of axes that Keras stores.
    """
    if kind.startswith("Depthwise"):
        return rank - 2, rank - 1
    return (rank - 2,) if kind.endswith("Transpose") else (rank - 1,)


def stored_kernel(kernel: NDArray[np.float32], kind: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a kernel as the whole numbers that the file stores, and its scales.

    int8, symmetric, -127..127, one scale per output channel, zero point 0, halves away from zero (found out with
    weights that lie exactly half way, TensorFlow 2.21).

    Args:
        kernel: As Keras holds it, float32.
        kind: The layer's class.

    Returns:
        Whole numbers of -127..127, of the same shape; scales of the shape that broadcasts against it. Both float32.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3; per channel: Krishnamoorthi 2018, arXiv:1806.08342, 3.1.
    """
    kept = kernel_axes(kind, kernel.ndim)
    others = tuple(axis for axis in range(kernel.ndim) if axis not in kept)
    largest = np.abs(kernel).max(axis=others, keepdims=True).astype(np.float64)
    # In double precision as in the converter: a quotient near one half falls to the other side in float32.
    scale = np.maximum(2 * largest, _NEAR_ZERO) / 254
    steps = kernel / scale
    rounded = np.clip(np.sign(steps) * np.floor(np.abs(steps) + 0.5), -127, 127)
    return rounded.astype(np.float32), scale.astype(np.float32)


@functools.cache
def fake_layers() -> FakeLayers:
    """Return the layer classes of `FakeLayers`. Imports Keras."""
    import keras
    from keras import ops

    class FixedRange(keras.Layer):  # type: ignore[misc]
        def __init__(self, low: float, high: float, **options: Any) -> None:
            super().__init__(trainable=False, **options)
            self.low, self.high = low, high

        def ends(self) -> Any:
            return ops.convert_to_tensor([self.low, self.high], "float32")

        def call(self, inputs: Any) -> Any:
            return _rounded(inputs, self.low, self.high)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

        def get_config(self) -> dict[str, Any]:
            settings = super().get_config()
            settings.pop("trainable")  # it never is, and `__init__` says so itself
            return {**settings, "low": self.low, "high": self.high}

    class LearnedRange(keras.Layer):  # type: ignore[misc]
        """The ends are learned as multiples of what was measured, so one learning rate fits ranges of any size."""

        def __init__(self, low: float, high: float, **options: Any) -> None:
            super().__init__(**options)
            self.low, self.high = low, high

        def build(self, input_shape: Any) -> None:  # noqa: ARG002
            self.stretch = self.add_weight(
                shape=(2,), initializer="ones", name="stretch", constraint=_at_least(_LEAST_STRETCH)
            )

        def ends(self) -> Any:
            return self.stretch * ops.convert_to_tensor([self.low, self.high], "float32")

        def call(self, inputs: Any) -> Any:
            ends = self.ends()
            return _rounded(inputs, ends[0], ends[1])

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    class RoundedWeights(keras.Layer):  # type: ignore[misc]
        """Trains a layer's kernel as shares of each channel's largest weight, and its bias as shares of the output.

        The optimizer's steps do not know how large a weight is, and without BatchNorm a kernel behind pixels of 0..255
        has weights of 0.001: a learning rate of 1e-4 is then right for all layers, 1/80 of an int8 step.
        """

        def __init__(self, layer: Any, outgoing: float, **options: Any) -> None:
            super().__init__(**options)
            self.layer, self.kind = layer, type(layer).__name__
            # The layer only lends its arithmetic until `write_back`.
            self.was_trainable, layer.trainable = layer.trainable, False
            kernel, *bias = layer.get_weights()
            kept = kernel_axes(self.kind, kernel.ndim)
            others = tuple(axis for axis in range(kernel.ndim) if axis not in kept)
            largest = np.abs(kernel).max(axis=others, keepdims=True)
            self.units = [np.where(largest > 0, largest, 1.0).astype(np.float32)]
            # Weights of exactly 0 were pruned, and stay so.
            self.mask = (kernel != 0).astype(np.float32) if kernel.any() else np.float32(1)
            self.units += [np.float32(outgoing)] * len(bias)
            self.shares = [
                self.add_weight(
                    shape=value.shape,
                    initializer=keras.initializers.Zeros(),
                    trainable=self.was_trainable,
                    name=name,
                )
                for value, name in zip([kernel, *bias], ("kernel", "bias"), strict=False)
            ]
            for share, value, unit in zip(self.shares, [kernel, *bias], self.units, strict=True):
                share.assign(value / unit)
            self.built = True

        def values(self) -> list[Any]:
            kernel, *bias = (share * unit for share, unit in zip(self.shares, self.units, strict=True))
            return [kernel * self.mask, *bias]

        def write_back(self) -> None:
            self.layer.set_weights([np.asarray(one) for one in self.values()])
            self.layer.trainable = self.was_trainable

        def call(self, inputs: Any) -> Any:
            kernel, *bias = self.values()
            values = [_straight_through(kernel, self.kind), *bias]
            # Any kind of layer then computes with the rounded kernel, without a second version of its arithmetic.
            with keras.StatelessScope(state_mapping=list(zip(self.layer.weights, values, strict=True))):
                return self.layer(inputs)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return self.layer.compute_output_shape(input_shape)

    class RoundedPool(keras.Layer):  # type: ignore[misc]
        def __init__(self, layer: Any, rounding: Any, **options: Any) -> None:
            super().__init__(**options)
            self.layer, self.rounding = layer, rounding
            self.built = True

        def call(self, inputs: Any) -> Any:
            low, high = ops.unstack(self.rounding.ends())
            scale = (high - low) / 255
            zero = ops.round(-128 - low / scale)
            # Between whole numbers, where float32 is exact: halves are frequent in a mean of 4 or 64 numbers.
            mean = self.layer(ops.round(inputs / scale) + zero)
            rounded = _half_away(mean)
            exact = self.layer(inputs)
            return exact + ops.stop_gradient((rounded - zero) * scale - exact)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return self.layer.compute_output_shape(input_shape)

    class IntegerKernel(keras.Layer):  # type: ignore[misc]
        def __init__(self, layer: Any, scales: KernelScales, rounding: str, activation: Any, **options: Any) -> None:
            super().__init__(trainable=False, **options)
            self.layer, self.scales, self.rounding, self.activation = layer, scales, rounding, activation
            self.built = True

        def call(self, inputs: Any) -> Any:
            # float32 holds sums of whole numbers below 2 ** 24 exactly, more than real kernels reach.
            total = self.layer(ops.round(inputs / self.scales.incoming))
            factors = self.scales.factors
            if self.rounding == "once":
                steps = ops.round(total * factors.astype(np.float32))
            else:
                fraction, exponent = np.frexp(factors)
                fraction = np.round(fraction * 2.0**31) / 2.0**31
                power = 2.0 ** np.maximum(-exponent, 0)
                finer = _half_away(ops.cast(total, "float64") * (fraction * 2.0**exponent * power))
                last = _half_away if self.rounding == "twice, away" else _half_up
                steps = ops.cast(last(finer / power), "float32")
            return self.activation(steps * self.scales.outgoing)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return self.layer.compute_output_shape(input_shape)

    def _rounded(inputs: Any, low: Any, high: Any) -> Any:
        return keras.quantizers.fake_quant_with_min_max_vars(inputs, low, high)

    def _half_away(value: Any) -> Any:
        return ops.sign(value) * ops.floor(ops.abs(value) + 0.5)

    def _half_up(value: Any) -> Any:
        return ops.floor(value + 0.5)

    def _at_least(least: float) -> Any:
        return lambda value: ops.maximum(value, least)

    def _straight_through(kernel: Any, kind: str) -> Any:
        kept = kernel_axes(kind, len(kernel.shape))
        others = tuple(axis for axis in range(len(kernel.shape)) if axis not in kept)
        largest = ops.max(ops.abs(kernel), axis=others, keepdims=True)
        scale = ops.stop_gradient(ops.maximum(2 * largest, _NEAR_ZERO) / 254)
        steps = kernel / scale
        rounded = _half_away(steps) * scale
        return kernel + ops.stop_gradient(rounded - kernel)

    return FakeLayers(FixedRange, LearnedRange, RoundedWeights, RoundedPool, IntegerKernel)
