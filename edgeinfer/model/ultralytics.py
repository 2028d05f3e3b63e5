"""What Ultralytics' exporter leaves behind a model: a zip with the names of the classes, the task, and more.

The entry is `metadata.json`, in older files `temp_meta.txt` with a dictionary as Python prints it, which stands in
TFLite Metadata as a label file and is none. What such a file expects is the exporter's habit and not written in it:
pixels as 0..1, the picture in a letterbox of grey 114 for detections, cut to a square for classifications, boxes as
shares of the input.

Source: `_add_tflite_metadata` of `engine/exporter.py`, `AutoBackend` of `nn/autobackend.py`, `LetterBox` and
`classify_transforms` of `data/augment.py`, ultralytics 8.3, read for the layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from edgeinfer.frozen import dataclass, replace
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.label_rule import fitting_outputs
from edgeinfer.model.specs import InputSpec, ModelMetadata, Normalization, OutputSpec, Resize, Task

ENTRY_NAMES = ("metadata.json", "temp_meta.txt")
# The names of 1203 classes take 20 kB. Python's own parser needs a hundred times the memory of its text.
_MOST_BYTES = 256 * 1024
# Key points, instance masks and turned boxes of this exporter are beyond the tasks here.
_TASKS: dict[str, Task] = {"detect": "detection", "classify": "classification"}
_RESIZES = {"detection": Resize("letterbox", "bilinear", 114), "classification": Resize("crop", "bilinear-antialias")}
_PIXELS = Normalization(0.0, 255.0)
_ROW_NUMBERS = 6


@dataclass(frozen=True, slots=True)
class Export:
    """What the exporter says.

    Attributes:
        task: What the model does; "tensors" for what is no task here.
        names: Of the classes, index by index; empty where the entry has no list without gaps.
        said: All of it.
    """

    task: Task
    names: tuple[str, ...]
    said: Mapping[str, object]


def read_export(files: Mapping[str, bytes]) -> Export | None:
    """Return what the exporter left among the attached files; None where it left nothing, or what others wrote."""
    for entry in ENTRY_NAMES:
        said = _parsed(entry, files[entry]) if entry in files else None
        if isinstance(said, dict) and isinstance(said.get("task"), str) and "names" in said:
            return Export(_TASKS.get(said["task"], "tensors"), _names(said["names"]), said)
    return None


def with_export(metadata: ModelMetadata, export: Export) -> ModelMetadata:
    """Return the metadata with what the exporter says and does, where the file says nothing else.

    Args:
        metadata: As the rest of the file says it.
        export: From `read_export`.
    """
    outputs, head = metadata.outputs, metadata.head
    if export.task == "detection" and len(outputs) == 1:
        outputs = (replace(outputs[0], role=outputs[0].role or "predictions"),)
        head = head or _head(outputs[0], len(export.names))
    fitting = fitting_outputs(export.task, outputs, head, len(export.names)) if export.task != "tensors" else ()
    if len(fitting) == 1:
        outputs = tuple(
            replace(spec, labels=export.names) if place == fitting[0] else spec for place, spec in enumerate(outputs)
        )
    description, version, author, rights = (
        _text(export.said.get(name)) for name in ("description", "version", "author", "license")
    )
    return replace(
        metadata,
        task=export.task,
        outputs=outputs,
        inputs=tuple(_input(spec, export.task) for spec in metadata.inputs),
        head=head,
        description=metadata.description or description,
        version=metadata.version or version,
        author=metadata.author or author,
        license=metadata.license or rights,
    )


def _parsed(entry: str, data: bytes) -> object:
    if len(data) > _MOST_BYTES:
        return None
    try:
        text = data.decode()
        if entry.endswith(".json"):
            return json.loads(text)
        import ast  # only files of the older kind need it

        return ast.literal_eval(text)  # literals only: nothing of it is ever run
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _names(said: object) -> tuple[str, ...]:
    """Return names without gaps: of a list, or of a dictionary from number, in JSON as a text, to name."""
    if isinstance(said, dict):
        numbered = {str(key): name for key, name in said.items()}
        places = [str(place) for place in range(len(numbered))]
        said = [numbered[place] for place in places] if set(numbered) == set(places) else []
    if not isinstance(said, list | tuple) or not all(isinstance(name, str) for name in said):
        return ()
    # One name a line is what a label file holds.
    return tuple(" ".join(name.split()) or str(place) for place, name in enumerate(said))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _head(spec: OutputSpec, classes: int) -> DetectionHead | None:
    shape = spec.shape
    if len(shape) != 3:
        return None
    if shape[-1] == _ROW_NUMBERS and shape[1] != classes + 4:
        return DetectionHead("rows", box="xyxy", unit="share")
    # Five numbers in front of the classes are YOLOv5's: one says how sure it is that there is anything.
    for numbers, objectness in ((classes + 4, False), (classes + 5, True)):
        if classes and numbers in shape[1:]:
            channels: Literal["first", "last"] = "first" if shape[1] == numbers else "last"
            return DetectionHead("yolo", box="cxcywh", unit="share", objectness=objectness, channels=channels)
    return None


def _input(spec: InputSpec, task: Task) -> InputSpec:
    if not spec.is_image or task not in _RESIZES or spec.normalization is not None or spec.picture_problem:
        return spec
    return replace(spec, normalization=_PIXELS, resize=_RESIZES[task])
