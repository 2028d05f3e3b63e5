"""Whatever a caller's iterable yields becomes a path, a picture or an array, or an error that names the forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.data import open_calibration, prepare
from converters.errors import CalibrationError
from converters.samples import each_sample
from edgeinfer.dataset import Dataset
from edgeinfer.model.metadata import InputSpec, Normalization

PICTURE = InputSpec("photo", (1, 4, 6, 3), "float32", colour="rgb", normalization=Normalization(0, 255))


def picture(*shape: int) -> Any:
    return np.random.default_rng(1).integers(0, 256, shape or (4, 6, 3), dtype=np.uint8)


def row() -> Any:
    return np.random.default_rng(2).uniform(0, 1, (4, 6, 3)).astype(np.float32)


class Tensor:
    """Something that NumPy can turn into an array, and that is none."""

    def __init__(self, array: Any, problem: Exception | None = None) -> None:
        self._array, self._problem = array, problem

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self._problem:
            raise self._problem
        return np.asarray(self._array, dtype)


WRAPPED = {
    "alone": lambda one: one,
    "in a list": lambda one: [one],
    "in a tuple": lambda one: (one,),
    "in two lists": lambda one: [[one]],
    "a batch of 1": lambda one: one[np.newaxis],
    "a batch of 1 in a list": lambda one: [one[np.newaxis]],
    "a tensor": Tensor,
    "a tensor with its batch in a list": lambda one: [Tensor(one[np.newaxis])],
    "nested lists of floats": lambda one: one.tolist() if one.dtype.kind == "f" else one,
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("one", [picture(), row()], ids=["a picture", "the model's own input"])
def test_a_sample_is_the_same_whatever_it_is_wrapped_in(tmp_path: Path, wrapped: Any, one: Any) -> None:
    data = open_calibration(wrapped(one) for _ in range(3))
    assert isinstance(data, Dataset)
    (path,) = prepare(data, PICTURE, tmp_path).files
    # The first sample of pictures has its ends set to black and white.
    assert np.array_equal(np.load(path)[1], one)


def test_tensorflows_own_form_is_taken(tmp_path: Path) -> None:
    def representative_data() -> Iterator[list[Any]]:
        for _ in range(3):
            yield [row()[np.newaxis]]

    data = open_calibration(representative_data())
    assert isinstance(data, Dataset)
    (path,) = prepare(data, PICTURE, tmp_path).files
    assert np.array_equal(np.load(path)[0], row())


@pytest.mark.tensorflow
def test_a_data_set_of_tensorflow_is_taken(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    data = open_calibration(tf.data.Dataset.from_tensor_slices(np.stack([row()] * 3)).batch(1))
    assert isinstance(data, Dataset)
    (path,) = prepare(data, PICTURE, tmp_path).files
    assert np.array_equal(np.load(path)[0], row())


def test_a_tensor_of_all_samples_is_an_array_of_them(tmp_path: Path) -> None:
    data = open_calibration(Tensor(np.stack([row()] * 3)))  # type: ignore[arg-type]
    assert isinstance(data, Dataset)
    assert len(data) == 3
    assert np.array_equal(data.sources[0], row())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 4, 6), (4, 6)), ((1, 4, 6, 1), (4, 6, 1)), ((1, 6, 3), (1, 6, 3)), ((4, 6), (4, 6)), ((4, 6, 1), (4, 6, 1))],
)
def test_the_batch_of_a_grey_picture_is_told_from_a_picture_of_one_line(shape: Any, expected: Any) -> None:
    (one,) = each_sample([picture(*shape)], 9)
    assert one.shape == expected


def test_paths_and_encoded_pictures_stay_what_they_are() -> None:
    found = list(each_sample(["a.jpg", Path("b.jpg"), ["c.jpg"], b"jpeg", bytearray(b"png")], 9))
    assert found == [Path("a.jpg"), Path("b.jpg"), Path("c.jpg"), b"jpeg", bytearray(b"png")]


def test_whole_numbers_stay_whole_numbers() -> None:
    (one,) = each_sample([[np.arange(5, dtype=np.int64)]], 9)
    assert one.dtype == np.int64
    assert one.shape == (5,)


def test_no_more_is_taken_than_is_asked_for() -> None:
    assert len(list(each_sample(iter([row()] * 9), 4))) == 4


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (5, "no array of numbers"),
        (np.float32(5), "no array of numbers"),
        (None, "no array of numbers"),
        ({"photo": row()}, "no array of numbers"),
        ((row(), 3), "no array of numbers"),
        ((row(), np.int64(3)), "no array of numbers"),
        ([], "no array of numbers|wrong shape"),
        (["a.jpg", "b.jpg"], "no array of numbers"),
        (np.array(["a", "b"]), "no array of numbers"),
        (Tensor(None, NotImplementedError("symbolic")), "no array of numbers"),
        (Tensor(None, RuntimeError("requires grad")), "no array of numbers"),
        (picture(7, 4, 6, 3), "batch of pictures"),
        (np.stack([row()] * 7), "wrong shape"),
        ([row(), row()], "wrong shape"),
    ],
    ids=[
        "a number",
        "a scalar",
        "None",
        "a mapping",
        "a picture with its label",
        "a picture with its label as a scalar",
        "an empty list",
        "two paths",
        "texts",
        "a symbolic tensor",
        "a tensor with a gradient",
        "a batch of pictures",
        "a batch of the own input",
        "two arrays",
    ],
)
def test_everything_else_is_refused_by_its_number_with_the_forms(tmp_path: Path, sample: Any, words: str) -> None:
    def both_stages() -> None:
        data = open_calibration([row(), sample])
        assert isinstance(data, Dataset)
        prepare(data, PICTURE, tmp_path)

    with pytest.raises(CalibrationError, match=f"sample 1 .*({words})") as caught:
        both_stages()
    assert caught.value.exit_code == 2
    assert caught.value.expected


def test_a_label_beside_the_picture_and_a_batch_come_with_their_cure() -> None:
    with pytest.raises(CalibrationError) as caught:
        open_calibration([(row(), 3)])
    assert "labels" in caught.value.next_step
    with pytest.raises(CalibrationError) as caught:
        open_calibration([picture(7, 4, 6, 3)])
    assert "unbatch" in caught.value.next_step


@pytest.mark.parametrize("source", [5, None, 2.5, object(), lambda: iter([row()])])
def test_what_cannot_be_iterated_is_refused(source: Any) -> None:
    with pytest.raises(CalibrationError, match="no calibration data") as caught:
        open_calibration(source)
    assert caught.value.exit_code == 2
    assert bool(caught.value.next_step) == callable(source)


def test_what_goes_wrong_in_the_callers_own_generator_is_not_hidden() -> None:
    def failing() -> Iterator[Any]:
        yield row()
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        open_calibration(failing())
