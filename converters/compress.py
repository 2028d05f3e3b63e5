"""The steps of a recipe that change the Keras model: one after the other, each kept on disk when it is done.

Every step begins with the model as the step before has left it on disk. So a run that was killed goes on behind the
last finished step, and comes to the same weights as one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.backend import require_keras
from converters.errors import ConversionError, RecipeError, TrainingError
from converters.examples import fingerprint
from converters.load import model_kind, read_keras
from converters.quantize.mixed import fallback_layers
from converters.recipe import Distill, FineTune, Prune, Recipe
from converters.stages import Stage, keep, made_of, model_hash, restored, sweep, weights_hash
from converters.train.loop import History
from edgeinfer import __version__
from edgeinfer.errors import InputFileError
from edgeinfer.progress import ProgressReport

__all__ = ["Stage", "Workshop", "advance", "check_training", "open_workshop", "step_key", "step_seed"]


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """What all training steps of one run share.

    Attributes:
        recipe: The whole of it.
        data: `Examples`, the caller's own batches, or None.
        teacher: What the caller named, or None.
        folder: Where finished steps lie.
        progress: Called as the work goes on.
    """

    recipe: Recipe
    data: Any
    teacher: Any
    folder: Path
    progress: ProgressReport | None


def check_training(recipe: Recipe, train: Any, teacher: Any) -> None:
    """Refuse a recipe whose steps lack what they need, before anything is loaded.

    Raises:
        RecipeError: A step needs training data, or a teacher, that nobody gave; or there is a teacher whom no step
            asks.
        InputFileError: The teacher is not there.
    """
    if teacher is not None and not any(isinstance(step, Distill) for step in recipe.steps):
        raise RecipeError(
            "There is a teacher, and no step asks it.",
            received=recipe.order,
            expected="a Distill before Quantize, or no teacher",
        )
    if isinstance(teacher, str | Path) and not Path(teacher).exists():
        raise InputFileError("The teacher does not exist.", received=f"`{teacher}`")
    if recipe.trains and train is None:
        needy = [type(step).__name__ for step in recipe.steps if getattr(step, "epochs", 0) > 0] or ["Prune"]
        raise RecipeError(
            f"{needy[0]} trains, and there is no training data.",
            received=recipe.order,
            expected="labelled samples",
            next_step="Give `Training(train=...)` (`--train DATA`).",
        )
    pruned = False
    for step in recipe.steps:
        pruned = pruned or isinstance(step, Prune)
        if isinstance(step, Distill) and not pruned and teacher is None:
            raise RecipeError(
                "Distill needs a teacher: before the first Prune the model could only teach itself.",
                received=recipe.order,
                expected="a Prune before Distill, or a teacher",
                next_step="Give `Training(teacher=...)` (`--teacher FILE`).",
            )


def open_workshop(
    model: Any, recipe: Recipe, data: Any, teacher: Any, folder: Path, progress: ProgressReport | None
) -> tuple[Workshop, Stage]:
    """Read the model into this process, lay it down flat, and return where the steps begin.

    Args:
        model: A Keras model, or the path of a `.keras` or `.h5` file.
        recipe: The recipe.
        data: See `converters.examples.prepare_examples`.
        teacher: A Keras model, a path, or None.
        folder: For finished steps; what a former run left there is used where it was made of the same.
        progress: Called as the work goes on.

    Whatever can be known to be wrong is refused here: the last step must not fail on what stood there before the first.

    Raises:
        ConversionError: A model cannot be read, or is no functional or Sequential model.
        RecipeError: The teacher answers otherwise than the model, a pattern matches no layer, or a layer that shall
            stay float is not there.
        TrainingError: The training data does not fit the model.
    """
    require_keras()
    from converters.graph.flat import flat_model
    from converters.prune.patterns import check_patterns

    live = flat_model(_read(model, "The model"))
    _check_layers(live)
    fallback_layers(recipe.quantize.fallback, [layer.name for layer in live.layers])
    for step in recipe.steps:
        if isinstance(step, Prune):
            check_patterns(step, [layer.name for layer in live.layers])
    _check_training_data(live, recipe, data)
    if teacher is not None:
        _check_teacher(live, teacher, data)
    sweep(folder)
    work = Workshop(recipe, data, teacher, folder, progress)
    import keras
    import tensorflow as tf

    versions = f"{__version__} {keras.__version__} {tf.__version__}"
    key = made_of(weights_hash(live), fingerprint(data), model_hash(teacher), versions)
    stage = restored(folder / "0-original.keras", "original", key)
    if stage is None:
        stage = Stage("original", folder / "0-original.keras", 0.0, (), key)
        keep(live, stage)
    return work, stage


def _check_layers(model: Any) -> None:
    """Refuse layers whose code no file holds: every step hands the model on as one, also to the converter's process."""
    for layer in model._flatten_layers(include_self=False):
        if type(layer).__name__ == "Lambda" or type(layer).__module__.partition(".")[0] != "keras":
            raise RecipeError(
                "Steps that train or prune keep the model in files, and these hold no code.",
                received=f"`{type(layer).__name__}`, layer `{layer.name}`",
                expected="layers that come with Keras, no Lambda among them",
                next_step="Replace it by Keras layers or `keras.ops` calls, or leave these steps away.",
            )


