"""Quantization by hand values, Python's exact fractions, and a round trip."""

from __future__ import annotations

import doctest
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer import quantization
from edgeinfer.errors import InputError
from edgeinfer.quantization import dequantize, quantize, round_half_away

pytestmark = pytest.mark.device

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
scales = st.floats(2.0**-10, 8.0, width=32)


def test_halves_are_rounded_away_from_zero():
    values = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    assert quantize(values, scale=1.0, zero_point=0, dtype="int8").tolist() == [-3, -2, -1, 1, 2, 3]


def test_the_zero_point_is_added_after_rounding():
    assert quantize(np.array([-0.5, 0.5]), scale=1.0, zero_point=10, dtype="int8").tolist() == [9, 11]


def test_just_below_a_half_is_zero():
    assert quantize(np.array([0.49999997], np.float32), scale=1.0, zero_point=0, dtype="int8").tolist() == [0]


@pytest.mark.parametrize(("dtype", "limits"), RANGES.items())
def test_values_outside_the_range_become_its_ends(dtype, limits):
    values = np.array([-np.inf, -3e38, 3e38, np.inf], np.float32)
    stored = quantize(values, scale=0.001, zero_point=7, dtype=dtype)
    assert stored.dtype == dtype
    assert stored.tolist() == [limits[0], limits[0], limits[1], limits[1]]


@given(
    st.sampled_from(sorted(RANGES)), scales, st.integers(-100, 100), st.floats(-300, 300, width=32)
)  # fmt: skip
def test_the_stored_number_is_the_nearest_by_exact_arithmetic(dtype, scale, zero_point, value):
    stored = int(quantize(np.array([value], np.float32), scale=scale, zero_point=zero_point, dtype=dtype)[0])
    low, high = RANGES[dtype]
    exact = Fraction(value) / Fraction(scale) + zero_point
    clipped = min(max(exact, low), high)
    # float32 has 24 bits: the quotient may be off by that much before it is rounded
    assert abs(stored - clipped) <= Fraction(1, 2) + abs(exact - zero_point) * Fraction(1, 2**23)


@given(st.sampled_from(sorted(RANGES)), scales, st.integers(-100, 100), st.floats(0, 1, width=32))
def test_the_way_there_and_back_loses_half_a_step_at_most(dtype, scale, zero_point, share):
    low, high = ((end - zero_point) * scale for end in RANGES[dtype])
    value = np.array([low + share * (high - low)], np.float32)
    stored = quantize(value, scale=scale, zero_point=zero_point, dtype=dtype)
    back = dequantize(stored, scale=scale, zero_point=zero_point)
    assert abs(float(back[0]) - float(value[0])) <= scale / 2 + 4 * np.spacing(np.abs(value).max() + np.float32(scale))


@pytest.mark.parametrize("dtype", RANGES)
def test_every_stored_number_comes_back_as_itself(dtype):
    low, high = RANGES[dtype]
    stored = np.arange(low, high + 1).astype(dtype)
    real = dequantize(stored, scale=0.00784313772, zero_point=-1)
    assert real.dtype == np.float32
    assert np.array_equal(quantize(real, scale=0.00784313772, zero_point=-1, dtype=dtype), stored)


def test_dequantizing_does_not_overflow_the_stored_dtype():
    assert dequantize(np.array([127, -128], np.int8), scale=1.0, zero_point=-128).tolist() == [255.0, 0.0]
    assert dequantize(np.array([0], np.uint8), scale=1.0, zero_point=200).tolist() == [-200.0]


def test_shapes_are_kept():
    values = np.zeros((2, 3, 4), np.float32)
    stored = quantize(values, scale=1.0, zero_point=0, dtype="int8")
    assert stored.shape == dequantize(stored, scale=1.0, zero_point=0).shape == (2, 3, 4)


def test_a_scale_of_zero_means_not_quantized():
    assert quantize(np.array([1.5]), scale=0.0, zero_point=0, dtype="float32").dtype == np.float32
    assert dequantize(np.array([7], np.int32), scale=0.0, zero_point=0).tolist() == [7.0]


@pytest.mark.parametrize(("values", "scale", "dtype"), [
    (np.array([math.nan]), 1.0, "int8"), (np.array([1]), 1.0, "int8"), (np.array([1.0]), 0.0, "int8"),
    (np.array([1.0]), 1.0, "float32"), (np.array([1.0]), -1.0, "int8"), (np.array([1.0]), math.nan, "int8"),
], ids=["NaN", "integers", "no scale", "float dtype", "negative scale", "scale NaN"])  # fmt: skip
def test_what_makes_no_sense_is_refused(values, scale, dtype):
    with pytest.raises(InputError):
        quantize(values, scale=scale, zero_point=0, dtype=dtype)


@given(st.floats(-1e6, 1e6))
def test_rounding_agrees_with_exact_arithmetic(value):
    exact = math.floor(abs(Fraction(value)) + Fraction(1, 2))
    assert round_half_away(np.array([value]))[0] == math.copysign(exact, value)


def test_the_examples_in_the_docstrings_are_right():
    assert doctest.testmod(quantization).failed == 0
