"""The last work on the Keras model before the converter: equalized, trained for int8, its activations measured."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from converters.compress import Workshop, step_key, step_seed
from converters.load import read_keras
from converters.recipe import Quantize
from converters.stages import Ranges, Stage, keep, made_of, restored
from edgeinfer.progress import Progress

__all__ = ["ready_for_int8"]


def ready_for_int8(work: Workshop, place: int, history: Sequence[Stage], samples: NDArray[Any]) -> Stage:
    """Do what the `Quantize` step asks for before the converter, or take it from a former run.

    Args:
        work: What the steps share.
        place: Of the `Quantize` among the recipe's steps.
        history: All stages so far.
        samples: (n, *input shape) of the model's own input, float32: those that calibrate.

    Returns:
        A plain Keras model, BatchNorm folded, with the ranges of its activations where they were chosen.

    Raises:
        RecipeError: A layer that cannot be treated so.
        TrainingError: The training cannot go on.
    """
    step = work.recipe.quantize
    key = made_of(step_key(work, place, history), str(samples.shape), hashlib.sha256(samples.tobytes()).hexdigest())
    path = work.folder / f"{place + 1}-ready-for-int8.keras"
    stage = restored(path, "quantize", key)
    if stage is not None:
        return replace(stage, notes=(*stage.notes, "taken from a former run"))
    started = time.perf_counter()
    model, ranges, notes = _ready(work, read_keras(history[-1].path, "keras"), step, samples, step_seed(work, place))
    stage = Stage("quantize", path, time.perf_counter() - started, notes, key, ranges)
    keep(model, stage)
    return stage


def _ready(
    work: Workshop, model: Any, step: Quantize, samples: NDArray[Any], seed: int
) -> tuple[Any, Ranges, tuple[str, ...]]:
    from converters.graph.fold import fold_batch_norms
    from converters.quantize.aware import train_aware
    from converters.quantize.bias import correct_bias
    from converters.quantize.equalize import equalize, find_pairs
    from converters.quantize.ranges import activation_ranges

    notes: list[str] = []
    ranges: Ranges = ()
    model = fold_batch_norms(model)
    if step.equalize:
        pairs, left_out = find_pairs(model)
        model = equalize(model)
        notes.append(f"equalized the channels of {len(pairs)} pairs of neighbouring layers")
        notes += [f"not equalized: {one.layer}: {one.reason}" for one in left_out]
    if step.epochs:
        aware = train_aware(model, step, work.data, fit=work.recipe.fit, seed=seed, progress=work.progress)
        model, ranges = aware.model, aware.ranges
        notes += [f"trained for int8 for {step.epochs} epochs", *aware.notes]
    if step.correct_bias:
        if work.progress:
            work.progress(Progress("correct the biases", 0, 0))
        model = correct_bias(model, samples)
        notes.append("biases corrected")
    if step.ranges != "minmax" and not step.epochs:
        if work.progress:
            work.progress(Progress("choose the ranges", 0, 0))
        ranges = activation_ranges(model, samples, step.ranges)
        notes.append(f"ranges chosen by {step.ranges}")
    return model, ranges, tuple(notes)
