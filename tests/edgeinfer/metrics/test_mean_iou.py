"""Mean IoU by hand and against a plain loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeinfer.errors import InputError
from edgeinfer.metrics.mean_iou import confusion, iou, overlap


def mask(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_the_confusion_matrix_counts_truth_by_rows_and_answers_by_columns() -> None:
    counts = confusion(mask([0, 1, 1], [2, 2, 2]), mask([0, 0, 1], [2, 1, 2]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 2]]


def test_ignored_pixels_do_not_count() -> None:
    counts = confusion(mask([0, 1]), mask([255, 1]), 2)
    assert counts.tolist() == [[0, 0], [0, 1]]


def test_iou_is_right_over_right_and_both_kinds_of_wrong() -> None:
    # Class 0: 1 right, 1 missed; class 1: 1 right, 1 missed, 1 too many; class 2: 2 right, 1 too many.
    counts = confusion(mask([0, 1, 1], [2, 2, 2]), mask([0, 0, 1], [2, 1, 2]), 3)
    assert iou(overlap(counts)) == pytest.approx([1 / 2, 1 / 3, 2 / 3])


def test_a_class_that_is_neither_there_nor_found_has_none() -> None:
    assert np.isnan(iou(overlap(confusion(mask([0]), mask([0]), 2)))).tolist() == [False, True]


def test_a_class_that_is_found_and_not_there_has_zero() -> None:
    assert iou(overlap(confusion(mask([1, 0]), mask([0, 0]), 2))).tolist() == [0.5, 0.0]


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="same picture") as caught:
        confusion(mask([0, 1, 1]), mask([0, 1], [0, 0]), 2)
    assert caught.value.received == "3 x 1 found, 2 x 2 true"


@pytest.mark.parametrize(("found", "truth"), [(2, 0), (0, 2)])
def test_a_class_that_is_not_there_is_refused(found: int, truth: int) -> None:
    with pytest.raises(InputError, match="a class that is not there"):
        confusion(mask([found]), mask([truth]), 2)


def test_a_wide_mask_may_have_many_classes() -> None:
    found = np.array([[300, 0]], np.uint16)
    assert confusion(found, found, 301)[300, 300] == 1


masks = arrays.arrays(np.uint8, (3, 4), elements=st.integers(0, 3))
truths = arrays.arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2, 3, 255]))


@settings(max_examples=50, deadline=None)
@given(masks, truths)
def test_the_figures_are_those_of_sets_of_pixels(found: np.ndarray, truth: np.ndarray) -> None:
    result = iou(overlap(confusion(found, truth, 4)))
    judged = [place for place in np.ndindex(truth.shape) if truth[place] != 255]
    for number in range(4):
        there = {place for place in judged if truth[place] == number}
        seen = {place for place in judged if found[place] == number}
        expected = len(there & seen) / len(there | seen) if there | seen else float("nan")
        assert result[number] == pytest.approx(expected, nan_ok=True)
