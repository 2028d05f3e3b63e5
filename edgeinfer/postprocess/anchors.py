"""Boxes coded against anchors: SSD, EfficientDet and MediaPipe without post-processing in the graph.

Decoding, with anchors (x, y, w, h) by their centres and the coded numbers divided by the head's scaling:
`centre = coded * side of the anchor + centre of the anchor`, `side = exp(coded) * side of the anchor`.

Source: Liu et al. 2016, arXiv:1512.02325, section 2.2; `DecodeCenterSizeBoxes` in
tensorflow/lite/kernels/detection_postprocess.cc.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import MetadataError
from edgeinfer.model.heads import AnchorGrid, DetectionHead
from edgeinfer.model.specs import OutputSpec
from edgeinfer.postprocess.candidates import Candidates, Decoder, as_table, no_candidates
from edgeinfer.postprocess.scores import check_finite, not_a_number, rows_above, score_threshold
from edgeinfer.preprocess.geometry import View
from edgeinfer.quantization import dequantize
from edgeinfer.runtime.runtime import Tensors


def anchor_boxes(grid: AnchorGrid, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the anchors of an input.

    Args:
        grid: Where they lie.
        size: The input's (width, height).

    Returns:
        (n, 4) float32: centre x, centre y, width, height, input pixels; grid by grid, row by row.

    Example:
        >>> anchor_boxes(AnchorGrid((100,), (((50.0, 25.0),),)), (200, 100))
        array([[ 50.,  50.,  50.,  25.],
               [150.,  50.,  50.,  25.]], dtype=float32)
    """
    grids = []
    for stride, pairs in zip(grid.strides, grid.boxes, strict=True):
        columns, rows = (math.ceil(side / stride) for side in size)
        y, x, box = np.meshgrid(np.arange(rows), np.arange(columns), np.arange(len(pairs)), indexing="ij")
        centres = [(x + grid.offset) * (size[0] / columns), (y + grid.offset) * (size[1] / rows)]
        sides = np.array(pairs, dtype=np.float64)[box]
        grids.append(np.stack([*centres, sides[..., 0], sides[..., 1]], axis=-1).reshape(-1, 4))
    return np.concatenate(grids).astype(np.float32)


def anchor_decoder(
    specs: tuple[OutputSpec, OutputSpec],
    positions: tuple[int, int],
    head: DetectionHead,
    size: tuple[int, int],
    confidence: float,
) -> Decoder:
    """Return what reads boxes coded against anchors, each with its best class.

    Args:
        specs: Boxes (1, anchors, 4) and scores (1, anchors, classes).
        positions: Where both stand among the outputs.
        head: Kind "anchors".
        size: The input's (width, height).
        confidence: The least that counts, 0..1.

    Raises:
        MetadataError: The anchors are not as many as the boxes; or scores cannot be read (see `score_threshold`).
    """
    if head.anchors is None:
        raise MetadataError('A head of the kind "anchors" needs anchors.', received=repr(head))
    anchors = anchor_boxes(head.anchors, size)
    boxes_spec, scores_spec = specs
    boxes_position, scores_position = positions
    rows = [spec.shape[-2] for spec in specs]
    if rows != [len(anchors)] * 2:
        raise MetadataError(
            "The anchors do not fit the outputs.",
            received=f"{len(anchors)} anchors; `{boxes_spec.name}` {boxes_spec.shape}, "
            f"`{scores_spec.name}` {scores_spec.shape}",
            expected="one anchor for each row of both",
            next_step="Correct the strides or the boxes per cell of the `AnchorGrid`.",
        )
    limit = score_threshold(scores_spec, confidence, logits=head.logits)
    if limit.least is None:
        return no_candidates
    least = limit.least
    first_class = 1 if head.background else 0
    is_float = np.dtype(scores_spec.dtype).kind == "f"
    by = np.array([head.scaling[1], head.scaling[0], head.scaling[3], head.scaling[2]], dtype=np.float32)

    def decode(outputs: Tensors, view: View) -> Candidates:  # noqa: ARG001 - anchors are in pixels already
        table = as_table(outputs.view(scores_position))
        if is_float and not np.isfinite(table.max()):
            raise not_a_number(scores_spec.name)
        where = rows_above(table, least, first=first_class)
        scores = table[where, first_class:]
        class_id = scores.argmax(axis=1)
        found = limit.confidences(scores[np.arange(len(scores)), class_id])
        if is_float and head.logits:
            passed = found >= limit.confidence
            where, class_id, found = where[passed], class_id[passed], found[passed]
        stored = as_table(outputs.view(boxes_position))[where]
        coded = dequantize(stored, scale=boxes_spec.scale, zero_point=boxes_spec.zero_point)
        if head.box_order == "yxyx":
            coded = coded[:, (1, 0, 3, 2)]
        boxes = _decoded(coded / by, anchors[where])
        check_finite(boxes, boxes_spec.name)
        return Candidates(boxes, found, class_id.astype(np.int64, copy=False))

    return decode


def _decoded(coded: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return xyxy in pixels of (n, 4) coded x, y, width, height and their anchors."""
    boxes = np.empty_like(coded)
    with np.errstate(over="ignore"):  # what becomes infinite is refused by the caller
        half = np.float32(0.5) * np.exp(coded[:, 2:]) * anchors[:, 2:]
    centre = coded[:, :2] * anchors[:, 2:] + anchors[:, :2]
    boxes[:, :2] = centre - half
    boxes[:, 2:] = centre + half
    return boxes
