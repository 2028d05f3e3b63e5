"""The outputs of a detection model -> `Detections`, in pixels of the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, MetadataError, ModelError, close_name
from edgeinfer.frozen import dataclass
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.label_rule import without_background
from edgeinfer.model.specs import ModelMetadata, Role
from edgeinfer.postprocess.anchors import anchor_decoder
from edgeinfer.postprocess.candidates import Decoder
from edgeinfer.postprocess.centernet import heatmap_decoder
from edgeinfer.postprocess.detection_head import FoundHead, find_head
from edgeinfer.postprocess.finished import finished_decoder, row_decoder
from edgeinfer.postprocess.nms import hard_nms, soft_nms
from edgeinfer.postprocess.yolo import yolo_decoder
from edgeinfer.preprocess.geometry import View
from edgeinfer.results import Detections
from edgeinfer.runtime.runtime import Tensors

Suppression = Literal["hard", "soft", "none"]


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """Which boxes come out.

    Attributes:
        confidence: The least that counts, 0..1, itself included. 0.25 is what Ultralytics' predictions use; to measure
            a mean average precision, lower it to 0.001: the curve needs the unsure boxes too.
        iou: Overlap, as intersection over union, above which the less confident of two boxes goes, 0..1. 0.45 is
            YOLOv5's, and keeps two people who stand side by side. Only for `suppression="hard"`.
        limit: How many boxes come out at most, the most confident ones. 100 is what COCO's evaluation looks at.
        suppression: "hard" ends boxes that overlap a better one; "soft" lowers their confidence instead (Gaussian,
            sigma 0.5, arXiv:1704.04503), which finds more in crowds and costs more; "none" leaves them. Heads that
            come out suppressed ("finished", "rows", "heatmap") are not suppressed again.
        class_agnostic: Whether boxes of different classes suppress each other too.
        classes: Ids or names of the classes that come out; empty is all.
        head: How the outputs are to be read; None takes the file's, or reads it off the outputs.

    Raises:
        InputError: A number out of range.

    Example:
        >>> DetectionOptions(confidence=0.5, classes=("person", 2)).limit
        100
    """

    confidence: float = 0.25
    iou: float = 0.45
    limit: int = 100
    suppression: Suppression = "hard"
    class_agnostic: bool = False
    classes: tuple[int | str, ...] = ()
    head: DetectionHead | None = None

    def __post_init__(self) -> None:
        for name, share in (("confidence", self.confidence), ("iou", self.iou)):
            if not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
                raise InputError(f"`{name}` is a share.", received=repr(share), expected="0..1")
        if not isinstance(self.limit, int) or self.limit < 1:
            raise InputError("`limit` counts boxes.", received=repr(self.limit), expected="1 or more")
        if self.suppression not in get_args(Suppression):
            raise InputError(
                "`suppression` has a value that is not known.",
                received=repr(self.suppression),
                expected=", ".join(f'"{one}"' for one in get_args(Suppression)),
            )
        if self.head is not None and not isinstance(self.head, DetectionHead):
            raise InputError(
                "`head` is no detection head.",
                received=repr(self.head)[:120],
                expected='a `DetectionHead`, e.g. DetectionHead("yolo", unit="share")',
                next_step="A dictionary becomes one by `DetectionHead.from_json`.",
            )
        if not isinstance(self.classes, tuple) or not all(
            isinstance(one, str) or (isinstance(one, int) and not isinstance(one, bool) and one >= 0)
            for one in self.classes
        ):
            raise InputError(
                "`classes` is a tuple of class numbers or names.", received=repr(self.classes), expected='("person", 2)'
            )


def detection_post(
    metadata: ModelMetadata,
    *,
    labels: Sequence[str] | None = None,
    options: DetectionOptions | None = None,
) -> Callable[[Tensors, View], Detections]:
    """Return what makes `Detections` of a model's outputs: letterbox, crop or region undone, boxes clipped.

    Args:
        metadata: What the file says of itself.
        labels: Names of the classes; None takes the file's.
        options: Thresholds, suppression, and the head where the file does not show it; None is `DetectionOptions()`.

    Returns:
        A function of the outputs and of where the picture lies in the tensor. Its boxes are sorted by falling
        confidence, among equals as the model has them; what has no area within the picture is dropped. It raises a
        `ModelError` where the model answers with NaN.

    Raises:
        WrongTaskError: The outputs match no known head; the error lists them.
        MetadataError: They match one, and the file does not say all that is needed; the error says what to declare.
        InputError: A class of `options` is not among the labels.
    """
    if isinstance(labels, str):
        raise MetadataError("`labels` is one text.", received=repr(labels)[:80], expected="a sequence of names")
    options = options or DetectionOptions()
    names = tuple(str(one) for one in labels) if labels is not None else _labels(metadata)
    found = find_head(metadata, options.head, len(names))
    if found.head.kind == "finished" and names:
        # Such an op never answers with the background and counts from the first class on; label lists often do not.
        names = without_background(names, len(names) - 1)
    decode = _decoder(metadata, found, options.confidence)
    wanted = _class_ids(options.classes, names)
    is_suppressed = found.head.kind in ("finished", "rows", "heatmap") or options.suppression == "none"

    def post(outputs: Tensors, view: View) -> Detections:
        try:
            boxes, confidence, class_id = decode(outputs, view)
        except ModelError as error:
            # The traceback's frames hold views of the outputs, which an error that somebody keeps would keep alive;
            # the interpreter refuses to run for as long.
            from traceback import clear_frames

            clear_frames(error.__traceback__)
            raise
        order = np.argsort(-confidence, kind="stable")
        on_image = clip(view.to_image(boxes), view.image_size)
        counts: NDArray[np.bool_] = np.logical_and(on_image[:, 2] > on_image[:, 0], on_image[:, 3] > on_image[:, 1])
        if wanted is not None:
            counts &= np.isin(class_id, wanted)
        order = order[counts[order]]
        boxes, confidence, class_id = boxes[order], confidence[order], class_id[order]
        if is_suppressed:
            kept: NDArray[np.intp] | slice = slice(options.limit)
            left = confidence[kept]
        else:
            own = None if options.class_agnostic else class_id
            if options.suppression == "hard":
                kept = hard_nms(boxes, own, iou=options.iou, limit=options.limit)
                left = confidence[kept]
            else:
                kept, left = soft_nms(boxes, confidence, own, least=options.confidence, limit=options.limit)
        found_ids = class_id[kept]
        if names and found_ids.size and found_ids.max() >= len(names):
            raise MetadataError(
                "The labels do not fit the model: it answers with a class that has no name.",
                received=f"class {int(found_ids.max())}, {len(names)} labels",
                expected="one label a class, in the model's order",
                next_step="Give the right ones: `labels=`, `--labels`.",
            )
        return Detections(on_image[order[kept]], left, found_ids, names)

    return post


def clip(xyxy: NDArray[np.float32], image_size: tuple[int, int]) -> NDArray[np.float32]:
    """Cut boxes off at the picture's borders, in place, and return them.

    Args:
        xyxy: (n, 4) float32, pixels of the picture.
        image_size: Its (width, height).
    """
    np.maximum(xyxy, np.float32(0.0), out=xyxy)
    np.minimum(xyxy, np.array(image_size * 2, dtype=np.float32), out=xyxy)
    return xyxy


def _decoder(metadata: ModelMetadata, found: FoundHead, confidence: float) -> Decoder:
    head, positions, outputs = found.head, found.positions, metadata.outputs
    if head.kind == "finished":
        return finished_decoder(outputs, positions, head, confidence)
    if head.kind == "anchors":
        boxes, scores = positions["boxes"], positions["scores"]
        return anchor_decoder((outputs[boxes], outputs[scores]), (boxes, scores), head, found.size, confidence)
    if head.kind == "heatmap":
        heat, sizes, offsets = (positions[role] for role in ("heatmap", "sizes", "offsets"))
        specs = (outputs[heat], outputs[sizes], outputs[offsets])
        return heatmap_decoder(specs, (heat, sizes, offsets), head, confidence)
    position = positions["predictions"]
    make = row_decoder if head.kind == "rows" else yolo_decoder
    return make(outputs[position], position, head, confidence)


def _labels(metadata: ModelMetadata) -> tuple[str, ...]:
    """Return the file's labels: those of the classes, else of the scores, else of any output that has some."""
    first: tuple[Role, ...] = ("classes", "scores", "heatmap", "predictions")
    ranked = sorted(metadata.outputs, key=lambda spec: first.index(spec.role) if spec.role in first else len(first))
    return next((spec.labels for spec in ranked if spec.labels), ())


def _class_ids(classes: Sequence[int | str], names: Sequence[str]) -> NDArray[np.int64] | None:
    if not classes:
        return None
    ids: list[int] = []
    for one in classes:
        if isinstance(one, int):
            if names and one >= len(names):
                raise InputError(
                    "The model has no class of this number.", received=str(one), expected=f"0 to {len(names) - 1}"
                )
            ids.append(one)
            continue
        same = [index for index, name in enumerate(names) if name == one]
        if not same:
            raise InputError(
                f"The model has no class `{one}`.",
                received=repr(one),
                expected=", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "a class number",
                next_step=close_name(one, names),
            )
        ids += same
    return np.array(ids, dtype=np.int64)
