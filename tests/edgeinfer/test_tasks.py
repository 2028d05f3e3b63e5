"""The constructors: each takes the files of its task, and says which one to use for the others."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_flatbuffer import Scalar, Vector
from tiny_models import MEAN, RESHAPE, OperatorSpec, TensorSpec

import edgeinfer
from edgeinfer.errors import MetadataError, WrongTaskError
from edgeinfer.results import Classifications, Detections, Embedding, Keypoints, Mask
from edgeinfer.tasks import classifier, detector, embedder, load, poser, segmenter

pytestmark = pytest.mark.device

PIXELS = (0.0, 1.0)
ARG_MAX, ARG_MAX_OPTIONS, INT64 = 56, 40, 4


def reshaped(shape: tuple[int, ...], into: tuple[int, ...], *, signature: bool = False) -> bytes:
    """A model that answers with its own input, float32, in another shape."""
    open_axis = (-1, *shape[1:]) if signature else None
    tensors = [
        TensorSpec("picture", shape, shape_signature=open_axis),
        TensorSpec("shape", (len(into),), "int32", values=[-1 if signature else into[0], *into[1:]]),
        TensorSpec("answer", into, shape_signature=(-1, *into[1:]) if signature else None),
    ]
    operator = OperatorSpec(RESHAPE, (0, 1), (2,), 17, {0: Vector("i", [-1 if signature else into[0], *into[1:]])})
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=[2])


def strongest_channel() -> bytes:
    """A segmentation whose class is the strongest colour channel of each pixel: argmax in the graph."""
    tensors = [
        TensorSpec("picture", (1, 8, 8, 3), "uint8", 1.0),
        TensorSpec("axis", (), "int32", values=[3]),
        TensorSpec("map", (1, 8, 8), "int64"),
    ]
    operator = OperatorSpec(ARG_MAX, (0, 1), (2,), ARG_MAX_OPTIONS, {0: Scalar("b", INT64)}, version=1)
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=[2])


def mean_colour() -> bytes:
    """An embedding of three numbers: the mean of each colour channel."""
    tensors = [
        TensorSpec("picture", (1, 8, 8, 3)),
        TensorSpec("axes", (2,), "int32", values=[1, 2]),
        TensorSpec("mean", (1, 3)),
    ]
    operator = OperatorSpec(MEAN, (0, 1), (2,), 27, {0: Scalar("b", 0)})
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=[2])


def halves() -> np.ndarray:
    """A picture, (40, 60): red at the left, blue at the right."""
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30, 0] = 255
    picture[:, 30:, 2] = 255
    return picture


def test_a_segmenter_says_of_each_pixel_what_it_is() -> None:
    found = segmenter(strongest_channel(), labels=("red", "green", "blue"))(halves())
    assert isinstance(found, Mask)
    assert found.class_id.shape == (40, 60)
    assert found.shares() == {"red": 0.5, "blue": 0.5}
    assert (found.class_id[:, :30] == 0).all()


def test_a_part_of_a_picture_is_answered_in_pixels_of_the_whole() -> None:
    found = segmenter(strongest_channel())(halves(), region=(30, 10, 60, 40))
    assert found.class_id.shape == (40, 60)
    assert (found.class_id[10:, 30:] == 2).all()
    assert (found.class_id[:10] == 0).all()
    assert (found.class_id[:, :30] == 0).all()


def test_a_poser_says_points_in_pixels_of_the_picture() -> None:
    """Each point of the answer is one pixel of the tensor: y, x and confidence are its red, green and blue / 255."""
    pose = poser(reshaped((1, 17, 1, 3), (1, 1, 17, 3)), normalization=(0.0, 255.0))
    picture = np.full((34, 10, 3), (51, 102, 204), np.uint8)
    found = pose(picture)
    assert isinstance(found, Keypoints)
    np.testing.assert_allclose(found.xy[0], np.tile([0.4 * 10, 0.2 * 34], (17, 1)), atol=1e-4)
    np.testing.assert_allclose(found.confidence, 0.8, atol=1e-6)
    assert found.names[0] == "nose"


def test_an_embedder_gives_the_features_and_like_pictures_lie_near() -> None:
    embed = embedder(mean_colour(), normalization=PIXELS)
    red, dark_red, blue = (
        embed(np.full((9, 9, 3), colour, np.uint8)) for colour in ((200, 0, 0), (80, 0, 0), (0, 0, 90))
    )
    assert isinstance(red, Embedding)
    np.testing.assert_allclose(red.vector, [200, 0, 0])
    assert red.similarity(dark_red) == pytest.approx(1.0)
    assert red.similarity(blue) == 0.0


def test_a_classifier_is_an_embedder_of_its_class_scores() -> None:
    data = tiny_models.classifier(normalization=(0.0, 255.0))
    assert embedder(data)(np.zeros((8, 8, 3), np.uint8)).vector.shape == (4,)


# --- files of another task ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constructor", "data", "says"),
    [
        (detector, strongest_channel(), "says segmentation: use `segmenter`"),
        (classifier, strongest_channel(), "says segmentation: use `segmenter`"),
        (segmenter, tiny_models.classifier(), "says classification: use `classifier`"),
        (poser, tiny_models.classifier(), "says classification: use `classifier`"),
        (embedder, reshaped((1, 17, 1, 3), (1, 1, 17, 3)), "says pose: use `poser`"),
    ],
    ids=["detector", "classifier", "segmenter", "poser", "embedder"],
)
def test_a_file_of_another_task_names_its_own_constructor(constructor: Any, data: bytes, says: str) -> None:
    with pytest.raises(WrongTaskError, match=says):
        constructor(data)


@pytest.mark.parametrize("constructor", [detector, segmenter, poser], ids=lambda one: one.__name__)
def test_outputs_that_match_nothing_are_named_with_the_way_out(constructor: Any) -> None:
    with pytest.raises(WrongTaskError) as caught:
        constructor(reshaped((1, 8, 8, 3), (1, 4, 12, 2, 2)), normalization=PIXELS)
    said = str(caught.value)
    assert "`answer`" in said
    assert "(1, 4, 12, 2, 2)" in said
    assert "float32" in said
    assert "Pipeline" in said


# --- load -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (tiny_models.classifier(normalization=(0.0, 255.0)), Classifications),
        (strongest_channel(), Mask),
    ],
    ids=["classification", "segmentation"],
)
def test_load_chooses_by_what_the_file_is(data: bytes, kind: type) -> None:
    assert isinstance(load(data)(np.zeros((8, 8, 3), np.uint8)), kind)


def test_load_opens_the_public_detection_and_pose_models(test_data: Path) -> None:
    street = np.zeros((60, 90, 3), np.uint8)
    assert isinstance(load(test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite")(street), Detections)
    assert isinstance(load(test_data / "coral" / "movenet_single_pose_lightning_ptq.tflite")(street), Keypoints)


# --- what does not fit ------------------------------------------------------------------------------


@pytest.fixture
def ssd(test_data: Path) -> Path:
    return test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite"


def test_a_background_in_front_of_the_labels_is_left_out_where_the_op_does_not_count_it(
    test_data: Path, ssd: Path
) -> None:
    """The picture is Coral's own of a cat."""
    names = edgeinfer.read_labels(test_data / "detection" / "COCO_labels.txt")
    assert names[0] == "unlabeled"
    found = detector(ssd, labels=names)(test_data / "coral" / "cat.bmp")
    assert next(iter(found)).label == "cat"


