"""Regression values, depth maps and pictures out of stored numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from echo import Recorder, answers, metadata, output

from edgeinfer.errors import InputError, ModelError, WrongTaskError
from edgeinfer.model.metadata import OutputSpec, Resize
from edgeinfer.postprocess.values import depth_map, picture, values
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import View, place

pytestmark = pytest.mark.device

SAME = place(Resize(), (2, 2), (2, 2)).view


# --- regression -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 1), (1,)), ((1, 4), (4,)), ((1, 2, 2), (2, 2)), ((4,), (4,)), ((1,), (1,))]
)
def test_values_keep_their_shape_without_the_batch(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    numbers = np.arange(1, 1 + math.prod(shape), dtype=np.float32)
    found = values(answers((output("angle", shape), numbers)), SAME)
    assert found.shape == expected
    assert found.reshape(-1).tolist() == numbers.tolist()


def test_values_are_dequantized() -> None:
    found = values(answers((output("angle", (1, 2), "int8", (0.25, 10)), np.array([10, 14], np.int8))), SAME)
    assert found.dtype == np.float32
    assert found.tolist() == [0.0, 1.0]


def test_values_are_the_callers_own() -> None:
    model = Recorder(output("angle", (1, 1)))
    first = values(model.answer(np.array([1], np.float32)), SAME)
    values(model.answer(np.array([2], np.float32)), SAME)
    assert first.tolist() == [1]


def test_several_outputs_have_no_first_one() -> None:
    outputs = answers(
        (output("angle", (1, 1)), np.ones(1, np.float32)), (output("speed", (1, 1)), np.ones(1, np.float32))
    )
    with pytest.raises(WrongTaskError, match="several outputs") as caught:
        values(outputs, SAME)
    assert "`angle` (1, 1) float32, output `speed` (1, 1) float32" in caught.value.received


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_an_error(wrong: float) -> None:
    with pytest.raises(ModelError, match="not a number in `angle`"):
        values(answers((output("angle", (1, 2)), np.array([1, wrong], np.float32))), SAME)


# --- depth ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 2, 2, 1)])
def test_depth_is_spread_over_the_picture(shape: tuple[int, ...]) -> None:
    spec = output("depth", shape)
    outputs = answers((spec, np.array([0, 4, 8, 12], np.float32)))
    found = depth_map(metadata(spec))(outputs, place(Resize(), (4, 4), (2, 2)).view)
    # Centres at 1/4, 3/4, 5/4 and 7/4 cells: a quarter of the way, and the outermost centres' values beyond them.
    assert found.tolist() == [[0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]]
    assert found.dtype == np.float32


def test_depth_is_dequantized_and_its_bars_are_cut_away() -> None:
    spec = output("depth", (1, 4, 4), "uint8", (0.5, 100))
    stored = np.full((4, 4), 255, np.uint8)
    stored[1:3] = 104
    found = depth_map(metadata(spec))(answers((spec, stored)), place(Resize("letterbox"), (16, 8), (4, 4)).view)
    assert found.shape == (8, 16)
    assert np.unique(found).tolist() == [2.0]


def test_a_depth_that_is_no_number_is_an_error() -> None:
    spec = output("depth", (1, 2, 2))
    with pytest.raises(ModelError, match="not a number in `depth`"):
        depth_map(metadata(spec))(answers((spec, np.array([0, np.nan, 1, 1], np.float32))), SAME)


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 4, 3), (2, 4, 4), (1, 4, 4, 1, 1)])
def test_what_is_no_map_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WrongTaskError, match="no map") as caught:
        depth_map(metadata(output("depth", shape)))
    assert f"`depth` {shape} float32" in caught.value.received


def test_an_output_is_taken_by_name() -> None:
    depth, other = output("depth", (1, 2, 2)), output("other", (1, 2, 2))
    outputs = answers((other, np.zeros(4, np.float32)), (depth, np.ones(4, np.float32)))
    assert depth_map(metadata(other, depth), output="depth")(outputs, SAME).all()


@pytest.mark.parametrize("name", [None, "depht"])
def test_an_output_that_is_not_there_is_refused(name: str | None) -> None:
    outputs = output("depth", (1, 2, 2)), output("other", (1, 2, 2))
    with pytest.raises(WrongTaskError) as caught:
        depth_map(metadata(*outputs), output=name)
    assert "`depth` (1, 2, 2) float32, output `other` (1, 2, 2) float32" in caught.value.received


# --- pictures -------------------------------------------------------------------------------------


def shown(spec: OutputSpec, stored: np.ndarray, span: tuple[float, float], view: View = SAME) -> np.ndarray:
    return picture(metadata(spec), pixel_range=span)(answers((spec, stored)), view)


@pytest.mark.parametrize(
    ("span", "numbers"), [((0, 1), [0, 0.2, 1]), ((0, 255), [0, 51, 255]), ((-1, 1), [-1, -0.6, 1])], ids=str
)
def test_the_range_says_what_black_and_white_mean(span: tuple[float, float], numbers: list[float]) -> None:
    found = shown(output("large", (1, 2, 2, 3)), np.tile(np.array(numbers, np.float32), 4), span)
    assert found.dtype == np.uint8
    assert found.shape == (2, 2, 3)
    assert found[0, 0].tolist() == [0, 51, 255]


def test_values_beyond_the_range_become_black_or_white() -> None:
    found = shown(output("large", (1, 2, 2, 3)), np.tile(np.array([-9, 0.5, 9], np.float32), 4), (0, 1))
    assert found[1, 1].tolist() == [0, 128, 255]  # 127.5, away from zero


@pytest.mark.parametrize("opencv", [True, False], ids=["as installed", "without OpenCV"])
@pytest.mark.parametrize(("dtype", "zero_point"), [("uint8", 0), ("int8", -128)])
def test_stored_bytes_go_through_a_table(
    dtype: str, zero_point: int, opencv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not opencv:
        monkeypatch.setattr(libraries, "opencv", lambda: None)
    stored = (np.arange(12 * 16 * 4) % 256 + zero_point).astype(dtype)
    view = place(Resize(), (16, 16), (16, 16)).view
    found = shown(output("large", (1, 16, 16, 3), dtype, (1 / 255, zero_point)), stored, (0, 1), view)
    assert found.reshape(-1).tolist() == (np.arange(768) % 256).tolist()


def test_wider_integers_are_dequantized() -> None:
    found = shown(output("large", (1, 2, 2, 3), "int16", (1 / 32767, 0)), np.full(12, 32767, np.int16), (0, 1))
    assert np.unique(found).tolist() == [255]


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_grey_becomes_three_channels(dtype: str) -> None:
    quantization = (0.0, 0) if dtype == "float32" else (1.0, 0)
    found = shown(output("large", (1, 2, 2, 1), dtype, quantization), np.array([1, 2, 3, 4], dtype), (0, 255))
    assert found[:, :, 0].tolist() == [[1, 2], [3, 4]]
    assert (found == found[:, :, :1]).all()


def test_a_picture_twice_as_large_loses_its_bars() -> None:
    stored = np.zeros((8, 8, 3), np.uint8)
    stored[2:6] = 200
    view = place(Resize("letterbox"), (40, 20), (4, 4)).view  # rows 1 to 3 of the input, 2 to 6 of the output
    found = shown(output("large", (1, 8, 8, 3), "uint8", (1.0, 0)), stored, (0, 255), view)
    assert found.shape == (4, 8, 3)
    assert (found == 200).all()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_picture_is_the_callers_own(dtype: str) -> None:
    spec = output("large", (1, 2, 2, 3), dtype, (0.0, 0) if dtype == "float32" else (1.0, 0))
    model, post = Recorder(spec), picture(metadata(spec), pixel_range=(0, 255))
    first = post(model.answer(np.full(12, 7, dtype)), SAME)
    post(model.answer(np.full(12, 9, dtype)), SAME)
    assert (first == 7).all()


def test_a_pixel_that_is_no_number_is_an_error_and_does_not_block_the_model() -> None:
    spec = output("large", (1, 2, 2, 3))
    model, post = Recorder(spec), picture(metadata(spec), pixel_range=(0, 1))
    with pytest.raises(ModelError, match="not a number in `large`") as kept:
        post(model.answer(np.full(12, np.nan, np.float32)), SAME)
    assert (post(model.answer(np.ones(12, np.float32)), SAME) == 255).all(), kept


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 4), (1, 4, 4, 2), (2, 4, 4, 3)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WrongTaskError, match="no picture"):
        picture(metadata(output("large", shape)), pixel_range=(0, 1))


@pytest.mark.parametrize("span", [(1, 1), (1, 0), (0, math.inf), (math.nan, 1)], ids=str)
def test_a_range_without_extent_is_an_error(span: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="pixel_range"):
        picture(metadata(output("large", (1, 4, 4, 3))), pixel_range=span)
