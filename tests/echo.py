"""Models that answer with what is put into them: real outputs of any shape and type, without a network behind them."""

from __future__ import annotations

import numpy as np
import tiny_models
from numpy.typing import NDArray

from edgeinfer.model.metadata import Activation, InputSpec, ModelMetadata, OutputSpec, Role
from edgeinfer.runtime.runtime import Runtime, Tensors


def output(
    name: str,
    shape: tuple[int, ...],
    dtype: str = "float32",
    quantization: tuple[float, int] = (0.0, 0),
    *,
    labels: tuple[str, ...] = (),
    activation: Activation = "none",
    role: Role = "",
) -> OutputSpec:
    return OutputSpec(name, shape, dtype, *quantization, labels=labels, activation=activation, role=role)


def metadata(*outputs: OutputSpec, size: tuple[int, int] = (8, 8)) -> ModelMetadata:
    """What a file would say of a model that takes a picture of this (width, height) and gives these outputs."""
    image = InputSpec("image", (1, size[1], size[0], 3), "uint8", colour="rgb")
    return ModelMetadata("tensors", (image,), outputs)


def runtime(*outputs: OutputSpec) -> Runtime:
    """A model with one input and one RESHAPE for each output."""
    tensors, operators = [], []
    for place, spec in enumerate(outputs):
        scale, zero_point = (spec.scale or None), spec.zero_point
        tensors += [
            tiny_models.TensorSpec(f"in {place}", (int(np.prod(spec.shape)),), spec.dtype, scale, zero_point),
            tiny_models.TensorSpec(f"shape {place}", (len(spec.shape),), "int32", values=spec.shape),
            tiny_models.TensorSpec(spec.name, spec.shape, spec.dtype, scale, zero_point),
        ]
        options = {0: tiny_models.Vector("i", spec.shape)}
        operators.append(
            tiny_models.OperatorSpec(tiny_models.RESHAPE, (3 * place, 3 * place + 1), (3 * place + 2,), 17, options)
        )
    first = range(0, len(tensors), 3)
    data = tiny_models.model(tensors, operators, inputs=list(first), outputs=[place + 2 for place in first])
    return Runtime(data, threads=1, trial=False)


def answers(*pairs: tuple[OutputSpec, NDArray]) -> Tensors:
    """The outputs of a model that has answered with these stored numbers."""
    model = runtime(*[spec for spec, _ in pairs])
    for place, (_, stored) in enumerate(pairs):
        model.input_view(place)[...] = stored.reshape(-1)
    model.invoke()
    tensors = model.tensors
    # What a RESHAPE cannot say of itself: labels, activation, role.
    tensors.specs = tuple(spec for spec, _ in pairs)
    return tensors


class Recorder:
    """A model that can be asked again: for tests of what an error leaves behind."""

    def __init__(self, spec: OutputSpec) -> None:
        self.runtime = runtime(spec)

    def answer(self, stored: NDArray) -> Tensors:
        self.runtime.input_view()[...] = stored.reshape(-1)
        self.runtime.invoke()
        return self.runtime.tensors
