"""Distances between what a teacher and a student answer, as Keras losses that `keras.distillation` takes.

Keras' own KL divergence is not used: it clips probabilities at 1e-7, where a wrong student's gradient is then zero; and
named by its string, `LogitsDistillation` hands it logits instead of probabilities and leaves the temperature's square
out (both found out with Keras 3.15).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

__all__ = ["DistillationLosses", "distillation_losses"]


@dataclass(frozen=True, slots=True)
class DistillationLosses:
    """The classes, all of them `keras.losses.Loss`: made with (teacher's, student's) tensors, the mean over the batch.

    Attributes:
        classes: `(temperature)`: T^2 KL(softmax(teacher) || softmax(student)) of logits (n, ..., classes) that are
            divided by T already. T^2 keeps its gradient as large as that of the labels, whatever T is.
            Source: Hinton et al. 2015, arXiv:1503.02531, section 2 and 2.1.
        binary: `(temperature)`: likewise for each output alone, sigmoid for softmax, the mean over the outputs.
        attention: `()`: || Q_s / ||Q_s|| - Q_t / ||Q_t|| || / 2, Euclidean norms, of maps (n, ..., channels); Q is the
            mean of the squared channels, as a vector. That it is no sum cancels out. A map of zeros stays zero.
            Source: Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2 and section 3.1, p = 2.
    """

    classes: Any
    binary: Any
    attention: Any


@functools.cache
def distillation_losses() -> DistillationLosses:
    """Return the losses; they are made behind a function because Keras is imported only where it is used."""
    import keras

    ops = keras.ops

    class Classes(keras.losses.Loss):  # type: ignore[misc]
        def __init__(self, temperature: float) -> None:
            super().__init__(name="softened_divergence")
            self.temperature = temperature

        def call(self, y_true: Any, y_pred: Any) -> Any:
            teacher, student = ops.log_softmax(y_true, axis=-1), ops.log_softmax(y_pred, axis=-1)
            return self.temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)

    class Binary(keras.losses.Loss):  # type: ignore[misc]
        def __init__(self, temperature: float) -> None:
            super().__init__(name="softened_binary_divergence")
            self.temperature = temperature

        def call(self, y_true: Any, y_pred: Any) -> Any:
            yes = ops.sigmoid(y_true) * (ops.log_sigmoid(y_true) - ops.log_sigmoid(y_pred))
            no = ops.sigmoid(-y_true) * (ops.log_sigmoid(-y_true) - ops.log_sigmoid(-y_pred))
            return self.temperature**2 * ops.mean(yes + no, axis=-1)

    class Attention(keras.losses.Loss):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="attention_transfer")

        def call(self, y_true: Any, y_pred: Any) -> Any:
            return norm(unit(y_pred) - unit(y_true))[:, 0] / 2

    def unit(features: Any) -> Any:
        energy = ops.mean(ops.square(features), axis=-1)
        vector = ops.reshape(energy, (ops.shape(energy)[0], -1))
        # Scaled first: squares of squares leave float32 early. The scale cancels out, so its gradient may, too.
        peak = ops.stop_gradient(ops.max(vector, axis=1, keepdims=True))
        vector = vector / nonzero(peak)
        return vector / nonzero(norm(vector))

    def nonzero(values: Any) -> Any:
        return ops.where(values > 0, values, 1.0)

    def norm(vector: Any) -> Any:
        # The square root has no gradient at 0, and that is where a student begins which is a copy of its teacher.
        squares = ops.sum(ops.square(vector), axis=1, keepdims=True)
        return ops.where(squares > 0, ops.sqrt(nonzero(squares)), 0.0)

    return DistillationLosses(Classes, Binary, Attention)
