"""Classes and points of the data in the model's counting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgeinfer.annotations.classes import match_labels, match_points
from edgeinfer.annotations.truth import Boxes, DetectionData
from edgeinfer.errors import InputError


def data(classes: Sequence[str], *used: int) -> DetectionData:
    truth = Boxes(np.zeros((len(used), 4)), np.array(used, np.int64), np.zeros(len(used), bool))
    return DetectionData("street", ["a.jpg"], [truth], tuple(classes))


def test_names_are_matched_without_case_and_spaces() -> None:
    numbers = match_labels(data(["Traffic Light", "dog"], 0, 1), ["unlabeled", "dog", "trafficlight"])
    assert numbers.tolist() == [2, 1]


def test_a_name_that_no_box_has_need_not_be_the_models() -> None:
    assert match_labels(data(["unicorn", "dog"], 1), ["dog"]).tolist() == [-1, 0]


def test_a_class_that_the_model_has_not_is_named() -> None:
    with pytest.raises(InputError, match="none of the model's labels") as caught:
        match_labels(data(["dog", "unicorn"], 0, 1), ["dog", "cat"])
    assert caught.value.received == "unicorn"


def test_named_classes_and_a_model_without_labels_need_a_word() -> None:
    with pytest.raises(InputError, match="the model's have none") as caught:
        match_labels(data(["dog"], 0), [])
    assert "--class-offset 0" in caught.value.next_step
    assert match_labels(data(["dog"], 0), [], class_offset=1).tolist() == [1]


def test_an_offset_counts_where_no_name_is_the_models() -> None:
    assert match_labels(data(["Hund", "Katze"], 1), ["bg", "dog", "cat"], class_offset=1).tolist() == [1, 2]
    with pytest.raises(InputError, match="classes that the model has not"):
        match_labels(data(["Hund", "Katze"], 1), ["bg", "dog"], class_offset=1)


def test_numbers_without_names_are_the_models() -> None:
    assert match_labels(data([], 0, 3), ["a", "b", "c", "d"]).tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="classes that the model has not"):
        match_labels(data([], 4), ["a", "b", "c", "d"])


def test_data_without_boxes_has_no_classes_to_match() -> None:
    assert match_labels(data([]), ["a"]).tolist() == []


def test_points_are_matched_by_name_whatever_their_order() -> None:
    assert match_points(["left eye", "nose"], 2, ["nose", "mouth", "left_eye"], 3) == [2, 0]
    with pytest.raises(InputError, match="some points of the data"):
        match_points(["left eye", "tail"], 2, ["nose", "left_eye"], 2)


def test_points_without_names_count_alike() -> None:
    assert match_points([], 3, ["a", "b", "c"], 3) == [0, 1, 2]
    with pytest.raises(InputError, match="other points than the model's"):
        match_points(["a", "b"], 2, [], 3)
