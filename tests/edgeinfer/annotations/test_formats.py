"""From a path and a task to the kind of data."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from edgeinfer.annotations.formats import open_data
from edgeinfer.annotations.truth import DetectionData, SegmentationData
from edgeinfer.dataset import Dataset
from edgeinfer.errors import InputError, InputFileError
from edgeinfer.model.specs import Task


def picture(path: Path, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8)).save(path)


def test_classification_takes_class_folders(tmp_path: Path) -> None:
    picture(tmp_path / "red" / "a.png")
    assert isinstance(open_data(tmp_path), Dataset)


def test_detection_takes_a_yolo_folder_or_a_json(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    assert isinstance(open_data(tmp_path, task="detection"), DetectionData)
    said = '{"images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], "annotations": [], "categories": []}'
    (tmp_path / "boxes.json").write_text(said)
    assert isinstance(
        open_data(tmp_path / "boxes.json", task="detection", images=tmp_path / "images"),
        DetectionData,
    )
    with pytest.raises(InputError, match="which points a body has"):
        open_data(tmp_path / "boxes.json", task="pose", images=tmp_path / "images")


def test_segmentation_takes_pictures_and_masks(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "masks" / "a.png", "L")
    assert isinstance(open_data(tmp_path, task="segmentation"), SegmentationData)


@pytest.mark.parametrize("task", ["pose", "embedding", "tensors"])
def test_a_folder_is_no_data_for_some_tasks(tmp_path: Path, task: Task) -> None:
    with pytest.raises(InputError, match=f'no data for the task "{task}"'):
        open_data(tmp_path, task=task)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        open_data(tmp_path / "none", task="detection")
    with pytest.raises(InputFileError):
        open_data(tmp_path / "none", task="segmentation")


def test_images_belong_to_a_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="belongs to a COCO JSON"):
        open_data(tmp_path, task="detection", images=tmp_path)
