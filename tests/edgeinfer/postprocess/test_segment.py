"""Masks, worked out by hand from stored numbers; and a public model against its published mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from echo import Recorder, answers, metadata, output
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgeinfer.errors import InputError, MetadataError, ModelError, WrongTaskError
from edgeinfer.model.metadata import OutputSpec, Resize
from edgeinfer.pipeline import Pipeline
from edgeinfer.postprocess import segment
from edgeinfer.postprocess.segment import argmax, segmentation_post
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.geometry import View, place
from edgeinfer.preprocess.image import read_image
from edgeinfer.preprocess.tensor import stretch
from edgeinfer.quantization import dequantize
from edgeinfer.results import Mask
from edgeinfer.runtime.runtime import Runtime

pytestmark = pytest.mark.device

SAME = place(Resize(), (3, 2), (3, 2)).view  # a picture of the output's own size, 3 wide and 2 high
NAMES = ("background", "cat", "dog")


def mask_of(spec: OutputSpec, stored: np.ndarray, view: View = SAME, **given: tuple[str, ...]) -> Mask:
    return segmentation_post(metadata(spec), **given)(answers((spec, stored)), view)


# --- a class map ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 2, 3, 1)], ids=["3 axes", "4 axes"])
def test_a_class_map_is_taken_as_it_is(dtype: str, shape: tuple[int, ...]) -> None:
    stored = np.array([0, 1, 2, 2, 1, 0], dtype)
    found = mask_of(output("classes", shape, dtype), stored, labels=NAMES)
    assert found.class_id.dtype == np.uint8
    assert found.class_id.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert found.labels == NAMES


def test_a_map_of_yes_and_no_has_two_classes() -> None:
    found = mask_of(output("is road", (1, 2, 3), "bool"), np.array([1, 0, 0, 0, 1, 1], np.bool_))
    assert found.class_id.tolist() == [[1, 0, 0], [0, 1, 1]]


def test_many_classes_need_16_bits() -> None:
    found = mask_of(output("classes", (1, 2, 3), "int64"), np.array([0, 255, 256, 65535, 1, 2]))
    assert found.class_id.dtype == np.uint16
    assert found.class_id.tolist() == [[0, 255, 256], [65535, 1, 2]]


def test_many_labels_make_every_mask_16_bits() -> None:
    names = tuple(str(one) for one in range(300))
    assert (
        mask_of(output("classes", (1, 2, 3), "int64"), np.zeros(6, np.int64), labels=names).class_id.dtype == np.uint16
    )


@pytest.mark.parametrize("wrong", [-1, 65536, 2**40])
def test_a_class_beyond_16_bits_is_an_error(wrong: int) -> None:
    with pytest.raises(ModelError, match="no class in `classes`") as caught:
        mask_of(output("classes", (1, 2, 3), "int64"), np.array([0, 0, wrong, 0, 0, 0]))
    assert str(wrong) in caught.value.received


def test_a_kept_error_does_not_block_the_model() -> None:
    spec = output("classes", (1, 2, 3), "int64")
    model, post = Recorder(spec), segmentation_post(metadata(spec))
    with pytest.raises(ModelError) as kept:
        post(model.answer(np.full(6, -1)), SAME)
    assert post(model.answer(np.ones(6, np.int64)), SAME).class_id.all(), kept


def test_a_class_map_is_spread_over_the_picture() -> None:
    view = place(Resize("letterbox"), (6, 2), (4, 4)).view  # 4 * 2 / 6, rounded: one row high, the second
    stored = np.array([[9] * 4, [0, 1, 2, 3], [9] * 4, [9] * 4])
    found = mask_of(output("classes", (1, 4, 4), "int64"), stored, view)
    # The centres lie at 1/3, 1, 5/3, 7/3, 3 and 11/3 cells.
    assert found.class_id.tolist() == [[0, 1, 1, 2, 3, 3]] * 2


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16"])
def test_the_highest_score_wins(dtype: str) -> None:
    scores = np.array([[[9, 1, 1], [1, 9, 1], [1, 1, 9]], [[5, 5, 1], [0, 3, 3], [7, 2, 7]]], dtype)
    quantization = (0.0, 0) if dtype == "float32" else (0.1, 3)
    found = mask_of(output("scores", (1, 2, 3, 3), dtype, quantization), scores)
    assert found.class_id.tolist() == [[0, 1, 2], [0, 1, 0]]  # the first of equals


def test_scores_are_compared_as_they_are_stored() -> None:
    # Both are far beyond what float32 tells apart: 2^24 and 2^24 + 1.
    scores = np.tile(np.array([2**24, 2**24 + 1], np.int32), (2, 3, 1))
    assert (mask_of(output("scores", (1, 2, 3, 2), "int32", (1.0, 0)), scores).class_id == 1).all()


@pytest.mark.parametrize("opencv", [True, False], ids=["as installed", "without OpenCV"])
@given(
    scores=npst.arrays(
        st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.int64, np.float32]),
        st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 9)),
        elements={"allow_nan": False, "min_value": 0, "max_value": 100},
    )
)
@settings(max_examples=60, deadline=None)
def test_argmax_is_numpys(opencv: bool, scores: np.ndarray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not opencv:
            patch.setattr(libraries, "opencv", lambda: None)
        patch.setattr(segment, "_BLOCK_BYTES", 64)  # several blocks, the last one shorter
        np.testing.assert_array_equal(argmax(scores), np.argmax(scores, axis=2))


@pytest.mark.parametrize("classes", [256, 257, 300])
def test_argmax_tells_all_classes_apart(classes: int) -> None:
    scores = np.zeros((4, classes // 2, classes), np.int8)
    winners = np.arange(4 * (classes // 2)) % classes
    scores.reshape(-1, classes)[np.arange(len(winners)), winners] = 1
    found = argmax(scores)
    assert found.dtype == (np.uint8 if classes <= 256 else np.uint16)
    assert found.reshape(-1).tolist() == winners.tolist()


def test_argmax_changes_no_score() -> None:
    scores = np.random.default_rng(0).integers(-128, 128, (9, 9, 5)).astype(np.int8)
    before = scores.copy()
    argmax(scores)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 3), (4, 4, 0)])
def test_argmax_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="no scores"):
        argmax(np.zeros(shape, np.int8))


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_score_that_is_no_number_is_an_error(where: int, channels: int) -> None:
    scores = np.zeros((2, 3, channels), np.float32)
    scores[1, 2, where % channels] = np.nan
    with pytest.raises(ModelError, match="not a number in `scores`"):
        mask_of(output("scores", (1, 2, 3, channels)), scores)


# --- one score ------------------------------------------------------------------------------------


def test_a_probability_is_class_one_from_a_half_on() -> None:
    scores = np.array([0.0, 0.49, 0.5, 0.51, 1.0, 0.0], np.float32)
    found = mask_of(output("road", (1, 2, 3, 1), activation="sigmoid"), scores, labels=("other", "road"))
    assert found.class_id.tolist() == [[0, 0, 1], [1, 1, 0]]


def test_a_logit_is_class_one_from_zero_on() -> None:
    scores = np.array([-3.0, -0.01, 0.0, 0.01, 3.0, -1.0], np.float32)
    assert mask_of(output("road", (1, 2, 3, 1)), scores).class_id.tolist() == [[0, 0, 1], [1, 1, 0]]


def test_quantized_probabilities_are_compared_as_they_are_stored() -> None:
    # scale 1/256, zero point -128: 0.5 is stored as 0.
    stored = np.array([-128, -1, 0, 1, 127, -2], np.int8)
    spec = output("road", (1, 2, 3, 1), "int8", (1 / 256, -128), activation="sigmoid")
    assert mask_of(spec, stored).class_id.tolist() == [[0, 0, 1], [1, 1, 0]]


@given(st.floats(2**-10, 1.0, width=32), st.integers(-128, 127), st.sampled_from(["none", "sigmoid"]))
@settings(max_examples=25, deadline=None)
def test_the_stored_threshold_is_that_of_the_floats(scale: float, zero_point: int, activation: str) -> None:
    stored = np.arange(-128, 128, dtype=np.int8)
    spec = output("road", (1, 16, 16, 1), "int8", (scale, zero_point), activation=activation)  # type: ignore[arg-type]
    found = mask_of(spec, stored, place(Resize(), (16, 16), (16, 16)).view)
    real = dequantize(stored, scale=scale, zero_point=zero_point)
    np.testing.assert_array_equal(found.class_id.reshape(-1), real >= (0.0 if activation == "none" else 0.5))


def test_one_score_that_never_reaches_the_threshold_is_class_zero() -> None:
    spec = output("road", (1, 2, 3, 1), "int8", (1 / 1024, -128), activation="sigmoid")  # 0.25 at most
    assert not mask_of(spec, np.full(6, 127, np.int8)).class_id.any()


# --- which output ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outputs",
    [
        [output("row", (1, 1000))],
        [output("row", (1, 1, 1, 1000))],
        [output("points", (1, 1, 17, 3))],
        [output("depth", (1, 8, 8))],
        [output("batch", (2, 8, 8, 3))],
        [output("boxes", (1, 10, 4)), output("count", (1,))],
    ],
    ids=["a row", "a long row", "key points", "floats without classes", "a batch", "boxes"],
)
def test_other_outputs_are_refused_by_name_shape_and_type(outputs: list[OutputSpec]) -> None:
    with pytest.raises(WrongTaskError, match="no segmentation") as caught:
        segmentation_post(metadata(*outputs))
    assert all(f"`{one.name}` {one.shape} {one.dtype}" in caught.value.received for one in outputs)
    assert "Pipeline" in caught.value.next_step


def test_two_maps_of_scores_are_refused() -> None:
    with pytest.raises(WrongTaskError, match="Several"):
        segmentation_post(metadata(output("one", (1, 8, 8, 3)), output("other", (1, 8, 8, 3))))


def test_a_class_map_goes_before_scores() -> None:
    scores, classes = output("scores", (1, 2, 3, 4)), output("classes", (1, 2, 3), "int32")
    outputs = answers((scores, np.zeros((2, 3, 4), np.float32)), (classes, np.full((2, 3), 2, np.int32)))
    assert (segmentation_post(metadata(scores, classes))(outputs, SAME).class_id == 2).all()


def test_the_role_says_which_of_two_class_maps() -> None:
    one, other = output("one", (1, 2, 3), "int32"), output("other", (1, 2, 3), "int32", role="classmap")
    outputs = answers((one, np.zeros((2, 3), np.int32)), (other, np.ones((2, 3), np.int32)))
    assert segmentation_post(metadata(one, other))(outputs, SAME).class_id.all()


@pytest.mark.parametrize(("channels", "labels"), [(3, ("a", "b")), (1, ("a",)), (1, ("a", "b", "c"))])
def test_labels_that_do_not_fit_are_an_error(channels: int, labels: tuple[str, ...]) -> None:
    with pytest.raises(MetadataError, match="labels do not fit"):
        segmentation_post(metadata(output("scores", (1, 8, 8, channels))), labels=labels)


def test_the_files_labels_are_taken() -> None:
    spec = output("scores", (1, 2, 3, 3), labels=NAMES)
    assert mask_of(spec, np.zeros((2, 3, 3), np.float32)).labels == NAMES


# --- a public model -------------------------------------------------------------------------------


def test_the_birds_mask_agrees_with_the_published_one(test_data: Path) -> None:
    folder = test_data / "coral"
    runtime = Runtime(folder / "deeplabv3_mnv2_dm05_pascal_quant.tflite")
    pipeline = Pipeline(runtime, pre=stretch(runtime.input), post=segmentation_post(runtime.metadata))
    found = pipeline(folder / "bird_segmentation.bmp")
    truth = read_image(folder / "bird_segmentation_mask.bmp")[:, :, 0]
    assert (found.class_id == truth).mean() >= 0.955
    assert found.class_id.shape == truth.shape
