"""Channel pruning: the channels that matter least go, round by round, and the model is narrower afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError, RecipeError
from converters.graph.channels import ChannelGroup, WidthCost, channel_groups
from converters.graph.cost import Costs, costs
from converters.graph.flat import flat_model
from converters.graph.surgery import remove_channels
from converters.prune.budget import Cost, Goal, Kind, Width, check_reachable, interim, plan, smallest_cost
from converters.prune.importance import importances
from converters.prune.patterns import check_patterns, own_share, skip_pattern
from converters.prune.size import stored_size
from converters.steps import Prune
from edgeinfer.progress import Progress, ProgressReport

__all__ = ["Pruned", "Tune", "final_amount", "goal_kind", "prune_channels"]

# Trains a model that has just lost something, after that round (0 for the first), and returns it.
Tune = Callable[[Any, int], Any]

_NEAR = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Pruned:
    """A model without what mattered least.

    Attributes:
        model: The Keras model; its name is the old one's.
        removed: How many channels each group lost (only groups that lost some); for blocks 1 for each one's name.
        groups: The `ChannelGroup`s of the model as it came, or its `Block`s.
        notes: Sentences for the report: what was reached, and why groups stayed whole.
    """

    model: Any
    removed: Mapping[str, int]
    groups: tuple[Any, ...]
    notes: tuple[str, ...]


def prune_channels(
    model: Any,
    step: Prune,
    *,
    data: Any = None,
    reference: Costs | None = None,
    tune: Tune | None = None,
    progress: ProgressReport | None = None,
) -> Pruned:
    """Remove channels until the step's goal is reached.

    In each of `step.rounds` the channels are ranked anew, as many go as the round's share of the way (geometric, see
    `interim`) says, and the model is trained by `tune`. What is left is a multiple of `step.align` in every group, so
    a budget is met from below, and a sparsity as nearly as that allows.

    Args:
        model: A Keras model; it is not changed.
        step: With structure "channel".
        data: Training data for the importances "taylor" and "hessian": `Examples`, or batches as Keras' `fit` takes
            them.
        reference: What budgets are shares of: the costs of the recipe's original model. None: of this model.
        tune: Called after each round; None: no training.
        progress: Called at each round.

    Returns:
        The pruned model; the same weights as before if it fits its budget already.

    Raises:
        RecipeError: The step is for another structure, a pattern matches nothing, or the budget lies below what the
            alignment and the layers that stay whole need.
        ConversionError: The model has no channels that could go, or data is missing.
    """
    if step.structure != "channel":
        raise RecipeError(
            "Channels are pruned by another step.", received=f'structure="{step.structure}"', expected='"channel"'
        )
    live = flat_model(model)
    check_patterns(step, [layer.name for layer in live.layers])
    groups = channel_groups(live)
    _check_any(groups, step)
    kind = goal_kind(step)
    whole = costs(live) if reference is None else reference
    sizes = {group.name: group.size for group in groups}
    start = _cost(live, groups, kind)(sizes) if kind != "sparsity" else 1.0
    end = final_amount(step, whole)
    if kind != "sparsity" and start <= end:
        return Pruned(live, {}, groups, ("the budget holds already: nothing was removed",))
    # Before anything is trained: can the goal be reached at all?
    same = {name: np.ones(size) for name, size in sizes.items()}
    check_reachable(_widths(groups, step, same, sizes, 1.0), _goal(step, end, whole), _cost(live, groups, kind))
    for number in range(step.rounds):
        if progress is not None:
            progress(Progress("prune channels", number, step.rounds))
        live = _round(live, step, (number + 1) / step.rounds, _Way(start, end, whole, sizes), data)
        if tune is not None:
            live = tune(live, number)
    if progress is not None:
        progress(Progress("prune channels", step.rounds, step.rounds))
    left = {group.name: group.size for group in channel_groups(live)}
    removed = {name: size - left[name] for name, size in sizes.items() if left.get(name, size) < size}
    return Pruned(live, removed, groups, _notes(step, groups, removed, live, whole))


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """Where the rounds begin and end: the goal's amounts, what shares relate to, and the groups' first sizes."""

    start: float
    end: float
    whole: Costs
    sizes: Mapping[str, int]


def _round(live: Any, step: Prune, part: float, way: _Way, data: Any) -> Any:
    groups = channel_groups(live)
    cost = _cost(live, groups, goal_kind(step))
    scores = importances(live, groups, step, data=data)
    widths = _widths(groups, step, scores, way.sizes, part)
    if goal_kind(step) == "sparsity":
        goal = _goal(step, 1 - interim(1.0, 1 - way.end, part), way.whole)
    else:
        # Groups with a share of their own may be behind the budget on the way: the last round finds them in place.
        goal = _goal(step, interim(way.start, way.end, part), way.whole)
        if part < 1:
            goal = replace(goal, amount=max(goal.amount, smallest_cost(widths, goal, cost)))
    made = plan(widths, goal, cost)
    return remove_channels(live, made.removed) if made.removed else live


def goal_kind(step: Prune) -> Kind:
    """Return what the step's goal counts; a step that has shares by layer only leaves all other groups whole."""
    if step.macs is not None:
        return "macs"
    if step.parameters is not None:
        return "parameters"
    return "size_bytes" if step.size_bytes is not None else "sparsity"


