"""Heat maps of centres: a peak is an object, and two more maps say its size and where in the cell its centre lies.

A peak is no smaller than its eight neighbours. Stored in 8 bits, neighbours are often equal; the first of them in
reading order is the peak then, so that one object is one box. Peaks need no suppression.

Source: Zhou et al. 2019, arXiv:1904.07850, section 4 ("From points to bounding boxes").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.specs import OutputSpec
from edgeinfer.postprocess.candidates import Candidates, Decoder, no_candidates
from edgeinfer.postprocess.scores import check_finite, not_a_number, score_threshold
from edgeinfer.preprocess.geometry import View
from edgeinfer.quantization import dequantize
from edgeinfer.runtime.runtime import Tensors

_EARLIER = ((-1, -1), (-1, 0), (-1, 1), (0, -1))
_LATER = ((0, 1), (1, -1), (1, 0), (1, 1))

Peaks = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]  # y, x, class


def heatmap_decoder(
    specs: tuple[OutputSpec, OutputSpec, OutputSpec],
    positions: tuple[int, int, int],
    head: DetectionHead,
    confidence: float,
) -> Decoder:
    """Return what reads peaks, sizes and offsets.

    Args:
        specs: Heat map (1, h, w, classes), sizes and offsets (1, h, w, 2), both in cells.
        positions: Where the three stand among the outputs.
        head: Kind "heatmap"; its box order says whether y or x comes first in sizes and offsets.
        confidence: The least that counts, 0..1.

    Raises:
        MetadataError: Scores cannot be read (see `score_threshold`).
    """
    heat_spec, size_spec, offset_spec = specs
    heat_position, size_position, offset_position = positions
    limit = score_threshold(heat_spec, confidence, logits=head.logits)
    if limit.least is None:
        return no_candidates
    least = limit.least
    is_float = np.dtype(heat_spec.dtype).kind == "f"
    xy = [1, 0] if head.box_order == "yxyx" else [0, 1]

    def decode(outputs: Tensors, view: View) -> Candidates:
        heat = outputs.view(heat_position)[0]
        if is_float and not np.isfinite(heat.max()):
            raise not_a_number(heat_spec.name)
        y, x, class_id = _peaks(heat, least)
        found = limit.confidences(heat[y, x, class_id])
        if is_float and head.logits:
            passed = found >= limit.confidence
            y, x, class_id, found = y[passed], x[passed], class_id[passed], found[passed]
        stored = outputs.view(size_position)[0, y, x]
        half = dequantize(stored, scale=size_spec.scale, zero_point=size_spec.zero_point)[:, xy] * np.float32(0.5)
        stored = outputs.view(offset_position)[0, y, x]
        centre = dequantize(stored, scale=offset_spec.scale, zero_point=offset_spec.zero_point)[:, xy]
        centre += np.stack([x, y], axis=1)
        cell = np.array(view.tensor_size, dtype=np.float32) / (heat.shape[1], heat.shape[0])
        boxes = np.concatenate([(centre - half) * cell, (centre + half) * cell], axis=1, dtype=np.float32)
        check_finite(boxes, f"{size_spec.name}` or `{offset_spec.name}")
        return Candidates(boxes, found, class_id.astype(np.int64, copy=False))

    return decode


def _peaks(heat: NDArray[Any], least: np.generic) -> Peaks:
    """Return where a (h, w, classes) map reaches `least` and no neighbour of the same class is higher."""
    y, x, class_id = np.nonzero(heat >= least)
    rows, columns = heat.shape[:2]
    for earlier, neighbours in ((True, _EARLIER), (False, _LATER)):
        for down, right in neighbours:
            there_y, there_x = y + down, x + right
            outside = (there_y < 0) | (there_y >= rows) | (there_x < 0) | (there_x >= columns)
            there = heat[np.clip(there_y, 0, rows - 1), np.clip(there_x, 0, columns - 1), class_id]
            here = heat[y, x, class_id]
            stays = outside | ((here > there) if earlier else (here >= there))
            y, x, class_id = y[stays], x[stays], class_id[stays]
    return y, x, class_id
