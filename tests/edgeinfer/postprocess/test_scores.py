"""A threshold in stored numbers decides as the dequantized floats would."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinfer.errors import MetadataError, ModelError
from edgeinfer.model.specs import OutputSpec
from edgeinfer.postprocess.scores import check_finite, rows_above, score_threshold

pytestmark = pytest.mark.device

EVERY = {
    "int8": np.arange(-128, 128).astype(np.int8),
    "uint8": np.arange(256).astype(np.uint8),
    "int16": np.arange(-32768, 32768).astype(np.int16),
}


def spec(dtype: str, scale: float = 0.0, zero_point: int = 0) -> OutputSpec:
    return OutputSpec("scores", (1, 10), dtype, scale, zero_point)


def test_the_threshold_itself_still_counts() -> None:
    # 64 / 256 is a quarter.
    assert score_threshold(spec("uint8", 1 / 256), 0.25, logits=False).least == 64
    assert score_threshold(spec("int8", 1 / 256, -128), 0.25, logits=False).least == -64


def test_a_threshold_above_all_numbers_is_reached_by_none() -> None:
    assert score_threshold(spec("uint8", 1 / 256), 0.999, logits=False).least is None


@settings(max_examples=60)
@given(
    st.sampled_from(["int8", "uint8", "int16"]),
    st.floats(1e-5, 0.5),
    st.integers(-128, 127),
    st.floats(0, 1),
    st.booleans(),
)
def test_stored_numbers_are_judged_as_their_floats_are(
    dtype: str, scale: float, zero_point: int, confidence: float, logits: bool
) -> None:
    every = EVERY[dtype]
    threshold = score_threshold(spec(dtype, scale, zero_point), confidence, logits=logits)
    real = (every.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    if logits:
        with np.errstate(over="ignore"):
            exact = 1 / (1 + np.exp(-real.astype(np.float64)))
        clear = np.abs(exact - confidence) > 1e-6  # float32 sigmoids are as exact as this
    else:
        exact, clear = real, np.ones(len(every), bool)
    passes = np.zeros(len(every), bool) if threshold.least is None else every >= threshold.least
    np.testing.assert_array_equal(passes[clear], (exact >= np.float32(confidence))[clear])


def test_floats_are_compared_as_they_are() -> None:
    threshold = score_threshold(spec("float32"), 0.3, logits=False)
    assert threshold.least == np.float32(0.3)
    assert threshold.least.dtype == np.float32


def test_logits_in_floats_are_compared_a_little_too_low_and_then_again() -> None:
    threshold = score_threshold(spec("float32"), 0.75, logits=True)
    assert threshold.least is not None
    assert math.log(3) - 0.02 < threshold.least < math.log(3)
    assert threshold.confidences(np.array([math.log(3)], np.float32))[0] == pytest.approx(0.75, rel=1e-6)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_logits_at_the_ends_do_not_overflow(confidence: float) -> None:
    threshold = score_threshold(spec("float32"), confidence, logits=True)
    found = threshold.confidences(np.array([-500.0, 500.0], np.float32))
    assert found.tolist() == [0.0, 1.0]
    assert np.isfinite(threshold.least)


def test_steps_wider_than_a_score_are_an_error_with_the_cure() -> None:
    # Boxes in pixels up to 640 and scores in one int8 tensor: 2.5 a step.
    with pytest.raises(MetadataError, match="every score becomes 0") as caught:
        score_threshold(spec("int8", 2.5, -128), 0.25, logits=False)
    assert "shares" in caught.value.next_step


@pytest.mark.parametrize("dtype", ["int8", "int32"])
def test_integers_without_a_scale_are_an_error(dtype: str) -> None:
    with pytest.raises(MetadataError, match="say nothing of their scale"):
        score_threshold(spec(dtype), 0.25, logits=False)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 12), st.integers(0, 3), st.integers(-128, 127))
def test_rows_are_those_with_any_score_at_the_threshold(
    seed: int, rows: int, classes: int, first: int, least: int
) -> None:
    table = np.random.default_rng(seed).integers(-128, 128, (rows, first + classes)).astype(np.int8)
    expected = [row for row in range(rows) if max(table[row, first:].tolist()) >= least]
    assert rows_above(table, np.int8(least), first=first).tolist() == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_an_error(bad: float) -> None:
    with pytest.raises(ModelError, match="not a number in `boxes`"):
        check_finite(np.array([0.0, bad], np.float32), "boxes")


def test_integers_are_always_numbers() -> None:
    check_finite(np.array([1, 2], np.int8), "boxes")
