"""YOLO heads: one output with box, maybe objectness, and class scores of each box.

Each box answers with its best class, as Ultralytics' own predictions do (`multi_label=False`), so that a box is
dequantized once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.specs import OutputSpec
from edgeinfer.postprocess.candidates import Candidates, Decoder, as_table, no_candidates, ordered
from edgeinfer.postprocess.scores import ScoreThreshold, check_finite, not_a_number, rows_above, score_threshold
from edgeinfer.preprocess.geometry import View
from edgeinfer.quantization import dequantize
from edgeinfer.runtime.runtime import Tensors


def yolo_decoder(spec: OutputSpec, position: int, head: DetectionHead, confidence: float) -> Decoder:
    """Return what reads a YOLO output.

    Without an objectness, confidence is the best class score. With one it is their product; then the objectness alone
    is compared first, because the product cannot be larger.

    Args:
        spec: (1, boxes, numbers) or (1, numbers, boxes), as `head.channels` says; int8, uint8, int16 or float32.
        position: Where it stands among the outputs.
        head: Kind "yolo", with `unit`, `channels` and `objectness`.
        confidence: The least that counts, 0..1.

    Raises:
        MetadataError: Scores cannot be read (see `score_threshold`).
    """
    limit = score_threshold(spec, confidence, logits=head.logits)
    objectness = _objectness_threshold(limit) if head.objectness else limit
    if limit.least is None or objectness.least is None:
        return no_candidates
    least = objectness.least
    is_float = np.dtype(spec.dtype).kind == "f"
    is_first = head.channels == "first"
    must_compare = bool(head.objectness) or (is_float and head.logits)

    def decode(outputs: Tensors, view: View) -> Candidates:
        table = as_table(outputs.view(position))
        if is_float and not np.isfinite(table.max()):  # a maximum hands NaN on
            raise not_a_number(spec.name)
        if head.objectness:
            rows = np.flatnonzero((table[4] if is_first else table[:, 4]) >= least)
        elif is_first:
            rows = np.flatnonzero(table[4:].max(axis=0) >= least)
        else:
            rows = rows_above(table, least, first=4)
        picked = table[:, rows].T if is_first else table[rows]
        class_id, found = _best(picked, head, limit)
        if must_compare:
            passed = found >= limit.confidence
            picked, class_id, found = picked[passed], class_id[passed], found[passed]
        boxes = dequantize(picked[:, :4], scale=spec.scale, zero_point=spec.zero_point)
        check_finite(boxes if is_float else boxes[:0], spec.name)
        sides = view.tensor_size if head.unit == "share" else (1, 1)
        return Candidates(ordered(boxes, head.box_order, sides), found, class_id)

    return decode


def _best(
    picked: NDArray[Any], head: DetectionHead, limit: ScoreThreshold
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the best class of each row and its confidence."""
    scores = picked[:, 5 if head.objectness else 4 :]
    class_id = scores.argmax(axis=1)
    confidence = limit.confidences(scores[np.arange(len(scores)), class_id])
    if head.objectness:
        confidence = confidence * limit.confidences(picked[:, 4])
    return class_id.astype(np.int64, copy=False), confidence


def _objectness_threshold(limit: ScoreThreshold) -> ScoreThreshold:
    """Return what an objectness must reach, so that the product with the highest class score can reach the limit."""
    spec = limit.spec
    highest = 1.0
    if np.dtype(spec.dtype).kind in "iu" and not limit.logits:
        # Quantized sigmoids may end a little above 1.
        end = np.array([np.iinfo(spec.dtype).max], dtype=spec.dtype)
        highest = max(1.0, float(limit.confidences(end)[0]))
    # One float32 step of slack: the product is rounded.
    return score_threshold(spec, float(limit.confidence) / highest * (1.0 - 2.0**-22), logits=limit.logits)
