"""The samples of a run: what calibrates, what a comparison runs on, and whether a recipe has all that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.data import Calibration, choose, prepare, prepare_arrays
from converters.errors import CalibrationError
from converters.facts import ModelFacts
from converters.recipe import Recipe, Verify
from converters.targets import CALIBRATED_SCHEMES
from edgeinfer.dataset import FORMATS, Dataset, from_arrays, open_dataset
from edgeinfer.errors import InputError
from edgeinfer.model.metadata import InputSpec, OutputSpec
from edgeinfer.postprocess.classify import class_count
from edgeinfer.progress import ProgressReport

__all__ = ["Samples", "check_data", "missing_classes", "open_labelled", "prepare_samples"]

_SAMPLES_A_CLASS = 5


@dataclass(frozen=True, slots=True)
class Samples:
    """Calibration on disk for the child, and what a comparison without validation data runs on.

    Attributes:
        calibration: None for a scheme that needs none and was given none.
        compared: Samples that were held out, or the same ones where there were no more.
        held_out: Whether `compared` calibrated nothing.
    """

    calibration: Calibration | None
    compared: Dataset | None
    held_out: bool = True

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of a comparison on them."""
        return () if self.held_out else (_NOT_HELD_OUT,)


def check_data(recipe: Recipe, source: Dataset | Mapping[str, NDArray[Any]] | None, validation: Dataset | None) -> None:
    """Refuse a recipe that needs data which nobody gave, before the model is loaded."""
    if source is not None:
        return
    if recipe.quantize.scheme in CALIBRATED_SCHEMES:
        raise CalibrationError(
            f'The scheme "{recipe.quantize.scheme}" needs calibration data.',
            received="none",
            expected="100 to 500 samples like those that the device will see",
            next_step='Give `calibration` (`--calibration DATA`), or take the scheme "float16" or "dynamic".',
        )
    if validation is None and any(isinstance(step, Verify) for step in recipe.steps):
        raise CalibrationError(
            "There is nothing to verify on.",
            received="neither calibration nor validation data",
            expected="one of them, or a recipe without Verify",
            next_step="Give `--validation DATA`, or leave the check away with `--no-verify`.",
        )


def prepare_samples(
    source: Dataset | Mapping[str, NDArray[Any]] | None,
    inputs: tuple[InputSpec, ...],
    recipe: Recipe,
    folder: Path,
    say: ProgressReport,
) -> Samples:
    """Choose the samples that calibrate and those that are held out, and write the first to disk.

    Args:
        source: From `converters.data.open_calibration`, or None.
        inputs: The model's own.
        recipe: How many, and by which seed.
        folder: For the files.
        say: Called after every sample.

    Raises:
        CalibrationError: The data cannot be right.
        InputError: A picture cannot be read.
    """
    if source is None:
        return Samples(None, None)
    wanted = recipe.quantize.samples
    if not isinstance(source, Dataset) and len(inputs) == 1 and set(source) == {inputs[0].name}:
        # One array by name is that array: it may be pixels, and its range is checked.
        source = from_arrays(source[inputs[0].name], name="the calibration array")
    if isinstance(source, Dataset):
        if len(inputs) != 1:
            raise CalibrationError(
                "A model with several inputs needs one array of floats per input.",
                received=source.name,
                expected=", ".join(f"`{spec.name}` {spec.shape}" for spec in inputs),
                next_step="Hand over a mapping from input name to array.",
            )
        chosen, rest = choose(len(source), wanted, recipe.seed)
        calibration = prepare(source.take(chosen), inputs[0], folder, progress=say)
        compared = source.take(rest if len(rest) else chosen)
        # The calibration data's labels, where it has some, are not the user's validation data.
        compared = Dataset(compared.name, compared.sources)
    else:
        count = min(len(values) for values in source.values()) if source else 0
        chosen, rest = choose(count, wanted, recipe.seed)
        picked = {name: values[chosen] for name, values in source.items()}
        calibration = prepare_arrays(picked, inputs, folder)
        rows = rest if len(rest) else chosen
        arrays = [source[spec.name] for spec in inputs]
        compared = Dataset("the calibration arrays", [tuple(array[row : row + 1] for array in arrays) for row in rows])
    return Samples(calibration, compared, bool(len(rest)))


_NOT_HELD_OUT = (
    "All samples were used for calibration, so the comparison without validation data ran on the same ones: "
    "give more samples than are calibrated with."
)


def open_labelled(source: str | Path | Dataset | None, what: str) -> Dataset | None:
    """Return labelled data, or None where nobody gave any.

    Args:
        source: A path or a `Dataset`.
        what: "validation" or "test", for the message.

    Raises:
        InputError: It cannot be read, or has no labels.
    """
    if source is None:
        return None
    if not isinstance(source, str | Path | Dataset):
        raise InputError(
            f"This is no {what} data.",
            received=f"an object of type `{type(source).__name__}`",
            expected=f"a `Dataset`, or a path: {FORMATS}",
            next_step="Arrays become one by `edgeinfer.dataset.from_arrays(x, y)`.",
        )
    data = source if isinstance(source, Dataset) else open_dataset(source)
    if data.truth is None:
        raise InputError(
            f"The {what} data has no labels.",
            received=data.name,
            expected="class folders, labels.csv, or an .npz with y",
            next_step="Without labels, leave it away: the comparison then runs on held-out calibration samples.",
        )
    return data


def missing_classes(data: Any, what: str, facts: ModelFacts) -> tuple[str, ...]:
    """Return a sentence where data that should hold every class has only some of them; empty where all is well.

    Data that is sorted by class and cut off has few classes, and trains and judges nonsense.

    Args:
        data: A labelled `Dataset`; anything else is not looked at.
        what: "training", "validation" or "test".
        facts: Of the model.
    """
    if not isinstance(data, Dataset) or data.truth is None or len(facts.outputs) != 1:
        return ()
    output = facts.outputs[0]
    classes = class_count(OutputSpec(output.name, output.shape, output.dtype))
    found = len(np.unique(data.truth))
    # A thousand classes need not all occur among a few hundred samples.
    if classes < 2 or found >= classes or len(data) < _SAMPLES_A_CLASS * classes:
        return ()
    return (f"The {what} data ({len(data)} samples) holds {found} of the model's {classes} classes: is it sorted?",)
