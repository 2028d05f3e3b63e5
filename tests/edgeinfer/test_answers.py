"""Results in words and as JSON."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
from PIL import Image as PillowImage

from edgeinfer.answers import task_of, to_json, to_text
from edgeinfer.results import Classifications, Detections, Embedding, Keypoints, Mask

CLASSES = Classifications(np.array([2, 0]), np.array([0.75, 0.0001], np.float32), ("a, b", "c"))
BOXES = Detections(
    np.array([[1.25, 2, 30, 40]], np.float32), np.array([0.5], np.float32), np.array([1]), ("person", "dog")
)
NO_BOXES = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
MASK = Mask(np.array([[0, 1], [1, 1]], np.uint8), ("background", "bird"))
BODY = Keypoints(np.array([[[3, 4], [5, 6]]], np.float32), np.array([[0.5, 0.25]], np.float32), ("nose", "knee"))
FEATURES = Embedding(np.arange(8, dtype=np.float32))


def test_every_result_knows_its_task() -> None:
    found = [task_of(one) for one in (CLASSES, BOXES, MASK, BODY, FEATURES, np.zeros(3))]
    assert found == ["classification", "detection", "segmentation", "pose", "embedding", "tensors"]


def test_every_result_can_be_written_as_json() -> None:
    for result in (CLASSES, BOXES, NO_BOXES, MASK, BODY, FEATURES, np.float32(2.5)):
        assert json.loads(json.dumps(to_json(result))) == to_json(result)


def test_a_box_has_class_label_confidence_and_corners() -> None:
    assert to_json(BOXES) == [{"class_id": 1, "label": "dog", "confidence": 0.5, "xyxy": [1.25, 2.0, 30.0, 40.0]}]


def test_a_mask_travels_as_a_png_of_class_numbers() -> None:
    (row,) = to_json(MASK)
    pixels = np.asarray(PillowImage.open(io.BytesIO(base64.b64decode(str(row["mask_png"])))))
    assert pixels.tolist() == [[0, 1], [1, 1]]
    assert row["classes"] == {"bird": 0.75, "background": 0.25}


def test_a_body_is_a_row_of_points() -> None:
    assert to_json(BODY) == [{"keypoints": [[3.0, 4.0, 0.5], [5.0, 6.0, 0.25]], "names": ["nose", "knee"]}]


def test_nothing_found_is_an_empty_list_and_says_so_in_words() -> None:
    assert to_json(NO_BOXES) == []
    assert to_text(NO_BOXES) == "nothing found"


def test_words_leave_out_classes_that_are_next_to_nothing_and_quote_labels_with_commas() -> None:
    assert to_text(CLASSES) == '"a, b" 0.750'


def test_words_for_boxes_masks_bodies_and_features() -> None:
    assert to_text(BOXES) == "dog 0.500 at (1, 2, 30, 40)"
    assert to_text(MASK) == "bird 75.0%  background 25.0%"
    assert to_text(BODY) == "nose (3, 4) 0.50, knee (5, 6) 0.25"
    assert to_text(FEATURES) == "8 features: 0, 1, 2, 3, 4, ..."
    assert to_text(np.array([1.5])) == "[1.5]"
