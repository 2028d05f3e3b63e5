"""How many classes the detection op in a graph tells apart: what its options say, which no output shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeinfer.errors import MetadataError, MissingDependencyError
from edgeinfer.model.flatbuffer import FlatBuffer
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.label_rule import without_background
from edgeinfer.model.metadata import OutputSpec
from edgeinfer.model.schema import parse

__all__ = ["names_of_classes", "op_classes"]

_OP = "TFLite_Detection_PostProcess"
_OPTION = "num_classes"
# Slots of `schema.fbs` version 3: Model.subgraphs, SubGraph.operators, Operator.custom_options.
_SUBGRAPHS, _OPERATORS, _CUSTOM_OPTIONS = 2, 3, 5


def op_classes(tflite: bytes) -> int | None:
    """Return how many classes the file's detection op counts, its background left out; None where it has no such op.

    Source: the option `num_classes` of tensorflow/lite/kernels/detection_postprocess.cc, a FlexBuffer map.
    """
    operators = parse(tflite).main.operators
    place = next((index for index, one in enumerate(operators) if one.op == _OP), None)
    if place is None:
        return None
    tables = FlatBuffer(tflite, "The model file").root(b"TFL3").tables(_SUBGRAPHS)[0].tables(_OPERATORS)
    return _number(bytes(tables[place].integers(_CUSTOM_OPTIONS, "B")))


def _number(options: bytes) -> int | None:
    try:
        from flatbuffers import flexbuffers
    except ImportError as error:
        raise MissingDependencyError(
            "Reading a detection op's options needs the package `flatbuffers`.",
            received=str(error),
            next_step="pip install flatbuffers",
        ) from error
    try:
        said: Any = flexbuffers.Loads(bytearray(options)) if options else {}
        return int(said[_OPTION])
    except Exception:  # flexbuffers raises whatever happens first on damage: AssertionError, struct.error, KeyError
        return None  # the engine reads the options itself; here they would only have helped


def names_of_classes(
    tflite: bytes, labels: Sequence[str], outputs: Sequence[OutputSpec], head: DetectionHead | None
) -> tuple[str, ...]:
    """Return the labels as the model counts them: without a background in front where it is no class of the model's.

    Args:
        tflite: The file; its detection op, where it has one, says how many classes it counts.
        labels: Names of the classes.
        outputs: With their roles.
        head: Of a detection; one with a background answers with one class less than it has scores.

    Raises:
        MetadataError: Fewer or more than the classes of the file's detection op.
    """
    count = op_classes(tflite)
    if count is None:
        scores = [one.shape[-1] for one in outputs if one.role == "scores" and one.shape]
        background = head is not None and head.background and len(scores) == 1
        return without_background(labels, scores[0] - 1) if background else tuple(labels)
    names = without_background(labels, count)
    if len(names) != count:
        raise MetadataError(
            "The labels do not fit the model's detection op.",
            received=f"{len(labels)} labels",
            expected=f"{count}, one a class, the background left out",
            next_step="A list of COCO's 80 classes lacks the 10 numbers that COCO leaves out." if count == 90 else "",
        )
    return names
