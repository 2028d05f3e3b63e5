"""Planning on numbers: what stays is aligned, the budget holds, and the least important channels go."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import RecipeError
from converters.prune.budget import Goal, Plan, Width, interim, plan


def chain(names: list[str], inputs: int = 3, classes: int = 10) -> Any:
    """Multiply-accumulates of a chain of 1x1 convolutions on one pixel: the products of neighbouring widths."""

    def cost(kept: Mapping[str, int]) -> float:
        widths = [inputs, *(kept[name] for name in names), classes]
        return float(sum(a * b for a, b in itertools.pairwise(widths)))

    return cost


def width(name: str, scores: Any, **more: Any) -> Width:
    return Width(name, np.asarray(scores, dtype=np.float64), **more)


@st.composite
def chains(draw: Any) -> tuple[list[Width], Any]:
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    widths = [width(f"group {number}", random.uniform(0, 1, size)) for number, size in enumerate(sizes)]
    return widths, chain([one.name for one in widths])


def smallest(widths: list[Width], cost: Any, align: int) -> float:
    return float(cost({one.name: min(one.size, align) for one in widths}))


def check_well_formed(widths: list[Width], made: Plan, align: int) -> None:
    for one in widths:
        kept = made.kept[one.name]
        assert kept == one.size or (kept >= align and kept % align == 0)
        gone = made.removed.get(one.name, np.zeros(0, dtype=np.int64))
        assert kept == one.size - len(gone)
        assert len(set(gone.tolist())) == len(gone)
        if len(gone):
            stays = np.delete(one.scores, gone)
            assert one.scores[gone].max() <= stays.min()


@settings(deadline=None)
@given(chains(), st.sampled_from([1, 4, 8]), st.floats(0.0, 1.0), st.sampled_from(["global", "layer"]))
def test_a_budget_holds_with_aligned_widths_that_are_never_empty(
    made: tuple[list[Width], Any], align: int, position: float, scope: Any
) -> None:
    widths, cost = made
    least, most = smallest(widths, cost, align), cost({one.name: one.size for one in widths})
    amount = least + position * (most - least)
    result = plan(widths, Goal("macs", amount, scope=scope, align=align), cost)
    check_well_formed(widths, result, align)
    assert result.reached == cost(result.kept) <= amount + 1e-6


@settings(deadline=None)
@given(chains(), st.sampled_from([1, 4, 8]), st.floats(0.0, 1.0))
def test_no_chunk_that_went_could_have_stayed(made: tuple[list[Width], Any], align: int, position: float) -> None:
    widths, cost = made
    least, most = smallest(widths, cost, align), cost({one.name: one.size for one in widths})
    amount = least + position * (most - least)
    kept = plan(widths, Goal("macs", amount, align=align), cost).kept
    for one in widths:
        if kept[one.name] < one.size:
            more = min(kept[one.name] + align, one.size)
            assert cost({**kept, one.name: more}) > amount


@settings(deadline=None)
@given(chains(), st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2))
def test_a_larger_budget_keeps_at_least_as_much(made: tuple[list[Width], Any], positions: list[float]) -> None:
    widths, cost = made
    least, most = smallest(widths, cost, 1), cost({one.name: one.size for one in widths})
    low, high = (least + position * (most - least) for position in sorted(positions))
    small, large = (plan(widths, Goal("macs", amount, align=1), cost).reached for amount in (low, high))
    # Each comes within one channel of its budget, so the order can only be mixed up within one channel's cost.
    assert small <= large + max(3 + 40, 40 + 40, 40 + 10)


@settings(deadline=None)
@given(chains(), st.sampled_from([1, 4, 8]), st.floats(0.05, 0.95), st.sampled_from(["global", "layer"]))
def test_a_sparsity_is_met_as_nearly_as_the_alignment_lets_it(
    made: tuple[list[Width], Any], align: int, share: float, scope: Any
) -> None:
    widths, cost = made
    result = plan(widths, Goal("sparsity", share, scope=scope, align=align), cost)
    check_well_formed(widths, result, align)
    large = [one for one in widths if one.size > align]
    total = sum(one.size for one in large)
    removable = sum(one.size - align for one in large)
    wanted = min(share * total, removable)
    if scope == "global":
        assert abs(result.reached * total - wanted) <= align / 2 + 1e-9
    else:
        for one in large:
            nearest = max(one.size * (1 - share), align)
            assert abs(result.kept[one.name] - nearest) <= align / 2 + 1e-9


@settings(deadline=None)
@given(chains(), st.floats(0.05, 0.9), st.floats(0.05, 0.9))
def test_a_larger_sparsity_removes_at_least_the_same_channels(
    made: tuple[list[Width], Any], one: float, two: float
) -> None:
    widths, cost = made
    few, many = (plan(widths, Goal("sparsity", share, align=4), cost) for share in sorted((one, two)))
    for name, gone in few.removed.items():
        assert set(gone.tolist()) <= set(many.removed[name].tolist())


def test_the_chunk_with_the_least_score_per_multiplication_goes_first() -> None:
    # Each alone is enough. A channel of a is worth 1.0 and saves 10, one of b 1.1 and 12: 0.1 against 0.0917.
    widths = [width("a", [1.0] * 2), width("b", [1.1] * 2)]

    def cost(kept: Mapping[str, int]) -> float:
        return float(10 * kept["a"] + 12 * kept["b"])

    assert plan(widths, Goal("macs", 34.0, align=1), cost).kept == {"a": 2, "b": 1}


def test_what_the_last_chunk_took_too_much_is_given_back() -> None:
    # Cheap channels of little score go first; then one large chunk goes, which alone would have been enough.
    widths = [width("cheap", [0.0] * 2), width("dear", [5.0] * 2)]

    def cost(kept: Mapping[str, int]) -> float:
        return float(kept["cheap"] + 100 * kept["dear"])

    assert plan(widths, Goal("macs", 110.0, align=1), cost).kept == {"cheap": 2, "dear": 1}


def test_a_large_chunk_stays_when_others_together_come_nearer_to_the_budget() -> None:
    # The large chunk is the cheapest by cost, and without it 110 of 250 are used; without five small ones, 250.
    widths = [width("large", [0.1] * 2), width("small", [1.0] * 10)]

    def cost(kept: Mapping[str, int]) -> float:
        return float(100 * kept["large"] + 10 * kept["small"])

    result = plan(widths, Goal("macs", 250.0, align=1), cost)
    assert result.kept == {"large": 2, "small": 5}


def test_the_layer_scope_takes_the_same_share_of_every_group_whatever_its_score() -> None:
    widths = [width("a", [0.0] * 32), width("b", [1.0] * 64)]

    def cost(kept: Mapping[str, int]) -> float:
        return float(kept["a"] + kept["b"])

    assert plan(widths, Goal("macs", 48.0, scope="layer"), cost).kept == {"a": 16, "b": 32}


def test_a_group_that_is_held_and_one_with_its_own_share_are_not_asked() -> None:
    widths = [
        width("held", [0.0] * 16, held="model output"),
        width("own", np.arange(32), share=0.25),
        width("free", np.arange(16) + 9.0),
    ]
    cost = chain([one.name for one in widths])
    assert plan(widths, Goal("sparsity", 0.5), cost).kept == {"held": 16, "own": 24, "free": 8}


def test_a_group_of_a_width_that_is_no_multiple_goes_down_to_one() -> None:
    result = plan([width("a", np.arange(20))], Goal("sparsity", 0.2, scope="layer"), chain(["a"]))
    assert result.kept == {"a": 16}
    assert result.removed["a"].tolist() == [0, 1, 2, 3]


def test_of_two_widths_equally_near_the_larger_stays() -> None:
    assert plan([width("a", np.arange(24))], Goal("sparsity", 0.5, scope="layer"), chain(["a"])).kept == {"a": 16}


def test_a_budget_that_cannot_be_reached_names_the_smallest_one_and_what_holds_it() -> None:
    widths = [width("stem", [1.0] * 64, held="model output"), width("free", [1.0] * 16)]
    cost = chain(["stem", "free"])
    whole = cost({"stem": 64, "free": 16})  # 3 * 64 + 64 * 16 + 16 * 10 = 1376
    # With 8 channels left: 192 + 512 + 80 = 784 of 1376 = 0.5698.
    with pytest.raises(RecipeError) as caught:
        plan(widths, Goal("macs", 0.1 * whole, reference=whole), cost)
    assert caught.value.expected == "at least 0.57"
    assert caught.value.received == "macs=0.1"
    assert "stem (model output)" in caught.value.next_step


def test_the_smallest_budget_that_the_message_names_can_be_reached() -> None:
    widths = [width("stem", [1.0] * 64, held="model output"), width("free", [1.0] * 16)]
    cost = chain(["stem", "free"])
    whole = cost({"stem": 64, "free": 16})
    assert plan(widths, Goal("macs", 0.57 * whole, reference=whole), cost).kept == {"stem": 64, "free": 8}


def test_a_later_round_counts_what_the_earlier_ones_removed() -> None:
    # 32 and 32 channels at first, 8 of them gone: half of 64 are 32, so 24 more must go.
    widths = [width("a", np.arange(24.0), original=32), width("b", np.arange(32.0), original=32)]
    result = plan(widths, Goal("sparsity", 0.5, align=1), chain(["a", "b"]))
    assert sum(result.kept.values()) == 32
    assert result.reached == 0.5


def test_goals_of_rounds_remove_the_same_share_of_what_is_left_each_time() -> None:
    steps = [interim(1.0, 0.125, part) for part in (0, 1 / 3, 2 / 3, 1)]
    assert steps == pytest.approx([1.0, 0.5, 0.25, 0.125])
