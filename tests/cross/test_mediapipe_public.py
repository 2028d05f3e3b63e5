"""MediaPipe's tasks see the same in public pictures as edgeinfer does, in public models and in converted ones.

The pictures come in their own sizes: each of the two resizes by itself, and not with the same filter.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cross.conftest import MediaPipe

PICTURES = ("parrot.jpg", "cat.bmp", "grace_hopper.bmp", "bird.bmp", "sunflower.bmp")
# What each picture shows, in ImageNet's words, COCO's and Pascal VOC's; MobileNetV2 has no sunflower.
IMAGENET = ("macaw", "Egyptian cat", "military uniform", "chickadee", "daisy")
COCO = ("bird", "cat", "person", "bird")
PASCAL = ("bird", "cat", "person", "bird")
PIXELS = ("--normalization", "127.5", "127.5")


@pytest.fixture(scope="module")
def pictures(test_data: Path) -> list[NDArray[np.uint8]]:
    from edgeinfer import read_image

    return [read_image(test_data / "coral" / name) for name in PICTURES]


def annotated(model: Path, target: Path, *options: object) -> Path:
    from converters.cli import main

    line = ["annotate", model, *options, *PIXELS, "-o", target, "--quiet"]
    assert main([str(word) for word in line]) == 0
    return target


def test_the_published_classifier_names_the_same_classes(
    mediapipe: MediaPipe, test_data: Path, pictures: list[NDArray[np.uint8]]
) -> None:
    from edgeinfer import classifier

    model = test_data / "coral" / "mobilenet_v2_1.0_224_quant.tflite"
    theirs = [ranked[0][1] for ranked in mediapipe.asked("classification", model, pictures)]
    ours = [next(iter(answer)).label for answer in map(classifier(model), pictures)]
    assert tuple(ours) == tuple(theirs) == IMAGENET


def test_the_annotated_detector_finds_the_same(
    mediapipe: MediaPipe, test_data: Path, pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    from edgeinfer import detector

    source = test_data / "detection"
    published = source / "ssd_mobilenet_v1_coco_quant_detect.tflite"
    options = ("--task", "detection", "--labels", source / "COCO_labels.txt")
    model = annotated(published, tmp_path / "ssd.tflite", *options)
    theirs = [boxes[0][0] for boxes in mediapipe.asked("detection", model, pictures)]
    ours = [next(iter(answer)).label for answer in map(detector(model), pictures)]
    assert ours == theirs
    assert tuple(ours[:4]) == COCO


@pytest.mark.tensorflow
def test_the_annotated_segmenter_draws_the_same_map(
    mediapipe: MediaPipe, test_data: Path, pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    """DeepLab without its last op: MediaPipe has no int64 outputs, and takes the argmax itself."""
    from tensorflow.lite.tools import flatbuffer_utils

    from edgeinfer import segmenter

    coral = test_data / "coral"
    labels = tmp_path / "labels.txt"
    lines = (coral / "pascal_voc_segmentation_labels.txt").read_text().splitlines()
    labels.write_text("\n".join(lines[:21]) + "\n")  # a comment follows them
    tree = flatbuffer_utils.read_model(str(coral / "deeplabv3_mnv2_dm05_pascal_quant.tflite"))
    last = tree.subgraphs[0].operators.pop()
    tree.subgraphs[0].outputs = [int(last.inputs[0])]
    flatbuffer_utils.write_model(tree, str(tmp_path / "scores.tflite"))
    options = ("--task", "segmentation", "--labels", labels)
    model = annotated(tmp_path / "scores.tflite", tmp_path / "deeplab.tflite", *options)
    found = mediapipe.asked("segmentation", model, pictures[:4])
    segment = segmenter(model)
    for picture, (theirs, _), name in zip(pictures, found["answers"], PASCAL, strict=False):
        ours = segment(picture).class_id
        counts = np.bincount(ours.ravel(), minlength=21)
        assert found["labels"][1 + int(counts[1:].argmax())] == name
        assert (ours == np.array(theirs)).mean() > 0.95


def test_a_map_of_class_numbers_is_nothing_for_mediapipe(
    mediapipe: MediaPipe, test_data: Path, pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    published = test_data / "coral" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    model = annotated(published, tmp_path / "map.tflite", "--task", "segmentation")
    assert "Unsupported output tensor type:INT64" in mediapipe.refused("segmentation", model, pictures[:1])


def test_mediapipes_pose_task_takes_no_single_file(
    mediapipe: MediaPipe, test_data: Path, pictures: list[NDArray[np.uint8]]
) -> None:
    """It wants a bundle (`.task`), a zip archive with a detector of people and a model of their points."""
    model = test_data / "coral" / "movenet_single_pose_lightning_ptq.tflite"
    assert "Unable to open zip archive" in mediapipe.refused("pose", model, pictures[:1])


@pytest.fixture(scope="module")
def network(test_data: Path) -> Any:
    """MobileNet 0.25 at 128x128, as keras.applications builds it, with 1001 classes."""
    keras = pytest.importorskip("keras")
    path = test_data / "keras_imagenet" / "mobilenet_v1_0.25_128_from_tflite.h5"
    return keras.models.load_model(path, compile=False)


def for_android(model: Any, test_data: Path, target: Path, **card: Any) -> Path:
    """Convert without a word about input and output: the target knows what MediaPipe takes."""
    from converters import Card, Quantize, Recipe, convert

    recipe = Recipe((Quantize("int8", samples=100),), target="android")
    card["normalization"] = (127.5, 127.5)
    convert(model, test_data / "imagenet_sample", recipe=recipe, card=Card(**card)).save(target)
    return target


@pytest.mark.tensorflow
def test_a_classifier_for_android_opens_and_names_the_same_classes(
    mediapipe: MediaPipe, test_data: Path, pictures: list[NDArray[np.uint8]], network: Any, tmp_path: Path
) -> None:
    from edgeinfer import classifier, read_labels

    names = read_labels(test_data / "coral" / "imagenet_labels.txt")
    model = for_android(network, test_data, tmp_path / "classes.tflite", labels=names)
    classify = classifier(model)
    assert classify.runtime.inputs[0].dtype == "uint8"
    theirs = [ranked[0][1] for ranked in mediapipe.asked("classification", model, pictures)]
    ours = [next(iter(answer)).label for answer in map(classify, pictures)]
    assert ours == theirs
    assert ours[0] == "macaw"


@pytest.mark.tensorflow
def test_an_embedder_for_android_opens_and_gives_the_same_direction(
    mediapipe: MediaPipe, test_data: Path, pictures: list[NDArray[np.uint8]], network: Any, tmp_path: Path
) -> None:
    import keras

    from edgeinfer import embedder

    pooled = network.get_layer("global_average_pooling2d").output
    headless = keras.Model(network.inputs, keras.layers.Flatten()(pooled))
    model = for_android(headless, test_data, tmp_path / "features.tflite", task="embedding")
    embed = embedder(model)
    for picture, theirs in zip(pictures, mediapipe.asked("embedding", model, pictures), strict=True):
        ours = embed(picture).vector
        cosine = ours @ np.array(theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs)
        assert cosine > 0.9
