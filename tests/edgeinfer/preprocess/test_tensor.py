"""Pixels into tensors: against the formula computed naively in float64, and values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer.errors import InputError, MetadataError
from edgeinfer.model.metadata import InputSpec, Normalization, Resize
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.tensor import Preprocessor, crop, letterbox, stretch

pytestmark = pytest.mark.device

SHAPE = (1, 24, 32, 3)
UNIT = Normalization(0.0, 255.0)
INT8 = InputSpec("image", SHAPE, "int8", scale=1 / 255, zero_point=-128, normalization=UNIT)
UINT8 = InputSpec("image", SHAPE, "uint8", scale=1 / 255, normalization=UNIT)
FLOAT32 = InputSpec("image", SHAPE, "float32", normalization=Normalization(127.5, 127.5))
TABLE = InputSpec("image", SHAPE, "int8", scale=0.02, zero_point=-3, normalization=Normalization(127.5, 60.0))
INT16 = InputSpec("image", SHAPE, "int16", scale=1 / 32768, normalization=Normalization(127.5, 127.5))
ALL = [INT8, UINT8, FLOAT32, TABLE, INT16]
NAMES = ["int8", "uint8", "float32", "int8 table", "int16"]


@pytest.fixture(params=["opencv", "pillow"])
def library(request, monkeypatch):
    if request.param == "opencv":
        pytest.importorskip("cv2", reason="OpenCV is not installed")
    else:
        monkeypatch.setattr(libraries, "opencv", lambda: None)


def noise(width=90, height=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prepare(image, spec):
    """Return the resized pixels, as calibration takes them."""
    return Preprocessor(spec, normalization=Normalization(0, 1)).pixels(image)


def written(preprocessor, image, rubbish=77):
    """Return the tensor, whose memory held rubbish before, as it does after an engine has run."""
    out = np.full(preprocessor.spec.shape, rubbish, dtype=preprocessor.spec.dtype)
    preprocessor(image, out)
    return out


def naive(pixels, spec):
    """The formula, unrounded."""
    real = (pixels.astype(np.float64) - spec.normalization.mean) / spec.normalization.std
    if spec.dtype == "float32":
        return real
    limits = np.iinfo(spec.dtype)
    return np.clip(real / spec.scale + spec.zero_point, limits.min, limits.max)


@pytest.mark.usefixtures("library")
class TestNumbers:
    @pytest.mark.parametrize("spec", ALL, ids=NAMES)
    @pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
    def test_a_tensor_is_the_formula_of_its_pixels(self, spec, mode):
        preprocessor = Preprocessor(spec, Resize(mode, pad=114))
        exact = naive(preprocessor.pixels(noise()), spec)
        tolerance = 1e-6 if spec.dtype == "float32" else 0.5 + 1e-6
        assert np.abs(written(preprocessor, noise())[0] - exact).max() <= tolerance

    @pytest.mark.parametrize("spec", ALL, ids=NAMES)
    def test_a_tensor_is_the_table_of_its_pixels_to_the_last_bit(self, spec):
        preprocessor = Preprocessor(spec)
        assert np.array_equal(written(preprocessor, noise())[0], preprocessor.table[preprocessor.pixels(noise())])

    @pytest.mark.parametrize("spec", ALL, ids=NAMES)
    def test_the_pixels_are_those_of_calibration(self, spec):
        preprocessor = letterbox(spec, pad=9)
        calibration = prepare(noise(), replace(spec, normalization=None, resize=preprocessor.resize))
        assert np.array_equal(preprocessor.pixels(noise()), calibration)

    @pytest.mark.parametrize(("spec", "black", "grey", "white"), [
        (INT8, -128, 0, 127), (UINT8, 0, 128, 255), (FLOAT32, -1.0, 0.5 / 127.5, 1.0),
        # (0 - 127.5) / 60 / 0.02 - 3 = -109.25, (128 - 127.5) / 60 / 0.02 - 3 = -2.58, 106.25 - 3 = 103.25
        (TABLE, -109, -3, 103),
        # 32768 saturates at 32767; 0.5 / 127.5 * 32768 = 128.5, half away from zero
        (INT16, -32768, 129, 32767),
    ], ids=NAMES)  # fmt: skip
    def test_black_grey_and_white_by_hand(self, spec, black, grey, white):
        for level, expected in ((0, black), (128, grey), (255, white)):
            tensor = written(Preprocessor(spec), np.full((5, 7, 3), level, np.uint8))
            assert tensor == pytest.approx(np.full(SHAPE, expected), abs=1e-7)

    @pytest.mark.parametrize("spec", ALL, ids=NAMES)
    def test_bars_are_pixels_like_any_other_and_are_written_each_frame(self, spec):
        preprocessor = letterbox(spec, pad=114)
        out = np.zeros(SHAPE, spec.dtype)
        for _ in range(2):
            preprocessor(np.full((10, 100, 3), 200, np.uint8), out)
            assert np.allclose(out[0, 0], preprocessor.table[114])
            assert np.allclose(out[0, -1], preprocessor.table[114])
            assert np.allclose(out[0, 12], preprocessor.table[200])
            out[:] = 1  # the engine used the memory for something else

    def test_a_grey_model_gets_itu_r_601(self):
        spec = replace(UINT8, shape=(1, 24, 32, 1), colour="grayscale")
        for colour, luma in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((90, 90, 90), 90)):
            tensor = written(Preprocessor(spec), np.full((10, 10, 3), colour, np.uint8))
            assert (tensor == luma).all()

    @pytest.mark.parametrize("spec", ALL, ids=NAMES)
    def test_a_grey_tensor_is_resized_first_and_then_made_grey(self, spec):
        grey = replace(spec, shape=(1, 24, 32, 1))
        rgb = Preprocessor(spec, Resize("letterbox")).pixels(noise()).astype(np.float64)
        pixels = Preprocessor(grey, Resize("letterbox")).pixels(noise())
        assert pixels.shape == (24, 32, 1)
        assert np.abs(pixels[..., 0] - rgb @ [0.299, 0.587, 0.114]).max() <= 0.51
        preprocessor = Preprocessor(grey, Resize("letterbox"))
        assert np.array_equal(written(preprocessor, noise())[0], preprocessor.table[pixels])

    def test_a_bgr_view_is_red_and_blue_exchanged(self):
        rgb = written(Preprocessor(UINT8), noise())
        assert np.array_equal(written(Preprocessor(UINT8), noise()[..., ::-1]), rgb[..., ::-1])

    def test_pictures_may_change_their_size_from_frame_to_frame(self):
        preprocessor = Preprocessor(UINT8, Resize("letterbox"))
        for size in ((90, 50), (50, 90), (1, 1), (32, 24), (500, 2)):
            assert np.array_equal(written(preprocessor, noise(*size))[0], prepare(noise(*size), replace(
                UINT8, resize=Resize("letterbox"))))  # fmt: skip

    def test_writing_touches_no_memory_outside_the_tensor(self):
        memory = np.full((3, *SHAPE[1:]), 5, np.uint8)
        Preprocessor(UINT8)(noise(), memory[1:2])
        assert (memory[0] == 5).all()
        assert (memory[2] == 5).all()


def test_grey_is_the_same_with_and_without_opencv(monkeypatch):
    pytest.importorskip("cv2")
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    every = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(52, -1, 3)
    spec = InputSpec("image", (1, every.shape[0], every.shape[1], 1), "uint8")
    by_opencv = prepare(every, spec)
    monkeypatch.setattr(libraries, "opencv", lambda: None)
    assert np.array_equal(prepare(every, spec), by_opencv)


class TestTable:
    @given(
        st.sampled_from(["int8", "uint8", "int16"]),
        st.floats(0, 255), st.floats(1, 255), st.floats(1e-3, 0.1), st.integers(-20, 20),
    )  # fmt: skip
    def test_the_table_is_the_formula_within_rounding(self, dtype, mean, std, scale, zero_point):
        spec = InputSpec("image", SHAPE, dtype, scale, zero_point, normalization=Normalization(mean, std))
        table = Preprocessor(spec).table
        exact = naive(np.arange(256), spec)
        identity = np.arange(256) - (128 if dtype == "int8" else 0)
        if dtype != "int16" and np.array_equal(table, identity):
            assert np.abs(table - exact).max() <= 1.5 + 1e-6
        else:
            assert np.abs(table - exact).max() <= 0.5 + 1e-6

    def test_a_scale_that_is_a_rounded_number_still_is_the_identity(self):
        # What a converter writes for [-1, 1]: the scale as float32, and half a step lost to the zero point.
        scale = float(np.float32(2 / 255))
        for zero_point in (-1, 0):
            spec = replace(INT8, scale=scale, zero_point=zero_point, normalization=Normalization(127.5, 127.5))
            assert np.array_equal(Preprocessor(spec).table, np.arange(256) - 128)

    def test_two_steps_from_the_identity_is_a_table(self):
        assert Preprocessor(replace(INT8, zero_point=-126)).table[:3].tolist() == [-126, -125, -124]

    def test_an_integer_tensor_without_a_scale_stores_the_real_value(self):
        spec = replace(INT8, scale=0.0, zero_point=0, normalization=Normalization(128.0, 1.0))
        assert np.array_equal(Preprocessor(spec).table, np.arange(256) - 128)


class TestChoices:
    def test_uint8_without_a_normalization_takes_pixels_as_they_are(self):
        spec = InputSpec("image", SHAPE, "uint8", scale=0.0078125, zero_point=128)
        assert np.array_equal(Preprocessor(spec).table, np.arange(256))

    @pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
    def test_no_other_dtype_is_guessed_at(self, dtype):
        with pytest.raises(MetadataError, match="does not say how to normalize") as caught:
            Preprocessor(InputSpec("picture", SHAPE, dtype, scale=1 / 255))
        assert dtype in str(caught.value)
        assert "`picture`" in str(caught.value)
        assert "(127.5, 127.5) for [-1, 1]" in str(caught.value)
        assert "edgeinfer-convert annotate" in str(caught.value)

    def test_what_is_given_wins_over_the_file(self):
        given_normalization, given_resize = Normalization(1.0, 2.0), Resize("crop", "nearest")
        preprocessor = Preprocessor(FLOAT32, given_resize, given_normalization)
        assert (preprocessor.resize, preprocessor.normalization) == (given_resize, given_normalization)

    def test_the_constructors_keep_the_files_filter_unless_told(self):
        spec = replace(UINT8, resize=Resize("stretch", "bicubic-antialias", pad=7))
        assert letterbox(spec).resize == Resize("letterbox", "bicubic-antialias", 7)
        assert letterbox(spec, filter="nearest", pad=0).resize == Resize("letterbox", "nearest", 0)
        assert crop(spec).resize == Resize("crop", "bicubic-antialias")
        assert stretch(spec, filter="bilinear").resize == Resize("stretch", "bilinear")

    def test_an_input_that_is_no_picture_is_refused(self):
        with pytest.raises(MetadataError, match="not a picture"):
            Preprocessor(InputSpec("features", (1, 40), "uint8"))

    def test_a_dtype_that_pixels_do_not_go_into_is_refused(self):
        with pytest.raises(MetadataError, match="int32"):
            Preprocessor(replace(FLOAT32, dtype="int32"))

    @pytest.mark.parametrize("out", [
        np.zeros(SHAPE, np.int8), np.zeros(SHAPE[1:], np.uint8), np.zeros((1, 24, 32, 6), np.uint8)[..., ::2],
    ], ids=["dtype", "batch", "strides"])  # fmt: skip
    def test_a_tensor_that_is_not_the_models_is_refused(self, out):
        with pytest.raises(InputError, match="not the input `image`"):
            Preprocessor(UINT8)(noise(), out)

    @pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)], ids=["float", "grey"])
    def test_an_array_that_is_no_rgb_picture_is_refused(self, image):
        for call in (Preprocessor(UINT8).pixels, lambda image: prepare(image, UINT8)):
            with pytest.raises(InputError, match="not a picture"):
                call(image)

    def test_the_view_says_where_the_picture_lies(self):
        view = Preprocessor(replace(UINT8, shape=(1, 224, 224, 3)), Resize("letterbox"))(
            noise(1280, 720), np.zeros((1, 224, 224, 3), np.uint8)
        )
        assert view.to_image([[0, 49, 224, 175]]).tolist() == [[0, 0, 1280, 720]]
