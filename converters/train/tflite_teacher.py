"""A finished model file as a teacher: its answers through the device's engine, sample by sample."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import RecipeError
from converters.train.answers import logits_of
from converters.train.batches import Examples
from edgeinfer.model.metadata import InputSpec
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.quantization import dequantize
from edgeinfer.runtime.runtime import Runtime

__all__ = ["FileTeacher"]


class FileTeacher:
    """A TFLite file that answers batches.

    Pixels go in as the file's own metadata says, so its normalization may be another one than the student's. Anything
    else is the model's own input, as for `Runtime`.

    Args:
        path: The file.
        examples: The training data where it is ours, which tells pixels from floats; None for the caller's batches.

    Attributes:
        path: As given.
        kind: What it answers: "softmax", "sigmoid", or "linear".
        input_shapes: With the batch, which is 1, in the file's order.
        output_shape: Likewise.

    Raises:
        RecipeError: It has several outputs, or takes several samples at once.
        EdgeInferError: See `Runtime`.
    """

    def __init__(self, path: Path, examples: Examples | None) -> None:
        self.path = path
        self._runtime = Runtime(path, threads=1)  # the other cores train
        outputs = self._runtime.outputs
        if len(outputs) != 1:
            raise RecipeError(
                "A teacher has one output.", received=f"`{path}` with {len(outputs)}", expected="one output"
            )
        self._output = outputs[0]
        self.kind = {"softmax": "softmax", "sigmoid": "sigmoid"}.get(self._output.activation, "linear")
        self.input_shapes = tuple(spec.shape for spec in self._runtime.inputs)
        self.output_shape = self._output.shape
        if any(shape[:1] != (1,) for shape in (*self.input_shapes, self.output_shape)):
            raise RecipeError(
                "A teacher answers one sample at a time.",
                received=f"`{path}` with inputs {', '.join(map(str, self.input_shapes))}, output {self.output_shape}",
                expected="batch 1",
            )
        arrays = examples.inputs if examples is not None else (None,) * len(self.input_shapes)
        normalization = (examples.normalization if examples is not None else None) or (0.0, 1.0)
        # Strict is not possible: that the counts differ is for the caller to say, with the student's at hand.
        self._stored = [
            _from_pixels(spec, normalization)
            if array is not None and array.dtype == np.uint8 and spec.is_image and spec.normalization is not None
            else None
            for spec, array in zip(self._runtime.inputs, arrays, strict=False)
        ]
        # An interpreter belongs to one thread at a time, and replicas of a strategy ask from several.
        self._lock = threading.Lock()

    def answer(self, x: Any, training: bool) -> tuple[Any, ...]:  # noqa: ARG002
        """Return (logits or values,), (batch, *output shape) float32 of a batch of symbolic or eager tensors."""
        import keras
        import tensorflow as tf

        # A stored 0 is any probability below half a step of the output's scale.
        least = self._output.scale / 2 or 1e-7
        answers = tf.numpy_function(self._answers, keras.tree.flatten(x), tf.float32, stateful=True)
        answers.set_shape((None, *self.output_shape[1:]))
        return (logits_of(answers, self.kind, least),)

    def _answers(self, *batch: NDArray[Any]) -> NDArray[np.float32]:
        # All that can be done for the whole batch at once is: a small model's invoke takes less than NumPy's overhead.
        ready = [
            values if stored is None else stored(values) for values, stored in zip(batch, self._stored, strict=True)
        ]
        with self._lock:
            rows = [self._one(number, ready) for number in range(len(ready[0]))]
        raw = np.concatenate(rows)
        if raw.dtype.kind == "f":
            return raw.astype(np.float32, copy=False)
        return dequantize(raw, scale=self._output.scale, zero_point=self._output.zero_point)

    def _one(self, number: int, ready: Sequence[NDArray[Any]]) -> NDArray[Any]:
        for index, (values, stored) in enumerate(zip(ready, self._stored, strict=True)):
            if stored is None:
                self._runtime.set_input(values[number], index)
            else:
                self._runtime.input_view(index)[0] = values[number]
        self._runtime.invoke()
        return self._runtime.raw_output(0)


def _from_pixels(spec: InputSpec, normalization: tuple[float, float]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    table = Preprocessor(spec).table
    mean, std = normalization

    def stored(values: NDArray[Any]) -> NDArray[Any]:
        # Back to the pixels that they were: exact, because a pixel is further from the next than floats are wrong.
        pixels = np.rint(values * np.float32(std) + np.float32(mean))
        taken: NDArray[Any] = table[pixels.astype(np.uint8)]
        return taken

    return stored
