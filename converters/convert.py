"""`convert()`: a trained model, calibration data and a recipe in; a checked and labelled TFLite file out."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from converters.card import Card, Training
from converters.contract import check_labels, describe, own_inputs, tensor_normalization
from converters.data import Calibration, Source, choose, open_calibration, prepare, prepare_arrays
from converters.errors import CalibrationError
from converters.load import ModelFacts, save_live_model
from converters.metadata import write
from converters.quantize.ptq import ConvertRequest
from converters.recipe import Recipe, Verify
from converters.report import Report, StepRow, gzip_size
from converters.targets import CALIBRATED_SCHEMES, Target, target
from converters.tflite.gates import check_file, check_input_range, quantized_inputs
from converters.tflite.process import ConverterProcess
from converters.verify import Comparison, compare, judge
from edgeinfer import __version__
from edgeinfer.dataset import Dataset, from_arrays, open_dataset
from edgeinfer.errors import InputError
from edgeinfer.files import write_whole
from edgeinfer.model.metadata import InputSpec, ModelMetadata
from edgeinfer.model.summary import summarize
from edgeinfer.progress import Progress, ProgressReport

_UNNAMED = re.compile(r"(model|functional|sequential)(_\d+)?")  # what Keras calls a model that nobody named


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result.

    Attributes:
        tflite: The file's bytes, metadata included.
        metadata: What the file says of itself.
        recipe: What made it.
        report: What it cost.
    """

    tflite: bytes
    metadata: ModelMetadata
    recipe: Recipe
    report: Report

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: It cannot be written; what stood there before is untouched.
        """
        write_whole(path, self.tflite)

    def __repr__(self) -> str:
        return f"Conversion({self.metadata.name}, {len(self.tflite)} bytes, {self.recipe.quantize.scheme})"


@dataclass(frozen=True, slots=True)
class _Samples:
    """Calibration on disk for the child, and what a comparison without validation data runs on."""

    calibration: Calibration | None
    compared: Dataset | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Job:
    """What all the stages of one conversion know."""

    facts: ModelFacts
    card: Card
    recipe: Recipe
    target: Target
    samples: _Samples
    validation: Dataset | None
    class_offset: int


@dataclass(frozen=True, slots=True)
class _Stage:
    """Bytes as they came from the converter, and how long it took."""

    step: str
    tflite: bytes
    seconds: float


def convert(
    model: Any,
    calibration: Source | None,
    *,
    recipe: Recipe | None = None,
    card: Card | None = None,
    training: Training | None = None,
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
        training: Validation data. Without it the check compares on calibration samples that were held out: agreement,
            not accuracy, and the report says so.
        progress: Called as the work goes on.

    Raises:
        InputFileError: The model or the data is not there.
        ConversionError: The model cannot be loaded or converted.
        CalibrationError: The calibration data cannot be right.
        UnsupportedOpError: An op that the target cannot run.
        MetadataError: The labels do not fit the model.
        AccuracyDropError: A gate failed; it carries `.report` and `.conversion`.

    Example:
        result = convert("birds.keras", "photos/", card=Card(labels=names))
        result.save("birds.tflite")
        print(result.report)
    """
    recipe, card, training = recipe or Recipe.int8(), card or Card(), training or Training()
    say = progress or _silent
    machine = target(recipe.target)
    # Data is opened before the model is loaded: a wrong path should not cost a minute first.
    validation = _open_validation(training.validation)
    source = None if calibration is None else open_calibration(calibration)
    _check_data(recipe, source, validation)
    with tempfile.TemporaryDirectory(prefix="edgeinfer-") as name, ConverterProcess() as process:
        folder = Path(name)
        say(Progress("load the model", 0, 0))
        facts = process.load(Path(model) if isinstance(model, str | Path) else save_live_model(model, folder))
        if not card.name and isinstance(model, str | Path) and _UNNAMED.fullmatch(facts.name):
            card = replace(card, name=Path(model).stem)
        check_labels(facts, card)
        if validation is not None:
            card = _as_classification(facts, card)
        samples = _prepare(source, own_inputs(facts, card), recipe, folder, say)
        job = _Job(facts, card, recipe, machine, samples, validation, training.class_offset)
        say(Progress(f"convert to {recipe.quantize.scheme}", 0, 0))
        result = _convert(process, _request(job, folder))
        reference = None
        if any(isinstance(step, Verify) for step in recipe.steps):
            say(Progress("convert the float reference", 0, 0))
            plain = ConvertRequest(output=folder / "float32.tflite", scheme="float32", io="float32")
            reference = _convert(process, plain)
    return _finish(job, result, reference, say)


def _check_data(
    recipe: Recipe, source: Dataset | Mapping[str, NDArray[Any]] | None, validation: Dataset | None
) -> None:
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


def _as_classification(facts: ModelFacts, card: Card) -> Card:
    """Return the card for a model that labelled data shall judge: one row of numbers is then a row of classes."""
    shapes = [tensor.shape for tensor in facts.outputs]
    if card.task is None and len(shapes) == 1 and shapes[0][-1:] > (1,) and all(size == 1 for size in shapes[0][:-1]):
        return replace(card, task="classification")
    return card


