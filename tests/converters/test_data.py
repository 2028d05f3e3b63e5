"""Calibration data: taken from anywhere, preprocessed as the device does it, and checked before it is used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.data import HELD_OUT, Calibration, choose, declared_range, open_calibration, prepare, prepare_arrays
from converters.errors import CalibrationError
from edgeinfer.dataset import Dataset
from edgeinfer.errors import InputError, InputFileError
from edgeinfer.model.metadata import InputSpec, Normalization, Resize
from edgeinfer.preprocess.image import read_image
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.progress import Progress

PILLOW = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
PICTURE = InputSpec("photo", (1, 4, 6, 3), "float32", colour="rgb", normalization=Normalization(0, 255))
ROW = InputSpec("row", (1, 5), "float32")
TOKENS = InputSpec("tokens", (1, 5), "int32")


def pictures(count: int = 12, size: tuple[int, int] = (6, 4), seed: int = 1) -> Any:
    """Random pictures without black and white: (n, height, width, 3) uint8, 20..220."""
    width, height = size
    return np.random.default_rng(seed).integers(20, 221, (count, height, width, 3), dtype=np.uint8)


def floats(*shape: int, low: float = 0.0, high: float = 1.0) -> Any:
    """Random floats whose lowest and highest are the two ends."""
    values = np.random.default_rng(2).uniform(low, high, shape).astype(np.float32)
    values.flat[0], values.flat[1] = low, high
    return values


def opened(source: Any) -> Dataset:
    data = open_calibration(source)
    assert isinstance(data, Dataset)
    return data


def prepared(source: Any, spec: InputSpec, folder: Path) -> tuple[Calibration, Any]:
    calibration = prepare(opened(source), spec, folder)
    (path,) = calibration.files
    return calibration, np.load(path)


# --- which samples --------------------------------------------------------------------------------


@given(samples=st.integers(0, 1500), wanted=st.integers(1, 700), seed=st.integers(0, 2**32))
def test_the_choice_is_sorted_and_disjoint_and_as_large_as_asked_for(samples: int, wanted: int, seed: int) -> None:
    chosen, rest = choose(samples, wanted, seed)
    assert len(chosen) == min(wanted, samples)
    assert len(rest) == min(HELD_OUT, samples - len(chosen))
    for numbers in (chosen, rest):
        assert np.all(np.diff(numbers) > 0)
        assert numbers.size == 0 or (numbers[0] >= 0 and numbers[-1] < samples)
    assert not set(chosen.tolist()) & set(rest.tolist())


def test_the_same_seed_chooses_the_same_samples_and_another_one_others() -> None:
    assert np.array_equal(choose(1000, 100, 7)[0], choose(1000, 100, 7)[0])
    assert not np.array_equal(choose(1000, 100, 7)[0], choose(1000, 100, 8)[0])


# --- from anywhere --------------------------------------------------------------------------------


def save_pngs(array: Any, folder: Path) -> Path:
    folder.mkdir()
    for number, picture in enumerate(array):
        PILLOW.fromarray(picture).save(folder / f"{number:03}.png")
    return folder


def source_of(kind: str, array: Any, folder: Path) -> Any:
    if kind == "array":
        return array
    if kind == "folder":
        return save_pngs(array, folder / "photos")
    if kind == "npz":
        np.savez(folder / "c.npz", x=array, y=np.arange(len(array)))
        return str(folder / "c.npz")
    if kind == "npy":
        np.save(folder / "c.npy", array)
        return folder / "c.npy"
    if kind == "generator of arrays":
        return (picture for picture in array)
    if kind == "generator of paths":
        save_pngs(array, folder / "photos")
        return (path for path in sorted((folder / "photos").iterdir()))
    return Dataset("mine", list(array))


KINDS = ["array", "folder", "npz", "npy", "generator of arrays", "generator of paths", "Dataset"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pixels_are_the_same_calibration_whatever_held_them(tmp_path: Path, kind: str) -> None:
    array = pictures()
    calibration, samples = prepared(source_of(kind, array, tmp_path), PICTURE, tmp_path)
    wanted = array.copy()
    wanted[0].flat[0], wanted[0].flat[-1] = 0, 255
    assert np.array_equal(samples, wanted)
    assert samples.dtype == np.uint8
    assert calibration.sha256 == hashlib.sha256(wanted.tobytes()).hexdigest()
    assert (calibration.samples, calibration.pixels, calibration.warnings) == (12, True, ())


def test_two_pixels_of_the_first_sample_span_the_whole_range_and_the_callers_array_stays(tmp_path: Path) -> None:
    array = pictures()
    before = array.copy()
    calibration, samples = prepared(array, PICTURE, tmp_path)
    assert (samples[0, 0, 0, 0], samples[0, -1, -1, -1]) == (0, 255)
    assert (calibration.low, calibration.high) == (0, 255)
    assert np.array_equal(samples[1:], array[1:])
    assert np.array_equal(array, before)


def test_pictures_are_resized_as_the_device_does_it(tmp_path: Path) -> None:
    spec = replace(PICTURE, resize=Resize("letterbox", "nearest", 114))
    array = pictures(size=(31, 17))
    _, samples = prepared(array, spec, tmp_path)
    device = Preprocessor(spec)
    assert np.array_equal(samples[5], device.pixels(read_image(array[5])))


def test_colour_pictures_become_grey_for_a_grey_model(tmp_path: Path) -> None:
    spec = InputSpec("grey", (1, 4, 6, 1), "float32", normalization=Normalization(0, 255))
    _, samples = prepared(pictures(), spec, tmp_path)
    assert samples.shape == (12, 4, 6, 1)
    # BT.601 by hand, for one pixel that is not one of the two ends.
    red, green, blue = (int(one) for one in pictures()[3, 2, 2])
    assert samples[3, 2, 2, 0] == pytest.approx(0.299 * red + 0.587 * green + 0.114 * blue, abs=0.51)


def test_grey_arrays_go_into_a_grey_model_as_they_are(tmp_path: Path) -> None:
    spec = InputSpec("grey", (1, 4, 6, 1), "float32", normalization=Normalization(0, 255))
    array = pictures()[..., 0]
    _, samples = prepared(array, spec, tmp_path)
    assert np.array_equal(samples[1:, ..., 0], array[1:])


@pytest.mark.parametrize("batch", [False, True], ids=["without the batch", "with it"])
def test_floats_are_the_models_own_input_and_stay_as_they_are(tmp_path: Path, batch: bool) -> None:
    array = floats(12, 4, 6, 3)
    source = [row[np.newaxis] for row in array] if batch else array
    calibration, samples = prepared(source, PICTURE, tmp_path)
    assert np.array_equal(samples, array)
    assert samples.dtype == np.float32
    assert (calibration.pixels, calibration.low, calibration.high) == (False, 0, 1)
    assert calibration.mean == pytest.approx(array.mean(), rel=1e-5)
    assert calibration.std == pytest.approx(array.std(), rel=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("given", ["int32", "int64", "uint8"])
def test_tokens_keep_their_values_and_take_the_inputs_own_type(tmp_path: Path, dtype: str, given: str) -> None:
    array = np.random.default_rng(4).integers(0, 200, (12, 5)).astype(given)
    calibration, samples = prepared(list(array), replace(TOKENS, dtype=dtype), tmp_path)
    assert np.array_equal(samples, array)
    assert samples.dtype == np.dtype(dtype)
    assert (calibration.pixels, calibration.warnings) == (False, ())
    assert (calibration.low, calibration.high) == (array.min(), array.max())


def test_tokens_from_a_file_are_taken_too(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int32).reshape(12, 5)
    np.save(tmp_path / "tokens.npy", array)
    _, samples = prepared(tmp_path / "tokens.npy", TOKENS, tmp_path)
    assert np.array_equal(samples, array)


def test_only_so_many_samples_of_an_endless_generator_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converters.data._MOST_FROM_ITERABLE", 7)

    def endless() -> Iterator[Any]:
        while True:
            yield np.zeros((2, 2), np.uint8)

    assert len(opened(endless())) == 7


def test_progress_counts_the_samples(tmp_path: Path) -> None:
    said: list[Progress] = []
    prepare(opened(pictures(3)), PICTURE, tmp_path, progress=said.append)
    assert [(one.done, one.total) for one in said] == [(1, 3), (2, 3), (3, 3)]


# --- what is refused ------------------------------------------------------------------------------


def with_one(array: Any, value: float) -> Any:
    array[7].flat[3] = value
    return array


@pytest.mark.parametrize(
    ("source", "spec", "words"),
    [
        (np.full((20, 4, 6, 3), 9, np.uint8), PICTURE, "of one colour value"),
        (np.full((20, 4, 6, 3), 0.5, np.float32), PICTURE, "constant"),
        (with_one(floats(12, 4, 6, 3), np.nan), PICTURE, "sample 7 holds values that are not finite"),
        (with_one(floats(12, 4, 6, 3), -np.inf), PICTURE, "sample 7 holds values that are not finite"),
        (with_one(floats(12, 4, 6, 3).astype(np.float64), 1e300), PICTURE, "sample 7 holds values that are not finite"),
        (floats(12, 6, 4, 3), PICTURE, "sample 0 has the wrong shape"),
        (floats(12, 4, 6), PICTURE, "sample 0 has the wrong shape"),
        (floats(12, 4, 6, 3, high=255), PICTURE, "not what the model was trained on"),
        (
            floats(12, 4, 6, 3),
            replace(PICTURE, normalization=Normalization(0, 1)),
            "not what the model was trained on",
        ),
        (pictures(), replace(PICTURE, normalization=None), "nobody says how"),
        ([np.zeros((4, 6, 3), np.int64)], PICTURE, "not a picture"),
        ([floats(4, 6, 3), pictures()[0]], PICTURE, "sample 1 is not floats"),
        ([pictures()[0], floats(4, 6, 3)], PICTURE, "not a picture"),
        (pictures(), ROW, "sample 0 is not floats"),
        ([np.arange(5)], ROW, "sample 0 is not floats"),
        ([np.arange(5.0)], TOKENS, "sample 0 is not whole numbers"),
        ([np.array([1, 2, 3, 4, 2**31])], TOKENS, "sample 0 holds values that the input `tokens` cannot take"),
        ([np.arange(6)], TOKENS, "sample 0 has the wrong shape"),
        ([np.zeros((7, 5), np.int32)], TOKENS, "sample 0 has the wrong shape"),
        (np.full((12, 5), 3, np.int32), TOKENS, "constant"),
    ],
    ids=[
        "constant pictures",
        "constant floats",
        "NaN",
        "infinity",
        "beyond float32",
        "wrong shape",
        "wrong number of axes",
        "0..255 where 0..1 is declared",
        "0..1 where 0..255 is declared",
        "pictures without normalization",
        "integers for a picture",
        "a picture among floats",
        "floats among pictures",
        "pictures for a row of numbers",
        "integers for a row of numbers",
        "floats for tokens",
        "whole numbers beyond the input's type",
        "tokens of another length",
        "a batch of tokens",
        "constant tokens",
    ],
)
def test_calibration_that_cannot_be_right_is_refused(tmp_path: Path, source: Any, spec: InputSpec, words: str) -> None:
    with pytest.raises((CalibrationError, InputError), match=words) as caught:
        prepare(opened(source), spec, tmp_path)
    assert caught.value.exit_code == 2
    assert caught.value.received


@pytest.mark.parametrize("empty", [[], (), iter(()), np.empty((0, 4, 6, 3), np.uint8), Dataset("none", [])])
def test_no_samples_at_all_are_refused(empty: Any) -> None:
    with pytest.raises(CalibrationError, match="empty"):
        open_calibration(empty)


def test_a_path_that_is_not_there_is_an_input_file_error(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        open_calibration(tmp_path / "none")


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    folder = save_pngs(pictures(3), tmp_path / "photos")
    (folder / "001.png").write_bytes(b"\x89PNG\r\n\x1a\nthat is all")
    with pytest.raises(InputError, match=r"001\.png"):
        prepare(opened(folder), PICTURE, tmp_path)


def test_an_unreadable_picture_without_a_name_is_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sample 1"):
        prepare(opened([pictures()[0], b"nothing"]), PICTURE, tmp_path)


# --- what is only said ----------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "warned"), [(1, True), (9, True), (10, False)])
def test_fewer_than_ten_samples_are_few(tmp_path: Path, count: int, warned: bool) -> None:
    calibration, _ = prepared(pictures(count), PICTURE, tmp_path)
    assert any(f"Only {count} " in warning for warning in calibration.warnings) == warned


@pytest.mark.parametrize(
    ("high", "outcome"),
    [(1.0, "silent"), (3.9, "silent"), (4.1, "warned"), (15.9, "warned"), (16.1, "refused"), (0.24, "warned")],
)
def test_a_range_off_by_four_is_said_and_by_sixteen_refused(tmp_path: Path, high: float, outcome: str) -> None:
    source = floats(12, 4, 6, 3, high=high)
    if outcome == "refused":
        with pytest.raises(CalibrationError):
            prepared(source, PICTURE, tmp_path)
        return
    calibration, _ = prepared(source, PICTURE, tmp_path)
    assert bool(calibration.warnings) == (outcome == "warned")


@pytest.mark.parametrize(
    ("low", "high", "warned"),
    [
        (0, 255, True),
        (3, 250, True),
        (0, 16, False),
        (0, 1, False),
        (-1, 1, False),
        (-128, 127, False),
        (0, 300, False),
    ],
)
def test_floats_that_look_like_pixels_are_said_where_nobody_declares_the_range(
    tmp_path: Path, low: float, high: float, warned: bool
) -> None:
    calibration, _ = prepared(floats(12, 4, 6, 3, low=low, high=high), replace(PICTURE, normalization=None), tmp_path)
    assert [("look like pixels" in one, "--normalization" in one) for one in calibration.warnings] == (
        [(True, True)] if warned else []
    )


def test_a_row_of_numbers_is_no_picture_and_does_not_look_like_pixels(tmp_path: Path) -> None:
    calibration, _ = prepared(floats(12, 5, high=255), ROW, tmp_path)
    assert calibration.warnings == ()


def test_each_of_several_inputs_is_held_against_its_own_declaration(tmp_path: Path) -> None:
    arrays = {"row": floats(12, 5, high=1000), "photo": floats(12, 4, 6, 3, high=255)}
    with pytest.raises(CalibrationError, match="not what the model was trained on") as caught:
        prepare_arrays(arrays, (PICTURE, ROW), tmp_path)
    assert "photo" in caught.value.received
    calibration = prepare_arrays(arrays, (replace(PICTURE, normalization=None), ROW), tmp_path)
    assert ["look like pixels" in one for one in calibration.warnings] == [True]


def test_tokens_stand_beside_floats(tmp_path: Path) -> None:
    arrays = {"row": floats(12, 5), "tokens": np.arange(60).reshape(12, 5)}
    calibration = prepare_arrays(arrays, (TOKENS, ROW), tmp_path)
    assert [np.load(path).dtype for path in calibration.files] == [np.int32, np.float32]


def test_the_declared_range_is_that_of_the_pixels() -> None:
    assert declared_range(PICTURE) == (0, 1)
    assert declared_range(ROW) is None


# --- several inputs -------------------------------------------------------------------------------


def test_every_input_gets_a_file_in_the_order_of_the_model(tmp_path: Path) -> None:
    arrays = {"row": floats(12, 5), "photo": floats(12, 4, 6, 3)}
    calibration = prepare_arrays(arrays, (PICTURE, ROW), tmp_path)
    assert [np.load(path).shape for path in calibration.files] == [(12, 4, 6, 3), (12, 5)]
    assert (calibration.samples, calibration.pixels) == (12, False)
    joined = arrays["photo"].tobytes() + arrays["row"].tobytes()
    assert calibration.sha256 == hashlib.sha256(joined).hexdigest()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"row": floats(9, 5)}, "one array per input"),
        ({"row": floats(9, 5), "photo": floats(9, 4, 6, 3), "more": floats(9, 5)}, "one array per input"),
        ({"row": floats(9, 5), "photo": floats(8, 4, 6, 3)}, "same number of samples"),
        ({"row": floats(9, 4), "photo": floats(9, 4, 6, 3)}, "wrong shape"),
        ({"row": floats(9, 5), "photo": pictures(9)}, "not floats"),
        ({"row": with_one(floats(9, 5), np.nan), "photo": floats(9, 4, 6, 3)}, "not finite"),
        ({"row": np.ones((9, 5)), "photo": np.ones((9, 4, 6, 3))}, "constant"),
    ],
    ids=["one missing", "one too many", "other lengths", "wrong shape", "pictures", "NaN", "constant"],
)
def test_arrays_that_do_not_fit_several_inputs_are_refused(tmp_path: Path, arrays: Any, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        prepare_arrays(arrays, (PICTURE, ROW), tmp_path)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, "same number of samples"),
        ({"a": np.zeros((0, 2))}, "same number of samples"),
        ({"a": np.float32(1)}, "no array of numbers"),
        ({"a": [[1.0], [1.0, 2.0]]}, "no array of numbers"),
        ({}, "empty"),
    ],
    ids=["other lengths", "no samples", "a single number", "rows of other lengths", "no arrays"],
)
def test_a_mapping_is_checked_before_samples_are_chosen(arrays: Any, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        open_calibration(arrays)


# --- tokens, all the way --------------------------------------------------------------------------


@pytest.mark.tensorflow
@pytest.mark.parametrize(("scheme", "tolerance"), [("dynamic", 0.02), ("int8", 0.1)])
def test_a_model_of_tokens_is_converted_with_an_npy_of_int32(
    keras: Any, tmp_path: Path, scheme: Any, tolerance: float
) -> None:
    from converters import Quantize, Recipe, convert

    layers = keras.layers
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32", name="tokens"),
            layers.Embedding(50, 8, embeddings_initializer=keras.initializers.RandomUniform(-1, 1)),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.save(tmp_path / "model.keras")
    tokens = np.random.default_rng(5).integers(0, 50, (60, 12), dtype=np.int32)
    np.save(tmp_path / "tokens.npy", tokens)
    done = convert(tmp_path / "model.keras", tmp_path / "tokens.npy", recipe=Recipe((Quantize(scheme, io="float32"),)))
    assert done.metadata.inputs[0].dtype == "int32"
    assert done.report.warnings == ()
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(model_content=done.tflite)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tokens[:1])
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert answer == pytest.approx(np.asarray(model(tokens[:1])), abs=tolerance)


# --- the fingerprint ------------------------------------------------------------------------------


def test_the_fingerprint_follows_the_samples_and_nothing_else(tmp_path: Path) -> None:
    first, _ = prepared(pictures(), PICTURE, tmp_path)
    (tmp_path / "other").mkdir()
    second, _ = prepared(pictures(), PICTURE, tmp_path / "other")
    third, _ = prepared(pictures(seed=3), PICTURE, tmp_path)
    assert first.sha256 == second.sha256 != third.sha256
    assert first.to_json() == second.to_json()
    assert set(first.to_json()) == {"samples", "unit", "sha256", "mean", "std", "min", "max"}
    assert first.to_json()["unit"] == "pixels"
