"""Arrays of the caller's own, into the input tensor's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinfer.errors import InputError
from edgeinfer.model.metadata import InputSpec, Normalization, Rescaling
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.runtime.own_input import stored_input

pytestmark = pytest.mark.device


class TestFloats:
    SPEC = InputSpec("features", (1, 4), "int8", scale=0.5, zero_point=3)

    def into(self, values, spec):
        stored = stored_input(np.asarray(values), spec)
        assert (stored.shape, stored.dtype) == (spec.shape, spec.dtype)
        return stored.tolist()

    def test_floats_are_quantized_with_rounding_and_saturation(self):
        # 0.25 / 0.5 = 0.5 -> 1, -0.25 -> -1, 100 / 0.5 saturates
        assert self.into([[0.0, 0.25, -0.25, 100.0]], self.SPEC) == [[3, 4, 2, 127]]

    def test_the_batch_may_be_left_out(self):
        assert self.into([0.0, 0.5, 1.0, 1.5], self.SPEC) == [[3, 4, 5, 6]]

    def test_float32_inputs_take_the_values_themselves(self):
        spec = InputSpec("features", (1, 2), "float32")
        assert self.into(np.array([[0.5, -7.25]], np.float64), spec) == [[0.5, -7.25]]

    def test_a_folded_rescaling_is_applied_first(self):
        # The model was trained on 0..255 behind a rescaling by 1/127.5 - 1; its file takes -1..1.
        spec = InputSpec("image", (1, 3), "int8", scale=1 / 128, zero_point=0, rescaling=Rescaling(1 / 127.5, -1.0))
        assert self.into(np.array([0.0, 127.5, 255.0], np.float32), spec) == [[-128, 0, 127]]

    def test_pixels_as_floats_and_the_picture_itself_are_the_same_tensor(self):
        spec = InputSpec(
            "image",
            (1, 6, 8, 3),
            "int8",
            1 / 255,
            -128,
            normalization=Normalization(0, 255),
            rescaling=Rescaling(1 / 255, 0),
        )
        picture = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
        tensor = np.zeros(spec.shape, np.int8)
        Preprocessor(spec)(picture, tensor)
        assert self.into(Preprocessor(spec).pixels(picture).astype(np.float32), spec) == tensor.tolist()

    @pytest.mark.parametrize("values", [np.zeros(5), np.zeros((2, 4)), np.zeros((4, 1)), np.float64(0)], ids=repr)
    def test_another_shape_is_refused(self, values):
        with pytest.raises(InputError, match="does not fit the input `features`"):
            self.into(values, self.SPEC)

    @pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "complex64"])
    def test_what_is_not_floats_is_refused(self, dtype):
        with pytest.raises(InputError, match="handed over as floats"):
            self.into(np.zeros((1, 4), dtype), self.SPEC)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
    def test_values_that_are_not_finite_are_refused(self, value):
        with pytest.raises(InputError, match="not finite"):
            self.into([0.0, value, 0.0, 0.0], self.SPEC)


class TestWholeNumbers:
    TOKENS = InputSpec("tokens", (1, 3), "int32")

    @pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "int16"])
    def test_an_input_of_tokens_takes_whole_numbers_as_they_are(self, dtype):
        stored = stored_input(np.array([7, 0, 9], dtype), self.TOKENS)
        assert (stored.dtype, stored.tolist()) == (np.int32, [[7, 0, 9]])

    def test_tokens_that_do_not_fit_are_refused(self):
        with pytest.raises(InputError, match="takes whole numbers"):
            stored_input(np.array([[7, 2**31, 9]]), self.TOKENS)

    def test_floats_are_no_tokens(self):
        with pytest.raises(InputError, match="takes whole numbers"):
            stored_input(np.array([[7.0, 1.0, 9.0]]), self.TOKENS)

    def test_another_shape_of_tokens_is_refused(self):
        with pytest.raises(InputError, match="does not fit the input `tokens`"):
            stored_input(np.array([7, 1]), self.TOKENS)