def final_amount(step: Prune, whole: Costs) -> float:
    """Return the goal's amount: a share to remove, or the most MACs, parameters or bytes that may be left."""
    if step.macs is not None:
        return step.macs * whole.macs
    if step.parameters is not None:
        return step.parameters * whole.parameters
    return float(step.size_bytes if step.size_bytes is not None else step.sparsity or 0.0)


def _goal(step: Prune, amount: float, whole: Costs) -> Goal:
    kind = goal_kind(step)
    reference = {"macs": whole.macs, "parameters": whole.parameters}.get(kind, 1)
    return Goal(kind, amount, step.scope, step.align, float(reference))


def _cost(live: Any, groups: Sequence[ChannelGroup], kind: Kind) -> Cost:
    if kind == "size_bytes":
        return stored_size(live, groups)
    widths = WidthCost(live, groups)
    return widths.parameters if kind == "parameters" else widths.macs


def _widths(
    groups: Sequence[ChannelGroup],
    step: Prune,
    scores: Mapping[str, NDArray[np.float64]],
    sizes: Mapping[str, int],
    part: float,
) -> list[Width]:
    made = []
    for group in groups:
        share = own_share(step, _makers(group))
        now = None if share is None else 1 - interim(1.0, 1 - share, part)
        original = sizes.get(group.name, group.size)
        made.append(Width(group.name, scores[group.name], original, now, _held(group, step)))
    return made


def _held(group: ChannelGroup, step: Prune) -> str:
    """Return why a group stays whole, or an empty text."""
    pattern = skip_pattern(step, _makers(group))
    return group.frozen or (f"`skip` has {pattern!r}" if pattern else "")


def _makers(group: ChannelGroup) -> tuple[str, ...]:
    return tuple(dict.fromkeys(member.layer for member in group.members if member.producing))


def _reasons(groups: Sequence[ChannelGroup], step: Prune) -> list[str]:
    small = f"{{}} channels, `align` keeps {step.align}"
    said = [
        (group, _held(group, step) or (small.format(group.size) if group.size <= step.align else ""))
        for group in groups
    ]
    return [f"{group.name}: {reason}" for group, reason in said if reason]


def _check_any(groups: Sequence[ChannelGroup], step: Prune) -> None:
    if any(not _held(group, step) and group.size > step.align for group in groups):
        return
    raise ConversionError(
        "No channel of this model can be pruned.",
        received="; ".join(_reasons(groups, step)) or "a model without convolutions and Dense layers",
        expected=f"a group of more than {step.align} channels (`align`) that is neither frozen nor skipped",
        next_step='Give a smaller `align`, or prune single weights: `structure="weight"`.',
    )


def _notes(
    step: Prune, groups: Sequence[ChannelGroup], removed: Mapping[str, int], live: Any, whole: Costs
) -> tuple[str, ...]:
    now = costs(live)
    channels = sum(group.size for group in groups if not _held(group, step))
    notes = [
        f"{sum(removed.values())} of {channels} channels that could go went: "
        f"{now.macs / max(whole.macs, 1):.1%} of the multiply-accumulates and "
        f"{now.parameters / max(whole.parameters, 1):.1%} of the parameters are left"
    ]
    kind, limit = goal_kind(step), final_amount(step, whole)
    if kind == "sparsity" and step.sparsity is not None:
        counted = [
            g for g in groups if not _held(g, step) and g.size > step.align and own_share(step, _makers(g)) is None
        ]
        total = sum(group.size for group in counted)
        share = sum(removed.get(group.name, 0) for group in counted) / total if total else 0.0
        notes.append(f"sparsity {share:.1%} of {step.sparsity:.1%}, in multiples of {step.align} channels")
    elif kind != "sparsity":
        left = {"macs": now.macs, "parameters": now.parameters}.get(kind) or stored_size(live)({})
        said = "estimated bytes" if kind == "size_bytes" else kind
        notes.append(f"budget: {left:,.0f} of at most {limit:,.0f} {said}")
        if left < _NEAR * limit:
            notes.append(f"the budget is not used up: the next {step.align} channels (`align`) would not fit")
    return (*notes, *(f"stays whole: {reason}" for reason in _reasons(groups, step)))
