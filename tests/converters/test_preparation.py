"""Which samples judge, and what is to be said of them."""

from __future__ import annotations

import numpy as np
import pytest

from converters.facts import ModelFacts, TensorFacts
from converters.preparation import missing_classes, open_labelled
from edgeinfer.dataset import Dataset
from edgeinfer.errors import InputError

FACTS = ModelFacts("m", "keras", (TensorFacts("x", (1, 4), "float32"),), (TensorFacts("y", (1, 4), "float32"),))


def labelled(truth: list[int]) -> Dataset:
    return Dataset("some", np.zeros((len(truth), 4), np.float32), np.array(truth))


def test_data_that_was_sorted_and_cut_off_is_told_by_its_missing_classes() -> None:
    (sentence,) = missing_classes(labelled([0, 1] * 20), "validation", FACTS)
    assert "validation data (40 samples) holds 2 of the model's 4 classes" in sentence


@pytest.mark.parametrize("truth", [[0, 1, 2, 3] * 10, [0, 1] * 9], ids=["all classes", "too few samples to tell"])
def test_nothing_is_said_where_all_classes_are_there_or_could_not_be(truth: list[int]) -> None:
    assert missing_classes(labelled(truth), "training", FACTS) == ()


def test_batches_of_the_callers_own_are_not_looked_at() -> None:
    assert missing_classes([("x", "y")], "training", FACTS) == ()


def test_data_that_judges_needs_labels() -> None:
    with pytest.raises(InputError, match="The test data has no labels"):
        open_labelled(Dataset("some", np.zeros((3, 4), np.float32)), "test")
