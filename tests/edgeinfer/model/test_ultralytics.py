"""Files as Ultralytics' exporter writes them, made here by the layout of its source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import tiny_models
from tiny_flatbuffer import Scalar, Table, flatbuffer
from tiny_models import TensorSpec

from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.metadata import ModelMetadata, Normalization, Resize, read
from edgeinfer.model.ultralytics import read_export

NAMES = {0: "person", 1: "traffic light", 2: "dog"}
SAID = {
    "description": "Ultralytics YOLO11n model trained on coco8.yaml",
    "author": "Ultralytics",
    "version": "8.3.100",
    "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    "stride": 32,
    "task": "detect",
    "batch": 1,
    "imgsz": [64, 64],
    "names": NAMES,
}


def export(shape: tuple[int, ...] = (1, 7, 84), metadata: Mapping[str, bytes] | None = None, **files: Any) -> bytes:
    tensors = [TensorSpec("images", (1, 64, 64, 3)), TensorSpec("Identity", shape)]
    reshape = tiny_models.OperatorSpec(tiny_models.RESHAPE, (0,), (1,))
    data = tiny_models.model(tensors, [reshape], inputs=[0], outputs=[1], metadata=metadata)
    return tiny_models.with_files(data, files)


def with_json(shape: tuple[int, ...] = (1, 7, 84), **changes: Any) -> ModelMetadata:
    # JSON turns the numbers of the classes into texts.
    return read(export(shape, **{"metadata.json": json.dumps({**SAID, **changes}, indent=2)}))


def old_notes() -> bytes:
    """TFLite Metadata of older exports: the dictionary stands there as if it were a label file."""
    file = Table({0: "temp_meta.txt", 2: Scalar("b", 2)})
    picture = Table({3: Table({0: Scalar("B", 2), 1: Table({0: Scalar("b", 1)})}), 0: "image"})
    subgraph = Table({2: [picture], 3: [Table({0: "output", 6: [file]})]})
    return flatbuffer(Table({0: "YOLOv8n", 3: [subgraph], 4: "Ultralytics"}), b"M001")


@pytest.fixture(params=["metadata.json", "temp_meta.txt"])
def said(request: pytest.FixtureRequest) -> ModelMetadata:
    if request.param == "metadata.json":
        return with_json()
    return read(export(metadata={"TFLITE_METADATA": old_notes()}, **{"temp_meta.txt": str(SAID)}))


def test_the_task_and_the_names_are_there(said: ModelMetadata) -> None:
    assert said.task == "detection"
    assert said.outputs[0].labels == ("person", "traffic light", "dog")
    assert said.outputs[0].role == "predictions"


def test_a_box_is_a_column_of_shares_with_a_score_a_class(said: ModelMetadata) -> None:
    expected = DetectionHead("yolo", box="cxcywh", unit="share", objectness=False, channels="first")
    assert said.head == expected


def test_pixels_become_shares_of_one_in_a_grey_letterbox(said: ModelMetadata) -> None:
    assert said.inputs[0].normalization == Normalization(0.0, 255.0)
    assert said.inputs[0].resize == Resize("letterbox", "bilinear", 114)


def test_who_made_it_stays_known(said: ModelMetadata) -> None:
    assert said.author == "Ultralytics"
    assert with_json().license.startswith("AGPL-3.0")


def test_rows_that_are_suppressed_already_are_known_by_their_six_numbers() -> None:
    assert with_json((1, 300, 6)).head == DetectionHead("rows", box="xyxy", unit="share")


def test_a_classification_has_its_names_and_cuts_the_picture() -> None:
    said = with_json((1, 3), task="classify")
    assert (said.task, said.outputs[0].labels) == ("classification", ("person", "traffic light", "dog"))
    assert said.inputs[0].resize.mode == "crop"


@pytest.mark.parametrize("task", ["obb", "segment", "pose"])
def test_a_task_that_is_none_of_ours_is_not_called_one(task: str) -> None:
    said = with_json((1, 12, 84), task=task)
    assert (said.task, said.outputs[0].labels, said.head) == ("tensors", (), None)


@pytest.mark.parametrize(
    "names", [{0: "a", 2: "b"}, {"x": "a"}, {0: 1, 1: 2, 2: 3}, 7, "abc"], ids=["gap", "words", "numbers", "7", "text"]
)
def test_names_that_are_no_list_are_left_away(names: Any) -> None:
    assert with_json(names=names).outputs[0].labels == ()


def test_our_own_record_is_believed_first() -> None:
    files = {"metadata.json": json.dumps(SAID), "edgeinfer.json": '{"schema": 1, "task": "tensors"}'}
    assert read(export(**files)).task == "tensors"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.json", b'{"format": "of somebody else"}'),
        ("metadata.json", b"[1, 2]"),
        ("metadata.json", b"\xff\xfe"),
        ("metadata.json", b"{" * 100_000),
        ("temp_meta.txt", b"__import__('os').system('true')"),
        ("temp_meta.txt", b"(" * 100_000),
        ("temp_meta.txt", b"{'task': 'detect', 'names': {}}" + b" " * 300_000),
    ],
    ids=["another format", "a list", "no text", "nested", "code", "nested literal", "too long"],
)
def test_what_others_wrote_and_what_is_dangerous_is_left_alone(name: str, content: bytes) -> None:
    assert read_export({name: content}) is None


def test_annotated_files_keep_what_the_export_said() -> None:
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")
    metadata = pytest.importorskip("converters.metadata")
    data = export(**{"metadata.json": json.dumps(SAID)})
    assert read(metadata.annotate(data)) == read(data)