def _convert(process: ConverterProcess, request: ConvertRequest) -> _Stage:
    started = time.perf_counter()
    process.convert(request)
    return _Stage(request.scheme, request.output.read_bytes(), time.perf_counter() - started)


def _request(job: _Job, folder: Path) -> ConvertRequest:
    quantize, calibration = job.recipe.quantize, job.samples.calibration
    own = own_inputs(job.facts, job.card)[0]
    normalization = tensor_normalization(own.normalization, job.facts.leading)
    pixels = calibration is not None and calibration.pixels
    return ConvertRequest(
        output=folder / "quantized.tflite",
        scheme=quantize.scheme,
        io=quantize.ends(job.target.io),
        calibration=calibration.files if calibration is not None and quantize.scheme in CALIBRATED_SCHEMES else (),
        normalization=(normalization.mean, normalization.std) if pixels and normalization else None,
        per_tensor_dense=job.target.per_tensor_dense and quantize.scheme == "dynamic",
    )


def _prepare(
    source: Dataset | Mapping[str, NDArray[Any]] | None,
    inputs: tuple[InputSpec, ...],
    recipe: Recipe,
    folder: Path,
    say: ProgressReport,
) -> _Samples:
    if source is None:
        return _Samples(None, None)
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
    return _Samples(calibration, compared, () if len(rest) else (_NOT_HELD_OUT,))


_NOT_HELD_OUT = (
    "All samples were used for calibration, so the comparison without validation data ran on the same ones: "
    "give more samples than are calibrated with."
)


def _finish(job: _Job, result: _Stage, reference: _Stage | None, say: ProgressReport) -> Conversion:
    quantize = job.recipe.quantize
    gates = check_file(result.tflite, scheme=quantize.scheme, io=quantize.ends(job.target.io), target=job.target)
    metadata = describe(result.tflite, job.facts, job.card, _made(job, None))
    warnings = list(job.samples.calibration.warnings) if job.samples.calibration else []
    if quantize.scheme in CALIBRATED_SCHEMES:
        for spec, stored in zip(metadata.inputs, quantized_inputs(result.tflite), strict=True):
            if spec.normalization is not None:
                warnings += check_input_range(stored, declared=spec.normalization.range)
    tflite = write(result.tflite, metadata)
    comparison = None
    if reference is not None:
        plain = write(reference.tflite, describe(reference.tflite, job.facts, job.card, {}))
        data = job.validation
        if data is None:
            data = job.samples.compared or Dataset("no samples", ())  # `_check_data` has seen to it that there are some
            warnings += job.samples.warnings
        comparison = compare(plain, tflite, data, class_offset=job.class_offset, progress=say)
        metadata = replace(metadata, made=_made(job, comparison))
        tflite = write(result.tflite, metadata)
        reference = replace(reference, tflite=plain)
    stages = [*([reference] if reference else []), replace(result, tflite=tflite)]
    report = Report(
        model=metadata.name,
        target=job.target.name,
        scheme=quantize.scheme,
        io=quantize.ends(job.target.io),
        rows=tuple(_row(stage) for stage in stages),
        gates=gates,
        comparison=comparison,
        calibration=job.samples.calibration.to_json() if job.samples.calibration else {},
        warnings=tuple(warnings),
    )
    conversion = Conversion(tflite, metadata, job.recipe, report)
    for step in job.recipe.steps:
        failed = judge(comparison, step) if isinstance(step, Verify) and comparison is not None else None
        if failed is not None:
            failed.report, failed.conversion = report, conversion
            raise failed
    return conversion


def _row(stage: _Stage) -> StepRow:
    summary = summarize(stage.tflite)
    return StepRow(
        step=stage.step,
        size_bytes=len(stage.tflite),
        gzip_bytes=gzip_size(stage.tflite),
        parameters=summary.parameters,
        macs=summary.macs,
        seconds=stage.seconds,
    )


def _made(job: _Job, comparison: Comparison | None) -> dict[str, object]:
    """Return how the file was made: nothing that varies from run to run, so that equal work gives equal bytes."""
    made: dict[str, object] = {
        "recipe": job.recipe.to_json(),
        "calibration": job.samples.calibration.to_json() if job.samples.calibration else None,
        "versions": {"edgeinfer": __version__, **(job.facts.versions or {})},
    }
    if comparison is not None:
        made["measured"] = {
            "samples": comparison.samples,
            "engine": comparison.engine,
            "agreement": comparison.agreement,
            "top1_float": comparison.original.top1 if comparison.original else None,
            "top1_quantized": comparison.quantized.top1 if comparison.quantized else None,
            "error": comparison.error,
        }
    return made


def _open_validation(source: str | Path | Dataset | None) -> Dataset | None:
    if source is None:
        return None
    data = source if isinstance(source, Dataset) else open_dataset(source)
    if data.truth is None:
        raise InputError(
            "The validation data has no labels.",
            received=data.name,
            expected="class folders, labels.csv, or an .npz with y",
            next_step="Without labels, leave it away: the comparison then runs on held-out calibration samples.",
        )
    return data


def _silent(report: Progress) -> None:
    """Do nothing with a report: nobody asked for it."""
