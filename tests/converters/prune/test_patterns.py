"""Patterns of a pruning step against layer names."""

from __future__ import annotations

import pytest

from converters.errors import RecipeError
from converters.prune.patterns import check_patterns, own_share, skip_pattern
from converters.steps import Prune

NAMES = ["stem", "block_1/conv", "block_2/conv", "logits"]


def test_a_pattern_that_matches_a_layer_passes() -> None:
    check_patterns(Prune(sparsity=0.5, skip=("block_?/*",), layers={"logits": 0.1}), NAMES)


def test_a_pattern_that_matches_none_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError) as caught:
        check_patterns(Prune(sparsity=0.5, skip=("blok_1/conv",)), NAMES)
    assert caught.value.received == "'blok_1/conv'"
    assert "block_1/conv" in caught.value.next_step


def test_the_case_of_a_name_counts() -> None:
    with pytest.raises(RecipeError):
        check_patterns(Prune(sparsity=0.5, skip=("STEM",)), NAMES)


def test_one_of_several_coupled_layers_is_enough_to_be_skipped() -> None:
    step = Prune(sparsity=0.5, skip=("logits", "block_1*"))
    assert skip_pattern(step, ["stem", "block_1/conv"]) == "block_1*"
    assert skip_pattern(step, ["stem"]) == ""


def test_of_several_shares_the_smallest_counts() -> None:
    step = Prune(sparsity=0.5, layers={"block_*": 0.75, "block_1/*": 0.25})
    assert own_share(step, ["block_1/conv"]) == 0.25
    assert own_share(step, ["block_2/conv"]) == 0.75
    assert own_share(step, ["block_2/conv", "block_1/conv"]) == 0.25
    assert own_share(step, ["stem"]) is None
