"""Which loss goes with a model's output and the labels it is trained to, and which labels cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from converters.errors import TrainingError
from converters.train.endings import Kind

__all__ = ["Goal", "Labels", "check_labels", "choose_goal"]

Task = Literal["classes", "binary", "values"]
_CLASS_CURE = "Number the classes from 0, and make the model's output as wide as there are classes."


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of labels before they are read.

    Attributes:
        shape: Without the batch; None where a size is not known.
        whole: Whether they are whole numbers: classes, or 0 and 1. Floats are shares or values.
    """

    shape: tuple[int | None, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{'whole numbers' if self.whole else 'floats'} {_with_batch(self.shape)}"


@dataclass(frozen=True, slots=True)
class Goal:
    """What a model is trained to.

    Attributes:
        task: "classes" exclude each other; "binary" is a yes or no for each output; "values" are a regression.
        from_logits: Whether the output is logits, or probabilities.
        sparse: Whether a label is the number of its class.
    """

    task: Task
    from_logits: bool
    sparse: bool = False

    @property
    def kind(self) -> Kind:
        """What the output is: "softmax", "sigmoid" or "linear"."""
        if self.task == "values" or self.from_logits:
            return "linear"
        return "softmax" if self.task == "classes" else "sigmoid"

    def loss(self) -> Any:
        """Return the Keras loss: cross-entropy, binary cross-entropy or mean squared error."""
        import keras

        if self.task == "values":
            return keras.losses.MeanSquaredError()
        if self.task == "binary":
            return keras.losses.BinaryCrossentropy(from_logits=self.from_logits)
        if self.sparse:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=self.from_logits)
        return keras.losses.CategoricalCrossentropy(from_logits=self.from_logits)


def choose_goal(kind: Kind, output: tuple[int | None, ...], labels: Labels) -> Goal:
    """Return what a model is trained to.

    Args:
        kind: What it ends in; "unknown" counts as linear.
        output: Shape of its output without the batch.
        labels: What it shall answer.

    Raises:
        TrainingError: The labels do not fit the output.
    """
    width = output[-1] if output else None
    linear = kind not in ("softmax", "sigmoid")
    same = fits(labels.shape, output)
    # One class a position, as (n,) or (n, 1).
    numbered = bool(output) and (fits(labels.shape, output[:-1]) or fits(labels.shape, (*output[:-1], 1)))
    if kind == "softmax" and width == 1:
        raise TrainingError(
            "A softmax over one output is always 1: nothing can be learned.",
            received=f"output {_with_batch(output)}",
            expected="a sigmoid for one output, or a softmax over two and more",
        )
    if labels.whole:
        if numbered and width != 1 and kind != "sigmoid":
            return Goal("classes", linear, sparse=True)
        if numbered and width == 1:
            return Goal("binary", linear)
        if same and not linear:
            return Goal("binary" if kind == "sigmoid" else "classes", from_logits=False)
    elif same or (numbered and width == 1):
        if linear:
            return Goal("values", from_logits=False)
        return Goal("binary" if kind == "sigmoid" else "classes", from_logits=False)
    raise TrainingError(
        "The labels do not fit the model's output.",
        received=f"labels: {labels}",
        expected=f"{_expected(kind, output)} (the output is {_with_batch(output)}, {kind})",
        next_step="Turn whole numbers into floats where they are values to learn, and class numbers into 0 and 1 per "
        "output where an output stands for one class each.",
    )


def _expected(kind: Kind, output: tuple[int | None, ...]) -> str:
    shares = f"0 and 1 per output, {_with_batch(output)}"
    if kind == "sigmoid":
        return shares
    numbers = f"class numbers {_with_batch(output[:-1])}"
    return f"{numbers}, or {shares}" if kind == "softmax" else f"{numbers}, or floats {_with_batch(output)}"


def _with_batch(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join(['n', *('?' if one is None else str(one) for one in shape)])})".replace("(n)", "(n,)")


def fits(shape: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    """Whether two shapes are the same as far as both are known."""
    return len(shape) == len(other) and all(a is None or b is None or a == b for a, b in zip(shape, other, strict=True))


def check_labels(labels: NDArray[Any], goal: Goal, classes: int | None) -> None:
    """Refuse label values that the loss would take without a word, or answer with NaN.

    Args:
        labels: (n, ...).
        goal: From `choose_goal`.
        classes: Width of the output.

    Raises:
        TrainingError: A class that the output has not, a share outside 0..1, or a value that is not finite.
    """
    if labels.dtype.kind == "f":
        bad = ~np.isfinite(labels)
        if bad.any():
            raise TrainingError(
                "Labels are not finite.",
                received=f"{int(bad.sum())} values NaN or infinite, the first in sample {_first(bad)}",
                expected="finite floats",
            )
    if goal.task == "values":
        return
    high = classes - 1 if goal.sparse and classes is not None else 1
    outside = (labels < 0) | (labels > high)
    if outside.any():
        sample = _first(outside)
        what = "class that the model has not" if goal.sparse else "number that is neither yes nor no"
        raise TrainingError(
            f"The labels name a {what}.",
            received=f"{labels[sample].max()} in sample {sample}"
            if labels[sample].max() > high
            else f"{labels[sample].min()} in sample {sample}",
            expected=f"0 to {high}",
            next_step=_CLASS_CURE if goal.sparse else "",
        )
    if goal.task == "classes" and not goal.sparse:
        sums = labels.sum(axis=-1)
        wrong = np.abs(sums - 1) > 1e-3
        if wrong.any():
            raise TrainingError(
                "The labels of a sample are no shares of one whole.",
                received=f"a sum of {float(sums[wrong][0]):.4g} in sample {_first(wrong)}",
                expected="0 to 1 per class, and 1 in sum",
            )


def _first(bad: NDArray[np.bool_]) -> int:
    return int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
