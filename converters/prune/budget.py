"""How many channels of each group stay: planning on numbers alone, without a model."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from converters.errors import RecipeError

__all__ = ["Cost", "Goal", "Kind", "Plan", "Width", "check_reachable", "interim", "plan", "smallest_cost"]

Kind = Literal["sparsity", "macs", "parameters", "size_bytes"]

# What a model costs when each group keeps that many channels. It must not rise when a group keeps fewer.
Cost = Callable[[Mapping[str, int]], float]

_NAMED = 3
_USED_UP = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Width:
    """A group of channels as the planner sees it.

    Attributes:
        name: Of the group.
        scores: (size,) float64, at least 0: what each channel is worth, comparable with those of the other groups.
        original: Channels before the first round; 0 stands for the present size.
        share: Of the original channels to remove, 0..1, where the group has a share of its own; None: the goal decides.
        held: Why nothing may go, or an empty text.
    """

    name: str
    scores: NDArray[np.float64]
    original: int = 0
    share: float | None = None
    held: str = ""

    @property
    def size(self) -> int:
        """Channels now."""
        return len(self.scores)

    @property
    def start(self) -> int:
        """Channels before the first round."""
        return self.original or self.size


@dataclass(frozen=True, slots=True)
class Goal:
    """What a plan has to reach.

    Attributes:
        kind: "sparsity", or what `Cost` counts.
        amount: For "sparsity" the share of the original channels to remove, 0..1; else the most that may be left, in
            the unit of `Cost`.
        scope: "global" ranks all groups together, "layer" takes the same share of each.
        align: Channels that stay are a multiple of this.
        reference: Cost that shares of a message relate to, above 0.
    """

    kind: Kind
    amount: float
    scope: Literal["global", "layer"] = "global"
    align: int = 8
    reference: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What stays.

    Attributes:
        kept: Channels that stay, by group; all groups.
        removed: Numbers of the channels that go, ascending, by group; only groups that lose some.
        reached: For "sparsity" the share of channels removed since the start, else the cost.
    """

    kept: Mapping[str, int]
    removed: Mapping[str, NDArray[np.int64]]
    reached: float


def interim(start: float, end: float, part: float) -> float:
    """Return a goal on the way from `start` to `end`, both above 0: start * (end / start) ** part.

    Each round then removes the same share of what is left, so that the last rounds, in which every channel matters,
    remove fewer channels than the first ones.

    Args:
        start: Before the first round.
        end: After the last one.
        part: Share of the rounds done, 0..1.
    """
    return float(start * (end / start) ** part)


def plan(widths: Sequence[Width], goal: Goal, cost: Cost) -> Plan:
    """Choose the channels that go: those with the least scores, `align` at a time.

    Groups with a share of their own get it first, rounded to the nearest multiple of `align`. Then, for a budget,
    groups lose chunks of `align` channels in the order of score lost per cost saved until the budget holds; what that
    took too much is given back where the budget allows. For a sparsity in "global" scope chunks go in the order of
    their mean score. A group never keeps fewer than `align` channels, and one that is not larger stays whole.

    Args:
        widths: All groups, those that are held too.
        goal: What to reach.
        cost: Read for a budget only.

    Raises:
        RecipeError: The budget lies below what the held groups and the alignment need.

    Source: greedy choice by gain per cost for the knapsack problem, Dantzig 1957, Operations Research 5(2), p. 275.
    """
    kept, free = _first_cut(widths, goal)
    if goal.kind != "sparsity":
        check_reachable(widths, goal, cost)
        _shrink_to_cost(free, kept, goal, cost)
        _give_back(free, kept, goal, cost)
        kept = _nearer(free, kept, goal, cost)
    elif goal.scope == "global":
        _shrink_to_share(widths, free, kept, goal)
    removed = {
        width.name: np.sort(np.argsort(width.scores, kind="stable")[: width.size - kept[width.name]]).astype(np.int64)
        for width in widths
        if kept[width.name] < width.size
    }
    return Plan(kept, removed, _share(widths, kept, goal) if goal.kind == "sparsity" else float(cost(kept)))


