"""Batches of an epoch: all samples once, normalized by the formula, augmented within bounds, the same for one seed."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import TrainingError
from converters.steps import Fit
from converters.train.batches import Examples, batches, steps_per_epoch
from edgeinfer.errors import InputError

pytestmark = pytest.mark.tensorflow
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(1, 256, (50, 8, 16, 3), dtype=np.uint8)  # no zeros: those are what a shift leaves behind
NUMBERS = np.arange(50)


def collect(data: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(x), np.concatenate(y)


def pictures(augment: Any = (), *, seed: int = 0, normalization: Any = None, training: bool = True) -> Any:
    return batches(
        Examples((PIXELS,), NUMBERS, normalization), Fit(batch_size=16, augment=augment), seed=seed, training=training
    )


@settings(max_examples=8, deadline=None)
@given(samples=st.integers(1, 70), batch_size=st.integers(1, 80), seed=st.integers(0, 1 << 62))
def test_an_epoch_has_every_sample_once_beside_its_own_label(samples: int, batch_size: int, seed: int) -> None:
    numbers = np.arange(samples)
    examples = Examples((numbers[:, None].astype(np.float32) * 2,), numbers)
    data = batches(examples, Fit(batch_size=batch_size), seed=seed, training=True)
    x, y = collect(data)
    assert sorted(y.tolist()) == numbers.tolist()
    assert np.array_equal(x[:, 0], y * 2)
    assert int(data.cardinality()) == -(-samples // batch_size) == steps_per_epoch(examples, Fit(batch_size=batch_size))


def test_each_epoch_has_another_order_and_one_seed_has_the_same_orders() -> None:
    first, again, other = pictures(), pictures(), pictures(seed=1)
    orders = [collect(data)[1].tolist() for data in (first, first, again, again, other)]
    assert orders[0] != orders[1]
    assert orders[:2] == orders[2:4]
    assert orders[4] != orders[0]


def test_without_training_samples_come_in_their_own_order_as_they_are() -> None:
    x, y = collect(pictures(("flip", "shift"), training=False))
    assert np.array_equal(y, NUMBERS)
    assert np.array_equal(x, PIXELS.astype(np.float32))


def test_pixels_become_what_the_normalization_says() -> None:
    levels = np.array([0, 51, 102, 255], np.uint8).reshape(1, 2, 2, 1)
    data = batches(Examples((levels,), np.zeros(1), (127.5, 63.75)), Fit(), seed=0, training=False)
    # (pixel - 127.5) / 63.75 by hand.
    assert collect(data)[0].ravel() == pytest.approx([-2.0, -1.2, -0.4, 2.0])


@pytest.mark.parametrize(
    ("given_as", "made"),
    [(np.uint8, np.float32), (np.float64, np.float32), (np.float16, np.float32), (np.int32, np.int32)],
    ids=["pixels", "float64", "float16", "tokens"],
)
def test_inputs_have_the_models_own_dtype(given_as: Any, made: Any) -> None:
    values = np.array([[1, 2], [3, 250]]).astype(given_as)
    x, y = collect(batches(Examples((values,), np.zeros(2, np.int8)), Fit(), seed=0, training=False))
    assert x.dtype == made
    assert np.array_equal(x, values)
    assert y.dtype == np.int64


def test_a_normalization_is_for_pixels_alone() -> None:
    examples = Examples((np.full((2, 3), 9.0), np.full((2, 3), 9)), np.zeros(2, np.float64), (1.0, 2.0))
    ((floats, tokens), y) = next(batches(examples, Fit(), seed=0, training=False).as_numpy_iterator())
    assert floats.tolist() == tokens.tolist() == [[9, 9, 9]] * 2
    assert y.dtype == np.float32


def moved(picture: np.ndarray, down: int, right: int) -> np.ndarray:
    """The picture moved by hand, with zeros behind."""
    height, width, _ = picture.shape
    result = np.zeros_like(picture)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[row, column] = picture[row - down, column - right]
    return result


def test_a_shift_moves_by_up_to_an_eighth_of_each_side_with_black_behind() -> None:
    x, y = collect(pictures(("shift",)))
    found = set()
    for picture, number in zip(x, y, strict=True):
        # 8 rows and 16 columns: one row and two columns at most.
        ways = [
            (a, b)
            for a in (-1, 0, 1)
            for b in (-2, -1, 0, 1, 2)
            if np.array_equal(moved(PIXELS[number], a, b), picture)
        ]
        assert len(ways) == 1
        found.add(ways[0])
    assert {way[0] for way in found} == {-1, 0, 1}
    assert {way[1] for way in found} == {-2, -1, 0, 1, 2}


def test_a_flip_mirrors_about_half_of_the_pictures_left_and_right() -> None:
    x, y = collect(pictures(("flip",)))
    kept = [np.array_equal(picture, PIXELS[number]) for picture, number in zip(x, y, strict=True)]
    mirrored = [np.array_equal(picture, PIXELS[number][:, ::-1]) for picture, number in zip(x, y, strict=True)]
    assert [a != b for a, b in zip(kept, mirrored, strict=True)] == [True] * 50
    assert 10 <= sum(mirrored) <= 40  # outside with a chance below 1e-5 for a fair coin


def test_black_behind_a_shift_is_a_black_pixel_and_not_a_zero_of_the_normalized_input() -> None:
    x, _ = collect(pictures(("shift",), normalization=(100.0, 50.0)))
    assert x.min() == -2.0  # (0 - 100) / 50


def test_augmentation_is_the_same_for_one_seed_and_another_one_in_the_next_epoch() -> None:
    def by_number(data: Any) -> np.ndarray:
        x, y = collect(data)
        return x[np.argsort(y)]

    first, again = pictures(("flip", "shift")), pictures(("flip", "shift"))
    one, two = by_number(first), by_number(first)
    assert np.array_equal(by_number(again), one)
    assert np.array_equal(by_number(again), two)
    assert not np.array_equal(one, two)
    # One picture alone: the order of the samples cannot be what differs.
    alone = batches(Examples((PIXELS[:1],), NUMBERS[:1]), Fit(augment=("shift",)), seed=0, training=True)
    assert len({collect(alone)[0].tobytes() for _ in range(12)}) > 1


def test_two_pictures_of_one_sample_move_together() -> None:
    data = batches(
        Examples((PIXELS, PIXELS), NUMBERS), Fit(batch_size=16, augment=("flip", "shift")), seed=0, training=True
    )
    for (left, right), _ in data.as_numpy_iterator():
        assert np.array_equal(left, right)


def test_a_file_larger_than_the_memory_is_read_batch_by_batch(tmp_path: Path) -> None:
    # 4 GB that lie nowhere: a file with a hole.
    samples = 4 * 1024 * 1024
    path = tmp_path / "many.bin"
    with path.open("wb") as file:
        file.truncate(samples * 1024)
    many = np.memmap(path, np.uint8, mode="r", shape=(samples, 16, 16, 4))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = batches(Examples((many,), np.zeros(samples, np.int8)), Fit(batch_size=8), seed=0, training=True)
    assert sum(len(y) for _, y in data.take(3).as_numpy_iterator()) == 24
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 1024


@pytest.mark.parametrize(
    ("inputs", "labels", "normalization"),
    [
        ((), np.zeros(3), None),
        ((np.zeros((3, 2)),), np.zeros(2), None),
        ((np.zeros((0, 2)),), np.zeros(0), None),
        ((np.zeros((3, 2)), np.zeros((2, 2))), np.zeros(3), None),
        ((np.zeros((3, 2)),), None, None),
        ((np.array(["a", "b"]),), np.zeros(2), None),
        ((np.zeros((3, 2)),), np.zeros(3), (0.0, 0.0)),
        ((np.zeros((3, 2)),), np.zeros(3), (float("nan"), 1.0)),
    ],
    ids=["no inputs", "lengths", "empty", "inputs differ", "no labels", "texts", "std 0", "mean nan"],
)
def test_examples_that_cannot_be_right_are_refused(inputs: Any, labels: Any, normalization: Any) -> None:
    with pytest.raises(InputError) as caught:
        Examples(inputs, labels, normalization)
    assert caught.value.received
    assert caught.value.expected


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [(np.zeros((3, 8, 8, 1), np.float32), np.zeros(3)), (PIXELS[:3], PIXELS[:3])],
    ids=["floats", "label pictures"],
)
def test_augmentation_that_would_spoil_the_data_is_refused(inputs: Any, labels: Any) -> None:
    with pytest.raises(TrainingError, match=r"augmented|moved along"):
        batches(Examples((inputs,), labels), Fit(augment=("shift",)), seed=0, training=True)