def test_labels_that_end_before_the_answered_class_are_refused(test_data: Path, ssd: Path) -> None:
    with pytest.raises(MetadataError, match="answers with a class that has no name"):
        detector(ssd, labels=["person", "bicycle"])(test_data / "coral" / "cat.bmp")


def test_one_text_is_no_list_of_labels(ssd: Path) -> None:
    with pytest.raises(MetadataError, match="one text"):
        detector(ssd, labels="cat")


def test_floats_of_another_shape_are_told_how_to_become_a_picture() -> None:
    classify = classifier(tiny_models.classifier(normalization=(0.0, 255.0)))
    with pytest.raises(edgeinfer.InputError, match="A picture of any size is uint8"):
        classify(np.zeros((30, 40, 3), np.float64))


# --- several at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_open", [True, False], ids=["an open batch", "a batch of one"])
def test_several_pictures_are_answered_as_each_alone(is_open: bool) -> None:
    data = reshaped((1, 17, 1, 3), (1, 1, 17, 3), signature=is_open)
    pose = poser(data, normalization=(0.0, 255.0))
    assert pose.runtime.metadata.open_batch is is_open
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (17, 5 + place, 3), dtype=np.uint8) for place in range(4)]
    together = pose.batch(pictures)
    alone = [pose(picture) for picture in pictures]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.xy, other.xy)
        np.testing.assert_array_equal(one.confidence, other.confidence)
    assert pose.timing.frames == 8


def test_one_bad_picture_of_several_leaves_the_pipeline_usable() -> None:
    pose = poser(reshaped((1, 17, 1, 3), (1, 1, 17, 3), signature=True), normalization=(0.0, 255.0))
    good = np.zeros((17, 5, 3), np.uint8)
    kept = []
    for bad in (np.zeros((0, 5, 3), np.uint8), np.full((17, 1, 3), np.nan, np.float32)):
        with pytest.raises(edgeinfer.InputError) as caught:
            pose.batch([good, bad])
        kept.append(caught.value)  # whoever keeps the error must not keep the tensor
    assert len(pose(good)) == 1
    assert len(pose.batch([good, good])) == 2


# --- what a frame costs ---------------------------------------------------------------------------


def peak_of_one_frame(answer: Callable[[np.ndarray], object], frame: np.ndarray) -> int:
    for _ in range(3):
        answer(frame)
    tracemalloc.start()
    try:
        answer(frame)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        answer(frame)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_a_classified_frame_allocates_no_block_above_16_kilobytes() -> None:
    pytest.importorskip("cv2", reason="Pillow resizes into memory of its own: only OpenCV writes where it is told")
    classify = classifier(tiny_models.classifier(size=(96, 96), classes=1001, normalization=(0.0, 255.0)))
    frame = np.zeros((720, 1280, 3), np.uint8)
    # All blocks of the frame together stay below it, so each of them does.
    assert peak_of_one_frame(classify, frame) < 16 * 1024