def smallest_cost(widths: Sequence[Width], goal: Goal, cost: Cost) -> float:
    """Return the cost when every group that the goal decides about keeps `align` channels."""
    kept, free = _first_cut(widths, goal)
    return float(cost({**kept, **{width.name: goal.align for width in free}}))


def _first_cut(widths: Sequence[Width], goal: Goal) -> tuple[dict[str, int], list[Width]]:
    """Return the widths that are settled without comparing groups, and the groups that are left to the goal."""
    kept = {width.name: width.size for width in widths}
    free = []
    for width in widths:
        if width.held or width.size <= goal.align:
            continue
        share = width.share
        if share is None and goal.kind == "sparsity" and goal.scope == "layer":
            share = goal.amount
        if share is None:
            free.append(width)
        else:
            kept[width.name] = _nearest(width.start * (1 - share), width.size, goal.align)
    return kept, free


def _levels(size: int, align: int) -> Iterator[int]:
    """Yield the numbers of channels that a group may keep, from all of them downwards."""
    yield size
    yield from range((size - 1) // align * align, 0, -align)


def _nearest(wanted: float, size: int, align: int) -> int:
    """Return the number of channels that may stay and lies nearest; of two, the larger."""
    return min(_levels(size, align), key=lambda level: (abs(level - wanted), -level))


def _below(kept: int, align: int) -> int:
    return (kept - 1) // align * align


def _above(kept: int, size: int, align: int) -> int:
    return min(kept + align, size)


def _lost(width: Width, kept: int, fewer: int) -> float:
    """Return the scores that go when `kept` channels become `fewer`."""
    ascending = np.sort(width.scores)
    return float(ascending[width.size - kept : width.size - fewer].sum())


def _takes_part(width: Width, goal: Goal) -> bool:
    return not width.held and width.share is None and width.start > goal.align


def _share(widths: Sequence[Width], kept: Mapping[str, int], goal: Goal) -> float:
    """Return the share of channels gone since the start, of the groups that the goal decides about."""
    counted = [width for width in widths if _takes_part(width, goal)]
    total = sum(width.start for width in counted)
    return 1 - sum(kept[width.name] for width in counted) / total if total else 0.0


def _shrink_to_share(widths: Sequence[Width], free: Sequence[Width], kept: dict[str, int], goal: Goal) -> None:
    counted = [width for width in widths if _takes_part(width, goal)]
    missing = sum(width.start for width in counted) * goal.amount - sum(width.start - width.size for width in counted)
    heap = [_by_score(number, width, width.size, goal.align) for number, width in enumerate(free)]
    heapq.heapify(heap)
    while heap and missing > 0:
        _, number = heapq.heappop(heap)
        width = free[number]
        fewer = _below(kept[width.name], goal.align)
        chunk = kept[width.name] - fewer
        if chunk > 2 * missing:  # nearer to the goal without it
            return
        missing -= chunk
        kept[width.name] = fewer
        if fewer > goal.align:
            heapq.heappush(heap, _by_score(number, width, fewer, goal.align))


def _by_score(number: int, width: Width, kept: int, align: int) -> tuple[float, int]:
    fewer = _below(kept, align)
    return _lost(width, kept, fewer) / (kept - fewer), number


def _rate(width: Width, levels: tuple[int, int], saved: float, goal: Goal) -> float:
    """Return what a chunk costs the model per cost that it saves; infinite where it saves nothing."""
    if saved <= 0:
        return math.inf
    if goal.scope == "layer":  # the group that has lost the smallest share loses next
        return 1 - levels[1] / width.start
    return _lost(width, *levels) / saved


def _shrink_to_cost(free: Sequence[Width], kept: dict[str, int], goal: Goal, cost: Cost) -> None:
    now = cost(kept)

    def rated(number: int) -> float:
        width = free[number]
        fewer = _below(kept[width.name], goal.align)
        return _rate(width, (kept[width.name], fewer), now - cost({**kept, width.name: fewer}), goal)

    heap = [(rated(number), number) for number, width in enumerate(free) if kept[width.name] > goal.align]
    heapq.heapify(heap)
    while now > goal.amount and heap:
        _, number = heapq.heappop(heap)
        rate = rated(number)
        # A chunk saves less and less while its neighbours shrink, so an old rate is a lower bound: only the chunk
        # that is looked at needs a new one (lazy evaluation).
        if heap and rate > heap[0][0]:
            heapq.heappush(heap, (rate, number))
            continue
        name = free[number].name
        kept[name] = _below(kept[name], goal.align)
        now = cost(kept)
        if kept[name] > goal.align:
            heapq.heappush(heap, (rated(number), number))


def _give_back(free: Sequence[Width], kept: dict[str, int], goal: Goal, cost: Cost) -> None:
    """Let channels stay that need not have gone: the last chunk of the greedy choice may be larger than was missing."""
    while True:
        now = cost(kept)
        best: tuple[float, str, int] | None = None
        for width in free:
            level = kept[width.name]
            if level == width.size:
                continue
            more = _above(level, width.size, goal.align)
            after = cost({**kept, width.name: more})
            if after <= goal.amount:
                rate = _rate(width, (more, level), after - now, goal)
                if best is None or rate > best[0]:
                    best = (rate, width.name, more)
        if best is None:
            return
        kept[best[1]] = best[2]


def _nearer(free: Sequence[Width], kept: dict[str, int], goal: Goal, cost: Cost) -> dict[str, int]:
    """Return widths that use the budget up by 90 % or more, if they are found.

    One chunk of a group at the model's front can be a third of the model, and the greedy choice then lies far below
    the budget. Here each chunk that went stays in turn, and other groups lose chunks in its place.
    """
    while cost(kept) < _USED_UP * goal.amount:
        found = []
        for width in free:
            if kept[width.name] == width.size:
                continue
            other = {**kept, width.name: _above(kept[width.name], width.size, goal.align)}
            rest = [one for one in free if one is not width]
            _shrink_to_cost(rest, other, goal, cost)
            _give_back(free, other, goal, cost)
            if cost(kept) < cost(other) <= goal.amount:
                lost = sum(_lost(one, one.size, other[one.name]) for one in free)
                # Of those near enough the one that loses least, else the nearest.
                found.append((min(cost(other), _USED_UP * goal.amount), -lost, width.name, other))
        if not found:
            break
        kept = max(found, key=lambda one: one[:3])[3]
    return kept


def check_reachable(widths: Sequence[Width], goal: Goal, cost: Cost) -> None:
    """Refuse a budget below what the groups that stay whole, those with shares of their own, and `align` leave.

    Raises:
        RecipeError: It is. The message names the smallest budget within reach, and what holds it.
    """
    if goal.kind == "sparsity":
        return
    kept, free = _first_cut(widths, goal)
    least = {**kept, **{width.name: goal.align for width in free}}
    smallest = cost(least)
    if smallest <= goal.amount:
        return
    free_names = {width.name for width in free}
    weights = []
    for width in widths:
        if width.name not in free_names and least[width.name] > goal.align:
            reason = width.held or f"`layers` removes {width.share:.0%} of it"
            saved = smallest - cost({**least, width.name: goal.align})
            weights.append((-saved, f"{width.name} ({reason})"))
    named = [text for saved, text in sorted(weights)[:_NAMED] if saved < 0]
    holding = f"{', '.join(named)}; and " if named else ""
    is_bytes = goal.kind == "size_bytes"
    # Rounded upwards, so that the number that the message names can be reached.
    reachable = math.ceil(smallest) if is_bytes else math.ceil(smallest / goal.reference * 1000) / 1000
    raise RecipeError(
        f"The model cannot be pruned to this budget of `{goal.kind}`.",
        received=f"{goal.kind}={goal.amount if is_bytes else goal.amount / goal.reference:.4g}",
        expected=f"at least {reachable}",
        next_step=f"What holds the rest: {holding}the {goal.align} channels that every group keeps (`align`).",
    )
