"""Which loss goes with which output and labels, and what is refused before any training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import TrainingError
from converters.train.labels import Goal, Labels, check_labels, choose_goal


@pytest.mark.parametrize(
    ("kind", "output", "labels", "goal"),
    [
        ("softmax", (10,), Labels((), True), Goal("classes", False, True)),
        ("softmax", (10,), Labels((1,), True), Goal("classes", False, True)),
        ("softmax", (4, 4, 3), Labels((4, 4), True), Goal("classes", False, True)),
        ("softmax", (10,), Labels((10,), False), Goal("classes", False)),
        ("softmax", (10,), Labels((10,), True), Goal("classes", False)),
        ("linear", (10,), Labels((), True), Goal("classes", True, True)),
        ("unknown", (10,), Labels((), True), Goal("classes", True, True)),
        ("sigmoid", (1,), Labels((), True), Goal("binary", False)),
        ("sigmoid", (1,), Labels((1,), False), Goal("binary", False)),
        ("sigmoid", (5,), Labels((5,), True), Goal("binary", False)),
        ("linear", (1,), Labels((), True), Goal("binary", True)),
        ("linear", (1,), Labels((), False), Goal("values", False)),
        ("linear", (8, 8, 1), Labels((8, 8, 1), False), Goal("values", False)),
    ],
)
def test_the_goal_goes_by_output_and_labels(kind: Any, output: Any, labels: Labels, goal: Goal) -> None:
    assert choose_goal(kind, output, labels) == goal


@pytest.mark.parametrize(
    ("kind", "output", "labels"),
    [
        ("softmax", (1,), Labels((), True)),
        ("softmax", (10,), Labels((), False)),
        ("softmax", (10,), Labels((9,), False)),
        ("sigmoid", (5,), Labels((), True)),
        ("linear", (5,), Labels((5,), True)),
        ("linear", (5,), Labels((4,), False)),
        ("softmax", (4, 4, 3), Labels((), True)),
    ],
)
def test_labels_that_do_not_fit_the_output_are_refused(kind: Any, output: Any, labels: Labels) -> None:
    with pytest.raises(TrainingError) as caught:
        choose_goal(kind, output, labels)
    assert caught.value.received
    assert caught.value.expected


SPARSE = Goal("classes", False, True)


@pytest.mark.parametrize(
    ("labels", "goal", "received"),
    [
        (np.array([0, 2, 3, 1]), SPARSE, "3 in sample 2"),
        (np.array([0, 2, 1, -1]), SPARSE, "-1 in sample 3"),
        (np.array([[0.0], [np.nan]]), Goal("values", False), "first in sample 1"),
        (np.array([0, 1, 2]), Goal("binary", False), "2 in sample 2"),
        (np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]), Goal("classes", False), "sum of 1.5 in sample 1"),
    ],
    ids=["beyond", "negative", "nan", "binary", "shares"],
)
def test_label_values_that_the_loss_would_take_without_a_word_are_refused(
    labels: Any, goal: Goal, received: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        check_labels(labels, goal, 3)
    assert received in caught.value.received


@pytest.mark.parametrize(
    ("labels", "goal"),
    [
        (np.array([0, 2]), SPARSE),
        (np.array([-7.0, 300.0]), Goal("values", False)),
        (np.array([[0.2, 0.3, 0.5]], np.float32), Goal("classes", False)),
        (np.array([True, False]), Goal("binary", True)),
    ],
)
def test_labels_that_are_right_pass(labels: Any, goal: Goal) -> None:
    check_labels(labels, goal, 3)
