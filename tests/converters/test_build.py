"""From a loaded model to a finished file. The converter's part is played by files made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import colours
import pytest
import tiny_models

from converters.build import Finer, Job, build_plain, build_quantized
from converters.card import Card
from converters.data import Calibration
from converters.errors import ConversionError
from converters.facts import ModelFacts, TensorFacts
from converters.graph.leading import Leading
from converters.quantize.ptq import ConvertFacts, ConvertRequest
from converters.recipe import Quantize, Recipe
from converters.targets import target
from edgeinfer.model.metadata import Normalization, Rescaling, read

pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")

FACTS = ModelFacts(
    "colours",
    "keras",
    (TensorFacts("image", (1, 8, 8, 3), "float32"),),
    (TensorFacts("answer", (1, 4), "float32"),),
    leading=Leading(1 / 127.5, -1.0, ("scale",)),
)
FLOAT = tiny_models.classifier(dtype="float32", input_range=(-1.0, 1.0))
INT8 = tiny_models.classifier(dtype="int8", input_range=(-1.0, 1.0))


class Child:
    """Answers as `ConverterProcess` does."""

    def __init__(self, tflite: bytes) -> None:
        self.tflite = tflite
        self.requests: list[ConvertRequest] = []

    def convert(self, request: ConvertRequest) -> ConvertFacts:
        self.requests.append(request)
        request.output.write_bytes(self.tflite)
        return ConvertFacts(request.output, len(self.tflite), 0, 0.0)


def job(folder: Path, quantize: Quantize | None = None, device: str = "cpu", *, pixels: bool = True) -> Job:
    calibration = Calibration((folder / "calibration-0.npy",), pixels, 20, "ab", 100.0, 60.0, 0.0, 255.0)
    recipe = Recipe((quantize or Quantize(),), target=device)
    return Job(Card(labels=colours.NAMES), recipe, target(device), calibration, folder)


def quantized(child: Child, given: Job, finer: Finer | None = None) -> Any:
    return build_quantized(child, FACTS, given, finer)  # type: ignore[arg-type]


def test_the_reference_is_float_and_says_what_the_model_says(tmp_path: Path) -> None:
    child = Child(FLOAT)
    built = build_plain(child, FACTS, job(tmp_path))  # type: ignore[arg-type]
    (request,) = child.requests
    assert (request.scheme, request.io, request.calibration, request.ranges) == ("float32", "float32", (), ())
    assert (built.step, built.gates) == ("float32", ())
    said = read(built.tflite)
    assert (said.name, said.task, said.outputs[0].labels) == ("colours", "classification", colours.NAMES)
    assert said.inputs[0].normalization == Normalization(127.5, 127.5)
    assert said.inputs[0].rescaling == Rescaling(1 / 127.5, -1.0)
    assert said == built.metadata


def test_the_file_is_what_was_asked_for_and_was_checked(tmp_path: Path) -> None:
    child = Child(INT8)
    built = quantized(child, job(tmp_path))
    (request,) = child.requests
    assert (request.scheme, request.io) == ("int8", "int8")
    assert request.calibration == (tmp_path / "calibration-0.npy",)
    # Pixels reach the graph behind the rescaling that was taken off.
    assert request.normalization == pytest.approx((127.5, 127.5))
    assert built.step == "int8"
    assert built.gates
    assert all(gate.ok for gate in built.gates)
    assert built.warnings == ()
    assert read(built.tflite) == built.metadata


def test_floats_need_no_normalization_on_their_way(tmp_path: Path) -> None:
    child = Child(INT8)
    quantized(child, job(tmp_path, pixels=False))
    assert child.requests[0].normalization is None


def test_ranges_and_layers_that_stay_float_reach_the_converter(tmp_path: Path) -> None:
    child = Child(INT8)
    quantized(child, job(tmp_path), Finer((("conv", -1.0, 2.0),), (("stem", "float32"),)))
    assert child.requests[0].ranges == (("conv", -1.0, 2.0),)
    assert child.requests[0].fallback == (("stem", "float32"),)


def test_a_file_with_float_ops_is_refused_unless_it_was_to_have_some(tmp_path: Path) -> None:
    with pytest.raises(ConversionError):
        quantized(Child(FLOAT), job(tmp_path))


def test_a_scheme_without_calibration_takes_none(tmp_path: Path) -> None:
    child = Child(FLOAT)
    quantized(child, job(tmp_path, Quantize("dynamic"), "raspberrypi-tflite"))
    assert (child.requests[0].calibration, child.requests[0].per_tensor_dense) == ((), True)
    quantized(child, job(tmp_path, Quantize("float16"), "raspberrypi-tflite"))
    assert child.requests[1].per_tensor_dense is False


def test_an_input_of_another_range_is_a_warning(tmp_path: Path) -> None:
    (warning,) = quantized(Child(tiny_models.classifier(input_range=(-8.0, 8.0))), job(tmp_path)).warnings
    assert "8.0 times wider" in warning


def test_a_file_that_says_how_it_was_made_is_else_the_same(tmp_path: Path) -> None:
    built = quantized(Child(INT8), job(tmp_path))
    telling = built.telling({"recipe": "r"})
    assert read(telling.tflite) == telling.metadata == replace(built.metadata, made={"recipe": "r"})
    assert (telling.step, telling.gates, telling.seconds) == (built.step, built.gates, built.seconds)
    # Told twice, it says the last word only.
    assert read(telling.telling({"recipe": "s"}).tflite).made == {"recipe": "s"}
    assert telling.telling({"recipe": "s"}).tflite == built.telling({"recipe": "s"}).tflite
