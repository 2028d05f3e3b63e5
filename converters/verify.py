"""The float model against the converted one, on the same data, in the device's own engine and pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.dataset import Dataset, match_classes
from edgeinfer.errors import InputError
from edgeinfer.evaluate import Evaluation, score
from edgeinfer.intervals import drop_interval, share_interval
from edgeinfer.pipeline import Pipeline, classifier
from edgeinfer.postprocess.classify import class_count
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.image import read_image
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.progress import Progress, ProgressReport
from edgeinfer.results import Classifications
from edgeinfer.runtime.runtime import Runtime, Tensors
from edgeinfer.timing import Latency, latency


@dataclass(frozen=True, slots=True)
class Comparison:
    """What quantization cost, on one data set.

    Attributes:
        samples: How many were compared.
        engine: Name and version; one thread.
        agreement: Share of samples on which both models answer the same class; None where there are no classes.
        agreement_interval: Wilson's 95 % interval of it.
        original: Accuracy of the float model; None where the data has no labels.
        quantized: Accuracy of the converted model, likewise.
        drop: `original.top1 - quantized.top1`, absolute, 0..1; None without labels.
        drop_interval: 95 % interval of the drop on the same samples (see `edgeinfer.intervals.drop_interval`).
        error: Root mean square of the outputs' difference over that of the float outputs; None for classes.
        original_latency: Of one invoke of the float file, milliseconds, one thread, interleaved with the other.
        quantized_latency: Of the converted file.
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

    def to_json(self) -> dict[str, object]:
        """Return the part of `edgeinfer-convert --json` that speaks of accuracy and latency."""
        return {
            "float": _accuracy_json(self.original),
            "quantized": _accuracy_json(self.quantized),
            "agreement": self.agreement,
            "agreement_interval95": self.agreement_interval,
            "drop": self.drop,
            "drop_interval95": self.drop_interval,
            "error": self.error,
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
    class_offset: int = 0,
    progress: ProgressReport | None = None,
) -> Comparison:
    """Run two files over the same samples and compare their answers.

    Args:
        original: The float model as a `.tflite` file, with its metadata.
        quantized: The converted one, with its metadata.
        data: Pictures, or floats of the model's own input. With labels the accuracy is compared, without them the
            agreement.
        class_offset: See `edgeinfer.dataset.match_classes`.
        progress: Called after every sample.

    Raises:
        InputError: There are no samples, or one does not fit the model.
        DamagedModelError: The engine refuses a file.
    """
    if not len(data):
        raise InputError("There is nothing to compare on.", received=f"no samples in {data.name}")
    pair = Runtime(original, threads=1), Runtime(quantized, threads=1)
    if pair[0].metadata.task == "classification":
        return _compare_classes(pair, data, class_offset, progress)
    return _compare_tensors(pair, data, progress)


def _compare_classes(
    pair: tuple[Runtime, Runtime], data: Dataset, class_offset: int, progress: ProgressReport | None
) -> Comparison:
    pipelines = classifier(pair[0]), classifier(pair[1])
    found = _both(pipelines, data, progress)
    first, second = (np.stack([answer.class_id for answer in answers]) for answers in found)
    same = int((first[:, 0] == second[:, 0]).sum())
    samples = len(data)
    scores: list[Evaluation] = []
    drop = interval = None
    if data.truth is not None:
        spec = pair[0].outputs[0]
        truth = match_classes(data, spec.labels, class_count(spec), class_offset=class_offset)
        scores = [
            score(answers, truth, class_count(spec), pipeline.timing)
            for answers, pipeline in zip((first, second), pipelines, strict=True)
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
        original_latency=pipelines[0].timing.invoke,
        quantized_latency=pipelines[1].timing.invoke,
    )


def _both(
    pipelines: tuple[Pipeline[Classifications], Pipeline[Classifications]],
    data: Dataset,
    progress: ProgressReport | None,
) -> tuple[list[Classifications], list[Classifications]]:
    found: tuple[list[Classifications], list[Classifications]] = ([], [])
    for number, source in enumerate(data, start=1):
        sample = _decoded(source)
        for pipeline, answers in zip(pipelines, found, strict=True):
            answers.append(pipeline(sample))
        if progress:
            progress(Progress("verify", number, len(data)))
    return found


def _compare_tensors(pair: tuple[Runtime, Runtime], data: Dataset, progress: ProgressReport | None) -> Comparison:
    squares, power = 0.0, 0.0
    pipelines = [_raw_pipeline(runtime) for runtime in pair] if len(pair[0].inputs) == 1 else None
    times: tuple[list[int], list[int]] = ([], [])
    for number, source in enumerate(data, start=1):
        if pipelines is None:
            first, second = (_timed(runtime, source, series) for runtime, series in zip(pair, times, strict=True))
        else:
            sample = _decoded(source)
            first, second = (pipeline(sample) for pipeline in pipelines)
        for reference, other in zip(first, second, strict=True):
            squares += float(np.square(reference - other, dtype=np.float64).sum())
            power += float(np.square(reference, dtype=np.float64).sum())
        if progress:
            progress(Progress("verify", number, len(data)))
    latencies = [pipeline.timing.invoke for pipeline in pipelines] if pipelines else [latency(one) for one in times]
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
        original_latency=latencies[0],
        quantized_latency=latencies[1],
    )


def _timed(
    runtime: Runtime, arrays: Sequence[NDArray[np.floating[Any]]], series: list[int]
) -> list[NDArray[np.float32]]:
    start = perf_counter_ns()
    outputs = list(runtime(*arrays).values())
    series.append(perf_counter_ns() - start)
    return outputs


def _raw_pipeline(runtime: Runtime) -> Pipeline[list[NDArray[np.float32]]]:
    def outputs(tensors: Tensors, view: View) -> list[NDArray[np.float32]]:  # noqa: ARG001 - tensors have no place
        return list(tensors.values())

    if runtime.input.is_image:
        return Pipeline(runtime, pre=Preprocessor(runtime.input), post=outputs)
    return Pipeline(runtime, pre=_no_picture, post=outputs)


def _no_picture(image: NDArray[np.uint8], out: NDArray[Any]) -> View:
    raise InputError(
        "The model's input is no picture.",
        received=f"a picture of shape {image.shape}",
        expected=f"floats of shape {out.shape}",
    )


def _decoded(source: Any) -> Any:
    # Both pipelines get the same array: a picture is decoded once.
    if isinstance(source, np.ndarray) and source.dtype.kind == "f":
        return source
    return read_image(source)
