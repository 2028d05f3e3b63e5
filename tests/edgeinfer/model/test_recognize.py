"""What a file without metadata does, read off its ops, shapes and names."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
from tiny_flatbuffer import Scalar
from tiny_models import CUSTOM, OperatorSpec, TensorSpec

from edgeinfer.model.metadata import read

ARG_MAX, ARG_MAX_OPTIONS, INT32 = 56, 40, 2


def finished(names: tuple[str, ...], order: tuple[int, ...] = (0, 1, 2, 3), op: str = "") -> bytes:
    """Boxes, classes, scores and count come out of one custom op; `order` is how the file lists them."""
    shapes = ((1, 10, 4), (1, 10), (1, 10), (1,))
    tensors = [TensorSpec("picture", (1, 8, 8, 3), "uint8", 1 / 255)]
    tensors += [TensorSpec(name, shape) for name, shape in zip(names, shapes, strict=True)]
    operator = OperatorSpec(CUSTOM, (0,), (1, 2, 3, 4), custom_code=op or "TFLite_Detection_PostProcess")
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=[place + 1 for place in order])


def class_map(*, op: int = ARG_MAX, shape: tuple[int, ...] = (1, 8, 8)) -> bytes:
    tensors = [
        TensorSpec("picture", (1, 8, 8, 3), "uint8", 1 / 255),
        TensorSpec("axis", (), "int32", values=[3]),
        TensorSpec("map", shape, "int32"),
    ]
    operator = OperatorSpec(op, (0, 1), (2,), ARG_MAX_OPTIONS, {0: Scalar("b", INT32)})
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=[2])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)], ids=str)
def test_the_postprocess_op_says_which_output_is_which_in_whatever_order_the_file_lists_them(
    order: tuple[int, ...],
) -> None:
    said = read(finished(("a", "b", "c", "d"), order))
    own = ("boxes", "classes", "scores", "count")
    assert said.task == "detection"
    assert [one.role for one in said.outputs] == [own[place] for place in order]


def test_the_op_is_believed_and_not_names_that_are_swapped() -> None:
    said = read(finished(("detection_boxes", "detection_scores", "detection_classes", "num_detections")))
    assert [one.role for one in said.outputs] == ["boxes", "classes", "scores", "count"]


def test_names_say_it_where_another_op_made_the_outputs() -> None:
    names = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
    said = read(finished(names, (2, 0, 3, 1), op="Other"))
    assert said.task == "detection"
    assert [one.role for one in said.outputs] == ["scores", "boxes", "count", "classes"]


def test_four_outputs_with_other_names_are_not_guessed() -> None:
    said = read(finished(("a", "b", "c", "d"), op="Other"))
    assert said.task == "tensors"
    assert {one.role for one in said.outputs} == {""}


def test_an_argmax_over_a_map_is_a_segmentation() -> None:
    said = read(class_map())
    assert said.task == "segmentation"
    assert said.outputs[0].role == "classmap"


def test_an_argmax_over_a_row_is_none() -> None:
    assert read(class_map(shape=(1, 8))).task == "tensors"


def test_seventeen_points_of_three_floats_are_a_pose() -> None:
    tensors = [TensorSpec("picture", (1, 17, 1, 3)), TensorSpec("shape", (4,), "int32", values=[1, 1, 17, 3])]
    tensors.append(TensorSpec("points", (1, 1, 17, 3)))
    reshape = OperatorSpec(tiny_models.RESHAPE, (0, 1), (2,))
    said = read(tiny_models.model(tensors, [reshape], inputs=[0], outputs=[2]))
    assert said.task == "pose"
    assert said.outputs[0].role == "keypoints"


def test_what_the_file_says_of_its_task_and_roles_is_believed_first() -> None:
    record = b'{"schema": 1, "task": "tensors", "outputs": [{"role": "predictions"}]}'
    said = read(tiny_models.with_files(class_map(), {"edgeinfer.json": record}))
    assert said.task == "tensors"
    assert said.outputs[0].role == "predictions"


@pytest.mark.parametrize(
    ("file", "task"),
    [
        ("coral/deeplabv3_mnv2_dm05_pascal_quant.tflite", "segmentation"),
        ("coral/movenet_single_pose_lightning_ptq.tflite", "pose"),
        ("detection/ssd_mobilenet_v1_coco_quant_detect.tflite", "detection"),
        ("coral/mobilenet_v2_1.0_224_quant.tflite", "classification"),
    ],
)
def test_public_models_are_recognized(test_data: Path, file: str, task: str) -> None:
    assert read(test_data / file).task == task
