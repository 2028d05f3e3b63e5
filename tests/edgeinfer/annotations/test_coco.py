"""COCO JSON, good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgeinfer.annotations.coco import open_coco_boxes, open_coco_keypoints
from edgeinfer.errors import InputError, InputFileError
from edgeinfer.metrics.keypoint_similarity import COCO_SIGMAS

POINTS = list(COCO_SIGMAS)


def written(folder: Path, **changes: Any) -> Path:
    """A folder with two pictures of 40 x 30 and a JSON beside them."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(folder / name)
    said = {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "a.png", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 2, 10, 20], "iscrowd": 0, "segmentation": [[1, 2]]},
            {"id": 2, "image_id": 3, "category_id": 5, "bbox": [0.5, 0, 39.5, 30], "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 5, "name": "traffic light"}],
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps({**said, **changes}))
    return path


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 2, 10, 20], **changes}


def test_boxes_become_corners_and_classes_count_by_rising_id(tmp_path: Path) -> None:
    data = open_coco_boxes(written(tmp_path))
    assert data.classes == ("traffic light", "dog")
    assert [source.name for source in data.sources] == ["b.png", "a.png"]
    empty, truth = data.truth
    assert empty.xyxy.shape == (0, 4)
    assert truth.xyxy.tolist() == [[1, 2, 11, 22], [0.5, 0, 40, 30]]
    assert truth.class_id.tolist() == [1, 0]
    assert truth.crowd.tolist() == [False, True]


def test_the_pictures_may_lie_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / name).rename(tmp_path / "pictures" / name)
    assert open_coco_boxes(path, tmp_path / "pictures").sources[0] == tmp_path / "pictures" / "b.png"
    with pytest.raises(InputFileError, match="2 of 2 pictures that are not there") as caught:
        open_coco_boxes(path)
    assert "--images" in caught.value.next_step


def test_a_file_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="does not exist"):
        open_coco_boxes(tmp_path / "none.json")


@pytest.mark.parametrize("text", ['{"images": [', "\udcff", "[" * 100_000], ids=["cut off", "no text", "deep"])
def test_damaged_json_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="damaged JSON"):
        open_coco_boxes(tmp_path / "bad.json")


