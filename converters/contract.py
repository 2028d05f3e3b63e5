"""From what a model is and what its card says to the metadata of the file: one place decides how pixels become input.

The chain is `pixel -> own input -> tensor`: the card's normalization is the first arrow, a rescaling that was taken off
the model's front is the second. The file declares both as one normalization, so that a device does one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from converters.card import Card
from converters.errors import CalibrationError
from converters.facts import ModelFacts
from converters.graph.leading import Leading
from converters.roles import check_answerable, check_roles, with_roles
from converters.steps import Ending
from edgeinfer.model.label_rule import fitting_outputs, labelled_output
from edgeinfer.model.metadata import (
    InputSpec,
    ModelMetadata,
    Normalization,
    OutputSpec,
    Rescaling,
    Role,
    Task,
    read,
)

# What a network is trained on lies around zero, in a span of about one: 1 for [0, 1], 2 for [-1, 1], 4 to 5 for a mean
# of 0 and a deviation of 1. A front layer that maps the pixels 0..255 into that was made for pixels, and one that maps
# 0..1 into it was made for 0..1: they are 255 times apart, so no layer does both, and the limits need not be sharp.
_WIDEST = 10.0
_NARROWEST = 0.1
# A layer that only shifts was made for pixels if it shifts by grey levels: nobody takes 16 off a number of 0..1.
_GREY_LEVELS = 16.0
_PIXELS = (0.0, 255.0)
# What stands at the end of a graph that was given an ending, in its order.
ENDING_ROLES: Mapping[Ending, tuple[Role, ...]] = {"argmax": ("classmap",), "top-k": ("scores", "classes")}


def takes_pixels(front: Sequence[Leading]) -> bool:
    """Whether a rescaling layer at the front was made for pixels of 0..255, as far as its numbers tell.

    Args:
        front: Its maps, one or more channels; empty where there is none.
    """
    if not front:
        return False
    low, high, width = _mapped(_PIXELS, front)
    if width >= _NARROWEST and high - low <= _WIDEST and max(-low, high) <= _WIDEST:
        return True
    return all(abs(one.scale) == 1 and abs(one.offset) >= _GREY_LEVELS for one in front)


def normalizes_twice(declared: Normalization, front: Sequence[Leading]) -> bool:
    """Whether pixels that were normalized as declared come out of the front layer as nearly one value, or far from 0.

    Args:
        declared: From pixels to the model's own input.
        front: What the model's first layer does to that, as for `takes_pixels`.
    """
    if not front:
        return False
    low, high, width = _mapped(declared.range, front)
    return width < _NARROWEST or max(low, -high) > _WIDEST * width


def _mapped(span: tuple[float, float], front: Sequence[Leading]) -> tuple[float, float, float]:
    """Return the lowest and the highest value that a range becomes, and how wide the widest channel is."""
    ends = [value * one.scale + one.offset for one in front for value in span]
    return min(ends), max(ends), (span[1] - span[0]) * max(abs(one.scale) for one in front)


def own_inputs(facts: ModelFacts, card: Card) -> tuple[InputSpec, ...]:
    """Return the model's own inputs, as it was trained, with the normalization that makes them of pixels.

    The card has the first word. Without it, a first layer that was made for pixels says that the own input is pixels;
    any other first layer says nothing, and whoever needs to know has to ask.

    Raises:
        CalibrationError: The card normalizes, and the model's first layer does so again.
    """
    declared = card.normalizing()
    if declared is None and takes_pixels(facts.front):
        declared = Normalization(0.0, 1.0)
    elif declared is not None and normalizes_twice(declared, facts.front):
        raise CalibrationError(
            "The card normalizes pixels, and the model's first layer does so again.",
            received=f"normalization=({declared.mean:g}, {declared.std:g}) in front of {_layers(facts.front)}",
            expected="what the model was trained on: (0, 1) if its own input is pixels of 0..255",
            next_step="Leave `normalization` away." if takes_pixels(facts.front) else "",
        )
    specs = []
    for tensor in facts.inputs:
        spec = InputSpec(name=tensor.name, shape=tensor.shape, dtype=tensor.dtype)
        if spec.is_image:
            spec = replace(
                spec,
                colour="rgb" if spec.shape[3] == 3 else "grayscale",
                normalization=declared,
                resize=card.resizing(),
            )
        specs.append(spec)
    return tuple(specs)


def _layers(front: Sequence[Leading]) -> str:
    one = front[0]
    names = ", ".join(f"`{name}`" for name in one.layers) or "a rescaling layer"
    return f"{names} (x * {one.scale:.4g} + {one.offset:.4g})"


def tensor_normalization(own: Normalization | None, leading: Leading | None) -> Normalization | None:
    """Return the map from pixels to the tensor behind a rescaling that was taken off.

    `tensor = own * scale + offset` and `own = (pixel - mean) / std` give
    `tensor = (pixel - (mean - offset * std / scale)) / (std / scale)`.

    Example:
        >>> tensor_normalization(Normalization(0, 1), Leading(1 / 127.5, -1.0))
        Normalization(mean=127.5, std=127.5)
    """
    if own is None or leading is None:
        return own
    std = own.std / leading.scale
    return Normalization(own.mean - leading.offset * std, std)


def check_labels(facts: ModelFacts, card: Card) -> None:
    """Refuse labels and roles that fit no output, before minutes go into a conversion.

    Args:
        facts: Of the loaded model. An output whose size depends on the data is taken to fit.
        card: What the user says.

    Raises:
        MetadataError: Labels fewer or more than the classes of every output, or roles that do not fit the outputs.
    """
    outputs = [OutputSpec(one.name, one.shape, one.dtype) for one in facts.outputs]
    task = card.task or "tensors"
    known = with_roles(task, outputs, card.head, card.roles)
    check_roles(task, known, card.head)
    if card.labels and all(size >= 0 for one in outputs for size in one.shape):
        _labelled(task, known, card)


def describe(
    tflite: bytes, facts: ModelFacts, card: Card, made: Mapping[str, object], ending: Ending | None = None
) -> ModelMetadata:
    """Return the metadata for a file that was just converted.

    Args:
        tflite: The converted bytes, still without metadata.
        facts: Of the model that it came from.
        card: What the user says.
        made: For `edgeinfer.json`: how the file was made.
        ending: What was folded into the graph behind the model.

    Raises:
        MetadataError: Labels fewer or more than the model's classes, or roles that do not fit its outputs.
        ModelError: The outputs are none of the card's task.
    """
    found = read(tflite)
    own = own_inputs(facts, card)
    inputs = tuple(
        replace(
            spec,
            colour=mine.colour,
            normalization=tensor_normalization(mine.normalization, facts.leading),
            resize=mine.resize,
            rescaling=None if facts.leading is None else Rescaling(facts.leading.scale, facts.leading.offset),
        )
        for spec, mine in zip(found.inputs, own, strict=True)
    )
    task = _task(card, found, ending)
    # What was folded into the graph answers for the roles that the model's own outputs had.
    roles = card.roles if ending is None else ENDING_ROLES[ending]
    outputs = with_roles(task, found.outputs, card.head, roles)
    if card.labels:
        index = _labelled(task, outputs, card)
        outputs = (*outputs[:index], replace(outputs[index], labels=tuple(card.labels)), *outputs[index + 1 :])
    said = replace(
        found,
        task=task,
        inputs=inputs,
        outputs=outputs,
        name=card.name or facts.name,
        description=card.description,
        version=card.version,
        author=card.author,
        license=card.license,
        made=made,
        head=card.head,
    )
    if card.task is not None:
        # A file that its own task's constructor would not take is of no use on the device.
        check_answerable(said)
    return said


def _task(card: Card, found: ModelMetadata, ending: Ending | None) -> Task:
    if card.task is not None:
        return card.task
    if ending is not None:
        return "classification" if ending == "top-k" else "segmentation"
    if card.labels and found.task == "tensors" and len(found.outputs) == 1:
        # Labels make a classification of what would else be a row of numbers, and a segmentation of a map.
        (output,) = found.outputs
        return "segmentation" if len(output.shape) == 4 and min(output.shape[1:3]) > 1 else "classification"
    return found.task


def _labelled(task: Task, outputs: Sequence[OutputSpec], card: Card) -> int:
    """Return the output that the labels are for; the first of those that are alike."""
    fitting = fitting_outputs(task, outputs, card.head, len(card.labels))
    what = "names" if task == "pose" else "labels"
    return fitting[0] if fitting else labelled_output(task, outputs, card.head, len(card.labels), what=what)
