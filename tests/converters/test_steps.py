"""Steps: values that check themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.errors import RecipeError
from converters.settings import parse_pattern
from converters.steps import Distill, FineTune, Fit, Prune, Quantize, Verify


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Prune(), "one goal"),
        (lambda: Prune(macs=0.5, sparsity=0.5), "one goal"),
        (lambda: Prune(macs=0.0), "`macs` is a share"),
        (lambda: Prune(sparsity=1), "`sparsity` is a share"),
        (lambda: Prune(parameters=float("nan")), "`parameters` is a share"),
        (lambda: Prune(macs=True), "`macs` is a share"),
        (lambda: Prune(size_bytes=0), "`size_bytes` is a whole number"),
        (lambda: Prune(macs=0.5, rounds=0), "`rounds`"),
        (lambda: Prune(macs=0.5, align=0), "`align`"),
        (lambda: Prune(macs=0.5, epochs=-1), "`epochs`"),
        (lambda: Prune(macs=0.5, learning_rate=0), "`learning_rate` is above 0"),
        (lambda: Prune("chanel", macs=0.5), "`structure`"),  # type: ignore[arg-type]
        (lambda: Prune(macs=0.5, importance="l3"), "`importance`"),  # type: ignore[arg-type]
        (lambda: Prune(macs=0.5, skip="stem"), "`skip` is a list"),  # type: ignore[arg-type]
        (lambda: Prune(sparsity=0.5, layers={"a": 1.0}), "maps a pattern to a share"),  # type: ignore[arg-type]
        (lambda: Prune("weight", macs=0.5), "save neither"),
        (lambda: Prune("weight", sparsity=0.5, rounds=2), "along a schedule"),
        (lambda: Prune("weight", pattern="4:2"), "no pattern"),
        (lambda: Prune("weight", pattern="2:4", sparsity=0.5), "a sparsity already"),
        (lambda: Prune(pattern="2:4"), "`pattern` is for weights"),
        (lambda: FineTune(epochs=0), "`epochs`"),
        (lambda: FineTune(epochs=1.5), "`epochs`"),  # type: ignore[arg-type]
        (lambda: Distill(alpha=1.1), "`alpha` is a share"),
        (lambda: Distill(temperature=0), "`temperature`"),
        (lambda: Distill(attention={"a": 1}), "maps text to text"),  # type: ignore[arg-type]
        (lambda: Distill(features="ab"), "is a mapping"),  # type: ignore[arg-type]
        (lambda: Fit(batch_size=0), "`batch_size`"),
        (lambda: Fit(augment=("rotate",)), "`augment`"),  # type: ignore[arg-type]
        (lambda: Fit(schedule="step"), "`schedule`"),  # type: ignore[arg-type]
        (lambda: Quantize("float16", epochs=1), "for full int8"),
        (lambda: Quantize("dynamic", ranges="mse"), "for full int8"),
        (lambda: Quantize(epochs=1, ranges="mse"), "learns the ranges"),
        (lambda: Quantize(equalize=1), "yes or no"),  # type: ignore[arg-type]
        (lambda: Quantize(fallback={"a": "int4"}), "`fallback`"),  # type: ignore[arg-type]
        (lambda: Quantize(fallback={"a": "float32"}, epochs=1), "whose range is given"),  # type: ignore[arg-type]
        (lambda: Quantize(fallback={"a": "float32"}, ranges="mse"), "whose range is given"),  # type: ignore[arg-type]
        (lambda: Quantize(epochs=1, correct_bias=True), "fits the biases"),
        (lambda: Prune("block", macs=0.5, importance="taylor"), "`importance` does nothing"),
        (lambda: Prune("weight", sparsity=0.5, align=4), "`align` does nothing"),
        (lambda: Prune(macs=0.5, schedule="constant"), "`schedule` does nothing"),
        (lambda: Prune(layers=(("a", 0.5), ("a", 0.25))), "one key twice"),
        (lambda: Distill(attention=(("t", "a"), ("t", "b"))), "one key twice"),
        (lambda: Verify(min_agreement=2), "`min_agreement` is a share"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_step_is_made(make: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        make()
    assert caught.value.received or caught.value.expected


def test_a_mapping_and_its_pairs_in_any_order_are_the_same_step() -> None:
    one = Prune(sparsity=0.5, layers={"b": 0.25, "a": 0})  # type: ignore[arg-type]
    other = Prune(sparsity=0.5, layers=[["a", 0.0], ["b", 0.25]])  # type: ignore[arg-type]
    assert one == other
    assert hash(one) == hash(other)


def test_ratios_by_layer_are_a_goal_of_their_own() -> None:
    assert Prune(layers={"block*": 0.5}).layers == (("block*", 0.5),)  # type: ignore[arg-type]


def test_agreement_counts_where_there_are_no_labels_or_where_the_step_asks_for_it() -> None:
    assert Verify().needed_agreement(labelled=False) == 0.9
    assert Verify().needed_agreement(labelled=True) == 0.0
    assert Verify(min_agreement=0.8).needed_agreement(labelled=True) == 0.8


@given(st.integers(2, 64).flatmap(lambda block: st.tuples(st.integers(1, block - 1), st.just(block))))
def test_a_pattern_is_read_as_it_is_written(pair: tuple[int, int]) -> None:
    assert parse_pattern(f"{pair[0]}:{pair[1]}") == pair
