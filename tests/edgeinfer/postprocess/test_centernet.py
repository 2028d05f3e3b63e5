"""Peaks of a heat map, with sizes and offsets, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tiny_detectors import Out, detect, quantized, ran

from edgeinfer.errors import ModelError
from edgeinfer.model.heads import DetectionHead
from edgeinfer.postprocess.detect import DetectionOptions

pytestmark = pytest.mark.device

# A 64 x 64 input and a map of 16 x 16: cells of 4 pixels.


def maps(peaks: dict[tuple[int, int, int], float], *, size: tuple[float, float], offset: tuple[float, float]) -> list:
    heat = np.zeros((1, 16, 16, 3), np.float32)
    for (y, x, class_id), value in peaks.items():
        heat[0, y, x, class_id] = value
    sizes = np.broadcast_to(np.array(size, np.float32), (1, 16, 16, 2)).copy()
    offsets = np.broadcast_to(np.array(offset, np.float32), (1, 16, 16, 2)).copy()
    return [Out("heatmap", heat), Out("sizes", sizes), Out("offsets", offsets)]


def test_a_peak_is_a_box_about_its_centre() -> None:
    # Cell (y 8, x 4) and offsets (0.25, 0.5): centre (18, 33). Height 4 and width 2 cells: 16 and 8 pixels.
    outs = maps({(8, 4, 2): 0.75}, size=(4, 2), offset=(0.25, 0.5))
    found = detect(ran(outs), DetectionOptions())
    assert found.xyxy.tolist() == [[14, 25, 22, 41]]
    assert found.class_id.tolist() == [2]
    assert found.confidence.tolist() == [0.75]


def test_x_may_stand_before_y() -> None:
    outs = maps({(8, 4, 2): 0.75}, size=(2, 4), offset=(0.5, 0.25))
    found = detect(ran(outs), DetectionOptions(head=DetectionHead("heatmap", box="xyxy")))
    assert found.xyxy.tolist() == [[14, 25, 22, 41]]


def test_only_the_highest_of_neighbours_is_a_peak() -> None:
    peaks = {(8, 4, 0): 0.75, (8, 5, 0): 0.5, (9, 5, 0): 0.74, (8, 4, 1): 0.6, (3, 3, 0): 0.3}
    found = detect(ran(maps(peaks, size=(2, 2), offset=(0, 0))), DetectionOptions())
    assert found.confidence.tolist() == pytest.approx([0.75, 0.6, 0.3])
    assert found.class_id.tolist() == [0, 1, 0]


def test_of_equal_neighbours_the_first_is_the_peak() -> None:
    peaks = {(8, 4, 0): 0.5, (8, 5, 0): 0.5, (9, 4, 0): 0.5, (9, 5, 0): 0.5}
    found = detect(ran(maps(peaks, size=(2, 2), offset=(0, 0))), DetectionOptions())
    assert found.xyxy.tolist() == [[12, 28, 20, 36]]


def test_a_peak_may_lie_in_a_corner() -> None:
    peaks = {(0, 0, 0): 0.5, (15, 15, 0): 0.75, (0, 15, 0): 0.25}
    found = detect(ran(maps(peaks, size=(2, 2), offset=(0.5, 0.5))), DetectionOptions())
    assert found.xyxy.tolist() == [[58, 58, 64, 64], [0, 0, 6, 6], [58, 0, 64, 6]]


@pytest.mark.parametrize("seed", range(5))
def test_peaks_are_those_of_a_loop(seed: int) -> None:
    heat = np.random.default_rng(seed).integers(0, 8, (16, 16, 3)) / 8
    expected = []
    for y, x, class_id in np.ndindex(heat.shape):
        here = heat[y, x, class_id]
        near = [(y + down, x + right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
        there = [(one, heat[(*one, class_id)]) for one in near if min(one) >= 0 and max(one) < 16]
        if here >= 0.25 and all(here > value if one < (y, x) else here >= value for one, value in there):
            expected.append((x * 4 - 2.0, y * 4 - 2.0, class_id))
    outs = maps({}, size=(1, 1), offset=(0, 0))
    outs[0] = quantized("heatmap", heat[None])
    found = detect(ran(outs), DetectionOptions(limit=1000))
    corners = [(right - 4, lower - 4) for _, _, right, lower in found.xyxy.tolist()]
    same = {(x, y, class_id) for (x, y), class_id in zip(corners, found.class_id.tolist(), strict=True)}
    assert same == {(x, y, class_id) for x, y, class_id in expected}
    assert len(found) == len(expected)


def test_logits_pass_a_sigmoid() -> None:
    outs = maps({(8, 4, 2): 30 + math.log(3)}, size=(4, 2), offset=(0, 0))
    outs[0].stored[...] -= 30
    found = detect(ran(outs), DetectionOptions(head=DetectionHead("heatmap", logits=True)))
    assert found.confidence.tolist() == pytest.approx([0.75], rel=1e-5)


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ModelError, match="not a number in `heatmap`"):
        detect(ran(maps({(8, 4, 2): np.nan}, size=(4, 2), offset=(0, 0))), DetectionOptions())


def test_a_size_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ModelError, match="not a number in `sizes` or `offsets`"):
        detect(ran(maps({(8, 4, 2): 0.5}, size=(4, np.nan), offset=(0, 0))), DetectionOptions())
