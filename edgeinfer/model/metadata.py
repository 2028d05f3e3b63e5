"""Read what travels in the model file: what a device must know to feed the model and to read its answer.

Two places hold it, and nothing is written twice. TFLite Metadata (the `TFLITE_METADATA` buffer) holds what
Android and MediaPipe read: names, normalization, label file. `edgeinfer.json`, in the zip that the standard
appends for label files, holds what the standard cannot say: resize, filter, folded rescaling, activation, and
how the file was made.

Needs the standard library only. The dataclasses are those of `edgeinfer.model.specs`; `converters.metadata`
writes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from edgeinfer.errors import DamagedModelError, MetadataError, naming
from edgeinfer.files import read_bytes
from edgeinfer.frozen import replace
from edgeinfer.model.activation import output_activation
from edgeinfer.model.attached import ENTRY_NAME, ModelNotes, TensorNotes, read_files, read_notes
from edgeinfer.model.choice import one_of
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.label_rule import check_labelling
from edgeinfer.model.labels import parse_labels, read_labels
from edgeinfer.model.recognize import recognize
from edgeinfer.model.schema import ModelFile, Tensor, parse
from edgeinfer.model.specs import (
    JSON_NAME,
    LABELS_NAME,
    SCHEMA,
    Activation,
    Colour,
    Filter,
    InputSpec,
    ModelMetadata,
    Normalization,
    OutputSpec,
    Rescaling,
    Resize,
    ResizeMode,
    Role,
    Task,
)
from edgeinfer.model.ultralytics import ENTRY_NAMES, read_export, with_export

__all__ = [
    "JSON_NAME",
    "LABELS_NAME",
    "SCHEMA",
    "Activation",
    "Colour",
    "Filter",
    "InputSpec",
    "ModelMetadata",
    "Normalization",
    "OutputSpec",
    "Rescaling",
    "Resize",
    "ResizeMode",
    "Role",
    "Task",
    "parse_labels",
    "read",
    "read_labels",
]

_Item = TypeVar("_Item")


def read(source: str | Path | bytes | ModelFile) -> ModelMetadata:
    """Return all that a model file says of itself.

    The tensors say shape, dtype and quantization; TFLite Metadata says names, colours, normalization and label file;
    `edgeinfer.json` says the rest. Where a file has none of ours:

    * the task and the outputs' roles are what `edgeinfer.model.recognize` sees in the graph, else "tensors" and none;
    * the activation is the one that the graph ends in;
    * a picture of 3 channels is RGB, one of 1 channel is grayscale;
    * a tensor's name is the metadata's, else the signature's, else the tensor's own;
    * a normalization with different values per channel is not represented: `InputSpec.picture_problem` says so;
    * an export of Ultralytics has its task, its names and its preprocessing, see `edgeinfer.model.ultralytics`.

    Args:
        source: Path of the file, its bytes, or what `parse` or `check` returned.

    Raises:
        InputFileError: There is no such file.
        DamagedModelError: It is no TFLite file, or damaged.
        MetadataError: It contradicts itself, or was written by a newer edgeinfer.
    """
    if isinstance(source, (str, Path)):
        with naming(Path(source)):
            return read(parse(read_bytes(source)))
    model = source if isinstance(source, ModelFile) else parse(source)
    notes = _notes(model)
    files = read_files(model.data)
    record = _record(files.get(JSON_NAME))
    export = None if record else read_export(files)
    graph = model.main
    inputs = [graph.tensors[index] for index in graph.inputs]
    outputs = [graph.tensors[index] for index in graph.outputs]
    input_notes = _aligned(notes.inputs, len(inputs), "TFLite Metadata", "inputs") or [TensorNotes()] * len(inputs)
    output_notes = _aligned(notes.outputs, len(outputs), "TFLite Metadata", "outputs") or [TensorNotes()] * len(outputs)
    input_records = _aligned(_objects(record, "inputs"), len(inputs), JSON_NAME, "inputs") or [{}] * len(inputs)
    output_records = _aligned(_objects(record, "outputs"), len(outputs), JSON_NAME, "outputs") or [{}] * len(outputs)
    input_names = _names(model, inputs, input_notes)
    output_names = _names(model, outputs, output_notes)
    input_specs = tuple(
        _input_spec(tensor, name, note, said)
        for tensor, name, note, said in zip(inputs, input_names, input_notes, input_records, strict=True)
    )
    output_specs = tuple(
        _output_spec(model, tensor, OutputSpec(name, tensor.shape, tensor.dtype), note, said, files)
        for tensor, name, note, said in zip(outputs, output_names, output_notes, output_records, strict=True)
    )
    seen, output_specs = recognize(graph, output_specs)
    task: Task = _text(record, "task", seen)  # type: ignore[assignment]
    one_of("task", task, get_args(Task))
    head = DetectionHead.from_json(_object(record, "head")) if record.get("head") else None
    # Values that are indices show only where they are too high, so what other writers say of them is taken as it is.
    named = (
        replace(spec, labels=spec.labels if note.axis_labels else ())
        for spec, note in zip(output_specs, output_notes, strict=True)
    )
    check_labelling(task, tuple(named), head)
    made = record.get("made") or {}
    if not isinstance(made, dict):
        raise _bad_record("made", made, "an object")
    metadata = ModelMetadata(
        task=task,
        inputs=input_specs,
        outputs=output_specs,
        name=notes.name,
        description=notes.description,
        version=notes.version,
        author=notes.author,
        license=notes.license,
        made=made,
        head=head,
        open_batch=all(_is_open(tensor) for tensor in (*inputs, *outputs)),
    )
    return metadata if export is None else with_export(metadata, export)


def _notes(model: ModelFile) -> ModelNotes:
    if ENTRY_NAME not in model.metadata:
        return ModelNotes()
    try:
        return read_notes(bytes(model.metadata[ENTRY_NAME]))
    except DamagedModelError as error:
        raise MetadataError(error.message, received=error.received, expected=error.expected) from error


def _is_open(tensor: Tensor) -> bool:
    """Return whether a tensor's first axis is open, and no other."""
    return tensor.shape_signature[:1] == (-1,) and -1 not in tensor.shape_signature[1:]