@pytest.mark.parametrize("said", [[], {"images": []}, {"images": {}, "annotations": [], "categories": []}, 3])
def test_other_json_is_refused(tmp_path: Path, said: Any) -> None:
    (tmp_path / "other.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="no COCO JSON"):
        open_coco_boxes(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([annotation(image_id=99)], "belongs to no picture"),
        ([annotation(image_id=[3])], "belongs to no picture"),
        ([annotation(category_id=1)], "category that is not there"),
        ([annotation(bbox=[1, 2, 3])], "no right `bbox`"),
        ([annotation(bbox=["a", 2, 3, 4])], "no right `bbox`"),
        ([annotation(bbox=[float("nan"), 2, 3, 4])], "no right `bbox`"),
        ([{"id": 1, "image_id": 3, "category_id": 90}], "no right `bbox`"),
        ([annotation(bbox=[35, 2, 10, 20])], "does not lie in its picture"),
        ([annotation(bbox=[10, 2, -5, 20])], "does not lie in its picture"),
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_coco_boxes(written(tmp_path, annotations=rows))
    assert "boxes.json" in caught.value.message


def test_a_box_may_stand_out_by_a_pixel(tmp_path: Path) -> None:
    data = open_coco_boxes(written(tmp_path, annotations=[annotation(bbox=[-0.6, 0, 41.4, 30.5])]))
    assert data.truth[1].xyxy[0] == pytest.approx([-0.6, 0, 40.8, 30.5])


@pytest.mark.parametrize(
    "changes",
    [
        {"images": [{"id": 3, "file_name": "a.png", "width": 40}]},
        {"images": [{"id": "3", "file_name": "a.png", "width": 40, "height": 30}]},
        {"categories": [{"id": 5}]},
    ],
)
def test_incomplete_entries_are_refused(tmp_path: Path, changes: Any) -> None:
    with pytest.raises(InputError, match="is incomplete"):
        open_coco_boxes(written(tmp_path, **changes, annotations=[]))


def test_two_pictures_of_one_id_are_refused(tmp_path: Path) -> None:
    row = {"id": 3, "file_name": "a.png", "width": 40, "height": 30}
    with pytest.raises(InputError, match="the same id"):
        open_coco_boxes(written(tmp_path, images=[row, row]))


def test_pictures_that_were_resized_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    Image.new("RGB", (20, 15)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="not of the size that was annotated") as caught:
        open_coco_boxes(path)
    assert caught.value.received == "20 x 15 pixels"


def test_no_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        open_coco_boxes(written(tmp_path, images=[], annotations=[]))


# --- key points -----------------------------------------------------------------------------------


def bodies(folder: Path, *, names: Any = POINTS, **changes: Any) -> Path:
    points = [[number, number + 1, number % 3] for number in range(len(names))]
    row = annotation(keypoints=[one for point in points for one in point], area=150.0, num_keypoints=12, **changes)
    categories = [{"id": 90, "name": "person", "keypoints": names}, {"id": 5, "name": "car"}]
    other = annotation(id=2, category_id=5)
    return written(folder, annotations=[row, other], categories=categories)


def test_key_points_come_with_what_their_similarity_needs(tmp_path: Path) -> None:
    data = open_coco_keypoints(bodies(tmp_path))
    assert data.names == tuple(POINTS)
    assert data.sigmas == tuple(COCO_SIGMAS.values())
    truth = data.truth[1]
    assert truth.xy.shape == (1, 17, 2)
    assert truth.xy[0, 4].tolist() == [4, 5]
    assert truth.labelled[0].tolist() == [number % 3 > 0 for number in range(17)]
    assert truth.area.tolist() == [150.0]
    assert truth.xyxy.tolist() == [[1, 2, 11, 22]]
    assert len(data.truth[0].xy) == 0


def test_a_body_without_an_area_takes_that_of_its_box(tmp_path: Path) -> None:
    path = bodies(tmp_path)
    said = json.loads(path.read_text())
    del said["annotations"][0]["area"]
    path.write_text(json.dumps(said))
    assert open_coco_keypoints(path).truth[1].area.tolist() == [200.0]


@pytest.mark.parametrize("area", ["large", -1, None])
def test_a_wrong_area_is_refused(tmp_path: Path, area: Any) -> None:
    path = bodies(tmp_path)
    said = json.loads(path.read_text())
    said["annotations"][0]["area"] = area
    path.write_text(json.dumps(said))
    with pytest.raises(InputError, match="no right `area`"):
        open_coco_keypoints(path)


def test_points_that_are_no_persons_need_sigmas(tmp_path: Path) -> None:
    path = bodies(tmp_path, names=["front", "back"])
    with pytest.raises(InputError, match="How exactly") as caught:
        open_coco_keypoints(path)
    assert "sigmas" in caught.value.next_step
    assert open_coco_keypoints(path, sigmas=(0.1, 0.2)).sigmas == (0.1, 0.2)
    with pytest.raises(InputError, match="One sigma a point"):
        open_coco_keypoints(path, sigmas=(0.1,))
    with pytest.raises(InputError, match="do not fit"):
        open_coco_keypoints(path, sigmas=(0.1, 0.0))


def test_a_json_of_boxes_has_no_bodies(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which points a body has"):
        open_coco_keypoints(written(tmp_path))


def test_too_few_numbers_are_refused(tmp_path: Path) -> None:
    path = bodies(tmp_path)
    said = json.loads(path.read_text())
    said["annotations"][0]["keypoints"].pop()
    path.write_text(json.dumps(said))
    with pytest.raises(InputError, match="no right `keypoints`"):
        open_coco_keypoints(path)
