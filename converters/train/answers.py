"""Models as distillation compares them: logits in place of probabilities, features beside them, one call for all.

Keras' own way to features calls the student twice per batch, which doubles the time and moves BatchNorm's averages
twice. Here a model answers with a tuple, made in one call. (Tuples, because Keras wraps the lists that it holds into a
class of its own, and then takes them for another structure.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from converters.graph.network import functional_graph
from converters.train.endings import Ending, without_activation

__all__ = ["AnswerModels", "answer_models", "answer_of", "logits_of"]

# Probabilities are known no closer than float32 lets them be near 1.
_LEAST = 1e-7


@dataclass(frozen=True, slots=True)
class AnswerModels:
    """The classes, all of them `keras.Model`.

    Attributes:
        student: `(answer, graph, ends)`: `answer(x, training)` returns a tuple of tensors, `graph` is the functional
            model whose weights are trained, `ends` are layers for each tensor but the first, or None, trained along.
        teacher: `(answer, jit)`: calls `answer(x, False)`. It does not hold the teacher's layers, so nobody who trains
            or freezes it touches them.
        distiller: `keras.distillation.Distiller` that compares tuples: the labels and the first tensor, and every pair;
            and adds what the student's regularizers ask for, which Keras' leaves out.
    """

    student: Any
    teacher: Any
    distiller: Any


def answer_of(
    model: Any, inputs: Any, ending: Ending, features: Sequence[Any], kind: str
) -> tuple[Any, Callable[[Any, bool], tuple[Any, ...]]]:
    """Return a functional model that shares all layers with another, and a function to call it with.

    Args:
        model: Functional or Sequential, with one output.
        inputs: Its symbolic inputs, in the structure that batches come in.
        ending: What it ends in.
        features: Symbolic tensors of the model that are wanted, too.
        kind: "softmax" and "sigmoid" become logits, anything else stays as it is.

    Returns:
        The functional model, and `answer(x, training)` -> (logits or values, each feature).
    """
    import keras

    last = functional_graph(model).outputs[0] if ending.tensor is None else ending.tensor
    graph = keras.Model(inputs, [last, *features], name=model.name)
    is_logits = ending.tensor is not None or ending.layer is not None

    def answer(x: Any, training: bool) -> tuple[Any, ...]:
        with without_activation(ending.layer):
            first, *others = keras.tree.flatten(graph(x, training=training))
        return (first if is_logits else logits_of(first, kind), *others)

    return graph, answer


def logits_of(probabilities: Any, kind: str, least: float = _LEAST) -> Any:
    """Return logits whose softmax or sigmoid the probabilities are; softmax leaves a constant open, which stays 0.

    Args:
        probabilities: (n, ..., classes).
        kind: "softmax", "sigmoid"; anything else comes back as it is.
        least: Smallest probability; what is below counts as this much.
    """
    import keras

    if kind == "softmax":
        return keras.ops.log(keras.ops.maximum(probabilities, least))
    if kind == "sigmoid":
        inside = keras.ops.clip(probabilities, least, 1 - least)
        return keras.ops.log(inside) - keras.ops.log(1 - inside)
    return probabilities


@functools.cache
def answer_models() -> AnswerModels:
    """Return the classes; they are made behind a function because Keras is imported only where it is used."""
    import keras

    class Student(keras.Model):  # type: ignore[misc]
        def __init__(self, answer: Callable[[Any, bool], tuple[Any, ...]], graph: Any, ends: Sequence[Any]) -> None:
            super().__init__(name="student")
            self.answer, self.graph = answer, graph
            self.ends = list(ends)

        def call(self, inputs: Any, training: bool = False) -> tuple[Any, ...]:
            first, *others = self.answer(inputs, training)
            pairs = zip(self.ends, others, strict=True)
            return (first, *(other if end is None else end(other) for end, other in pairs))

    class Teacher(keras.Model):  # type: ignore[misc]
        def __init__(self, answer: Callable[[Any, bool], tuple[Any, ...]], jit: bool) -> None:
            super().__init__(name="teacher")
            self.answer, self.supports_jit = answer, jit

        def call(self, inputs: Any, training: bool = False) -> tuple[Any, ...]:  # noqa: ARG002
            return tuple(keras.ops.stop_gradient(one) for one in self.answer(inputs, False))

    class TupleDistiller(keras.distillation.Distiller):  # type: ignore[misc]
        def compute_loss(
            self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            # The labels are for the first tensor; the losses of the others ignore what stands in their place.
            total = super().compute_loss(x, (y, *y_pred[1:]), y_pred, sample_weight, training)
            # As all losses in Keras: each replica has its part of the mean.
            replicas = self.distribute_strategy.num_replicas_in_sync
            return total + sum(self.student.losses) / replicas

    return AnswerModels(Student, Teacher, TupleDistiller)
