"""Detections that come out of the graph finished: boxes, classes, scores and their count; or rows that hold all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import ModelError
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.specs import OutputSpec, Role
from edgeinfer.postprocess.candidates import Candidates, Decoder, as_table, no_candidates, ordered
from edgeinfer.postprocess.scores import check_finite, not_a_number, score_threshold
from edgeinfer.preprocess.geometry import View
from edgeinfer.quantization import dequantize
from edgeinfer.runtime.runtime import Tensors


def finished_decoder(
    specs: Sequence[OutputSpec], positions: Mapping[Role, int], head: DetectionHead, confidence: float
) -> Decoder:
    """Return what reads boxes (1, n, 4), classes (1, n), scores (1, n) and, where there is one, their count (1,).

    TFLite's Detection_PostProcess declares no shapes before it has run, and leaves what it likes behind the count.

    Args:
        specs: All outputs of the model.
        positions: Where boxes, classes, scores and count stand among them.
        head: Kind "finished"; its boxes are shares unless it says pixels.
        confidence: The least that counts, 0..1.

    Source: tensorflow/lite/kernels/detection_postprocess.cc: boxes are ymin, xmin, ymax, xmax as shares; a class
    counts without the background.
    """
    boxes_spec, classes_spec, scores_spec = (specs[positions[role]] for role in ("boxes", "classes", "scores"))
    limit = score_threshold(scores_spec, confidence, logits=head.logits)
    if limit.least is None:
        return no_candidates

    def decode(outputs: Tensors, view: View) -> Candidates:
        scores = outputs.view(positions["scores"]).reshape(-1)
        classes = outputs.view(positions["classes"]).reshape(-1)
        numbers = outputs.view(positions["boxes"])
        if not len(scores) == len(classes) == numbers.size / 4:
            raise ModelError(
                "The model's detections do not belong together.",
                received=f"{numbers.size} numbers of boxes, {len(classes)} classes, {len(scores)} scores",
                expected="as many classes as scores, and four numbers for each",
            )
        boxes = numbers.reshape(-1, 4)
        there = len(scores)
        if "count" in positions:
            count = outputs.view(positions["count"]).reshape(-1)[0]
            if not np.isfinite(count):
                raise not_a_number(specs[positions["count"]].name)
            there = min(max(int(count), 0), there)
        found = limit.confidences(scores[:there])
        check_finite(found, scores_spec.name)
        passed = np.flatnonzero(found >= limit.confidence)
        picked = _real(boxes[passed], boxes_spec)
        class_id = _real(classes[passed], classes_spec)
        check_finite(picked, boxes_spec.name)
        check_finite(class_id, classes_spec.name)
        sides = (1, 1) if head.unit == "pixels" else view.tensor_size
        return Candidates(ordered(picked, head.box_order, sides), found[passed], np.rint(class_id).astype(np.int64))

    return decode


def row_decoder(spec: OutputSpec, position: int, head: DetectionHead, confidence: float) -> Decoder:
    """Return what reads rows of (box, score, class), or (picture, box, score, class).

    Args:
        spec: (1, n, 6) or (1, n, 7).
        position: Where it stands among the outputs.
        head: Kind "rows", with its unit.
        confidence: The least that counts, 0..1.

    Raises:
        MetadataError: Scores cannot be read (see `score_threshold`).

    Source: six numbers, xyxy: Ultralytics' end-to-end heads (YOLOv10 and later). Seven, yxyx: EfficientDet of
    google/automl.
    """
    limit = score_threshold(spec, confidence, logits=head.logits)
    if limit.least is None:
        return no_candidates
    first = spec.shape[-1] - 6

    def decode(outputs: Tensors, view: View) -> Candidates:
        rows = as_table(outputs.view(position))[:, first:]
        found = limit.confidences(rows[:, 4])
        check_finite(found, spec.name)
        passed = np.flatnonzero(found >= limit.confidence)
        picked = _real(rows[passed], spec)
        check_finite(picked, spec.name)
        sides = view.tensor_size if head.unit == "share" else (1, 1)
        boxes = ordered(picked[:, :4], head.box_order, sides)
        return Candidates(boxes, found[passed], np.rint(picked[:, 5]).astype(np.int64))

    return decode


def _real(stored: NDArray[Any], spec: OutputSpec) -> NDArray[np.float32]:
    return dequantize(stored, scale=spec.scale, zero_point=spec.zero_point)
