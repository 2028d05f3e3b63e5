"""The float model against the converted one, on the same data, in the device's own engine and pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter_ns
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from converters.errors import AccuracyDropError
from converters.recipe import Verify
from edgeinfer.dataset import Dataset, match_classes, matches_by_name, sample_name
from edgeinfer.errors import InputError, MetadataError
from edgeinfer.evaluate import FEWEST_SAMPLES, Evaluation, label_doubt, score
from edgeinfer.intervals import drop_interval, share_interval
from edgeinfer.model.metadata import InputSpec
from edgeinfer.pipeline import Pipeline, Postprocess, Preprocess
from edgeinfer.postprocess.classify import class_count, classification_post, ranked_outputs
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.image import read_image
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.progress import Progress, ProgressReport
from edgeinfer.results import Classifications
from edgeinfer.runtime.runtime import Runtime, Tensors
from edgeinfer.timing import Latency, Stopwatch, Timing

Result = TypeVar("Result")

# Floats lie nowhere in a picture.
_NOWHERE = View(image_size=(1, 1), tensor_size=(1, 1), scale=(1.0, 1.0), offset=(0.0, 0.0))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What quantization cost, on one data set.

    Attributes:
        samples: How many were compared.
        engine: Name and version; one thread.
        agreement: Share of samples on which both models answer the same class, of a segmentation share of the pixels;
            None where there are no classes.
        agreement_interval: Wilson's 95 % interval of it; None of pixels, which are no samples.
        original: Accuracy of the float model; None where the data has no labels.
        quantized: Accuracy of the converted model, likewise.
        drop: `original.top1 - quantized.top1`, absolute, 0..1; None without labels.
        drop_interval: 95 % interval of the drop on the same samples (see `edgeinfer.intervals.drop_interval`).
        error: Root mean square of the outputs' difference over that of the float outputs; None for classes.
        original_latency: Of one invoke of the float file, milliseconds, one thread, interleaved with the other.
        quantized_latency: Of the converted file.
        doubt: Why the labels may not fit the model, where there are too few samples to refuse them; else "".
    """

    samples: int
    engine: str
    agreement: float | None
    agreement_interval: tuple[float, float] | None
    original: Evaluation | None
    quantized: Evaluation | None
    drop: float | None
    drop_interval: tuple[float, float] | None
    error: float | None
    original_latency: Latency
    quantized_latency: Latency
    doubt: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the part of `edgeinfer-convert --json` that speaks of accuracy and latency."""
        return {
            "float": _accuracy_json(self.original),
            "quantized": _accuracy_json(self.quantized),
            "agreement": self.agreement,
            "agreement_interval95": self.agreement_interval,
            "drop": self.drop,
            "drop_interval95": self.drop_interval,
            "output_error": self.error,  # "error" is what a failed command prints
            "samples": self.samples,
            "engine": self.engine,
            "latency_ms": {"float": asdict(self.original_latency), "quantized": asdict(self.quantized_latency)},
        }


def _accuracy_json(evaluation: Evaluation | None) -> dict[str, object] | None:
    if evaluation is None:
        return None
    return {
        "metric": "top1",
        "value": evaluation.top1,
        "interval95": list(evaluation.top1_interval),
        "samples": evaluation.samples,
    }


def compare(
    original: bytes,
    quantized: bytes,
    data: Dataset,
    *,
    class_offset: int | None = None,
    progress: ProgressReport | None = None,
) -> Comparison:
    """Run two files over the same samples and compare their answers.

    Args:
        original: The float model as a `.tflite` file, with its metadata.
        quantized: The converted one, with its metadata.
        data: Pictures, or floats of the model's own input (a tuple of arrays a sample, where the model has several
            inputs). With labels the accuracy is compared, without them the agreement.
        class_offset: See `edgeinfer.dataset.match_classes`.
        progress: Called after every sample.

    Raises:
        InputError: There are no samples, one does not fit the model, the data has classes that the model has not, or 20
            labels and more do not fit what the float model answers (`edgeinfer.evaluate.label_doubt`): a drop between
            two models of which none is ever right would be no drop, whatever quantization cost.
        MetadataError: There are pictures, and the files do not say how to normalize.
        DamagedModelError: The engine refuses a file.
    """
    if not len(data):
        raise InputError("There is nothing to compare on.", received=f"no samples in {data.name}")
    pair = Runtime(original, threads=1), Runtime(quantized, threads=1)
    metadata = pair[0].metadata
    outputs = metadata.outputs
    one_row = len(outputs) == 1 and all(size == 1 for size in outputs[0].shape[:-1])
    if metadata.task == "classification" and (one_row or ranked_outputs(metadata)):
        return _compare_classes(pair, data, class_offset, progress)
    if data.truth is not None:
        raise InputError(
            "The data has labels, but the model does not say that it answers with classes.",
            received=", ".join(f"output `{spec.name}` {spec.shape}" for spec in outputs),
            expected="one output of shape (1, classes), or data without labels",
            next_step='Say `Card(task="classification")` (`--task classification`) if it is one.',
        )
    if metadata.task == "segmentation" and len(outputs) == 1:
        return _compare_pixels(pair, data, progress)
    return _compare_tensors(pair, data, progress)


def judge(comparison: Comparison, step: Verify) -> AccuracyDropError | None:
    """Return what a gate says of a comparison: an error that is ready to be raised, or None.

    Accuracy counts where the data has labels, agreement where it has none or the step asks for it, the error share
    where there are no classes.
    """
    if comparison.drop is not None and comparison.drop_interval is not None and comparison.drop > step.max_drop:
        low, high = comparison.drop_interval
        few = f" With {comparison.samples} samples the drop is not sure: take more." if low <= step.max_drop else ""
        return AccuracyDropError(
            "The converted model lost more accuracy than the recipe allows.",
            received=f"a drop of {100 * comparison.drop:.2f} points on {comparison.samples} samples "
            f"(95 % interval {100 * low:.2f} to {100 * high:.2f})",
            expected=f"at most {100 * step.max_drop:.2f} points",
            next_step=f'Try the scheme "int16x8", more calibration samples, or a higher `max_drop`.{few}',
        )
    if comparison.agreement is not None:
        needed = step.needed_agreement(labelled=comparison.drop is not None)
        if comparison.agreement >= needed:
            return None
        return AccuracyDropError(
            "The converted model answers differently from the float model too often.",
            received=f"agreement on {comparison.agreement:.2%} of {comparison.samples} samples",
            expected=f"at least {needed:.2%}",
            next_step="Check the calibration data. Where the accuracy is what counts: a lower `min_agreement`."
            if comparison.drop is not None
            else "Give labelled validation data to see what it costs, and check the calibration data.",
        )
    if comparison.error is None or comparison.error <= step.max_error:
        return None
    return AccuracyDropError(
        "The converted model's outputs are far from the float model's.",
        received=f"they differ by {comparison.error:.2%} of the float outputs, root mean square, "
        f"on {comparison.samples} samples",
        expected=f"at most {step.max_error:.2%}",
        next_step='Check the calibration data, or try the scheme "int16x8".',
    )


def cautions(comparison: Comparison, step: Verify) -> tuple[str, ...]:
    """Return what a gate cannot see with this data, one sentence each; empty where there is nothing to say.

    Args:
        comparison: What was measured.
        step: The gate.
    """
    said = [comparison.doubt] if comparison.doubt else []
    if comparison.drop_interval is not None and step.max_drop > 0:
        low, high = comparison.drop_interval
        width = high - low
        if width > step.max_drop:
            # An interval narrows with the square root of the samples; two digits are all that such a forecast is worth.
            wanted = comparison.samples * (width / step.max_drop) ** 2
            unit = 10 ** max(0, math.floor(math.log10(wanted)) - 1)
            said.append(
                f"{comparison.samples} labelled samples show the drop no more closely than {100 * low:.2f} to "
                f"{100 * high:.2f} points, wider than the {100 * step.max_drop:.2f} that may be lost: about "
                f"{math.ceil(wanted / unit) * unit:,} samples would do."
            )
    return tuple(said)


def _compare_classes(
    pair: tuple[Runtime, Runtime], data: Dataset, class_offset: int | None, progress: ProgressReport | None
) -> Comparison:
    labels, count = _known_classes(pair[0], data)
    truth = None
    if data.truth is not None:
        truth = match_classes(data, labels, count, class_offset=class_offset)
    models = _answering(pair[0], _classes(pair[0])), _answering(pair[1], _classes(pair[1]))
    rows = [(first.class_id, second.class_id) for first, second in _both(models, data, progress)]
    first, second = (np.stack(column) for column in zip(*rows, strict=True))
    same = int((first[:, 0] == second[:, 0]).sum())
    samples = len(data)
    scores: list[Evaluation] = []
    drop = interval = doubt = None
    if truth is not None:
        offset = None if matches_by_name(data, labels) else class_offset or 0
        doubt = label_doubt(first[:, 0], truth, count, name=data.name, class_offset=offset)
        if doubt is not None and samples >= FEWEST_SAMPLES:
            raise doubt
        scores = [
            score(answers, truth, count, model.timing()) for answers, model in zip((first, second), models, strict=True)
        ]
        right = first[:, 0] == truth, second[:, 0] == truth
        lost, won = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
        drop, interval = (lost - won) / samples, drop_interval(lost, won, samples)
    return Comparison(
        samples=samples,
        engine=f"{pair[0].engine.name} {pair[0].engine.version}",
        agreement=same / samples,
        agreement_interval=share_interval(same, samples),
        original=scores[0] if scores else None,
        quantized=scores[1] if scores else None,
        drop=drop,
        drop_interval=interval,
        error=None,
        original_latency=models[0].timing().invoke,
        quantized_latency=models[1].timing().invoke,
        doubt="" if doubt is None else f"{doubt.message} {doubt.received}. {doubt.next_step}",
    )


def _known_classes(runtime: Runtime, data: Dataset) -> tuple[tuple[str, ...], int]:
    """Return the names of the classes and how many there are."""
    ranked = ranked_outputs(runtime.metadata)
    if ranked is None:
        spec = runtime.outputs[0]
        return spec.labels, class_count(spec)
    # The best few do not show how many they were chosen from: without names the data has to say it.
    labels = runtime.outputs[ranked[1]].labels
    highest = -1 if data.truth is None or not len(data.truth) else int(np.max(data.truth))
    return labels, len(labels) or max(highest + 1, 2)


def _compare_pixels(pair: tuple[Runtime, Runtime], data: Dataset, progress: ProgressReport | None) -> Comparison:
    """Compare maps pixel by pixel: the share of the pixels on which both say the same class."""
    models = _answering(pair[0], _pixel_classes(pair[0])), _answering(pair[1], _pixel_classes(pair[1]))
    same = pixels = 0
    for first, second in _both(models, data, progress):
        same += int((first == second).sum())
        pixels += first.size
    return Comparison(
        samples=len(data),
        engine=f"{pair[0].engine.name} {pair[0].engine.version}",
        agreement=same / pixels,
        # Neighbouring pixels are no samples of their own, so there is no interval to be had from their number.
        agreement_interval=None,
        original=None,
        quantized=None,
        drop=None,
        drop_interval=None,
        error=None,
        original_latency=models[0].timing().invoke,
        quantized_latency=models[1].timing().invoke,
    )


def _pixel_classes(runtime: Runtime) -> Postprocess[NDArray[Any]]:
    """Return what makes class numbers of a map of scores, of one score, or of class numbers."""
    (spec,) = runtime.outputs
    half = 0.5 if spec.activation != "none" else 0.0

    def post(outputs: Tensors, view: View) -> NDArray[Any]:  # noqa: ARG001 - the map is compared as the model has it
        if spec.role == "classmap":
            return outputs.raw()
        if spec.shape[-1] == 1:
            return np.asarray(outputs[spec.name] > half)
        classes: NDArray[Any] = np.argmax(outputs.raw(), axis=-1)
        return classes

    return post


def _compare_tensors(pair: tuple[Runtime, Runtime], data: Dataset, progress: ProgressReport | None) -> Comparison:
    squares, power = 0.0, 0.0
    models = _answering(pair[0], _floats), _answering(pair[1], _floats)
    for first, second in _both(models, data, progress):
        for reference, other in zip(first, second, strict=True):
            squares += float(np.square(reference - other, dtype=np.float64).sum())
            power += float(np.square(reference, dtype=np.float64).sum())
    return Comparison(
        samples=len(data),
        engine=f"{pair[0].engine.name} {pair[0].engine.version}",
        agreement=None,
        agreement_interval=None,
        original=None,
        quantized=None,
        drop=None,
        drop_interval=None,
        error=float(np.sqrt(squares / power)) if power else float(np.sqrt(squares)),
        original_latency=models[0].timing().invoke,
        quantized_latency=models[1].timing().invoke,
    )


@dataclass(frozen=True, slots=True)
class _Answering(Generic[Result]):
    """One of the two files, ready to answer for a sample, and how long it took."""

    answer: Callable[[Any], Result]
    timing: Callable[[], Timing]


def _answering(runtime: Runtime, post: Postprocess[Result]) -> _Answering[Result]:
    if len(runtime.inputs) == 1:
        pipeline = Pipeline(runtime, pre=_preprocess(runtime.input), post=post)
        return _Answering(pipeline, lambda: pipeline.timing)
    stopwatch = Stopwatch()

    def answer(arrays: Sequence[NDArray[np.floating[Any]]]) -> Result:
        start = perf_counter_ns()
        for index, values in enumerate(arrays):
            runtime.set_input(values, index)
        pre = perf_counter_ns()
        runtime.invoke()
        invoke = perf_counter_ns()
        result = post(runtime.tensors, _NOWHERE)
        stopwatch.add((start, start, pre, invoke, perf_counter_ns()))
        return result

    return _Answering(answer, stopwatch.timing)


def _both(
    models: tuple[_Answering[Result], _Answering[Result]], data: Dataset, progress: ProgressReport | None
) -> Iterator[tuple[Result, Result]]:
    for number, source in enumerate(data, start=1):
        try:
            sample = _decoded(source)
            yield models[0].answer(sample), models[1].answer(sample)
        except InputError as error:
            raise error.named(f"`{sample_name(source, number - 1)}` of {data.name}") from error
        if progress:
            progress(Progress("verify", number, len(data)))


def _classes(runtime: Runtime) -> Postprocess[Classifications]:
    return classification_post(runtime.metadata)


def _floats(outputs: Tensors, view: View) -> list[NDArray[np.float32]]:  # noqa: ARG001 - tensors have no place either
    return list(outputs.values())


def _preprocess(spec: InputSpec) -> Preprocess:
    """Return what makes input of pictures, or what refuses them: samples that are floats need no preprocessing."""
    if not spec.is_image:
        return _no_picture
    try:
        return Preprocessor(spec)
    except MetadataError as error:
        problem = error

    def refuse(image: NDArray[np.uint8], out: NDArray[Any]) -> View:  # noqa: ARG001 - nothing can be done with them
        raise problem

    return refuse


def _no_picture(image: NDArray[np.uint8], out: NDArray[Any]) -> View:
    raise InputError(
        "The model's input is no picture.",
        received=f"a picture of shape {image.shape}",
        expected=f"floats of shape {out.shape}",
    )


def _decoded(source: Any) -> Any:
    # Both models get the same array: a picture is decoded once. Floats and tokens are the model's own input.
    own = isinstance(source, np.ndarray) and (source.dtype.kind == "f" or source.dtype in (np.int32, np.int64))
    return source if own or isinstance(source, tuple) else read_image(source)
