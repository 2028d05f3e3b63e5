"""MediaPipe's tasks open our files and answer as edgeinfer does: another reader of the metadata, and another engine.

The pictures have the model's own size, so that no resizing stands between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cross.conftest import MediaPipe

SIZE = 32
LABELS = ("red", "green", "blue", "grey", "dark")


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """Ten pictures of patches of one colour each, with some noise."""
    random = np.random.default_rng(5)
    patches = random.integers(0, 256, (10, 4, 4, 3)).repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)
    noisy = np.clip(patches + random.integers(-12, 13, patches.shape), 0, 255).astype(np.uint8)
    noisy[0, 0, 0] = (0, 128, 255)
    return noisy


def converted(ending: Sequence[Any], task: str, pictures: NDArray[np.uint8], path: Path, **card: Any) -> Path:
    """A small network with these layers at its end, as an int8 file with uint8 at both ends."""
    import keras

    from converters import Card, Quantize, Recipe, convert

    keras.utils.set_random_seed(11)
    stem = [
        keras.Input((SIZE, SIZE, 3)),
        keras.layers.Rescaling(1 / 127.5, offset=-1),
        keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
    ]
    model = keras.Sequential([*stem, *ending], name=task)
    recipe = Recipe((Quantize("int8", io="uint8"),))
    convert(model, pictures, recipe=recipe, card=Card(task=task, **card)).save(path)  # type: ignore[arg-type]
    return path


@pytest.mark.tensorflow
def test_the_classifier_names_the_same_classes_with_the_same_scores(
    mediapipe: MediaPipe, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    from keras import layers

    from edgeinfer import classifier

    end = [layers.Conv2D(8, 3, strides=8, activation="relu"), layers.Flatten(), layers.Dense(5, activation="softmax")]
    model = converted(end, "classification", pictures, tmp_path / "classes.tflite", labels=LABELS)
    classify = classifier(model)
    for theirs, picture in zip(mediapipe.asked("classification", model, pictures), pictures, strict=True):
        ours = {row.class_id: row for row in classify(picture)}
        assert len(theirs) == len(ours) == 5
        for index, name, score in theirs:
            assert name == LABELS[index]
            # Two steps of an 8-bit softmax: the two engines round their sums differently.
            assert abs(ours[index].confidence - score) <= 2 / 256
        best = max(theirs, key=lambda row: row[2])
        assert ours[best[0]].confidence >= max(row.confidence for row in ours.values()) - 2 / 256


@pytest.mark.tensorflow
@pytest.mark.parametrize("activation", ["softmax", None], ids=["probabilities", "logits"])
def test_the_segmenter_says_the_same_of_every_pixel(
    mediapipe: MediaPipe, pictures: NDArray[np.uint8], tmp_path: Path, activation: str | None
) -> None:
    from keras import layers

    from edgeinfer import segmenter

    end = [layers.Conv2D(5, 1, activation=activation)]
    model = converted(end, "segmentation", pictures, tmp_path / "map.tflite", labels=LABELS)
    segment = segmenter(model)
    found = mediapipe.asked("segmentation", model, pictures)
    assert found["labels"] == list(LABELS)
    for (theirs, shares), picture in zip(found["answers"], pictures, strict=True):
        ours = segment(picture)
        assert ours.labels == LABELS
        # 8 bits have ties and sums that the two engines round differently.
        assert (ours.class_id == np.array(theirs)).mean() >= 0.99
        # The custom metadata says whether a softmax is still to be done: what comes out are shares of one.
        np.testing.assert_allclose(shares, 1.0, atol=0.02)


@pytest.mark.tensorflow
def test_the_embedder_gives_the_same_features(
    mediapipe: MediaPipe, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    from keras import layers

    from edgeinfer import embedder

    end = [layers.Conv2D(16, 3, strides=4, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(12)]
    model = converted(end, "embedding", pictures, tmp_path / "features.tflite")
    embed = embedder(model)
    for theirs, picture in zip(mediapipe.asked("embedding", model, pictures), pictures, strict=True):
        ours = embed(picture).vector
        step = embed.runtime.outputs[0].scale
        np.testing.assert_allclose(ours, theirs, atol=2.01 * step)


def test_the_object_detector_finds_the_same_boxes(mediapipe: MediaPipe, test_data: Path, tmp_path: Path) -> None:
    """The file's detection op counts 90 classes without a background, the list beside it begins with "unlabeled"."""
    from PIL import Image

    from converters.cli import main
    from edgeinfer import detector
    from edgeinfer.model.metadata import read_labels

    model = tmp_path / "ssd.tflite"
    source = test_data / "detection"
    options = ["--task", "detection", "--labels", source / "COCO_labels.txt", "--normalization", 128, 128]
    line = ["annotate", source / "ssd_mobilenet_v1_coco_quant_detect.tflite", *options, "-o", model, "--quiet"]
    assert main([str(word) for word in line]) == 0
    paths = sorted((test_data / "coco128").rglob("*.jpg"))[:12]
    photos = np.stack([np.asarray(Image.open(path).convert("RGB").resize((300, 300))) for path in paths])
    detect = detector(model)
    names = read_labels(source / "COCO_labels.txt")[1:]
    total = 0
    for theirs, photo in zip(mediapipe.asked("detection", model, photos), photos, strict=True):
        found = detect(photo)
        assert found.labels == names
        ours = [(one.label, one.confidence, one.xyxy) for one in found if one.confidence >= 0.3]
        assert len(ours) == len(theirs)
        for (label, confidence, xyxy), (their_label, their_score, their_xyxy) in zip(ours, theirs, strict=True):
            assert label == their_label
            assert abs(confidence - their_score) < 1e-3
            # MediaPipe rounds to whole pixels. Of a box that begins outside it moves the corner and keeps the width, so
            # that its other side says nothing.
            sure = np.array([True, True, xyxy[0] > 0, xyxy[1] > 0])
            np.testing.assert_allclose(np.array(xyxy)[sure], np.clip(their_xyxy, 0, 300)[sure], atol=2.0)
        total += len(ours)
    assert total >= 12
