"""`convert()`: a trained model, calibration data and a recipe in; a checked and labelled TFLite file out."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.backend import require_keras
from converters.build import Job
from converters.card import Card, Training
from converters.compress import check_training, open_workshop
from converters.contract import check_labels, own_inputs
from converters.conversion import Conversion
from converters.data import Source, open_calibration
from converters.examples import open_examples, prepare_examples
from converters.facts import ModelFacts
from converters.load import save_live_model
from converters.preparation import check_data, missing_classes, open_labelled, prepare_samples
from converters.recipe import Recipe
from converters.run import Judges, Run
from converters.stages import hold
from converters.targets import target
from converters.tflite.process import ConverterProcess
from converters.train.batches import Examples
from edgeinfer.errors import OutputError
from edgeinfer.progress import Progress, ProgressReport

__all__ = ["Conversion", "convert"]

_UNNAMED = re.compile(r"(model|functional|sequential)(_\d+)?")  # what Keras calls a model that nobody named


def convert(
    model: Any,
    calibration: Source | None,
    *,
    recipe: Recipe | None = None,
    card: Card | None = None,
    training: Training | None = None,
    work: str | Path | None = None,
    progress: ProgressReport | None = None,
) -> Conversion:
    """Convert a trained model by a recipe and check what comes out.

    Args:
        model: Path of a `.keras` or `.h5` file or a SavedModel folder, or a Keras model.
        calibration: Samples like those that the device will see: a path, an array, a `Dataset`, an iterable, or for a
            model with several inputs a mapping from input name to floats. uint8 arrays and folders of pictures are
            pixels and go through the card's preprocessing, the device's own; float arrays are the model's input as it
            is. None for a scheme that needs none and is not verified.
        recipe: Default `Recipe.int8()`: full int8, then the check against the float model.
        card: What the file shall say of itself; default: what the model says.
        training: Data to train, to judge and to report on, and a teacher. Without validation data the check compares
            on calibration samples that were held out: agreement, not accuracy, and the report says so.
        work: Folder for finished training steps. A run that was interrupted goes on there behind the last step that it
            finished, if model, steps and data are the same. None keeps nothing.
        progress: Called as the work goes on.

    Raises:
        InputFileError: The model or the data is not there.
        ConversionError: The model cannot be loaded or converted.
        RecipeError: A step lacks its data or its teacher, or cannot be done to this model.
        TrainingError: A step's training cannot go on.
        CalibrationError: The calibration data cannot be right.
        UnsupportedOpError: An op that the target cannot run, or a layer that cannot be replaced for it. A file that its
            target refuses is not handed out.
        MetadataError: The labels do not fit the model.
        OutputError: The work folder cannot be written to.
        AccuracyDropError: A gate failed; it carries `.report` and `.conversion`.

    Example:
        result = convert("birds.keras", "photos/", card=Card(labels=names))
        result.save("birds.tflite")
        print(result.report)
    """
    recipe, card, training = recipe or Recipe.int8(), card or Card(), training or Training()
    say = progress or _silent
    machine = target(recipe.target)
    check_training(recipe, training.train, training.teacher)
    # Data is opened before the model is loaded: a wrong path should not cost a minute first.
    judges = Judges(
        open_labelled(training.validation, "validation"), open_labelled(training.test, "test"), training.class_offset
    )
    train = open_examples(training.train)
    source = None if calibration is None else open_calibration(calibration)
    check_data(recipe, source, judges.validation)
    with tempfile.TemporaryDirectory(prefix="edgeinfer-") as name, ConverterProcess() as process, ExitStack() as held:
        folder = Path(name)
        kept = folder / "work" if work is None else Path(work)
        if recipe.needs_keras:
            held.enter_context(hold(_made(kept)))
        say(Progress("load the model", 0, 0))
        facts = process.load(Path(model) if isinstance(model, str | Path) else save_live_model(model, folder))
        if not card.name and isinstance(model, str | Path) and _UNNAMED.fullmatch(facts.name):
            card = replace(card, name=Path(model).stem)
        check_labels(facts, card)
        if judges.validation is not None or judges.test is not None:
            card = _as_classification(facts, card)
        samples = prepare_samples(source, own_inputs(facts, card), recipe, folder, say)
        run = Run(process, facts, Job(card, recipe, machine, samples.calibration, folder), judges, samples, say)
        for what, data in (("training", train), ("validation", judges.validation), ("test", judges.test)):
            for sentence in missing_classes(data, what, facts):
                run.caution(sentence)
        if train is not None and not recipe.needs_keras:
            run.caution("The training data was not used: no step of the recipe trains.")
        if recipe.needs_keras:
            require_keras()
            examples = prepare_examples(
                train, facts, card, folder, class_offset=training.class_offset, progress=progress
            )
            if examples is None and samples.calibration is not None and len(samples.calibration.files) == 1:
                # Nobody trains; the rankings that need no labels take what calibrates.
                own = run.own_samples()
                examples = Examples((own,), np.zeros(len(own), np.int64))
            run.open(*open_workshop(model, recipe, examples, training.teacher, kept, progress))
        return run.through()


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # it can be written to: better known now than behind the first step
    except OSError as error:
        raise OutputError(
            "The folder for finished steps cannot be written to.",
            received=f"`{folder}`: {error}",
            next_step="Name another folder: `work=...` (`--work DIR`).",
        ) from error
    return folder


def _as_classification(facts: ModelFacts, card: Card) -> Card:
    """Return the card for a model that labelled data shall judge: one row of numbers is then a row of classes."""
    shapes = [tensor.shape for tensor in facts.outputs]
    if card.task is None and len(shapes) == 1 and shapes[0][-1:] > (1,) and all(size == 1 for size in shapes[0][:-1]):
        return replace(card, task="classification")
    return card


def _silent(report: Progress) -> None:
    """Do nothing with a report: nobody asked for it."""
