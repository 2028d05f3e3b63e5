"""Single weights become zero and stay zero: the file packs better, the model is neither smaller nor faster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError, RecipeError
from converters.graph.network import read_network, rebuild
from converters.prune.kernels import Kernel, named_layers, prunable_kernels
from converters.prune.masks import magnitude_masks, pattern_mask
from converters.prune.patterns import check_patterns, own_share, skip_pattern
from converters.prune.schedule import SparsitySchedule
from converters.prune.sparsity import sparsity_of
from converters.settings import check_whole, parse_pattern
from converters.steps import Prune

__all__ = [
    "Pool",
    "WeightPlan",
    "mask_callback",
    "prune_weights",
    "sparsity_of",
    "weight_plan",
]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pool:
    """Kernels that are ranked together.

    Attributes:
        kernels: Their numbers among `prunable_kernels(model)`.
        sparsity: Share of their weights to leave out, 0..1.
        pattern: (N, M) of "N:M" instead, or None.
    """

    kernels: tuple[int, ...]
    sparsity: float
    pattern: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """What a step takes from which kernels, decided before anything is taken.

    Attributes:
        pools: A kernel is in one of them, or in none and keeps all its weights.
        notes: A sentence for every layer that was meant and is left out.
    """

    pools: tuple[Pool, ...]
    notes: tuple[str, ...]


def weight_plan(model: Any, step: Prune) -> WeightPlan:
    """Decide which kernels a step prunes, and by how much.

    With a pattern, `layers` takes those layers out of it: they get single zeros at their own share. With the scope
    "global" all kernels without a share of their own have one threshold.

    Args:
        model: A built Keras model.
        step: With `structure="weight"`.

    Raises:
        RecipeError: The step is for another structure, a pattern of `skip` or `layers` matches nothing that can be
            pruned, or nothing is left to prune.
    """
    if step.structure != "weight":
        raise RecipeError(
            "This step does not prune weights.",
            received=f'structure="{step.structure}"',
            expected='Prune(structure="weight", ...)',
        )
    kernels = prunable_kernels(model)
    # Outer names too: a layer in a wrapper is known to its user by the wrapper's name.
    check_patterns(step, list(dict.fromkeys(name for names, _ in named_layers(model) for name in names)))
    _check_shares(step, kernels)
    pattern = parse_pattern(step.pattern) if step.pattern is not None else None
    alone, together, notes = [], [], []
    for number, kernel in enumerate(kernels):
        if skip_pattern(step, kernel.names):
            continue
        share = own_share(step, kernel.names)
        if share is not None:
            alone += [Pool((number,), share)] if share > 0 else []
        elif pattern is not None:
            channels = kernel.variable.shape[kernel.axis]
            if channels % pattern[1] == 0:
                alone.append(Pool((number,), 1 - pattern[0] / pattern[1], pattern))
            else:
                notes.append(
                    f"`{kernel.layer}` keeps all its weights: {channels} input channels are no multiple of "
                    f"{pattern[1]}, so {step.pattern} does not fit."
                )
        elif step.sparsity is not None:
            together.append(number)
    if together and step.scope == "global":
        alone.append(Pool(tuple(together), step.sparsity or 0.0))
    else:
        alone += [Pool((number,), step.sparsity or 0.0) for number in together]
    if not alone:
        raise RecipeError(
            "There is no weight that this step could prune.",
            received=" ".join(notes) or f"{len(kernels)} kernels, all of them spared by the step",
            expected="a Dense or Conv layer with a float kernel that `skip` does not name",
        )
    return WeightPlan(tuple(alone), tuple(notes))


def _check_shares(step: Prune, kernels: Sequence[Kernel]) -> None:
    """Refuse a share for a layer that has none to give: it would be ignored without a word."""
    for pattern, share in step.layers:
        if not any(own_share(Prune("weight", layers=((pattern, share),)), one.names) is not None for one in kernels):
            raise RecipeError(
                "A pattern of `layers` matches no layer whose weights can be pruned.",
                received=repr(pattern),
                expected=", ".join(f"`{one.layer}`" for one in kernels[:8]) or "a Dense or Conv layer",
            )


def prune_weights(
    model: Any, step: Prune, *, train: Callable[[Any, Sequence[Any]], None], steps_total: int, seed: int
) -> Any:
    """Return a copy of a model with the smallest weights at zero, trained on with these zeros in place.

    Args:
        model: Flat functional or Sequential; stays as it is.
        step: With `structure="weight"`. `epochs=0` prunes at once and does not train. A pattern like "2:4" is there
            from the first step, whatever `schedule` says, as its authors do it.
        train: Trains the model that it is given in place, with these Keras callbacks. Not called where `epochs` is 0.
        steps_total: Steps of the optimizer that `train` makes; the schedule is laid out over them. If it makes fewer,
            what is missing goes at the end, without training.
        seed: Draws among weights of equal magnitude.

    Returns:
        A new model, not compiled. The number of zeros is exact. Its notes are those of `weight_plan(model, step)`. Any
        training after this revives the zeros unless it gets `mask_callback(returned model)`.

    Raises:
        RecipeError: See `weight_plan`; or `steps_total` or `seed` is no such number.
        ConversionError: The model cannot be copied, or holds weights that are not finite.

    Source: Zhu and Gupta 2017, arXiv:1710.01878, section 2; patterns: Mishra et al. 2021, arXiv:2104.08378, section 4.
    """
    check_whole("seed", seed, 0, (1 << 64) - 1)
    plan = weight_plan(model, step)
    for note in plan.notes:
        _LOGGER.info("%s", note)
    pruned = rebuild(read_network(model))
    kernels = prunable_kernels(pruned)
    _check_finite(kernels, "before pruning")
    random = np.random.default_rng(seed)
    if step.epochs > 0:
        rising = step.schedule if any(pool.pattern is None for pool in plan.pools) else "constant"
        schedule = SparsitySchedule(rising, steps_total)
        keeper = _Keeper([kernels[number] for pool in plan.pools for number in pool.kernels])
        keeper.follow(schedule, lambda progress: list(_masks(plan, kernels, progress, random).values()))
        train(pruned, (keeper.callback(),))
        _check_finite(kernels, "after the training")
    late = 0
    for number, mask in _masks(plan, kernels, 1.0, random).items():
        values = kernels[number].values()
        late += int(np.count_nonzero(values[~mask]))
        kernels[number].variable.assign(np.where(mask, values, np.float32(0)))
    if step.epochs > 0 and late > 0:
        _LOGGER.warning(
            "%d weights became zero after the training, which made fewer than %d steps or went back to older weights.",
            late,
            steps_total,
        )
    return pruned


def _check_finite(kernels: Sequence[Kernel], when: str) -> None:
    for kernel in kernels:
        if not np.isfinite(kernel.values()).all():
            raise ConversionError(
                f"The weights of layer `{kernel.layer}` cannot be ranked.",
                received=f"NaN or infinity {when}",
                expected="finite numbers",
            )


def _masks(
    plan: WeightPlan, kernels: Sequence[Kernel], progress: float, random: np.random.Generator
) -> Mapping[int, NDArray[np.bool_]]:
    """Return the masks of all pools, by the kernel's number, in the order of the pools."""
    masks: dict[int, NDArray[np.bool_]] = {}
    for pool in plan.pools:
        values = [kernels[number].values() for number in pool.kernels]
        if pool.pattern is not None:
            axes = [kernels[number].axis for number in pool.kernels]
            made = [pattern_mask(one, *pool.pattern, axis=axis) for one, axis in zip(values, axes, strict=True)]
        else:
            made = magnitude_masks(values, pool.sparsity * progress, random=random)
        masks.update(zip(pool.kernels, made, strict=True))
    return masks


