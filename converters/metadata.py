"""Write the contract into a model file: TFLite Metadata for all, `edgeinfer.json` for what it cannot say.

The dataclasses and the reader live in `edgeinfer.model.metadata`. What goes where:

* TFLite Metadata: name, description, version, author, license; of each input its name, colour, normalization
  and the value range that follows from it; of each output its name and label file.
* `labels.txt`: one class a line, UTF-8.
* `edgeinfer.json`: `{"schema", "task", "inputs": [{"resize", "rescaling"}], "outputs": [{"activation"}],
  "made"}`.
* The tensors themselves: shape, dtype, scale, zero point.

No Python package that installs today has the metadata schema, so its tables are built here slot by slot.

Source: `metadata_schema.fbs` in tensorflow/tflite-support; the slot numbers are the order of its fields.
MediaPipe 1.2 opens these files where the input is uint8, or float32 with a normalization.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from converters.tflite.attach import attach, new_builder, replace_files, table_offsets
from edgeinfer.errors import MetadataError
from edgeinfer.model.attached import ENTRY_NAME, ModelNotes, read_files, read_notes
from edgeinfer.model.metadata import (
    JSON_NAME,
    LABELS_NAME,
    SCHEMA,
    Activation,
    InputSpec,
    ModelMetadata,
    Normalization,
    OutputSpec,
    Resize,
    Task,
    parse_labels,
    read,
)
from edgeinfer.model.schema import Subgraph, parse
from edgeinfer.postprocess.classify import class_count

__all__ = ["annotate", "write"]

_IDENTIFIER = b"M001"
# Every field that is written here is in the schema since its first version.
_PARSER_VERSION = "1.0.0"
_COLOURS = {"rgb": 1, "grayscale": 2}
_IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = (
    2,
    1,
)  # members of the unions ContentProperties and ProcessUnitOptions
_AXIS_LABELS = 2


def write(tflite: bytes, metadata: ModelMetadata) -> bytes:
    """Return the model file with this metadata in it, in the place of what it said before.

    The model itself keeps every byte (see `converters.tflite.attach`), and so do metadata entries of other
    names, `min_runtime_version` among them. Attached files other than ours are dropped: nothing would name
    them any more.

    Args:
        tflite: The model file, with or without metadata.
        metadata: What it shall say. Normalization is stored as float32. Shapes, dtypes, scales and zero
            points are the tensors' own: shapes and dtypes must agree with the file, the others are not
            looked at.

    Returns:
        The same bytes for the same metadata, also when it is written a second time.

    Raises:
        MetadataError: The metadata contradicts the file or itself, or cannot be stored.
        DamagedModelError: It is no TFLite file, or damaged.

    Example:
        said = read(data)
        data = write(data, replace(said, name="Birds", author="A. Person", license="Apache-2.0"))
    """
    _check_tensors(metadata, parse(tflite).main)
    _check_normalizations(metadata)
    labels = _labels(metadata)
    files = {LABELS_NAME: _label_file(labels)} if labels else {}
    files[JSON_NAME] = _json_file(metadata)
    return attach(tflite, name=ENTRY_NAME, data=_flatbuffer(metadata), files=files)


def annotate(
    tflite: bytes,
    *,
    task: Task | None = None,
    labels: Sequence[str] | None = None,
    normalization: Normalization | None = None,
    resize: Resize | None = None,
    activation: Activation | None = None,
) -> bytes:
    """Return the model file with some of what it says changed; None leaves a value as it is.

    Args:
        tflite: The model file, with or without metadata.
        task: What the model does.
        labels: Names of the classes, for the one output that has as many; a single probability takes two.
            Names may repeat (ImageNet has two cranes), but none may be empty. An empty sequence takes the
            labels away.
        normalization: For every input that is a picture.
        resize: For every input that is a picture.
        activation: What the last op leaves, for the output that has the labels, or for the only one.

    Raises:
        MetadataError: The labels fit no output, or a value fits no tensor of this model.
        DamagedModelError: It is no TFLite file, or damaged.
    """
    try:
        said = read(tflite)
    except MetadataError:
        if not labels:
            raise
        # A label file that is wrong is what a caller with labels wants to repair.
        said = read(_with_labels(tflite, labels))
    inputs, outputs = list(said.inputs), list(said.outputs)
    if normalization is not None or resize is not None:
        pictures = [index for index, spec in enumerate(inputs) if spec.is_image]
        if not pictures:
            raise MetadataError(
                "No input of the model is a picture, so there is nothing to resize or normalize.",
                received=", ".join(f"`{spec.name}` {spec.shape}" for spec in inputs),
                expected="(1, height, width, 1 or 3)",
            )
        for index in pictures:
            spec = inputs[index]
            inputs[index] = replace(
                spec,
                normalization=normalization or spec.normalization,
                picture_problem="" if normalization else spec.picture_problem,
                resize=resize or spec.resize,
                colour=spec.colour or ("rgb" if spec.shape[3] == 3 else "grayscale"),
            )
    if labels is not None:
        outputs = [replace(spec, labels=()) for spec in outputs]
    if labels:
        index = _labelled_output(outputs, labels)
        outputs[index] = replace(outputs[index], labels=tuple(labels))
    if activation is not None:
        index = _only_output(outputs)
        outputs[index] = replace(outputs[index], activation=activation)
    changed = replace(said, task=task or said.task, inputs=tuple(inputs), outputs=tuple(outputs))
    return write(tflite, changed)


def _labelled_output(outputs: Sequence[OutputSpec], labels: Sequence[str]) -> int:
    fitting = [index for index, spec in enumerate(outputs) if class_count(spec) == len(labels)]
    if len(fitting) == 1:
        return fitting[0]
    raise MetadataError(
        "The labels fit no output of the model." if not fitting else "The labels fit more than one output.",
        received=f"{len(labels)} labels",
        expected=" or ".join(str(class_count(spec)) for spec in outputs),
        next_step="Give one label a class, in the order of the model's output, a background class included.",
    )


def _only_output(outputs: Sequence[OutputSpec]) -> int:
    labelled = [index for index, spec in enumerate(outputs) if spec.labels]
    if len(outputs) == 1:
        return 0
    if len(labelled) == 1:
        return labelled[0]
    raise MetadataError(
        "`activation` needs one output, or one with labels.",
        received=", ".join(f"`{spec.name}` {spec.shape}" for spec in outputs),
        next_step="Write it with `converters.metadata.write`, which takes every output apart.",
    )


def _with_labels(tflite: bytes, labels: Sequence[str]) -> bytes:
    """Return the file with these labels under the name that it has for them: the old ones are missing or do not fit."""
    entry = parse(tflite).metadata.get(ENTRY_NAME)
    notes = ModelNotes() if entry is None else read_notes(bytes(entry))
    names = {note.axis_labels or note.value_labels for note in notes.outputs} - {""}
    content = _label_file(tuple(labels))
    return replace_files(tflite, {**read_files(tflite), **dict.fromkeys(sorted(names), content)})


def _check_tensors(metadata: ModelMetadata, graph: Subgraph) -> None:
    for kind, specs, indices in (
        ("input", metadata.inputs, graph.inputs),
        ("output", metadata.outputs, graph.outputs),
    ):
        said = [f"{spec.shape} {spec.dtype}" for spec in specs]
        real = [f"{graph.tensors[index].shape} {graph.tensors[index].dtype}" for index in indices]
        if said != real:
            raise MetadataError(
                f"The metadata is not for this file: its {kind}s are others.",
                received=", ".join(said) or "none",
                expected=", ".join(real) or "none",
            )


def _check_normalizations(metadata: ModelMetadata) -> None:
    for spec in metadata.inputs:
        if spec.picture_problem and spec.normalization is None:
            raise MetadataError(
                f"What the file says of input `{spec.name}` cannot be kept.",
                received=spec.picture_problem,
                expected="one mean and one std for all channels, e.g. (127.5, 127.5)",
                next_step="Give a `normalization` with the rest; what differs per channel belongs into the model.",
            )


def _labels(metadata: ModelMetadata) -> tuple[str, ...]:
    kinds = {spec.labels for spec in metadata.outputs if spec.labels}
    if len(kinds) > 1:
        raise MetadataError(
            "A file has one list of labels, but two outputs have different ones.",
            received=" and ".join(f"{len(labels)} labels" for labels in kinds),
        )
    for spec in metadata.outputs:
        if spec.labels and len(spec.labels) != class_count(spec):
            raise MetadataError(
                f"The labels do not fit output `{spec.name}`.",
                received=f"{len(spec.labels)} labels",
                expected=f"{class_count(spec)}, one a class",
            )
    return kinds.pop() if kinds else ()


def _label_file(labels: tuple[str, ...]) -> bytes:
    for index, label in enumerate(labels):
        if not label.strip() or label != label.strip() or label.splitlines() != [label]:
            raise MetadataError(
                f"Label {index} does not fit on a line of its own.",
                received=repr(label),
                expected="a name without line breaks and without blanks at its ends",
                next_step='Give a class that has no name a word such as "unused".' if not label.strip() else "",
            )
    text = "".join(f"{label}\n" for label in labels)
    if parse_labels(text) != labels:
        raise MetadataError(
            "The labels would not be read as they are written.",
            received=f"the first is {labels[0]!r}",
            expected="names without their own index in front",
            next_step="Leave the numbers away: a label's line is its index.",
        )
    return _utf8(text, "The labels")


def _json_file(metadata: ModelMetadata) -> bytes:
    record = {
        "schema": SCHEMA,
        "task": metadata.task,
        "inputs": [
            {
                "resize": asdict(spec.resize),
                "rescaling": None if spec.rescaling is None else asdict(spec.rescaling),
            }
            for spec in metadata.inputs
        ],
        "outputs": [{"activation": spec.activation} for spec in metadata.outputs],
        "made": dict(metadata.made),
    }
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1)
    except (TypeError, ValueError) as error:
        raise MetadataError(
            "`made` holds a value that JSON does not know.",
            received=str(error),
            expected="texts, finite numbers, true, false, null, lists and objects",
        ) from error
    return _utf8(text + "\n", f"`{JSON_NAME}`")


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise MetadataError(f"{what} cannot be written as UTF-8.", received=str(error)) from error


def _flatbuffer(metadata: ModelMetadata) -> bytes:
    builder = new_builder()
    inputs = [_input(builder, spec) for spec in metadata.inputs]
    outputs = [_output(builder, spec) for spec in metadata.outputs]
    subgraph = _table(builder, {2: table_offsets(builder, inputs), 3: table_offsets(builder, outputs)})
    fields = {
        0: _text(builder, metadata.name),
        1: _text(builder, metadata.description),
        2: _text(builder, metadata.version),
        3: table_offsets(builder, [subgraph]),
        4: _text(builder, metadata.author),
        5: _text(builder, metadata.license),
        7: _text(builder, _PARSER_VERSION),
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


def _output(builder: Any, spec: OutputSpec) -> int:
    fields = {0: _text(builder, spec.name)}
    if spec.labels:
        file = _table(builder, {0: _text(builder, LABELS_NAME)}, {2: _AXIS_LABELS})
        fields[6] = table_offsets(builder, [file])
    return _table(builder, fields)


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
    return int(builder.CreateString(_utf8(text, "The metadata"))) if text else 0


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
