"""Write the contract into a model file: TFLite Metadata for all, `edgeinfer.json` for what it cannot say.

The dataclasses and the reader live in `edgeinfer.model.metadata`. What goes where:

* TFLite Metadata (`converters.tflite.notes`): name, description, version, author, license; of each input its name,
  colour, normalization and the value range that follows from it; of each output its name, its label file and what
  other readers ask for.
* `labels.txt`: one name a line, UTF-8.
* `edgeinfer.json`: `{"schema", "task", "inputs": [{"resize", "rescaling"}], "outputs": [{"activation", "role"}],
  "head", "made"}`; an output without a role has none there, and only a detection has a head.
* The tensors themselves: shape, dtype, scale, zero point.

MediaPipe 1.2 opens these files where the input is uint8, or float32 with a normalization.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from converters.detection_classes import names_of_classes
from converters.roles import check_roles, with_roles
from converters.tflite.attach import attach, replace_files
from converters.tflite.notes import FINISHED_NAMES, is_finished, metadata_buffer, utf8
from edgeinfer.errors import MetadataError
from edgeinfer.model.attached import ENTRY_NAME, ModelNotes, read_files, read_notes
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.label_rule import check_labelling, labelled_output
from edgeinfer.model.metadata import (
    JSON_NAME,
    LABELS_NAME,
    SCHEMA,
    Activation,
    ModelMetadata,
    Normalization,
    OutputSpec,
    Resize,
    Role,
    Task,
    parse_labels,
    read,
)
from edgeinfer.model.recognize import op_roles
from edgeinfer.model.schema import Subgraph, parse

__all__ = ["annotate", "assign_roles", "finished_names", "write"]


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
    check_roles(metadata.task, metadata.outputs, metadata.head)
    check_labelling(metadata.task, metadata.outputs, metadata.head)
    labels = _labels(metadata)
    files = {LABELS_NAME: _label_file(labels)} if labels else {}
    files[JSON_NAME] = _json_file(metadata)
    return attach(tflite, name=ENTRY_NAME, data=metadata_buffer(metadata), files=files)


def annotate(
    tflite: bytes,
    *,
    task: Task | None = None,
    labels: Sequence[str] | None = None,
    normalization: Normalization | None = None,
    resize: Resize | None = None,
    activation: Activation | None = None,
    head: DetectionHead | None = None,
) -> bytes:
    """Return the model file with some of what it says changed; None leaves a value as it is.

    Args:
        tflite: The model file, with or without metadata.
        task: What the model does. Outputs without a role get the one that their name or shape shows, see
            `converters.roles`; the outputs of a finished detection are called as MediaPipe looks for them. An
            embedding has no labels: those in the file go.
        labels: Names of the classes, for the one output that they are meant for (`edgeinfer.model.label_rule`): the
            scores of as many classes (a single probability takes two), a map of class numbers, the classes of a
            finished detection; of the points for key points. Names may repeat (ImageNet has two cranes), but none
            may be empty. Where the detection op counts one class less and the first name is a background's, that
            name goes. An empty sequence takes the labels away.
        normalization: For every input that is a picture.
        resize: For every input that is a picture.
        activation: What the last op leaves, for the output that has the labels, or for the only one.
        head: How a detection's outputs become boxes.

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
    task = task or ("detection" if head is not None else said.task)
    head = head or (said.head if task == "detection" else None)
    outputs = list(with_roles(task, outputs, head))
    if labels is not None or task == "embedding":
        outputs = [replace(spec, labels=()) for spec in outputs]
    if labels:
        names = names_of_classes(tflite, labels, outputs, head)
        index = labelled_output(task, outputs, head, len(names), what="names" if task == "pose" else "labels")
        outputs[index] = replace(outputs[index], labels=names)
    if activation is not None:
        index = _only_output(outputs)
        outputs[index] = replace(outputs[index], activation=activation)
    changed = replace(said, task=task, inputs=tuple(inputs), outputs=tuple(outputs), head=head)
    return write(tflite, finished_names(changed))


def assign_roles(tflite: bytes, roles: Sequence[Role]) -> bytes:
    """Return the model file with a role for each output, in their order; "" leaves one without.

    Raises:
        MetadataError: Fewer or more roles than outputs, one that is not known, or roles that do not fit the rest.
        DamagedModelError: It is no TFLite file, or damaged.
    """
    said = read(tflite)
    outputs = with_roles(said.task, said.outputs, said.head, roles)
    graph = parse(tflite).main
    own = op_roles(graph)
    if own is not None and own != tuple(roles):
        raise MetadataError(
            "The detection op in the graph says which output is which, and these roles say otherwise.",
            received=", ".join(roles),
            expected=", ".join(own),
            next_step="Leave the roles away.",
        )
    return write(tflite, replace(said, outputs=outputs))


def finished_names(metadata: ModelMetadata) -> ModelMetadata:
    """Return the metadata with the outputs of a finished detection called as MediaPipe looks for them."""
    if not is_finished(metadata):
        return metadata
    outputs = tuple(replace(one, name=FINISHED_NAMES[one.role]) for one in metadata.outputs)
    return replace(metadata, outputs=outputs)


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
    return utf8(text, "The labels")


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
        "outputs": [
            {"activation": spec.activation, **({"role": spec.role} if spec.role else {})} for spec in metadata.outputs
        ],
        **({"head": metadata.head.to_json()} if metadata.head is not None else {}),
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
    return utf8(text + "\n", f"`{JSON_NAME}`")
