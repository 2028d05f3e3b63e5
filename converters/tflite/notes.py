"""TFLite Metadata as bytes: the tables of its schema, written slot by slot.

No Python package that installs today has the schema, so its tables are built here. What is written beside names,
normalization and label file is what MediaPipe's tasks ask for:

* `ObjectDetector`: four outputs of a finished detection called as `FINISHED_NAMES` says, BoundingBoxProperties at the
  boxes, labels of values at the classes;
* `ImageSegmenter`: the custom metadata SEGMENTER_METADATA, which says what still has to be done to the scores;
* `ImageClassifier`, `ImageEmbedder`: nothing more.

Source: `metadata_schema.fbs` 1.5 and `image_segmenter_metadata_schema.fbs` 1.0 of google-ai-edge/mediapipe (the first
is also tensorflow/tflite-support's); the slot numbers are the order of the fields. What MediaPipe checks:
`detection_postprocessing_graph.cc` and `image_segmenter_graph.cc` in the same place.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from converters.tflite.attach import new_builder, table_offsets
from edgeinfer.errors import MetadataError
from edgeinfer.model.label_rule import labellings
from edgeinfer.model.metadata import LABELS_NAME, InputSpec, ModelMetadata, Normalization, OutputSpec, Role

__all__ = ["FINISHED_NAMES", "is_finished", "metadata_buffer", "utf8"]

# MediaPipe finds the four outputs of a detection by these names.
FINISHED_NAMES: dict[Role, str] = {
    "boxes": "location",
    "classes": "category",
    "scores": "score",
    "count": "number of detections",
}

_IDENTIFIER, _SEGMENTER_IDENTIFIER = b"M001", b"V001"
_SEGMENTER_NAME, _SEGMENTER_VERSION = "SEGMENTER_METADATA", "1.0.0"
_NO_ACTIVATION, _SIGMOID, _SOFTMAX = 0, 1, 2
# What a parser must know: fields of the first version, TensorGroup, CustomMetadata.
_VERSIONS = ("1.0.0", "1.2.0", "1.5.0")
_COLOURS = {"rgb": 1, "grayscale": 2}
# Members of the unions ContentProperties and ProcessUnitOptions.
_IMAGE_PROPERTIES, _BOX_PROPERTIES = 2, 3
_NORMALIZATION_OPTIONS = 1
_LABEL_KINDS = {"axis": 2, "values": 3}
_BOUNDARIES = 1
_RATIO, _PIXEL = 0, 1
# Where left, top, right and bottom stand in a box of each order.
_BOX_INDICES = {"yxyx": (1, 0, 3, 2), "xyxy": (0, 1, 2, 3)}
_ALIGNMENT = 16


def is_finished(metadata: ModelMetadata) -> bool:
    """Whether the outputs are a finished detection's: boxes, classes, scores and their count, each once."""
    roles = [one.role for one in metadata.outputs]
    return metadata.task == "detection" and sorted(roles) == sorted(FINISHED_NAMES)


def metadata_buffer(metadata: ModelMetadata) -> bytes:
    """Return the content of the buffer `TFLITE_METADATA`.

    Raises:
        MetadataError: A text is no UTF-8, or a normalization does not fit into 32-bit floats.
    """
    builder = new_builder()
    finished = is_finished(metadata)
    inputs = [_input(builder, spec) for spec in metadata.inputs]
    outputs = [_output(builder, metadata, place) for place in range(len(metadata.outputs))]
    slots = {2: table_offsets(builder, inputs), 3: table_offsets(builder, outputs)}
    version = _VERSIONS[0]
    if finished:
        slots[8], version = table_offsets(builder, [_group(builder)]), _VERSIONS[1]
    if _is_score_map(metadata):
        slots[9], version = table_offsets(builder, [_segmenter(builder, metadata.outputs[-1])]), _VERSIONS[2]
    subgraph = _table(builder, slots)
    fields = {
        0: _text(builder, metadata.name),
        1: _text(builder, metadata.description),
        2: _text(builder, metadata.version),
        3: table_offsets(builder, [subgraph]),
        4: _text(builder, metadata.author),
        5: _text(builder, metadata.license),
        7: _text(builder, version),
    }
    builder.Finish(_table(builder, fields), _IDENTIFIER)
    return bytes(builder.Output())


def _input(builder: Any, spec: InputSpec) -> int:
    fields = {0: _text(builder, spec.name)}
    if spec.colour is not None:
        properties = _table(builder, {}, {0: _COLOURS[spec.colour]})
        fields[3] = _table(builder, {1: properties}, {0: _IMAGE_PROPERTIES})
    if spec.normalization is not None:
        _check_float32(spec, spec.normalization)
        low, high = spec.normalization.range
        mean, std = _float(builder, spec.normalization.mean), _float(builder, spec.normalization.std)
        options = _table(builder, {0: mean, 1: std})
        unit = _table(builder, {1: options}, {0: _NORMALIZATION_OPTIONS})
        fields[4] = table_offsets(builder, [unit])
        fields[5] = _table(builder, {0: _float(builder, high), 1: _float(builder, low)})
    return _table(builder, fields)