def mask_callback(model: Any) -> Any:
    """Return a Keras callback that keeps every kernel weight at zero that is zero now.

    For training after a weight was pruned: distillation, fine-tuning or quantization-aware training would revive the
    zeros within one step of the optimizer. Make it of the very model whose variables are trained: a copy, such as one
    with folded normalizations, has variables of its own (and the same zeros, so make it of the copy).

    Args:
        model: A built Keras model. Only `prunable_kernels(model)` are held: a bias that begins at zero must be free.

    Returns:
        A `keras.callbacks.Callback`. It costs one call into TensorFlow for each step of the optimizer. A training loop
        other than `fit` calls its `on_train_batch_end(batch)` after each step.
    """
    kernels = prunable_kernels(model)
    stays = [kernel.values() != 0 for kernel in kernels]
    held = [number for number, mask in enumerate(stays) if not mask.all()]
    keeper = _Keeper([kernels[number] for number in held])
    keeper.hold([stays[number] for number in held])
    return keeper.callback()


class _Keeper:
    """Masks that are put on a model's kernels after every step of the optimizer.

    The optimizer goes on computing momentum for weights that are masked, and moves them; they are back at zero before
    the next forward pass sees them. What Adam does to one weight does not depend on others, so nothing else changes.
    """

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        import tensorflow as tf

        self._variables = [kernel.variable for kernel in kernels]
        self._stays = [tf.Variable(tf.ones(one.shape, tf.bool), trainable=False) for one in self._variables]
        self._apply = tf.function(self._zero, autograph=False)
        self._schedule: SparsitySchedule | None = None
        self._masks_at: Callable[[float], list[NDArray[np.bool_]]] | None = None
        self._step = self._epoch_begin = 0
        self._last = -1

    def hold(self, masks: Sequence[NDArray[np.bool_]]) -> None:
        """Use these masks from now on."""
        for variable, mask in zip(self._stays, masks, strict=True):
            variable.assign(mask)

    def follow(self, schedule: SparsitySchedule, masks_at: Callable[[float], list[NDArray[np.bool_]]]) -> None:
        """Make the masks anew when the schedule says so. `masks_at` takes its progress, 0..1."""
        self._schedule, self._masks_at = schedule, masks_at

    def callback(self) -> Any:
        """Return the Keras callback."""
        import keras

        return keras.callbacks.LambdaCallback(
            on_train_begin=self._begin,
            on_epoch_begin=self._begin_epoch,
            on_train_batch_end=self._end_batch,
            on_train_end=self._begin,
        )

    def _zero(self) -> None:
        import tensorflow as tf

        for variable, stays in zip(self._variables, self._stays, strict=True):
            value = variable.value
            # Not a product: what has become infinite would become NaN by it, and -1 times 0 is -0.
            value.assign(tf.where(stays, value, tf.zeros_like(value)))

    def _begin(self, *_: object, **__: object) -> None:
        self._update()
        self._apply()

    def _begin_epoch(self, *_: object, **__: object) -> None:
        self._epoch_begin = self._step

    def _end_batch(self, batch: int, *_: object, **__: object) -> None:
        # `batch` counts from 0 in every epoch, and jumps where Keras makes several steps in one call.
        self._step = self._epoch_begin + int(batch) + 1
        self._update()
        self._apply()

    def _update(self) -> None:
        schedule, masks_at = self._schedule, self._masks_at
        if schedule is None or masks_at is None or not schedule.due(self._step, self._last):
            return
        self._last = self._step
        if all(bool(np.isfinite(one.numpy()).all()) for one in self._variables):
            self.hold(masks_at(schedule.progress(self._step)))
