"""Post-training quantization: what the request refuses, what the samples become, what the files hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.errors import CalibrationError, ConversionError
from converters.facts import Loaded, ModelFacts, TensorFacts
from converters.graph.leading import Leading
from converters.quantize.frozen import Frozen, freeze
from converters.quantize.ptq import ConvertRequest, calibration_samples

PICTURE = TensorFacts("photo", (1, 2, 2, 1), "float32")


def frozen(*inputs: TensorFacts, leading: Leading | None = None) -> Frozen:
    return Frozen(None, inputs or (PICTURE,), (), leading)


def saved(folder: Path, array: Any, name: str = "samples.npy") -> Path:
    np.save(folder / name, array)
    return folder / name


def collect(model: Frozen, request: ConvertRequest) -> list[list[Any]]:
    count, samples = calibration_samples(model, request)
    batches = list(samples())
    assert len(batches) == count
    return batches


def test_integer_ends_go_with_int8_only() -> None:
    with pytest.raises(ConversionError, match='goes with the scheme "int8" only'):
        ConvertRequest(Path("x"), scheme="int16x8", io="int8", calibration=(Path("y"),))


def test_ranges_of_activations_go_with_int8_only() -> None:
    with pytest.raises(ConversionError, match="8-bit ranges"):
        ConvertRequest(Path("x"), scheme="float16", io="float32", ranges=(("stem", 0.0, 1.0),))


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConversionError) as caught:
        ConvertRequest(Path("x"), scheme="int4")  # type: ignore[arg-type]
    assert "int16x8" in caught.value.expected


def test_full_integer_without_calibration_is_refused() -> None:
    with pytest.raises(CalibrationError, match="needs calibration data"):
        ConvertRequest(Path("x"), scheme="int8")


def test_pixels_become_what_the_normalization_says(tmp_path: Path) -> None:
    array = np.array([0, 51, 102, 255], np.uint8).reshape(1, 2, 2, 1)
    request = ConvertRequest(Path("x"), calibration=(saved(tmp_path, array),), normalization=(127.5, 127.5))
    (sample,) = collect(frozen(leading=Leading(1 / 255, 0.0)), request)[0]
    # (pixel - 127.5) / 127.5 by hand; the folded rescaling is in the normalization already.
    assert sample.ravel() == pytest.approx([-1.0, -0.6, -0.2, 1.0])
    assert sample.dtype == np.float32
    assert sample.shape == (1, 2, 2, 1)


def test_floats_are_the_models_own_input_and_pass_the_rescaling_that_was_taken_off(tmp_path: Path) -> None:
    array = np.array([0.0, 127.5, 255.0, 51.0], np.float32).reshape(1, 2, 2, 1)
    request = ConvertRequest(Path("x"), calibration=(saved(tmp_path, array),))
    (sample,) = collect(frozen(leading=Leading(2 / 255, -1.0)), request)[0]
    assert sample.ravel() == pytest.approx([-1.0, 0.0, 1.0, -0.6])


def test_floats_go_in_as_they_are_where_nothing_was_taken_off(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 2, 2, 1)).astype(np.float32)
    batches = collect(frozen(), ConvertRequest(Path("x"), calibration=(saved(tmp_path, array),)))
    assert np.array_equal(np.concatenate([one for (one,) in batches]), array)


def test_integer_inputs_take_their_numbers_as_they_are(tmp_path: Path) -> None:
    tokens = TensorFacts("tokens", (1, 3), "int32")
    path = saved(tmp_path, np.array([[1, 2, 300]], np.int64))
    (sample,) = collect(frozen(tokens), ConvertRequest(Path("x"), calibration=(path,)))[0]
    assert sample.tolist() == [[1, 2, 300]]
    assert sample.dtype == np.int32


@pytest.mark.parametrize(
    ("array", "normalization", "match"),
    [
        (np.zeros((4, 3, 3, 1), np.float32), None, "does not fit the input `photo`"),
        (np.zeros((0, 2, 2, 1), np.float32), None, "does not fit the input `photo`"),
        (np.zeros((4, 2, 2, 1), np.uint8), None, "how to normalize"),
    ],
    ids=["wrong shape", "no samples", "pixels without normalization"],
)
def test_calibration_that_does_not_fit_is_refused(
    tmp_path: Path, array: Any, normalization: tuple[float, float] | None, match: str
) -> None:
    request = ConvertRequest(Path("x"), calibration=(saved(tmp_path, array),), normalization=normalization)
    with pytest.raises(CalibrationError, match=match):
        calibration_samples(frozen(), request)


def test_a_calibration_file_with_objects_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "objects.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CalibrationError, match="cannot be read"):
        calibration_samples(frozen(), ConvertRequest(Path("x"), calibration=(path,)))


def test_every_input_needs_its_own_file_of_the_same_length(tmp_path: Path) -> None:
    other = TensorFacts("numbers", (1, 4), "float32")
    first = saved(tmp_path, np.zeros((3, 2, 2, 1), np.float32))
    with pytest.raises(CalibrationError, match="its own calibration file"):
        calibration_samples(frozen(PICTURE, other), ConvertRequest(Path("x"), calibration=(first,)))
    second = saved(tmp_path, np.zeros((2, 4), np.float32), "second.npy")
    with pytest.raises(CalibrationError, match="differ in length"):
        calibration_samples(frozen(PICTURE, other), ConvertRequest(Path("x"), calibration=(first, second)))


@pytest.mark.tensorflow
def test_a_frozen_function_keeps_the_order_and_the_names_of_its_ends() -> None:
    def call(tensors: Sequence[Any]) -> list[Any]:
        return [tensors[1] * 2.0, tensors[0] + 1.0]

    inputs = (TensorFacts("zebra", (1, 2), "float32"), TensorFacts("ant/a b", (1, 3), "float32"))
    outputs = (TensorFacts("zeta", (-1, 3), "float32"), TensorFacts("zeta", (-1, 2), "float32"))
    result = freeze(Loaded(call, ModelFacts("m", "keras", inputs, outputs)))
    # A graph takes neither slashes at will nor blanks, and every name once.
    assert [one.name for one in result.inputs] == ["zebra", "ant_a_b"]
    assert [one.name for one in result.outputs] == ["zeta", "zeta_1"]
    assert [one.shape for one in result.outputs] == [(1, 3), (1, 2)]
    assert [one.name for one in result.function.inputs] == ["zebra:0", "ant_a_b:0"]
    assert [one.name for one in result.function.outputs] == ["zeta:0", "zeta_1:0"]
