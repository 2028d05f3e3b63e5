"""The dataclasses check what they are made of."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinfer.annotations.truth import Bodies, Boxes, DetectionData, PoseData, SegmentationData, check_boxes
from edgeinfer.errors import InputError

ONE = Boxes(np.array([[0.0, 0.0, 4.0, 4.0]]), np.array([2]), np.array([False]))


def test_boxes_are_one_row_each() -> None:
    with pytest.raises(InputError, match="one row a box"):
        Boxes(np.zeros((2, 4)), np.array([0]), np.array([False]))


def test_bodies_are_one_row_each() -> None:
    with pytest.raises(InputError, match="one row a body"):
        Bodies(np.zeros((1, 3, 2)), np.ones((1, 2), bool), np.zeros((1, 4)), np.ones(1), np.zeros(1, bool))
    with pytest.raises(InputError, match="one row a body"):
        Bodies(np.zeros((1, 3)), np.ones((1, 2), bool), np.zeros((1, 4)), np.ones(1), np.zeros(1, bool))


def test_every_picture_has_its_truth() -> None:
    with pytest.raises(InputError, match="has its truth"):
        DetectionData("d", ["a.jpg", "b.jpg"], [ONE])
    with pytest.raises(InputError, match="has its truth"):
        SegmentationData("d", ["a.jpg", "b.jpg"], [np.zeros((2, 2), np.uint8)])
    with pytest.raises(InputError, match="holds no pictures"):
        PoseData("d", [], [], (0.1,))


def test_a_class_has_a_name_where_there_are_names() -> None:
    assert len(DetectionData("d", ["a.jpg"], [ONE])) == 1
    with pytest.raises(InputError, match="classes that are not there"):
        DetectionData("d", ["a.jpg"], [ONE], ("cat", "dog"))


@pytest.mark.parametrize("box", [[0, 0, 12, 4], [-2, 0, 4, 4], [4, 0, 2, 4], [0, 0, 4, 8], [0, 0, np.nan, 4]])
def test_boxes_outside_the_picture_are_refused(box: list[float]) -> None:
    with pytest.raises(InputError, match="does not lie in its picture") as caught:
        check_boxes(np.array([[0, 0, 1, 1], box], float), (10, 6), "`a`")
    assert caught.value.expected == "inside 10 x 6 pixels"


def test_no_boxes_are_fine() -> None:
    check_boxes(np.zeros((0, 4)), (10, 6), "`a`")
