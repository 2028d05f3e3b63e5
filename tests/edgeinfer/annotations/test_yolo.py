"""YOLO-format folders, good and bad, and the shared one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeinfer.annotations.yolo import open_yolo, yolo_root
from edgeinfer.errors import InputError, InputFileError


def written(
    folder: Path, rows: str = "1 0.5 0.5 0.5 1.0\n0 0.25 0.25 0.5 0.5\n", yaml: str = "names: [cat, dog]\n"
) -> Path:
    """A picture of 40 x 20 with two boxes, and one without a label file."""
    for part in ("images/val", "labels/val"):
        (folder / part).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (40, 20)).save(folder / f"images/val/{name}.png")
    (folder / "labels/val/a.txt").write_text(rows)
    (folder / "data.yaml").write_text(yaml)
    return folder


def test_shares_become_pixels(tmp_path: Path) -> None:
    data = open_yolo(written(tmp_path))
    assert data.classes == ("cat", "dog")
    assert [source.name for source in data.sources] == ["a.png", "b.png"]
    assert data.truth[0].xyxy.tolist() == [[10, 0, 30, 20], [0, 0, 20, 10]]
    assert data.truth[0].class_id.tolist() == [1, 0]
    assert not data.truth[0].crowd.any()


def test_a_picture_without_labels_has_no_boxes(tmp_path: Path) -> None:
    assert len(open_yolo(written(tmp_path)).truth[1].class_id) == 0


def test_an_empty_label_file_has_no_boxes(tmp_path: Path) -> None:
    assert len(open_yolo(written(tmp_path, rows="")).truth[0].class_id) == 0


def test_a_picture_that_lies_on_its_side_is_measured_upright(tmp_path: Path) -> None:
    folder = written(tmp_path)
    exif = Image.Exif()
    exif[274] = 6  # Source: Exif 2.32, tag 274: turned by a quarter
    Image.new("RGB", (40, 20)).save(folder / "images/val/a.jpg", exif=exif)
    (folder / "images/val/a.png").unlink()
    assert open_yolo(folder).truth[0].xyxy[0].tolist() == [5, 0, 15, 40]


def test_a_folder_of_its_pictures_is_a_part_of_the_data(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "images/train").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "images/train/c.png")
    assert len(open_yolo(folder)) == 3
    part = open_yolo(folder / "images" / "val")
    assert [source.name for source in part.sources] == ["a.png", "b.png"]
    assert part.truth[0].class_id.tolist() == [1, 0]


def test_training_and_validation_are_not_mixed(tmp_path: Path) -> None:
    folder = written(tmp_path, yaml="train: images/train\nval: images/val\nnames: [cat, dog]\n")
    assert len(open_yolo(folder)) == 2  # the other is not there
    (folder / "images/train").mkdir()
    with pytest.raises(InputError, match="for training and others for validation") as caught:
        open_yolo(folder)
    assert "images/val" in caught.value.expected
    assert len(open_yolo(folder / "images/val")) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0 0.5 0.5 0.5\n", "Row 1 of `a.txt` is no box"),
        ("0 0.5 0.5 0.5 0.5\n\nx 0 0 0 0\n", "Row 3 of `a.txt` is no box"),
        ("0 nan 0.5 0.5 0.5\n", "Row 1 of `a.txt` is no box"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2\n", "Row 1 of `a.txt` is no box"),
        ("2 0.5 0.5 0.5 0.5\n", "a class without a name"),
        ("-1 0.5 0.5 0.5 0.5\n", "a class without a name"),
        ("0.5 0.5 0.5 0.5 0.5\n", "a class without a name"),
        ("0 0.9 0.5 0.5 0.5\n", "does not lie in its picture"),
        ("0 10 10 20 20\n", "does not lie in its picture"),
        ("0 0.5 0.5 -0.5 0.5\n", "does not lie in its picture"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_yolo(written(tmp_path, rows=rows))


def test_labels_without_a_picture_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = written(tmp_path)
    (folder / "labels/val/classes.txt").write_text("cat\ndog\n")
    open_yolo(folder)
    assert caplog.text == ""
    (folder / "labels/val/z.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert len(open_yolo(folder)) == 2
    assert "1 label files" in caplog.text
    assert "`z.txt`" in caplog.text


def test_pictures_without_any_labels_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "labels/val/a.txt").rename(folder / "labels/val/other.txt")
    with pytest.raises(InputFileError, match=r"No picture of .* has labels"):
        open_yolo(folder)


@pytest.mark.parametrize("yaml", ["path: .\n", "nc: 2\n"])
def test_classes_without_names_are_refused(tmp_path: Path, yaml: str) -> None:
    with pytest.raises(InputError, match="names its classes"):
        open_yolo(written(tmp_path, yaml=yaml))


def test_yaml_files_that_disagree_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "other.yml").write_text("names: [cat, dog]\n")
    open_yolo(folder)
    (folder / "other.yml").write_text("names: [dog, cat]\n")
    with pytest.raises(InputError, match="disagree") as caught:
        open_yolo(folder)
    assert caught.value.received == "data.yaml, other.yml"


def test_a_folder_that_is_not_there_or_of_another_kind_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no such folder"):
        open_yolo(tmp_path / "none")
    with pytest.raises(InputError, match="not in YOLO format"):
        open_yolo(tmp_path)
    assert yolo_root(tmp_path) is None


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "images/val/a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"`a\.png` cannot be read"):
        open_yolo(folder)


def test_the_shared_pictures_hold_929_boxes_of_71_classes(test_data: Path) -> None:
    # Counted with `cat labels/train2017/*.txt`, without the two files whose pictures are not there.
    data = open_yolo(test_data / "coco128")
    rows = np.concatenate([one.class_id for one in data.truth])
    assert (len(data), len(rows), len(np.unique(rows)), len(data.classes)) == (128, 929, 71, 80)
    assert data.classes[:2] == ("person", "bicycle")