def _check_training_data(model: Any, recipe: Recipe, data: Any) -> None:
    from converters.train.loop import check_trainable
    from converters.train.source import open_batches

    if any(getattr(step, "epochs", 0) > 0 for step in recipe.steps):
        check_trainable(model)
        open_batches(model, data, recipe.fit, recipe.seed)


def _check_teacher(model: Any, teacher: Any, data: Any) -> None:
    """Refuse whom `Distill` could not ask, maybe after hours: no step changes what the model takes and answers."""
    from converters.graph.network import functional_graph
    from converters.train.batches import Examples
    from converters.train.tflite_teacher import FileTeacher

    if _is_file(teacher):
        file = FileTeacher(Path(teacher), data if isinstance(data, Examples) else None)
        theirs = [shape[1:] for shape in (*file.input_shapes, file.output_shape)]
    else:
        graph = functional_graph(_read(teacher, "The teacher"))
        theirs = [tuple(one.shape)[1:] for one in (*graph.inputs, *graph.outputs)]
    graph = functional_graph(model)
    own = [tuple(one.shape)[1:] for one in (*graph.inputs, *graph.outputs)]
    if all(None not in shape for shape in (*own, *theirs)) and own != theirs:
        raise RecipeError(
            "The teacher takes or answers something else than the model.",
            received=", ".join(map(str, theirs)),
            expected=f"inputs and output {', '.join(map(str, own))}: the same classes in the same order",
        )


def _is_file(teacher: Any) -> bool:
    """Whether a teacher is a finished model file, which answers in the device's engine."""
    return isinstance(teacher, str | Path) and Path(teacher).suffix == ".tflite"


def advance(work: Workshop, place: int, history: Sequence[Stage]) -> Stage:
    """Do one step, or take it from a former run that had finished it.

    Args:
        work: What the steps share.
        place: Of the step among the recipe's steps.
        history: All stages so far, the original first.

    Raises:
        RecipeError: A pattern that matches nothing, a budget that cannot be reached, a teacher that does not fit.
        TrainingError: The loss is no number any more, or the data does not fit the model.
    """
    step = work.recipe.steps[place]
    name = type(step).__name__.lower()
    key = step_key(work, place, history)
    path = work.folder / f"{place + 1}-{name}.keras"
    stage = restored(path, name, key)
    if stage is not None:
        return replace(stage, notes=(*stage.notes, "taken from a former run"))
    started = time.perf_counter()
    seed = step_seed(work, place)
    model = _open(history[-1].path)
    if isinstance(step, Prune):
        model, notes = _prune(work, model, step, place, _open(history[0].path))
    elif isinstance(step, FineTune):
        notes = _fine_tune(work, model, step, seed)
    elif isinstance(step, Distill):
        notes = _distill(work, model, step, seed, history)
    else:
        raise RecipeError(f"{type(step).__name__} trains nothing.", received=work.recipe.order)
    stage = Stage(name, path, time.perf_counter() - started, notes, key)
    keep(model, stage)
    return stage


def step_key(work: Workshop, place: int, history: Sequence[Stage]) -> str:
    """Return what a step is made of: the original, the data, and all that the recipe says up to this step."""
    said: dict[str, Any] = work.recipe.to_json()
    # A gate changes nothing: one that was let out a little must not cost the training behind it.
    steps = [{"step": "verify"} if row["step"] == "verify" else row for row in said["steps"][: place + 1]]
    parts = (steps, said["seed"], said["fit"])
    return made_of(history[0].key, json.dumps(parts, sort_keys=True))


def step_seed(work: Workshop, place: int, number: int = 0) -> int:
    """Return where all that is random in a step, or in round `number` of it, begins."""
    return int(np.random.SeedSequence((work.recipe.seed, place, number)).generate_state(1)[0]) % (1 << 31)


