"""Which ops a delegate gets together: groups that need nothing but what stands before them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from edgeinfer.model.schema import Subgraph

__all__ = ["groups"]


def groups(
    graph: Subgraph, fit: Sequence[bool], *, first: bool | None = None, free: Collection[int] = ()
) -> Iterator[tuple[bool, frozenset[int]]]:
    """Yield the groups of ops in which a graph is cut: all of a kind whose inputs are there, in turns.

    A group is as large as the data allows and not as long as the order of running has it: an op between two of a group
    that feeds neither does not cut it.

    Args:
        graph: The main graph.
        fit: Of each op, whether the delegate takes it.
        first: Which kind has the first turn; None for that of the first op.
        free: Places of ops that belong to no group and that nothing waits for.

    Yields:
        Whether these ops fit, and their places; no group is empty.

    Example:
        Ops that fit, do not and fit, one behind the other, are three groups of one.
    """
    made_by = {index: one.index for one in graph.operators for index in one.outputs if one.index not in free}
    members = [place for place in range(len(fit)) if place not in free]
    begun = (fit[members[0]] if members else True) if first is None else first
    turns: dict[int, int] = {}
    # Ops stand in the order of running, so each comes behind those that it needs; in a damaged file one may not, and
    # it is in no group, as in an engine it would not run.
    for place in members:
        needs = {made_by[index] for index in graph.operators[place].inputs if index in made_by}
        if needs <= turns.keys():
            turn = max((turns[one] for one in needs), default=0)
            # Turns are of one kind and the other; the next one is of the right kind if this one is not.
            turns[place] = turn + (fit[place] is not (begun if turn % 2 == 0 else not begun))
    taken: dict[int, set[int]] = {}
    for place, turn in turns.items():
        taken.setdefault(turn, set()).add(place)
    for turn in sorted(taken):
        yield begun if turn % 2 == 0 else not begun, frozenset(taken[turn])
