"""From what a model is and what its card says to the metadata of the file: one place decides how pixels become input.

The chain is `pixel -> own input -> tensor`: the card's normalization is the first arrow, a rescaling that was taken off
the model's front is the second. The file declares both as one normalization, so that a device does one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from converters.card import Card
from converters.errors import CalibrationError, ConversionError
from converters.graph.leading import Leading
from converters.load import ModelFacts
from edgeinfer.errors import MetadataError
from edgeinfer.model.metadata import (
    InputSpec,
    ModelMetadata,
    Normalization,
    OutputSpec,
    Rescaling,
    Task,
    read,
)
from edgeinfer.postprocess.classify import class_count

_TWICE = 16.0  # a card's range this many times off pixel units means that somebody else normalizes too


def own_inputs(facts: ModelFacts, card: Card) -> tuple[InputSpec, ...]:
    """Return the model's own inputs, as it was trained, with the normalization that makes them of pixels.

    Raises:
        CalibrationError: The card normalizes, and the model's first layer does so again.
    """
    # A first layer that widens pixels (Rescaling(2, -1)) was made for an input of 0..1, not for pixels: no guess then.
    takes_pixels = facts.per_channel_leading or (facts.leading is not None and abs(facts.leading.scale) <= 1)
    declared = card.normalizing() or (Normalization(0.0, 1.0) if takes_pixels else None)
    if takes_pixels and declared is not None and declared.std > _TWICE:
        raise CalibrationError(
            "The card normalizes pixels, and the model's first layer does so again.",
            received=f"normalization=({declared.mean:g}, {declared.std:g}) in front of a rescaling layer",
            expected="no normalization, or (0, 1): the model takes pixels of 0..255",
            next_step="Leave `normalization` away.",
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


def tensor_normalization(own: Normalization | None, leading: Leading | None) -> Normalization | None:
    """Return the map from pixels to the tensor behind a rescaling that was taken off.

    `tensor = own * scale + offset` and `own = (pixel - mean) / std` give
    `tensor = (pixel - (mean - offset * std / scale)) / (std / scale)`.

    Raises:
        ConversionError: The rescaling turns the range around, which a mean and a std cannot say.

    Example:
        >>> tensor_normalization(Normalization(0, 1), Leading(1 / 127.5, -1.0))
        Normalization(mean=127.5, std=127.5)
    """
    if own is None or leading is None:
        return own
    if leading.scale < 0:
        raise ConversionError(
            "The model's first layer rescales by a negative number.",
            received=f"scale={leading.scale:g}",
            expected="a scale above 0",
            next_step="Move the sign into the following layer, or convert with float calibration data.",
        )
    std = own.std / leading.scale
    return Normalization(own.mean - leading.offset * std, std)


def check_labels(facts: ModelFacts, card: Card) -> None:
    """Refuse labels that fit no output, before minutes go into a conversion.

    Args:
        facts: Of the loaded model. An output whose size depends on the data is taken to fit.
        card: What the user says.

    Raises:
        MetadataError: Labels fewer or more than the classes of every output.
    """
    widths = [class_count(OutputSpec(one.name, one.shape, one.dtype)) for one in facts.outputs]
    if not card.labels or len(card.labels) in widths or any(width < 0 for width in widths):
        return
    raise MetadataError(
        "The labels fit no output of the model.",
        received=f"{len(card.labels)} labels",
        expected=" or ".join(str(width) for width in widths),
        next_step="Give one label a class, in the order of the model's output, a background class included.",
    )


def describe(tflite: bytes, facts: ModelFacts, card: Card, made: Mapping[str, object]) -> ModelMetadata:
    """Return the metadata for a file that was just converted.

    Args:
        tflite: The converted bytes, still without metadata.
        facts: Of the model that it came from.
        card: What the user says.
        made: For `edgeinfer.json`: how the file was made.

    Raises:
        MetadataError: Labels fewer or more than the model's classes.
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
    outputs = found.outputs
    if card.labels:
        fitting = [index for index, spec in enumerate(outputs) if class_count(spec) == len(card.labels)]
        index = fitting[0] if len(fitting) == 1 else 0  # the writer refuses labels that do not fit
        outputs = (*outputs[:index], replace(outputs[index], labels=tuple(card.labels)), *outputs[index + 1 :])
    # Labels make a classification of what would else be a row of numbers; several outputs are more than that.
    task: Task = card.task or ("classification" if card.labels and len(outputs) == 1 else found.task)
    return replace(
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
    )
