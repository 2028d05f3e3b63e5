"""What counts as the same answer: honest rounding passes, a broken device does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeinfer.model.metadata import OutputSpec
from edgeinfer.runtime.edgetpu.agreement import disagreement


def spec(dtype: str = "int8", shape: tuple[int, ...] = (1, 100)) -> OutputSpec:
    return OutputSpec("answer", shape, dtype, scale=0.0 if dtype.startswith("float") else 1 / 256)


def compare(answer: NDArray[np.generic], expected: NDArray[np.generic]) -> str:
    return disagreement([answer], [expected], [spec(str(answer.dtype))])


@given(st.lists(st.tuples(st.integers(-112, 111), st.integers(-16, 16)), min_size=1, max_size=50))
def test_sixteen_steps_are_rounding(pairs: list[tuple[int, int]]) -> None:
    wanted = np.array([[one for one, _ in pairs]], np.int8)
    answer = np.array([[one + step for one, step in pairs]], np.int8)
    assert compare(answer, wanted) == ""


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_numbers_of_another_answer_are_found_out(dtype: str) -> None:
    limits = np.iinfo(dtype)
    random = np.random.default_rng(0)
    one, other = (random.integers(limits.min, limits.max, (1, 100), dtype=dtype, endpoint=True) for _ in range(2))
    assert "steps of the CPU's" in compare(one, other)


def test_a_class_that_wins_on_the_one_and_loses_on_the_other_is_found_out() -> None:
    # 999 of 1000 values agree.
    wanted = np.full((1, 1000), -128, np.int8)
    wanted[0, 3] = 127
    answer = np.full((1, 1000), -128, np.int8)
    assert "the farthest 255 away" in compare(answer, wanted)


def test_more_than_one_in_twenty_beyond_sixteen_steps_is_found_out() -> None:
    wanted = np.zeros((1, 100), np.int8)
    answer = wanted.copy()
    answer[0, :5] = 17
    assert compare(answer, wanted) == ""
    answer[0, 5] = 17
    assert "94% of the values" in compare(answer, wanted)


def test_steps_of_sixteen_bits_are_counted_as_those_of_eight() -> None:
    wanted = np.zeros((1, 10), np.int16)
    assert compare(wanted + np.int16(16 * 256), wanted) == ""
    assert compare(wanted + np.int16(17 * 256), wanted) != ""


def test_the_ends_of_the_range_do_not_wrap() -> None:
    low, high = np.full((1, 4), -128, np.int8), np.full((1, 4), 127, np.int8)
    assert "255 away" in compare(low, high)


@pytest.mark.parametrize("count", [1, 2, 19])
def test_one_value_may_lie_between_sixteen_and_sixty_four_steps_away_however_few_there_are(count: int) -> None:
    wanted = np.zeros((1, count), np.int8)
    answer = wanted.copy()
    answer[0, 0] = 64
    assert compare(answer, wanted) == ""
    answer[0, 0] = 65
    assert "65 away" in compare(answer, wanted)
    if count > 1:
        answer[0, :2] = 17
        assert compare(answer, wanted) != ""


def test_floats_are_compared_in_steps_of_the_cpus_own_spread() -> None:
    wanted = np.linspace(10.0, 20.0, 100, dtype=np.float32)[None]  # a step is 10 / 256
    assert compare(wanted + np.float32(15 * 10 / 256), wanted) == ""
    assert "0% of the values" in compare(wanted + np.float32(17 * 10 / 256), wanted)
    assert "256 away" in compare(np.full_like(wanted, 10.0), wanted)


def test_one_float_is_compared_with_its_distance_from_zero() -> None:
    wanted = np.array([10.0], np.float32)
    assert compare(np.array([11.0], np.float32), wanted) == ""
    assert compare(np.array([0.0], np.float32), wanted) != ""
    assert compare(np.zeros(1, np.float32), np.zeros(1, np.float32)) == ""


def test_values_that_are_no_numbers_are_an_error_where_the_cpu_has_numbers() -> None:
    wanted = np.zeros((1, 4), np.float32)
    assert "no numbers" in compare(np.full((1, 4), np.nan, np.float32), wanted)
    assert compare(np.full((1, 4), np.inf, np.float32), np.full((1, 4), np.inf, np.float32)) == ""


def test_nine_in_ten_classes_of_pixels_must_be_equal() -> None:
    whole = OutputSpec("classes", (1, 100), "int64")
    wanted = np.zeros((1, 100), np.int64)
    answer = wanted.copy()
    answer[0, :10] = 7
    assert disagreement([answer], [wanted], [whole]) == ""
    answer[0, 10] = 7
    assert "89% of the values are those of the CPU" in disagreement([answer], [wanted], [whole])


def test_an_output_that_is_not_compared_must_still_be_numbers() -> None:
    wanted = np.zeros((1, 4), np.float32)
    assert disagreement([wanted + 7], [wanted], [spec("float32")], [False]) == ""
    assert "no numbers" in disagreement([wanted * np.nan], [wanted], [spec("float32")], [False])


def test_the_output_that_differs_is_named() -> None:
    same = np.zeros((1, 4), np.int8)
    specs = [OutputSpec(name, (1, 4), "int8", scale=1.0) for name in ("boxes", "scores")]
    assert disagreement([same, same + np.int8(100)], [same, same], specs).startswith("output `scores`: 0% of")


def test_another_shape_is_no_answer() -> None:
    assert "(1, 3)" in compare(np.zeros((1, 3), np.int8), np.zeros((1, 4), np.int8))
