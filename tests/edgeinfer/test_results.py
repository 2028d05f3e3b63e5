"""`Classifications`: aligned, sliced like NumPy arrays, iterated row by row."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinfer.errors import InputError
from edgeinfer.results import Classification, Classifications


def three(labels: tuple[str, ...] = ("dog", "cat", "bird")) -> Classifications:
    return Classifications(np.array([7, 2, 5]), np.array([0.5, 0.25, 0.125], np.float32), labels)


def test_the_first_row_gives_the_label() -> None:
    assert three().label == "dog"


def test_without_labels_the_class_number_stands_in() -> None:
    assert three(()).label == "7"
    assert [row.label for row in three(())] == ["7", "2", "5"]


def test_top_keeps_the_first_rows_aligned() -> None:
    best = three().top(2)
    assert best.class_id.tolist() == [7, 2]
    assert best.confidence.tolist() == [0.5, 0.25]
    assert best.labels == ("dog", "cat")


def test_top_of_more_rows_than_there_are_gives_all() -> None:
    assert len(three().top(10)) == 3


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.array([True, False, True]), ["dog", "bird"]),
        (np.array([2, 0]), ["bird", "dog"]),
        (slice(1, None), ["cat", "bird"]),
        (np.array([], dtype=np.int64), []),
        (1, ["cat"]),
        (np.int64(-1), ["bird"]),
    ],
    ids=["mask", "indices", "slice", "nothing", "number", "number from the end"],
)
def test_rows_are_selected_as_numpy_selects(rows: np.ndarray, expected: list[str]) -> None:
    assert list(three()[rows].labels) == expected
    assert [row.label for row in three()[rows]] == expected


def test_a_mask_made_of_its_own_confidence_selects() -> None:
    found = three()
    assert found[found.confidence > 0.2].labels == ("dog", "cat")


def test_rows_come_out_as_plain_python_values() -> None:
    rows = list(three())
    assert rows[0] == Classification(class_id=7, confidence=0.5, label="dog")
    assert type(rows[0].class_id) is int
    assert type(rows[0].confidence) is float


def test_an_empty_selection_has_no_label() -> None:
    with pytest.raises(InputError, match="empty"):
        _ = three()[:0].label


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(InputError, match="one row a class"):
        Classifications(np.array([1, 2]), np.array([0.5], np.float32))


def test_a_matrix_of_classes_is_refused() -> None:
    with pytest.raises(InputError, match="one row a class"):
        Classifications(np.array([[1, 2]]), np.array([[0.5, 0.1]], np.float32))


def test_labels_that_are_no_row_each_are_refused() -> None:
    with pytest.raises(InputError, match="One label a row"):
        three(("dog", "cat"))


def test_a_result_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        three().labels = ()  # type: ignore[misc]


def test_a_number_beyond_the_rows_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        three()[3]