def _record(data: bytes | None) -> dict[str, object]:
    """Return `edgeinfer.json` as an object; empty where the file has none."""
    if data is None:
        return {}
    try:
        record = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"`{JSON_NAME}` in the model file is not JSON.", received=str(error)) from error
    if not isinstance(record, dict):
        raise _bad_record("the whole", record, "an object")
    schema = record.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise _bad_record("schema", schema, "a whole number from 1")
    if schema > SCHEMA:
        raise MetadataError(
            "The model file was written by a newer edgeinfer.",
            received=f"`{JSON_NAME}` of schema {schema}",
            expected=f"schema {SCHEMA} or lower",
            next_step="Update edgeinfer on this machine.",
        )
    return record


def _bad_record(key: str, received: object, expected: str) -> MetadataError:
    return MetadataError(
        f"`{JSON_NAME}` in the model file is wrong at `{key}`.", received=repr(received)[:200], expected=expected
    )


def _objects(record: Mapping[str, object], key: str) -> list[dict[str, object]]:
    value = record.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _bad_record(key, value, "a list of objects")
    return value


def _object(record: Mapping[str, object], key: str) -> dict[str, object]:
    value = record.get(key) or {}
    if not isinstance(value, dict):
        raise _bad_record(key, value, "an object or null")
    return value


def _text(record: Mapping[str, object], key: str, default: str) -> str:
    value = record.get(key, default)
    if not isinstance(value, str):
        raise _bad_record(key, value, "a text")
    return value


