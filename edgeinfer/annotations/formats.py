"""From a path to the data that a task is judged on."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from edgeinfer.annotations.coco import open_coco_boxes, open_coco_keypoints
from edgeinfer.annotations.masks import open_masks
from edgeinfer.annotations.truth import DetectionData, PoseData, SegmentationData
from edgeinfer.annotations.yolo import open_yolo
from edgeinfer.dataset import Dataset, open_dataset
from edgeinfer.errors import InputError
from edgeinfer.model.specs import Task

Data: TypeAlias = Dataset | DetectionData | SegmentationData | PoseData

_FORMATS = {
    "detection": "a COCO JSON, or a YOLO-format folder (`images/`, `labels/`, a yaml with `names:`)",
    "segmentation": "a folder with `images/` and `masks/`",
    "pose": "a COCO JSON with key points",
}


def open_data(path: str | Path, *, task: Task = "classification", images: str | Path | None = None) -> Data:
    """Open labelled data in the formats of a task.

    Args:
        path: "classification": see `edgeinfer.dataset.FORMATS`. "detection": a COCO JSON or a YOLO-format folder.
            "segmentation": a folder with `images/` and `masks/`. "pose": a COCO JSON with key points.
        task: What the model does.
        images: The folder of a COCO JSON's pictures; None is the JSON's own.

    Raises:
        InputFileError: Something is not there.
        InputError: The format is not the task's, `images` is given where there is no JSON, or the data is wrong.
    """
    place = Path(path)
    is_json = place.suffix.lower() == ".json"
    if images is not None and not is_json:
        raise InputError(
            "`--images` (`images=`) belongs to a COCO JSON.",
            received=f"`{place}`",
            expected="a file that ends in .json",
        )
    if task == "classification":
        return open_dataset(place)
    if task == "detection" and is_json:
        return open_coco_boxes(place, images)
    if task == "detection" and (place.is_dir() or not place.exists()):
        return open_yolo(place)
    if task == "segmentation" and not is_json:
        return open_masks(place)
    if task == "pose" and is_json:
        return open_coco_keypoints(place, images)
    raise InputError(
        f'This is no data for the task "{task}".',
        received=f"`{place}`",
        expected=_FORMATS.get(task, "no task that is measured on labelled data"),
    )
