"""What is known of a model that was read: values that travel from the child process to its parent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from converters.graph.leading import Leading

__all__ = ["Kind", "LayerFacts", "Loaded", "ModelFacts", "TensorFacts"]

Kind = Literal["keras", "h5", "savedmodel"]


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One input or output of a model.

    Attributes:
        name: As Keras or the SavedModel's signature says it, and as the TFLite file will.
        shape: With batch 1; -1 where an output's size depends on the data.
        dtype: NumPy's name.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One layer of a model.

    Attributes:
        name: Keras' name, behind those of the nested models around it: "base/stem".
        kind: The class, e.g. "Conv2D".
    """

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the parent process learns about a model without importing TensorFlow.

    Attributes:
        name: The model's own name.
        kind: What was read.
        inputs: In the order of the model.
        outputs: In the order of the model.
        layers: Keras layers, nested models unfolded; empty for a SavedModel.
        parameters: Number of weights, trained or not; None for a SavedModel.
        leading: A rescaling that was taken off the front, or None. If the model's own input was pixels, then the
            normalization is (mean, std) = (-offset / scale, 1 / scale).
        staying: Of a rescaling that stands at the front behind `leading` and stays there, e.g. one with a value per
            channel: the maps of the channels with the smallest and the largest scale and offset.
        versions: Of the packages that read the model, e.g. {"keras": "3.15.1", "tensorflow": "2.21.0"}.
    """

    name: str
    kind: Kind
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    layers: tuple[LayerFacts, ...] = ()
    parameters: int | None = None
    leading: Leading | None = None
    staying: tuple[Leading, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def front(self) -> tuple[Leading, ...]:
        """What the front of the model as it was trained does to its own input, channel by channel; () for nothing."""
        if self.leading is None:
            return self.staying
        return tuple(self.leading.then(one) for one in self.staying) or (self.leading,)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, with one way to call it.

    Attributes:
        call: Takes the batch-1 tensors in the order of `facts.inputs`, returns them in that of `facts.outputs`.
        facts: What it is. The shapes of its outputs are known for sure after tracing.
        replaced: What stands in the place of layers that the target lacks, one sentence a layer.
    """

    call: Callable[[Sequence[Any]], list[Any]]
    facts: ModelFacts
    replaced: tuple[str, ...] = ()
