"""`edgeinfer run` and `evaluate` beyond classification, and what they write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from PIL import Image as PillowImage

from edgeinfer.cli import main

NAMES = ("red", "green", "blue", "dark")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A model that names colours, and two pictures of one name in two folders."""
    (tmp_path / "m.tflite").write_bytes(tiny_models.classifier(labels=NAMES, normalization=(0.0, 255.0)))
    for folder, colour in (("a", (255, 0, 0)), ("b", (0, 255, 0))):
        (tmp_path / folder).mkdir()
        PillowImage.fromarray(np.full((20, 30, 3), colour, np.uint8)).save(tmp_path / folder / "p.png")
    return tmp_path


def run(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]]]:
    code = main([str(word) for word in (*words, "--json")])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_drawn_copies_of_one_name_do_not_lie_on_each_other(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PillowImage.fromarray(np.full((20, 30, 3), (0, 0, 255), np.uint8)).save(work / "a" / "p-2.bmp")
    pictures = (work / "a" / "p.png", work / "b" / "p.png", work / "a" / "p-2.bmp")
    code, rows = run("run", work / "m.tflite", *pictures, "--draw", work / "found", capsys=capsys)
    assert code == 0
    drawn = [Path(row["drawn"]) for row in rows]
    assert len(set(drawn)) == 3
    corner = [PillowImage.open(path).getpixel((29, 19)) for path in drawn]
    assert corner == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_a_drawn_copy_never_takes_the_place_of_its_picture(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (work / "a" / "p.png").read_bytes()
    code, rows = run("run", work / "m.tflite", work / "a" / "p.png", "--draw", work / "a", capsys=capsys)
    assert code == 2
    assert "take the place" in rows[0]["error"]["message"]
    assert (work / "a" / "p.png").read_bytes() == before


def test_a_file_is_no_folder_to_draw_into(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = run("run", work / "m.tflite", work / "a" / "p.png", "--draw", work / "m.tflite", capsys=capsys)
    assert code == 2
    assert "needs a folder" in rows[0]["error"]["message"]


def test_features_are_printed_and_not_drawn(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", work / "m.tflite", work / "a" / "p.png", "--task", "embedding")
    code, rows = run(*words, capsys=capsys)
    assert code == 0
    assert len(rows[0]["results"][0]["embedding"]) == 4
    code, rows = run(*words, "--draw", work / "found", capsys=capsys)
    assert code == 2
    assert not (work / "found").exists()


@pytest.mark.parametrize(
    "words", [("--head", '{"kind": "yolo"}'), ("--confidence", "0.5"), ("--iou", "0.5")], ids=lambda words: words[0]
)
def test_options_of_a_detection_are_refused_for_another_task(
    words: tuple[str, ...], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rows = run("run", work / "m.tflite", work / "a" / "p.png", *words, capsys=capsys)
    assert code == 2
    assert rows[0]["error"]["message"] == f"`{words[0]}` is for detections."


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "yolo", "chanels": "last"}'])
def test_a_head_that_cannot_be_read_is_said_so(
    text: str, test_data: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ssd = test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite"
    code, rows = run("run", ssd, work / "a" / "p.png", "--head", text, capsys=capsys)
    assert code == 2
    assert "head" in rows[0]["error"]["message"]


def test_boxes_are_found_drawn_and_evaluated(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cat is where Coral's own picture of a cat has it, and in a COCO JSON made here."""
    ssd = test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite"
    labels = ("--labels", test_data / "detection" / "COCO_labels.txt")
    cat = test_data / "coral" / "cat.bmp"
    code, rows = run("run", ssd, cat, *labels, "--draw", tmp_path / "found", capsys=capsys)
    assert code == 0
    assert rows[0]["task"] == "detection"
    assert rows[0]["results"][0]["label"] == "cat"
    assert Path(rows[0]["drawn"]).is_file()
    left, top, right, bottom = rows[0]["results"][0]["xyxy"]
    with PillowImage.open(cat) as picture:
        width, height = picture.size
    truth = {
        "images": [{"id": 1, "file_name": "cat.bmp", "width": width, "height": height}],
        "categories": [{"id": 17, "name": "cat"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 17,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
            }
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(truth))
    code, rows = run("evaluate", ssd, tmp_path / "boxes.json", "--images", test_data / "coral", *labels, capsys=capsys)
    assert code == 0
    assert rows[0]["metrics"]["map50"] == pytest.approx(1.0)
    assert rows[0]["metrics"]["map50_95"] == pytest.approx(1.0)


def test_a_category_that_is_no_number_is_refused(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ssd = test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite"
    with PillowImage.open(test_data / "coral" / "cat.bmp") as picture:
        width, height = picture.size
    truth = {
        "images": [{"id": 1, "file_name": "cat.bmp", "width": width, "height": height}],
        "categories": [{"id": 17, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": [17], "bbox": [0, 0, 5, 5], "area": 25}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(truth))
    code, rows = run("evaluate", ssd, tmp_path / "boxes.json", "--images", test_data / "coral", capsys=capsys)
    assert code == 2
    assert "category that is not there" in rows[0]["error"]["message"]
