"""Small runnable `.tflite` files whose outputs are what a test says, whatever picture comes in.

Each output is a constant that a RESHAPE hands on, so a real interpreter holds it in a real tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tiny_flatbuffer import Vector
from tiny_models import RESHAPE, OperatorSpec, TensorSpec, model

from edgeinfer.model.metadata import ModelMetadata
from edgeinfer.postprocess.detect import DetectionOptions, detection_post
from edgeinfer.preprocess.geometry import View
from edgeinfer.results import Detections
from edgeinfer.runtime.runtime import Runtime


@dataclass(frozen=True)
class Out:
    """One output: its name, its stored numbers, and how they are quantized."""

    name: str
    stored: NDArray[np.generic]
    scale: float | None = None
    zero_point: int = 0


def quantized(name: str, real: NDArray[np.floating], *, dtype: str = "int8", scale: float = 1 / 256) -> Out:
    """Real values from 0 up, as integers whose lowest stands for 0."""
    limits = np.iinfo(dtype)
    zero_point = int(limits.min)
    stored = np.clip(np.round(np.asarray(real, np.float64) / scale) + zero_point, limits.min, limits.max)
    return Out(name, stored.astype(dtype), scale, zero_point)


def answering(outputs: Sequence[Out], *, size: tuple[int, int] = (64, 64)) -> bytes:
    """A model that takes a picture of this (width, height) and answers with these outputs."""
    tensors = [TensorSpec("image", (1, size[1], size[0], 3))]
    operators = []
    answers = []
    for out in outputs:
        dtype, shape = out.stored.dtype.name, out.stored.shape
        first = len(tensors)
        tensors += [
            TensorSpec(f"{out.name}/constant", shape, dtype, out.scale, out.zero_point, data=out.stored.tobytes()),
            TensorSpec(f"{out.name}/shape", (len(shape),), "int32", values=list(shape)),
            TensorSpec(out.name, shape, dtype, out.scale, out.zero_point),
        ]
        operators.append(OperatorSpec(RESHAPE, (first, first + 1), (first + 2,), 17, {0: Vector("i", list(shape))}))
        answers.append(first + 2)
    return model(tensors, operators, inputs=[0], outputs=answers)


def ran(outputs: Sequence[Out], *, size: tuple[int, int] = (64, 64)) -> Runtime:
    """The same in an interpreter that has run once."""
    runtime = Runtime(answering(outputs, size=size), threads=1, trial=False)
    runtime.invoke()
    return runtime


def whole(size: tuple[int, int] = (64, 64)) -> View:
    """A picture of the input's size: nothing to undo."""
    return View(size, size, (1.0, 1.0), (0.0, 0.0))


def detect(
    runtime: Runtime,
    options: DetectionOptions,
    *,
    view: View | None = None,
    labels: Sequence[str] | None = None,
    metadata: ModelMetadata | None = None,
) -> Detections:
    """What the outputs of the latest run are as detections."""
    post = detection_post(metadata or runtime.metadata, labels=labels, options=options)
    return post(runtime.tensors, view or whole(runtime.input.size))
