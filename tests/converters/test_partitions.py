"""Groups of ops, as a delegate gets them."""

from __future__ import annotations

import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import OperatorSpec, TensorSpec

from converters.partitions import groups
from edgeinfer.model.schema import Subgraph, parse


def graph(*edges: tuple[int, ...]) -> Subgraph:
    """Ops that each make tensor n + 1 of the tensors that are named; tensor 0 is the model's input."""
    tensors = [TensorSpec(f"t{n}", (1, 4)) for n in range(len(edges) + 1)]
    operators = [OperatorSpec(tiny_models.LOGISTIC, inputs, (n + 1,)) for n, inputs in enumerate(edges)]
    return parse(tiny_models.model(tensors, operators, inputs=[0], outputs=[len(edges)])).main


def test_ops_in_a_row_are_groups_of_neighbours() -> None:
    row = graph((0,), (1,), (2,), (3,))
    assert list(groups(row, [True, True, False, True])) == [(True, {0, 1}), (False, {2}), (True, {3})]


def test_an_op_that_feeds_nothing_of_a_group_does_not_cut_it() -> None:
    assert list(groups(graph((0,), (0,), (1,)), [True, False, True])) == [(True, {0, 2}), (False, {1})]


def test_the_other_kind_may_have_the_first_turn() -> None:
    # The op of the second branch needs what does not fit: with the first turn for the rest it joins the first group.
    forked = graph((0,), (0,), (2,))
    assert list(groups(forked, [True, False, True])) == [(True, {0}), (False, {1}), (True, {2})]
    assert list(groups(forked, [True, False, True], first=False)) == [(False, {1}), (True, {0, 2})]


def test_nothing_waits_for_a_free_op() -> None:
    assert list(groups(graph((0,), (1,)), [False, True], free={0})) == [(True, {1})]


@given(st.lists(st.booleans(), max_size=12), st.sampled_from([None, True, False]))
def test_every_op_is_in_one_group(fit: list[bool], first: bool | None) -> None:
    found = list(groups(graph(*((n,) for n in range(len(fit)))), fit, first=first))
    assert sorted(place for _, taken in found for place in taken) == list(range(len(fit)))
    assert all(fit[place] is kind for kind, taken in found for place in taken)


def test_an_op_that_stands_before_what_it_needs_is_in_no_group() -> None:
    assert list(groups(graph((2,), (0,)), [True, True])) == [(True, {1})]