def _output(builder: Any, metadata: ModelMetadata, place: int) -> int:
    spec = metadata.outputs[place]
    fields = {0: _text(builder, spec.name)}
    if is_finished(metadata) and spec.role != "count":
        fields[3] = _box_content(builder, metadata) if spec.role == "boxes" else _each(builder, {}, 0)
    if spec.labels:
        rule = labellings(metadata.task, metadata.outputs, metadata.head)[place]
        kind = _LABEL_KINDS["axis" if rule is None else rule.kind]
        file = _table(builder, {0: _text(builder, LABELS_NAME)}, {2: kind})
        fields[6] = table_offsets(builder, [file])
    return _table(builder, fields)


def _box_content(builder: Any, metadata: ModelMetadata) -> int:
    order = "yxyx" if metadata.head is None else metadata.head.box_order
    pixels = metadata.head is not None and metadata.head.unit == "pixels"
    if order not in _BOX_INDICES:
        return 0  # a centre and a size: MediaPipe reads none of these
    builder.StartVector(4, 4, 4)
    for index in reversed(_BOX_INDICES[order]):
        builder.PrependUint32(index)
    properties = _table(builder, {0: builder.EndVector()}, {1: _BOUNDARIES, 2: _PIXEL if pixels else _RATIO})
    return _each(builder, {1: properties}, _BOX_PROPERTIES)


def _each(builder: Any, children: Mapping[int, int], member: int) -> int:
    """Write a Content whose range is dimension 2: every box, class and score is one of its own."""
    builder.StartObject(2)
    for slot in (0, 1):
        builder.PrependInt32Slot(slot, 2, 0)
    span = int(builder.EndObject())
    return _table(builder, {**children, 2: span}, {0: member})


def _group(builder: Any) -> int:
    """Write the TensorGroup that binds what belongs to one detection."""
    names = [_text(builder, FINISHED_NAMES[role]) for role in ("boxes", "classes", "scores")]
    listed = table_offsets(builder, names)
    return _table(builder, {0: _text(builder, "detection_result"), 1: listed})


def _is_score_map(metadata: ModelMetadata) -> bool:
    return metadata.task == "segmentation" and bool(metadata.outputs) and metadata.outputs[-1].role != "classmap"


def _segmenter(builder: Any, spec: OutputSpec) -> int:
    """Write ImageSegmenterOptions: what MediaPipe has to do to the scores before they are confidences."""
    single = spec.shape[-1:] == (1,)
    activation = _NO_ACTIVATION if spec.activation != "none" else _SIGMOID if single else _SOFTMAX
    inner = new_builder()
    version = _text(inner, _SEGMENTER_VERSION)
    inner.Finish(_table(inner, {1: version}, {0: activation}), _SEGMENTER_IDENTIFIER)
    data = bytes(inner.Output())
    builder.Prep(_ALIGNMENT, len(data))
    content = builder.CreateByteVector(data)
    return _table(builder, {0: _text(builder, _SEGMENTER_NAME), 1: content})


def _table(builder: Any, children: Mapping[int, int], small: Mapping[int, int] | None = None) -> int:
    """Write a table.

    Args:
        builder: To write with.
        children: Slot to the position of what was written before; 0 is nothing.
        small: Slot to the number of a one-byte field.
    """
    numbers = small or {}
    builder.StartObject(max([*children, *numbers], default=-1) + 1)
    for slot, child in children.items():
        builder.PrependUOffsetTRelativeSlot(slot, child, 0)
    for slot, number in numbers.items():
        builder.PrependUint8Slot(slot, number, 0)
    return int(builder.EndObject())


def _text(builder: Any, text: str) -> int:
    return int(builder.CreateString(utf8(text, "The metadata"))) if text else 0


def utf8(text: str, what: str) -> bytes:
    """Return a text's bytes.

    Raises:
        MetadataError: It holds half a character.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise MetadataError(f"{what} cannot be written as UTF-8.", received=str(error)) from error


def _float(builder: Any, value: float) -> int:
    """Write a list of one float32."""
    builder.StartVector(4, 1, 4)
    builder.PrependFloat32(value)
    return int(builder.EndVector())


def _check_float32(spec: InputSpec, normalization: Normalization) -> None:
    """Refuse what float32 turns into 0 or infinity."""
    try:
        struct.pack("<4f", normalization.mean, *normalization.range, normalization.std)
        vanishes = struct.unpack("<f", struct.pack("<f", normalization.std))[0] == 0
    except OverflowError:
        vanishes = True
    if vanishes:
        raise MetadataError(
            f"The normalization of input `{spec.name}` does not fit into 32-bit floats.",
            received=f"mean={normalization.mean}, std={normalization.std}",
            expected="pixel units, e.g. (127.5, 127.5)",
        )
