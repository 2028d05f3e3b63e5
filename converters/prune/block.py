"""Block pruning: residual branches whose absence the outputs hardly notice go, and the model is shallower."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.errors import ConversionError, RecipeError
from converters.graph.blocks import Block, remove_blocks, residual_blocks
from converters.graph.cost import Costs, costs
from converters.graph.flat import flat_model
from converters.prune.budget import Kind
from converters.prune.channel import Pruned, Tune, final_amount, goal_kind
from converters.prune.patterns import check_patterns, own_share, skip_pattern
from converters.prune.samples import model_outputs, sample_batches
from converters.prune.size import stored_size
from converters.steps import Prune
from edgeinfer.progress import Progress, ProgressReport

__all__ = ["block_importances", "prune_blocks"]

_SAMPLES = 256
_BATCH = 32


def prune_blocks(
    model: Any,
    step: Prune,
    *,
    data: Any = None,
    reference: Costs | None = None,
    tune: Tune | None = None,
    progress: ProgressReport | None = None,
) -> Pruned:
    """Remove residual branches until the step's goal is reached.

    The branches are ranked by `block_importances`, anew in each round. A sparsity removes that share of the blocks,
    rounded, at least one. A budget removes the blocks of the least importance per cost saved until it holds, and gives
    those back that it then does not need.

    Args:
        model: A Keras model; it is not changed.
        step: With structure "block".
        data: `Examples`, or batches as Keras' `fit` takes them; labels are not read. None: ranked by weights.
        reference: What budgets are shares of. None: the costs of this model.
        tune: Called after each round; None: no training.
        progress: Called at each round.

    Raises:
        RecipeError: The step is for another structure, a pattern matches nothing, or the budget cannot be reached.
        ConversionError: The model has no residual block that could go.
    """
    if step.structure != "block":
        raise RecipeError(
            "Blocks are pruned by another step.", received=f'structure="{step.structure}"', expected='"block"'
        )
    live = flat_model(model)
    check_patterns(step, [layer.name for layer in live.layers])
    blocks = residual_blocks(live)
    _check_any(blocks, step)
    whole = costs(live) if reference is None else reference
    start, end = _costs_of_layers(live, goal_kind(step)).total, final_amount(step, whole)
    if goal_kind(step) != "sparsity":
        if start <= end:
            return Pruned(live, {}, blocks, ("the budget holds already: nothing was removed",))
        _check_reachable(live, blocks, step, end, whole)
    quotas = _quotas(blocks, step)
    for number in range(step.rounds):
        if progress is not None:
            progress(Progress("prune blocks", number, step.rounds))
        part = (number + 1) / step.rounds
        here = residual_blocks(live)
        scores = block_importances(live, [block for block in here if not _held(block, step)], data=data)
        price = _costs_of_layers(live, goal_kind(step))
        names = _by_share(here, scores, quotas, part)
        if goal_kind(step) != "sparsity":
            # Blocks with a share of their own go by that alone.
            own = {name for _, members in quotas for name in members}
            free = [block for block in here if block.name in scores and block.name not in own]
            names += _by_budget(
                free, scores, price, start * (end / start) ** part, [b for b in here if b.name in names]
            )
        if names:
            live = remove_blocks(live, names)
        if tune is not None:
            live = tune(live, number)
    if progress is not None:
        progress(Progress("prune blocks", step.rounds, step.rounds))
    left = {block.name for block in residual_blocks(live)}
    removed = {block.name: 1 for block in blocks if block.name not in left}
    return Pruned(live, removed, blocks, _notes(step, blocks, removed, live, whole, measured=data is not None))


def block_importances(model: Any, blocks: Sequence[Block], *, data: Any = None) -> Mapping[str, float]:
    """Return what each block is worth: what its absence changes.

    With data it is the mean squared change of the model's outputs, over at most 256 samples, when the block alone is
    bypassed: measured, in the unit of the outputs, and without labels.

    Without data it is how much the branch can add for an input of variance 1: of the last layer with weights the
    root mean square of a BatchNormalization's gamma (its output's deviation in each channel), else the norm of its
    kernel divided by the square root of its output channels. The branches of one model mostly end in the same kind of
    layer, but this knows nothing of what is on the skip.

    Args:
        model: A flat model.
        blocks: Of `residual_blocks(model)`.
        data: `Examples`, or batches as Keras' `fit` takes them; labels are not read.

    Returns:
        Block name -> a number of at least 0.

    Raises:
        TrainingError: The data does not fit the model.

    Source: Veit et al. 2016, arXiv:1605.06431, section 4.1 (single branches of a trained residual network can be left
    out, and the outputs change little).
    """
    if data is None:
        return {block.name: _gain(model, block) for block in blocks}
    seen = [[np.asarray(one) for one in inputs] for inputs in sample_batches(model, data, _SAMPLES, _BATCH)]
    usual = [[np.asarray(one, np.float64) for one in model_outputs(model, inputs)] for inputs in seen]
    values = sum(one.size for outputs in usual for one in outputs)
    scores = {}
    for block in blocks:
        without = remove_blocks(model, [block.name])
        squared = 0.0
        for inputs, outputs in zip(seen, usual, strict=True):
            for output, other in zip(outputs, model_outputs(without, inputs), strict=True):
                squared += float(np.square(np.asarray(other, np.float64) - output).sum())
        scores[block.name] = squared / values
    for name, score in scores.items():
        if not np.isfinite(score):
            raise ConversionError(
                f"The block `{name}` cannot be ranked: the outputs are no finite numbers on this data.",
                received=str(score),
                next_step="Check the data's normalization and the model's weights.",
            )
    return scores


def _gain(model: Any, block: Block) -> float:
    for name in reversed(block.layers):
        layer = next((one for one in model.layers if one.name == name), None)
        if layer is None or not layer.weights:
            continue
        if type(layer).__name__ == "BatchNormalization":
            gamma = np.ones(1) if layer.gamma is None else np.asarray(layer.gamma, np.float64)
            return float(np.sqrt(np.mean(np.square(gamma))))
        kernels = [np.asarray(one, np.float64) for one in layer.weights if len(one.shape) > 1]
        if kernels:
            return float(np.sqrt(np.square(kernels[-1]).sum() / max(kernels[-1].shape[-1], 1)))
    return 0.0


@dataclass(frozen=True, slots=True)
class _LayerCosts:
    """What each layer costs, in the unit of the goal."""

    layers: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.layers.values())

    def of(self, blocks: Iterable[Block]) -> float:
        """Return what these blocks cost together; a block may lie within another one."""
        return sum(self.layers.get(name, 0.0) for name in {name for block in blocks for name in block.layers})


def _costs_of_layers(model: Any, kind: Kind) -> _LayerCosts:
    if kind == "size_bytes":
        stored = stored_size(model)
        return _LayerCosts({layer.name: stored.of_layer(layer.name) for layer in model.layers})
    rows = costs(model).layers
    return _LayerCosts({row.name: row.parameters if kind == "parameters" else row.macs for row in rows})


def _held(block: Block, step: Prune) -> str:
    pattern = skip_pattern(step, (*block.layers, block.add))
    return f"`skip` has {pattern!r}" if pattern else ""


def _quotas(blocks: Sequence[Block], step: Prune) -> list[tuple[int, frozenset[str]]]:
    """Return (how many go, of which blocks) for every share that is given for blocks."""
    shares: dict[float, list[str]] = {}
    for block in blocks:
        if _held(block, step):
            continue
        own = own_share(step, (*block.layers, block.add))
        share = step.sparsity if own is None else own
        if share is not None:
            shares.setdefault(share, []).append(block.name)
    return [(max(round(share * len(names)), 1 if share else 0), frozenset(names)) for share, names in shares.items()]


def _by_share(
    here: Sequence[Block], scores: Mapping[str, float], quotas: Sequence[tuple[int, frozenset[str]]], part: float
) -> list[str]:
    """Return the blocks that go in a round so that `part` of each quota is gone after it."""
    names: list[str] = []
    for quota, members in quotas:
        left = [block.name for block in here if block.name in members]
        wanted = math.ceil(quota * part - 1e-9) - (len(members) - len(left))
        names += sorted(left, key=lambda name: scores[name])[: max(wanted, 0)]
    return names


def _by_budget(
    free: Sequence[Block], scores: Mapping[str, float], price: _LayerCosts, budget: float, going: Sequence[Block]
) -> list[str]:
    """Return as few of the free blocks as bring the model to its budget, those of the least score per cost first."""

    def rate(block: Block) -> float:
        saved = price.of([block])
        return scores[block.name] / saved if saved else math.inf

    def fits(blocks: Iterable[Block]) -> bool:
        return price.total - price.of([*going, *blocks]) <= budget

    chosen: list[Block] = []
    for block in sorted(free, key=rate):
        if fits(chosen):
            break
        chosen.append(block)
    for block in sorted(chosen, key=lambda one: -scores[one.name]):
        others = [one for one in chosen if one is not block]
        if fits(others):
            chosen = others
    return [block.name for block in chosen]


def _check_any(blocks: Sequence[Block], step: Prune) -> None:
    if any(not _held(block, step) for block in blocks):
        return
    raise ConversionError(
        "No block of this model can be pruned.",
        received="; ".join(f"{block.name}: {_held(block, step)}" for block in blocks) or "no residual branch",
        expected="an Add of a tensor and a branch that starts from that tensor, not skipped",
        next_step='Prune channels instead: `structure="channel"`.',
    )


def _check_reachable(model: Any, blocks: Sequence[Block], step: Prune, budget: float, whole: Costs) -> None:
    kind = goal_kind(step)
    price = _costs_of_layers(model, kind)
    shared = _quotas(blocks, step)
    capped = {name for _, members in shared for name in members}
    free = [block for block in blocks if not _held(block, step) and block.name not in capped]
    # Which blocks go by their share is not known yet: it must be enough even if they are those that save least.
    for quota, members in shared:
        own = sorted((block for block in blocks if block.name in members), key=lambda one: price.of([one]))
        free += own[:quota]
    smallest = price.total - price.of(free)
    if smallest <= budget:
        return
    unit = {"macs": whole.macs, "parameters": whole.parameters}.get(kind, 1)
    reachable = math.ceil(smallest) if kind == "size_bytes" else math.ceil(smallest / unit * 1000) / 1000
    stays = [f"{block.name} ({_held(block, step)})" for block in blocks if _held(block, step)]
    raise RecipeError(
        f"Blocks alone do not bring the model to this budget of `{kind}`.",
        received=f"{kind}={budget if kind == 'size_bytes' else budget / unit:.4g}",
        expected=f"at least {reachable}",
        next_step=f"What holds the rest: {', '.join([*stays, 'the layers outside of residual branches'])}. "
        "Prune channels as well.",
    )


def _notes(
    step: Prune, blocks: Sequence[Block], removed: Collection[str], live: Any, whole: Costs, *, measured: bool
) -> tuple[str, ...]:
    now = costs(live)
    notes = [
        f"{len(removed)} of {len(blocks)} blocks went ({', '.join(removed)}): "
        f"{now.macs / max(whole.macs, 1):.1%} of the multiply-accumulates and "
        f"{now.parameters / max(whole.parameters, 1):.1%} of the parameters are left"
    ]
    if goal_kind(step) == "size_bytes":
        notes.append(f"budget: {stored_size(live)({}):,.0f} of at most {step.size_bytes:,} estimated bytes")
    if not measured:
        notes.append("the blocks were ranked by their weights alone, because there was no data")
    return (*notes, *(f"stays: {block.name}: {_held(block, step)}" for block in blocks if _held(block, step)))
