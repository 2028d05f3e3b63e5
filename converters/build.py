"""From the model that the child process has loaded to a finished file: converted, checked, with its metadata."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from converters.card import Card
from converters.contract import describe, own_inputs, tensor_normalization
from converters.data import Calibration
from converters.facts import ModelFacts
from converters.file_check import FileCheck
from converters.metadata import write
from converters.quantize.ptq import ConvertRequest
from converters.recipe import Quantize, Recipe
from converters.target_check import judged
from converters.targets import CALIBRATED_SCHEMES, Target
from converters.tflite.gates import GateResult, check_file, check_input_range, quantized_inputs
from converters.tflite.process import ConverterProcess
from edgeinfer.model.metadata import ModelMetadata

__all__ = ["Built", "Job", "build_plain", "build_quantized"]

Ranges = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What all the files of one conversion are made by.

    Attributes:
        card: What the files say of themselves.
        recipe: The whole of it.
        target: What they are for.
        calibration: Samples on disk, or None for a scheme that needs none.
        folder: For the converter's output.
    """

    card: Card
    recipe: Recipe
    target: Target
    calibration: Calibration | None
    folder: Path


@dataclass(frozen=True, slots=True)
class Built:
    """A finished file.

    Attributes:
        step: Its scheme.
        tflite: The bytes, metadata included.
        metadata: What they say of themselves.
        seconds: That the converter took.
        gates: What the file satisfies.
        warnings: Sentences for the report.
        check: Where its ops run on the target; None for the float reference, which is for this machine.
        replaced: What stands in the place of layers that the target lacks, one sentence a layer.
    """

    step: str
    tflite: bytes
    metadata: ModelMetadata
    seconds: float
    gates: tuple[GateResult, ...] = ()
    warnings: tuple[str, ...] = ()
    check: FileCheck | None = None
    replaced: tuple[str, ...] = ()

    def telling(self, made: Mapping[str, object]) -> Built:
        """Return the same file, which says of itself how it was made."""
        metadata = replace(self.metadata, made=made)
        return replace(self, metadata=metadata, tflite=write(self.tflite, metadata))


def build_plain(process: ConverterProcess, facts: ModelFacts, job: Job) -> Built:
    """Return the loaded model as a float32 file: the reference that quantization is measured against."""
    step = job.recipe.quantize
    request = ConvertRequest(
        output=job.folder / "float32.tflite", scheme="float32", io="float32", ending=step.ending, top_k=step.top_k
    )
    tflite, seconds, _ = _convert(process, request)
    metadata = describe(tflite, facts, job.card, {}, step.ending)
    return Built("float32", write(tflite, metadata), metadata, seconds)


@dataclass(frozen=True, slots=True)
class Finer:
    """What a quantization may be told beside the calibration samples.

    Attributes:
        ranges: Of activations, by layer name: (layer, low, high).
        fallback: Layers that stay more precise: (pattern, scheme).
    """

    ranges: Ranges = ()
    fallback: tuple[tuple[str, str], ...] = field(default=())


def build_quantized(process: ConverterProcess, facts: ModelFacts, job: Job, finer: Finer | None = None) -> Built:
    """Return the loaded model as the recipe quantizes it.

    Raises:
        ConversionError: The converter cannot do it, or its result is not what was asked for.
        UnsupportedOpError: An op that the target cannot run, or a layer that cannot be replaced for it.
    """
    quantize = job.recipe.quantize
    finer = finer or Finer()
    tflite, seconds, replaced = _convert(process, _request(job, facts, quantize, finer))
    gates = check_file(
        tflite,
        scheme=quantize.scheme,
        io=quantize.ends(job.target.io),
        target=job.target,
        mixed=bool(finer.fallback),
    )
    metadata = describe(tflite, facts, job.card, {}, quantize.ending)
    warnings: list[str] = []
    if quantize.scheme in CALIBRATED_SCHEMES:
        for spec, stored in zip(metadata.inputs, quantized_inputs(tflite), strict=True):
            if spec.normalization is not None:
                warnings += check_input_range(stored, declared=spec.normalization.range)
    finished = write(tflite, metadata)
    checked = judged(finished, facts, job.target)
    return Built(quantize.scheme, finished, metadata, seconds, gates, tuple(warnings), checked, replaced)


def _convert(process: ConverterProcess, request: ConvertRequest) -> tuple[bytes, float, tuple[str, ...]]:
    started = time.perf_counter()
    made = process.convert(request)
    return request.output.read_bytes(), time.perf_counter() - started, made.replaced


def _request(job: Job, facts: ModelFacts, quantize: Quantize, finer: Finer) -> ConvertRequest:
    own = own_inputs(facts, job.card)[0]
    normalization = tensor_normalization(own.normalization, facts.leading)
    calibration = job.calibration
    pixels = calibration is not None and calibration.pixels
    return ConvertRequest(
        output=job.folder / "quantized.tflite",
        scheme=quantize.scheme,
        io=quantize.ends(job.target.io),
        calibration=calibration.files if calibration is not None and quantize.scheme in CALIBRATED_SCHEMES else (),
        normalization=(normalization.mean, normalization.std) if pixels and normalization else None,
        per_tensor_dense=job.target.per_tensor_dense and quantize.scheme == "dynamic",
        ranges=finer.ranges,
        fallback=finer.fallback,
        ending=quantize.ending,
        top_k=quantize.top_k,
        substitute_for=job.target.name if job.target.replaces_layers else "",
    )
