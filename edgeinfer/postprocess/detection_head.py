"""Which head a detection model has, and which of its outputs is what: read off once, when the model is loaded.

What the caller declares goes before what the file declares (`edgeinfer.json`), and that before roles, shapes, names and
quantization. Where these leave two readings, there is an error that says what to declare; never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgeinfer.errors import MetadataError, WrongTaskError
from edgeinfer.frozen import dataclass, replace
from edgeinfer.model.heads import DetectionHead, Unit
from edgeinfer.model.specs import InputSpec, ModelMetadata, OutputSpec, Role
from edgeinfer.postprocess.yolo_layout import Layout, yolo_layout

_HEATMAP_NAMES: dict[str, Role] = {"heatmap": "heatmap", "heat_map": "heatmap", "size": "sizes", "offset": "offsets"}


@dataclass(frozen=True, slots=True)
class FoundHead:
    """A head with nothing left open that its kind needs.

    Attributes:
        head: The declared one, or the one that was read off; `unit`, `objectness` and `channels` are filled in where
            the kind needs them.
        positions: Where in the model's outputs each of the head's stands.
        size: The input's (width, height) where the head needs it, else (0, 0).
    """

    head: DetectionHead
    positions: Mapping[Role, int]
    size: tuple[int, int] = (0, 0)


def find_head(metadata: ModelMetadata, declared: DetectionHead | None, classes: int) -> FoundHead:
    """Return the head of a detection model.

    Args:
        metadata: What the file says of itself.
        declared: What the caller says; None takes the file's `head`, else reads it off.
        classes: How many labels there are; 0 where there are none.

    Raises:
        WrongTaskError: The outputs match no known head, or not the declared one.
        MetadataError: They match one, and do not show all of it.
    """
    head = declared or metadata.head
    outputs = metadata.outputs
    positions: dict[Role, int] = {spec.role: index for index, spec in enumerate(outputs) if spec.role}
    if head is None:
        head = _read_off(metadata, positions, classes)
    if head.kind == "finished":
        return FoundHead(replace(head, unit=head.unit or "share"), _finished(outputs, positions))
    if head.kind == "heatmap":
        found = _heatmap(outputs, positions)
        _check_labels(outputs[found["heatmap"]], classes, background=False)
        return FoundHead(head, found)
    if head.kind == "anchors":
        found = _anchors(outputs, positions)
        _check_labels(outputs[found["scores"]], classes, background=head.background)
        return FoundHead(head, found, _size(metadata))
    position = _single(outputs, positions)
    spec = outputs[position]
    if head.kind == "rows":
        if _sides(spec)[1] not in (6, 7):
            raise _no_head(outputs, "rows of 6 or 7 numbers")
        unit = head.unit or _unit(spec, metadata, head)
        return FoundHead(replace(head, unit=unit), {"predictions": position})
    sides = _sides(spec)
    layout = yolo_layout(spec, sides, _size_or_none(metadata.inputs), head, classes)
    if layout is None:
        raise MetadataError(
            f"The shape of `{spec.name}` does not say where the numbers of a box stand in it.",
            received=_listed([spec]),
            expected="as many boxes as a YOLO of this input has",
            next_step='Declare it: `DetectionHead("yolo", channels="first" or "last", objectness=...)`.',
        )
    unit = head.unit or _unit(spec, metadata, head)
    whole = replace(head, unit=unit, channels=layout.channels, objectness=layout.objectness)
    return FoundHead(whole, {"predictions": position})


def _read_off(metadata: ModelMetadata, positions: Mapping[Role, int], classes: int) -> DetectionHead:
    outputs = metadata.outputs
    if {"boxes", "classes", "scores"} <= set(positions):
        return DetectionHead("finished")
    if len(outputs) == 3 and _heatmap_or_none(outputs, positions) is not None:
        return DetectionHead("heatmap")
    if len(outputs) == 4 and _finished_or_none(outputs, positions) is not None:
        return DetectionHead("finished")
    if len(outputs) == 2:
        boxes, scores = sorted(outputs, key=lambda spec: _sides(spec)[1])
        if _sides(boxes)[1] == 4 and _sides(boxes)[0] == _sides(scores)[0] > 1:
            raise MetadataError(
                "These outputs are boxes coded against anchors, and the file does not say where the anchors lie.",
                received=_listed(outputs),
                expected="a declared head",
                next_step='Declare it: `DetectionOptions(head=DetectionHead("anchors", anchors=AnchorGrid(...)))`.',
            )
    if len(outputs) == 1 or "predictions" in positions:
        spec = outputs[_single(outputs, positions)]
        sides = _sides(spec)
        layout: Layout | None = yolo_layout(spec, sides, _size_or_none(metadata.inputs), None, classes)
        if layout is not None:
            return DetectionHead("yolo")
        if sides[1] == 6 and sides[0] > 6 and classes not in (0, 2):
            # With two classes, 6 may be a box and two scores (DETR and its kin); without labels nobody knows.
            return DetectionHead("rows")
        if sides[1] in (6, 7) and sides[0] > 7:
            raise MetadataError(
                f"The rows of `{spec.name}` may be finished boxes, or boxes with a score per class.",
                received=_listed([spec]),
                expected="a declared head",
                next_step='Declare it: `DetectionHead("rows", box="xyxy" or "yxyx", unit="share" or "pixels")` for '
                "finished ones; or hand over the `labels`.",
            )
    raise _no_head(outputs, "a known detection head")


def _finished(outputs: Sequence[OutputSpec], positions: Mapping[Role, int]) -> dict[Role, int]:
    found = _finished_or_none(outputs, positions)
    if found is None:
        raise MetadataError(
            "These outputs are finished detections, and nothing says which one holds classes and which one scores.",
            received=_listed(outputs),
            expected="outputs with roles or known names, or classes as int32",
            next_step="Write the roles into the file with `edgeinfer-convert annotate`, or use `Pipeline` with a "
            "post-processing of your own.",
        )
    return found


def _finished_or_none(outputs: Sequence[OutputSpec], positions: Mapping[Role, int]) -> dict[Role, int] | None:
    if {"boxes", "classes", "scores"} <= set(positions):
        return {role: positions[role] for role in ("boxes", "classes", "scores", "count") if role in positions}
    boxes = [index for index, spec in enumerate(outputs) if _sides(spec)[1] == 4 and _sides(spec)[0] > 1]
    if len(boxes) != 1:
        return None
    rows = _sides(outputs[boxes[0]])[0]
    rest = [index for index, spec in enumerate(outputs) if math.prod(spec.shape) == rows and index not in boxes]
    whole = [index for index in rest if outputs[index].dtype in ("int32", "int64")]
    if len(rest) != 2 or len(whole) != 1:
        return None
    found: dict[Role, int] = {
        "boxes": boxes[0],
        "classes": whole[0],
        "scores": next(one for one in rest if one not in whole),
    }
    counts = [index for index, spec in enumerate(outputs) if math.prod(spec.shape) == 1]
    return {**found, "count": counts[0]} if len(counts) == 1 else found


def _heatmap(outputs: Sequence[OutputSpec], positions: Mapping[Role, int]) -> dict[Role, int]:
    found = _heatmap_or_none(outputs, positions)
    if found is None:
        raise MetadataError(
            "These outputs are no heat map with sizes and offsets that can be told apart.",
            received=_listed(outputs),
            expected="(1, h, w, classes), (1, h, w, 2), (1, h, w, 2), the last two named `...size...` and "
            "`...offset...`: they have the same shape",
            next_step="Write the roles into the file with `edgeinfer-convert annotate`.",
        )
    return found


def _heatmap_or_none(outputs: Sequence[OutputSpec], positions: Mapping[Role, int]) -> dict[Role, int] | None:
    names: tuple[Role, ...] = ("heatmap", "sizes", "offsets")
    found = {role: positions[role] for role in names if role in positions}
    for index, spec in enumerate(outputs):
        roles = {role for part, role in _HEATMAP_NAMES.items() if part in spec.name.lower()}
        if not spec.role and len(roles) == 1:
            found.setdefault(roles.pop(), index)
    pairs = [index for index, spec in enumerate(outputs) if len(spec.shape) == 4 and spec.shape[3] == 2]
    rest = [index for index in range(len(outputs)) if index not in pairs]
    if "heatmap" not in found and len(outputs) == 3 and len(rest) == 1:
        found["heatmap"] = rest[0]
    if len(pairs) == 2:  # of two, one name is enough
        twins: tuple[tuple[Role, Role], ...] = (("sizes", "offsets"), ("offsets", "sizes"))
        for known, other in twins:
            if known in found and other not in found and found[known] in pairs:
                found[other] = next(index for index in pairs if index != found[known])
    if len(set(found.values())) != 3:
        return None
    shapes = [outputs[found[role]].shape for role in names]
    fits = all(len(shape) == 4 and shape[:3] == (1, *shapes[0][1:3]) for shape in shapes)
    return found if fits and shapes[1][3] == shapes[2][3] == 2 else None


def _anchors(outputs: Sequence[OutputSpec], positions: Mapping[Role, int]) -> dict[Role, int]:
    if {"boxes", "scores"} <= set(positions):
        return {"boxes": positions["boxes"], "scores": positions["scores"]}
    boxes = [index for index, spec in enumerate(outputs) if _sides(spec)[1] == 4]
    if len(outputs) != 2 or len(boxes) != 1:
        raise _no_head(outputs, "two outputs, (1, anchors, 4) and (1, anchors, classes)")
    return {"boxes": boxes[0], "scores": 1 - boxes[0]}


def _check_labels(spec: OutputSpec, labels: int, *, background: bool) -> None:
    classes = spec.shape[-1] - background
    if labels and labels != classes:
        raise MetadataError(
            f"The labels do not fit `{spec.name}`.",
            received=f"{labels} labels",
            expected=f"{classes}, one per class",
        )


def _single(outputs: Sequence[OutputSpec], positions: Mapping[Role, int]) -> int:
    if "predictions" in positions:
        return positions["predictions"]
    if len(outputs) != 1:
        raise _no_head(outputs, "one output")
    return 0


def _unit(spec: OutputSpec, metadata: ModelMetadata, head: DetectionHead) -> Unit:
    """Return whether boxes are shares or pixels, from what the tensor's quantization can hold."""
    size = _size_or_none(metadata.inputs)
    if spec.scale > 0.0 and np.dtype(spec.dtype).kind in "iu":
        highest = (np.iinfo(spec.dtype).max - spec.zero_point) * spec.scale
        # A share ends at 1, or little beyond for boxes that leave the picture; pixels reach the far side of it.
        if highest <= 2.0:
            return "share"
        if size is not None and highest >= 0.5 * max(size):
            return "pixels"
    raise MetadataError(
        f"The file does not say whether the boxes in `{spec.name}` are shares of the input's sides or its pixels.",
        received=_listed([spec]),
        expected="a declared unit",
        next_step=f'Declare it: `DetectionOptions(head=DetectionHead("{head.kind}", unit="share"))` for 0..1 (what '
        'Ultralytics exports to TFLite), or `unit="pixels"`.',
    )


