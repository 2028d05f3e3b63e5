"""The card: what the user says of a model, checked when it is made."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from converters.card import Card, Training
from edgeinfer.dataset import from_arrays
from edgeinfer.errors import EdgeInferError, MetadataError
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.metadata import Normalization, Resize


def test_an_empty_card_says_nothing_but_how_pictures_are_resized() -> None:
    card = Card()
    assert (card.task, card.labels, card.normalizing()) == (None, (), None)
    assert card.resizing() == Resize("stretch", "bilinear", 0)


def test_a_card_is_the_contracts_own_values() -> None:
    card = Card(normalization=(127.5, 128), resize="letterbox", filter="nearest", pad=114)
    assert card.normalizing() == Normalization(127.5, 128.0)
    assert card.resizing() == Resize("letterbox", "nearest", 114)


def test_labels_become_texts_in_a_tuple_whatever_held_them() -> None:
    assert Card(labels=["cat", "dog"]).labels == ("cat", "dog")
    assert Card(labels=np.array(["cat", "dog"])).labels == ("cat", "dog")  # type: ignore[arg-type]
    assert Card(labels=range(3)).labels == ("0", "1", "2")  # type: ignore[arg-type]


def test_cards_compare_and_can_be_keys_and_do_not_change() -> None:
    assert Card(labels=["a"], normalization=(0, 1)) == Card(labels=("a",), normalization=(0.0, 1.0))
    assert len({Card(labels=["a"]), Card(labels=("a",))}) == 1
    with pytest.raises(FrozenInstanceError):
        Card().name = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"normalization": (0, 0)},
        {"normalization": (0, -1)},
        {"normalization": (float("nan"), 1)},
        {"normalization": (0, float("inf"))},
        {"resize": "squash"},
        {"filter": "bicubic"},
        {"pad": 256},
        {"task": "clasification"},
        {"roles": ("boxes", "colours")},
        {"task": "segmentation", "head": DetectionHead("yolo")},
    ],
    ids=lambda wrong: str(tuple(wrong.items())),
)
def test_a_wrong_value_is_refused_when_the_card_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(MetadataError):
        Card(**wrong)


@pytest.mark.parametrize("normalization", [127.5, (127.5,), (1, 2, 3), ("a", "b"), ((0, 0, 0), (1, 1, 1))], ids=repr)
def test_a_normalization_that_is_no_pair_of_numbers_is_refused(normalization: Any) -> None:
    with pytest.raises(EdgeInferError, match="normalization"):
        Card(normalization=normalization)


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "pose", "embedding", "tensors"])
def test_a_card_can_say_every_task(task: Any) -> None:
    assert Card(task=task).task == task


def test_a_head_makes_a_detection() -> None:
    assert Card(head=DetectionHead("yolo"), roles=["predictions"]) == Card(
        task="detection", head=DetectionHead("yolo"), roles=("predictions",)
    )


def test_labels_in_one_text_are_refused_before_they_become_letters() -> None:
    with pytest.raises(EdgeInferError, match="labels"):
        Card(labels="birds.txt")


def test_training_holds_data_by_identity() -> None:
    data = from_arrays(np.zeros((1, 2, 2, 3), np.uint8))
    assert Training(validation=data).validation is data
    assert Training().validation is None
    assert Training().class_offset is None