def _prune(work: Workshop, model: Any, step: Prune, place: int, original: Any) -> tuple[Any, tuple[str, ...]]:
    from converters.graph.cost import costs
    from converters.prune.block import prune_blocks
    from converters.prune.channel import prune_channels
    from converters.prune.sparsity import sparsity_of
    from converters.prune.weight import prune_weights, weight_plan
    from converters.train.fit import Schedule, fit

    def schedule(number: int) -> Schedule:
        seed = step_seed(work, place, number + 1)
        return Schedule(step.epochs, step.learning_rate, work.recipe.fit, seed, f"prune {number + 1}")

    if step.structure == "weight":

        def train(pruned: Any, callbacks: Sequence[Any]) -> None:
            # What is zero already, by an earlier step, stays zero: this step may be for other layers.
            held = (*callbacks, *_masks(work, pruned))
            fit(pruned, work.data, schedule(0), callbacks=held, progress=work.progress)

        steps, seed = _steps(work, step), step_seed(work, place)
        result = prune_weights(model, step, train=train, steps_total=steps, seed=seed)
        notes = weight_plan(model, step).notes
        return result, (
            *notes,
            f"{sparsity_of(result).total:.1%} of the weights are zero; the latency does not change",
        )

    def tune(pruned: Any, number: int) -> Any:
        masks = _masks(work, pruned)
        fit(pruned, work.data, schedule(number), callbacks=masks, progress=work.progress)
        return pruned

    prune = prune_channels if step.structure == "channel" else prune_blocks
    pruned = prune(
        model,
        step,
        data=work.data,
        reference=costs(original),
        tune=tune if step.epochs else None,
        progress=work.progress,
    )
    return pruned.model, pruned.notes


def _fine_tune(work: Workshop, model: Any, step: FineTune, seed: int) -> tuple[str, ...]:
    from converters.train.fit import Schedule, fit

    schedule = Schedule(step.epochs, step.learning_rate, work.recipe.fit, seed, "fine-tune")
    done = fit(model, work.data, schedule, callbacks=_masks(work, model), progress=work.progress)
    return (_course(done),)


def _distill(work: Workshop, model: Any, step: Distill, seed: int, history: Sequence[Stage]) -> tuple[str, ...]:
    from converters.distill import distill
    from converters.train.loop import Schedule

    if work.teacher is None:
        # The model as it was before anything was taken away: a fine-tuned one teaches better than the original.
        first = next(n for n, one in enumerate(work.recipe.steps) if isinstance(one, Prune))
        before = [one for n, one in work.recipe.training if n < first]
        teacher: Any = _open(history[len(before)].path)
    elif _is_file(work.teacher):
        teacher = Path(work.teacher)
    else:
        teacher = _read(work.teacher, "The teacher")
    done = distill(
        model,
        teacher,
        step,
        work.data,
        schedule=Schedule(step.epochs, step.learning_rate, work.recipe.fit, seed, "distill"),
        callbacks=_masks(work, model),
        progress=work.progress,
    )
    return (_course(done),)


def _course(done: History) -> str:
    if len(done.losses) == 1:
        return f"loss {done.losses[0]:.4f} in one epoch"
    return f"loss {done.losses[0]:.4f} to {done.losses[-1]:.4f} in {len(done.losses)} epochs"


def _masks(work: Workshop, model: Any) -> Sequence[Any]:
    """Return what keeps the zeros of an earlier weight pruning at zero."""
    if not any(isinstance(step, Prune) and step.structure == "weight" for step in work.recipe.steps):
        return ()
    from converters.prune.weight import mask_callback

    return (mask_callback(model),)


def _steps(work: Workshop, step: Prune) -> int:
    """Return how many steps the optimizer makes in a pruning; its data need not say its length where there are none."""
    from converters.train.batches import Examples, steps_per_epoch

    if not step.epochs:
        return 0
    if isinstance(work.data, Examples):
        return step.epochs * steps_per_epoch(work.data, work.recipe.fit)
    try:
        return step.epochs * len(work.data)
    except TypeError as error:
        raise TrainingError(
            "A pruning schedule must know how many batches an epoch has.",
            received=f"batches of type `{type(work.data).__name__}` without a length",
            next_step="Use `data.apply(tf.data.experimental.assert_cardinality(batches))`.",
        ) from error


def _read(model: Any, what: str) -> Any:
    if not isinstance(model, str | Path):
        return model
    try:
        kind = model_kind(Path(model))
    except ConversionError as error:
        raise error.named(what) from error
    if kind == "savedmodel":
        raise RecipeError(
            f"{what} is a SavedModel, whose layers are gone: only its functions are left.",
            received=f"`{model}`",
            expected="a `.keras` or `.h5` file for a recipe with training steps",
        )
    return read_keras(Path(model), kind)


def _open(path: Path) -> Any:
    return read_keras(path, "keras")