def _number(record: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = record.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e300:  # NaN is not
        raise _bad_record(key, value, "a number")
    return value


def _whole(record: Mapping[str, object], key: str, default: int) -> int:
    value = _number(record, key, default)
    if value != int(value):
        raise _bad_record(key, value, "a whole number")
    return int(value)


def _aligned(items: Sequence[_Item], count: int, where: str, what: str) -> list[_Item]:
    """Return the items, which must be as many as the model has; none at all says nothing."""
    if items and len(items) != count:
        raise MetadataError(
            f"{where} in the model file is not for this model: it counts other {what}.",
            received=f"{len(items)} {what}",
            expected=str(count),
        )
    return list(items)


def _names(model: ModelFile, tensors: Sequence[Tensor], notes: Sequence[TensorNotes]) -> list[str]:
    """Return names that differ from one another, so that they can be keys."""
    signed = {
        index: name
        for signature in reversed(model.signatures)
        if signature.subgraph == 0
        for name, index in [*signature.inputs.items(), *signature.outputs.items()]
    }
    names = [note.name or signed.get(tensor.index) or tensor.name for tensor, note in zip(tensors, notes, strict=True)]
    counts = Counter(names)
    if max(counts.values(), default=1) > 1 or "" in counts:
        own = [tensor.name for tensor in tensors]
        distinct = len(set(own)) == len(own) and "" not in own
        names = own if distinct else [f"{name}:{place}" for place, name in enumerate(own)]
    return names


def _quantization(tensor: Tensor) -> tuple[float, int]:
    if len(tensor.scale) > 1:
        raise MetadataError(
            f"Tensor `{tensor.name}` at the end of the model is quantized per channel.",
            received=f"{len(tensor.scale)} scales",
            expected="one",
        )
    return (tensor.scale[0], tensor.zero_point[0]) if tensor.scale else (0.0, 0)


def _input_spec(tensor: Tensor, name: str, note: TensorNotes, said: Mapping[str, object]) -> InputSpec:
    scale, zero_point = _quantization(tensor)
    plain = InputSpec(name, tensor.shape, tensor.dtype)
    colour: Colour | None = None
    if plain.is_image:
        colour = "rgb" if tensor.shape[3] == 3 else "grayscale"
        expected = {"rgb": (None, 0, 1), "grayscale": (None, 0, 2)}[colour]
        if note.colour not in expected:
            raise MetadataError(
                f"TFLite Metadata gives input `{name}` colours that it has no channels for.",
                received=f"{tensor.shape[3]} channels, ColorSpaceType {note.colour}",
                expected="RGB (1) for 3 channels, GRAYSCALE (2) for 1",
            )
    normalization, problem = _normalization(note, name)
    resize, rescaling = _object(said, "resize"), _object(said, "rescaling")
    return InputSpec(
        name=name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        scale=scale,
        zero_point=zero_point,
        colour=colour,
        normalization=normalization,
        resize=Resize(
            _text(resize, "mode", Resize().mode),  # type: ignore[arg-type]
            _text(resize, "filter", Resize().filter),  # type: ignore[arg-type]
            _whole(resize, "pad", Resize().pad),
        ),
        rescaling=Rescaling(_number(rescaling, "scale"), _number(rescaling, "offset")) if rescaling else None,
        picture_problem=problem,
    )


def _normalization(note: TensorNotes, name: str) -> tuple[Normalization | None, str]:
    """Return the one pair, or None and why there is none."""
    if not note.mean and not note.std:
        return None, ""
    if not note.mean or not note.std:
        raise MetadataError(
            f"TFLite Metadata gives input `{name}` half a normalization.",
            received=f"mean {note.mean}, std {note.std}",
            expected="both",
        )
    if len(set(note.mean)) > 1 or len(set(note.std)) > 1:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (note.mean, note.std))
        return None, f"a normalization per channel, mean {mean}, std {std}"
    return Normalization(note.mean[0], note.std[0]), ""


def _output_spec(
    model: ModelFile,
    tensor: Tensor,
    plain: OutputSpec,
    note: TensorNotes,
    said: Mapping[str, object],
    files: Mapping[str, bytes],
) -> OutputSpec:
    scale, zero_point = _quantization(tensor)
    labels: tuple[str, ...] = ()
    file = note.axis_labels or note.value_labels
    if file and not (file in ENTRY_NAMES and read_export(files)):
        if file not in files:
            raise MetadataError(
                f"TFLite Metadata names a label file that is not in the model file: `{file}`.",
                received=", ".join(f"`{one}`" for one in sorted(files)) or "no attached file",
                next_step="Write the labels again: `edgeinfer-convert annotate m.tflite --labels labels.txt`.",
            )
        labels = _decoded_labels(files[file], file)
    activation = _text(said, "activation", output_activation(model.main, tensor.index))
    one_of("activation", activation, get_args(Activation))
    role = _text(said, "role", "")
    one_of("role", role, get_args(Role))
    return replace(
        plain,
        scale=scale,
        zero_point=zero_point,
        labels=labels,
        activation=activation,  # type: ignore[arg-type]
        role=role,  # type: ignore[arg-type]
    )


def _decoded_labels(data: bytes, name: str) -> tuple[str, ...]:
    try:
        return parse_labels(data.decode())
    except UnicodeDecodeError as error:
        raise MetadataError(f"The label file `{name}` is not UTF-8.", received=str(error)) from error