def _size(metadata: ModelMetadata) -> tuple[int, int]:
    size = _size_or_none(metadata.inputs)
    if size is None:
        raise MetadataError(
            "Anchors need the size of the input picture.",
            received=", ".join(f"`{spec.name}` {spec.shape}" for spec in metadata.inputs),
            expected="one input (1, height, width, channels)",
        )
    return size


def _size_or_none(inputs: Sequence[InputSpec]) -> tuple[int, int] | None:
    return inputs[0].size if len(inputs) == 1 and inputs[0].is_image else None


def _sides(spec: OutputSpec) -> tuple[int, int]:
    """Return an output as rows and columns; (0, 0) where it is no table (batch 1)."""
    shape = spec.shape
    if len(shape) < 2 or any(side != 1 for side in shape[:-2]):
        return 0, 0
    return shape[-2], shape[-1]


def _no_head(outputs: Sequence[OutputSpec], expected: str) -> WrongTaskError:
    return WrongTaskError(
        "The outputs of this model match no detection head.",
        received=_listed(outputs),
        expected=expected,
        next_step="Declare how they are to be read with `DetectionOptions(head=DetectionHead(...))`, or use "
        "`Pipeline(Runtime(...), pre=..., post=...)` with a post-processing of your own.",
    )


def _listed(outputs: Sequence[OutputSpec]) -> str:
    return ", ".join(f"`{spec.name}` {spec.shape} {spec.dtype}" for spec in outputs)
