"""Boxes coded against anchors: by hand, and against TFLite's own Detection_PostProcess."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tiny_detectors import Out, detect, quantized, ran, whole

from edgeinfer.errors import MetadataError, ModelError
from edgeinfer.model.heads import AnchorGrid, DetectionHead
from edgeinfer.model.metadata import InputSpec, ModelMetadata, OutputSpec
from edgeinfer.postprocess.anchors import anchor_boxes
from edgeinfer.postprocess.detect import DetectionOptions, detection_post
from edgeinfer.runtime.runtime import Runtime, Tensors

pytestmark = pytest.mark.device

# 64 pixels: 2 x 2 cells of 32 with two anchors each, and one cell of 64: nine anchors.
GRID = AnchorGrid((32, 64), (((16.0, 16.0), (32.0, 8.0)), ((64.0, 64.0),)))
HEAD = DetectionHead("anchors", anchors=GRID)


def answers(coded: dict[int, list[float]], scores: dict[int, list[float]], classes: int = 2) -> list[Out]:
    boxes, table = np.zeros((1, 9, 4), np.float32), np.zeros((1, 9, classes), np.float32)
    for row, values in coded.items():
        boxes[0, row] = values
    for row, values in scores.items():
        table[0, row] = values
    return [Out("boxes", boxes), Out("scores", table)]


# --- the anchors -----------------------------------------------------------------------------------


def test_anchors_come_grid_by_grid_row_by_row_and_side_by_side() -> None:
    assert anchor_boxes(GRID, (64, 64)).tolist() == [
        [16, 16, 16, 16],
        [16, 16, 32, 8],
        [48, 16, 16, 16],
        [48, 16, 32, 8],
        [16, 48, 16, 16],
        [16, 48, 32, 8],
        [48, 48, 16, 16],
        [48, 48, 32, 8],
        [32, 32, 64, 64],
    ]


def test_cells_share_a_side_that_no_stride_divides() -> None:
    # 300 / 128 is 2.3, so 3 cells of 100.
    centres = anchor_boxes(AnchorGrid((128,), (((10.0, 10.0),),)), (300, 300))[:3, 0]
    assert centres.tolist() == [50, 150, 250]


def test_an_offset_of_zero_is_the_corner_of_the_cell() -> None:
    assert anchor_boxes(AnchorGrid((32,), (((8.0, 8.0),),), offset=0.0), (64, 32))[:, :2].tolist() == [[0, 0], [32, 0]]


def test_efficientdet_lite0_has_its_19206_anchors() -> None:
    # Levels 3 to 7 of 320: 40, 20, 10, 5 and 3 cells a side, three octaves and three ratios each: 9 * 2134.
    sizes = [[3.0 * stride * 2 ** (octave / 3) for octave in range(3)] for stride in (8, 16, 32, 64, 128)]
    grid = AnchorGrid.of_sizes((8, 16, 32, 64, 128), sizes=sizes, ratios=(1.0, 2.0, 0.5))
    assert len(anchor_boxes(grid, (320, 320))) == 19206


# --- decoding --------------------------------------------------------------------------------------


def test_nothing_coded_is_the_anchor_itself() -> None:
    found = detect(ran(answers({}, {7: [0.0, 0.5]})), DetectionOptions(head=HEAD))
    assert found.xyxy.tolist() == [[32, 44, 64, 52]]  # centre (48, 48), 32 x 8
    assert found.class_id.tolist() == [1]


def test_coded_numbers_move_by_shares_of_the_anchor_and_grow_by_powers() -> None:
    # Anchor 0: centre (16, 16), 16 x 16. y 5/10 and x 2.5/10 of 16: centre (20, 24). Height times 2, width times 1/2.
    coded = {0: [5.0, 2.5, 5 * math.log(2), 5 * math.log(0.5)]}
    found = detect(ran(answers(coded, {0: [0.75, 0.5]})), DetectionOptions(head=HEAD))
    np.testing.assert_allclose(found.xyxy, [[16, 8, 24, 40]], rtol=1e-6)


def test_x_may_stand_before_y() -> None:
    head = DetectionHead("anchors", anchors=GRID, box="xyxy", scaling=(10.0, 10.0, 5.0, 5.0))
    coded = {0: [2.5, 5.0, 5 * math.log(0.5), 5 * math.log(2)]}
    found = detect(ran(answers(coded, {0: [0.75, 0.5]})), DetectionOptions(head=head))
    np.testing.assert_allclose(found.xyxy, [[16, 8, 24, 40]], rtol=1e-6)


def test_the_background_is_no_class() -> None:
    head = DetectionHead("anchors", anchors=GRID, background=True)
    outs = answers({}, {0: [0.9, 0.1, 0.05], 2: [0.1, 0.2, 0.7]}, classes=3)
    found = detect(ran(outs), DetectionOptions(head=head), labels=("cat", "dog"))
    assert [one.label for one in found] == ["dog"]


def test_quantized_outputs_have_a_scale_each() -> None:
    _, scores = answers({}, {0: [0.75, 0.5]})
    stored = np.full((1, 9, 4), 100, np.uint8)
    stored[0, 0] = [150, 125, 100, 100]  # zero point 100, scale 0.1: 5 and 2.5
    outs = [Out("boxes", stored, 0.1, 100), quantized("scores", scores.stored, dtype="uint8")]
    found = detect(ran(outs), DetectionOptions(head=HEAD))
    np.testing.assert_allclose(found.xyxy, [[12, 16, 28, 32]], rtol=1e-6)


def test_logits_pass_a_sigmoid() -> None:
    head = DetectionHead("anchors", anchors=GRID, logits=True)
    outs = answers({}, {row: [-30.0, -30.0] for row in range(9)} | {4: [math.log(3), 0.0]})
    found = detect(ran(outs), DetectionOptions(head=head))
    assert found.confidence.tolist() == pytest.approx([0.75], rel=1e-6)


def test_a_size_beyond_all_floats_is_an_error_of_the_model() -> None:
    runtime = ran(answers({0: [0, 0, 500, 500]}, {0: [0.75, 0]}))
    with pytest.raises(ModelError, match="not a number"):
        detect(runtime, DetectionOptions(head=HEAD))


def test_a_score_that_is_no_number_is_an_error_of_the_model() -> None:
    runtime = ran(answers({}, {0: [np.nan, 0]}))
    with pytest.raises(ModelError, match="not a number in `scores`"):
        detect(runtime, DetectionOptions(head=HEAD))


def test_anchors_that_are_too_few_are_an_error_that_counts_both() -> None:
    head = DetectionHead("anchors", anchors=AnchorGrid((32,), (((16.0, 16.0),),)))
    with pytest.raises(MetadataError, match="anchors do not fit") as caught:
        detect(ran(answers({}, {})), DetectionOptions(head=head))
    assert caught.value.received == "4 anchors; `boxes` (1, 9, 4), `scores` (1, 9, 2)"


# --- against TFLite's own op -----------------------------------------------------------------------


def ssd_mobilenet_v1() -> AnchorGrid:
    """The anchors of SSD MobileNet v1 for 300 pixels.

    As TensorFlow's Object Detection API configures them: six grids, scales 0.2 to 0.95 of the side, ratios 1, 2, 1/2,
    3 and 1/3, and a square between each scale and the next; the first grid has three anchors only.
    """
    scales = [0.2 + (0.95 - 0.2) * layer / 5 for layer in range(6)] + [1.0]
    boxes: list[tuple[tuple[float, float], ...]] = []
    for layer in range(6):
        pairs = [(scales[layer], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 1 / 3)]
        pairs.append((math.sqrt(scales[layer] * scales[layer + 1]), 1.0))
        if layer == 0:
            pairs = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        boxes.append(tuple((300 * s * math.sqrt(ratio), 300 * s / math.sqrt(ratio)) for s, ratio in pairs))
    return AnchorGrid((16, 32, 64, 128, 256, 512), tuple(boxes))


def test_the_anchors_of_ssd_mobilenet_are_those_in_its_file(test_data: Path) -> None:
    runtime = Runtime(test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite", threads=1)
    detail = next(one for one in runtime.interpreter.get_tensor_details() if one["name"] == "anchors")
    scale, zero_point = detail["quantization"]
    stored = runtime.interpreter.get_tensor(detail["index"]).astype(np.float64)  # y, x, height, width as shares
    theirs = ((stored - zero_point) * scale * 300)[:, [1, 0, 3, 2]]
    ours = anchor_boxes(ssd_mobilenet_v1(), (300, 300))
    assert np.abs(ours - theirs).max() <= 0.5 * scale * 300 + 1e-3  # half a step of their 8 bits


def test_raw_ssd_outputs_give_the_boxes_of_the_op_that_decodes_them(test_data: Path) -> None:
    from PIL import Image

    runtime = Runtime(test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite", threads=1)
    picture = Image.open(sorted((test_data / "coco128" / "images").rglob("*.jpg"))[3]).convert("RGB").resize((300, 300))
    runtime.input_view()[0] = np.asarray(picture)
    runtime.invoke()
    by_op = detection_post(runtime.metadata, options=DetectionOptions(confidence=0.3))(
        runtime.tensors, whole((300, 300))
    )
    assert len(by_op) > 0

    # The op's inputs are still in memory after it: coded boxes and scores, behind which the op is left out.
    details = {one["name"]: one for one in runtime.interpreter.get_tensor_details()}
    raw = [details["Squeeze"], details["convert_scores"]]
    specs = tuple(
        OutputSpec(one["name"], tuple(int(side) for side in one["shape"]), one["dtype"].__name__, *one["quantization"])
        for one in raw
    )
    head = DetectionHead("anchors", anchors=ssd_mobilenet_v1(), background=True)
    picture_spec = InputSpec("image", (1, 300, 300, 3), "uint8", 1 / 128, 128)
    metadata = ModelMetadata("detection", (picture_spec,), specs)
    options = DetectionOptions(confidence=0.3, iou=0.6, head=head)
    ours = detection_post(metadata, options=options)(
        Tensors(runtime.interpreter, tuple(one["index"] for one in raw), specs), whole((300, 300))
    )
    best = ours[: len(by_op)]
    assert best.class_id.tolist() == by_op.class_id.tolist()
    np.testing.assert_allclose(best.confidence, by_op.confidence, atol=1e-6)
    # The op knows its anchors in steps of 1.9 pixels: half of one for the centre, half of one for half the size.
    np.testing.assert_allclose(best.xyxy, by_op.xyxy, atol=2.0)
