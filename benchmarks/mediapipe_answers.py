"""Claim: MediaPipe Tasks opens our files in all four of its tasks that take one, and sees the same in public pictures.

    EDGEINFER_TEST_DATA=... python benchmarks/mediapipe_answers.py --mediapipe .venv/mediapipe/bin/python

Both get the same decoded pictures: at their own sizes, so that each resizes by itself (MediaPipe's filter is not ours),
and at the model's size, where nobody resizes and only the engines differ. A row is a picture at one of the two sizes:
the first answer of both, and how far they agree (of segmentation: the share of pixels with the same class; of
detection: the overlap of the first boxes; of embedding, where the first answer is the nearest other picture: the cosine
between both vectors).

The files: Coral's MobileNetV2 as it was published; two classifiers and two embedders that `convert` made for
`target="android"` from Keras models; the public SSD and DeepLab with their metadata written by `annotate`. DeepLab's
ARG_MAX is taken off first, because MediaPipe has no int64 output ("Unsupported output tensor type:INT64"). MediaPipe's
pose task is left out: it takes a bundle of several models (`.task`) and no single file ("Unable to open zip archive.").
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import test_data, versions, write_rows

from edgeinfer import DetectionOptions, classifier, detector, embedder, read_image, read_labels, segmenter
from edgeinfer.model.metadata import Normalization, read

ROOT = Path(__file__).resolve().parents[1]
READER = ROOT / "tests" / "cross" / "in_mediapipe.py"
CORAL_PICTURES = ("parrot.jpg", "cat.bmp", "grace_hopper.bmp", "bird.bmp", "sunflower.bmp")
STREET_PICTURES = 11
LEAST_SCORE = 0.3
PIXELS = Normalization(127.5, 127.5)
Answer = tuple[str, float]
Image = NDArray[np.uint8]


def pictures(data: Path) -> dict[str, Image]:
    """Return the pictures by name, decoded."""
    paths = [data / "coral" / name for name in CORAL_PICTURES]
    paths += sorted((data / "coco128" / "images").rglob("*.jpg"))[:STREET_PICTURES]
    return {path.name: read_image(path) for path in paths}


def at_size_of(model: Path, images: dict[str, Image]) -> dict[str, Image]:
    """Return the pictures at the model's size."""
    from PIL import Image as PillowImage

    size = read(model).inputs[0].size
    return {name: np.asarray(PillowImage.fromarray(image).resize(size)) for name, image in images.items()}


def without_argmax(path: Path, target: Path) -> None:
    """Write a model whose last op is ARG_MAX without it: its output is then the map of scores."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    graph = model.subgraphs[0]
    graph.outputs = [int(graph.operators.pop().inputs[0])]
    flatbuffer_utils.write_model(model, str(target))


def converted(source: Path, calibration: Path, target: Path, *, task: str, labels: tuple[str, ...] = ()) -> Path:
    """Convert a Keras classifier for Android, or what stands before its head as an embedder."""
    import keras

    from converters import Card, Quantize, Recipe, convert

    model: Any = keras.models.load_model(source, compile=False)
    if task == "embedding":
        pooled = next(layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D))
        model = keras.Model(model.inputs, keras.layers.Flatten()(pooled.output))
    recipe = Recipe((Quantize("int8", samples=100),), target="android")
    card = Card(task=task, labels=labels, normalization=(PIXELS.mean, PIXELS.std))  # type: ignore[arg-type]
    convert(model, calibration, recipe=recipe, card=card).save(target)
    return target


def files(data: Path, folder: Path) -> list[tuple[str, str, Path]]:
    """Return task, words and file of each model."""
    from converters.metadata import annotate

    coral, photos = data / "coral", data / "imagenet_sample"
    found = [("classification", "MobileNetV2 of Coral, as published", coral / "mobilenet_v2_1.0_224_quant.tflite")]
    names = read_labels(coral / "imagenet_labels.txt")
    for name, words in (
        ("mobilenet_v2_1.0_224", "MobileNetV2 of Keras, converted"),
        ("mobilenet_v1_0.25_128", "MobileNet 0.25 of Keras, converted"),
    ):
        source = data / "keras_imagenet" / f"{name}_from_tflite.h5"
        file = converted(source, photos, folder / f"{name}.tflite", task="classification", labels=names)
        found.append(("classification", words, file))
        file = converted(source, photos, folder / f"{name}-features.tflite", task="embedding")
        found.append(("embedding", f"{words.removesuffix(', converted')} without its head, converted", file))
    labels = read_labels(data / "detection" / "COCO_labels.txt")
    published = (data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite").read_bytes()
    (folder / "ssd.tflite").write_bytes(annotate(published, task="detection", labels=labels, normalization=PIXELS))
    found.append(("detection", "SSD MobileNet v1, annotated", folder / "ssd.tflite"))
    labels = read_labels(coral / "pascal_voc_segmentation_labels.txt")[:21]  # a comment follows them
    without_argmax(coral / "deeplabv3_mnv2_dm05_pascal_quant.tflite", folder / "scores.tflite")
    scores = (folder / "scores.tflite").read_bytes()
    (folder / "deeplab.tflite").write_bytes(annotate(scores, task="segmentation", labels=labels, normalization=PIXELS))
    found.append(("segmentation", "DeepLabV3 dm05 without ARG_MAX, annotated", folder / "deeplab.tflite"))
    return found


def classification(model: Path, images: list[Image], theirs: Any) -> list[tuple[Answer, Answer, str]]:
    """Compare the first classes."""
    classify = classifier(model)
    rows = []
    for image, ranked in zip(images, theirs, strict=True):
        first = next(iter(classify(image)))
        _, name, score = ranked[0]
        rows.append(((first.label or "", first.confidence), (name, score), ""))
    return rows


def detection(model: Path, images: list[Image], theirs: Any) -> list[tuple[Answer, Answer, str]]:
    """Compare what was found with the best score."""
    detect = detector(model, options=DetectionOptions(confidence=LEAST_SCORE))
    rows = []
    for image, boxes in zip(images, theirs, strict=True):
        ours = [(row.label or "", row.confidence, row.xyxy) for row in detect(image)]
        both = "" if not ours or not boxes else f"{overlap(ours[0][2], boxes[0][2], image):.3f}"
        first, other = (found[0][:2] if found else ("nothing", 0.0) for found in (ours, boxes))
        rows.append((first, other, both))
    return rows


def overlap(ours: Any, theirs: Any, image: Image) -> float:
    """Return intersection over union of two boxes, both cut off at the picture's edges."""
    limits = [image.shape[1], image.shape[0]] * 2
    one, other = np.clip(ours, 0, limits), np.clip(theirs, 0, limits)
    sides = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0)
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    shared = float(np.prod(sides))
    return shared / (sum(areas) - shared)


def segmentation(model: Path, images: list[Image], theirs: Any) -> list[tuple[Answer, Answer, str]]:
    """Compare the largest class that is not the background, and all pixels."""
    segment = segmenter(model)
    rows = []
    for image, (their_map, _) in zip(images, theirs["answers"], strict=True):
        maps = [segment(image).class_id, np.array(their_map)]
        largest = [largest_class(one, theirs["labels"]) for one in maps]
        rows.append((largest[0], largest[1], f"{float((maps[0] == maps[1]).mean()):.4f}"))
    return rows


def largest_class(found: NDArray[Any], labels: list[str]) -> Answer:
    """Return the name and share of the largest class that is not the background."""
    counts = np.bincount(found.ravel(), minlength=len(labels))
    counts[0] = 0
    best = int(counts.argmax())
    return (labels[best], float(counts[best] / found.size)) if counts[best] else ("background", 1.0)


def embedding(model: Path, images: list[Image], theirs: Any) -> list[tuple[Answer, Answer, str]]:
    """Compare the vectors, and which other picture is the nearest."""
    embed = embedder(model)
    sides = [np.array([embed(image).vector for image in images]), np.array(theirs)]
    sides = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
    names = list(pictures(test_data()))
    nearest = []
    for side in sides:
        cosines = side @ side.T
        np.fill_diagonal(cosines, -1)
        nearest.append([(names[int(row.argmax())], float(row.max())) for row in cosines])
    same = (sides[0] * sides[1]).sum(axis=1)
    return [(ours, other, f"{cosine:.4f}") for ours, other, cosine in zip(*nearest, same, strict=True)]


COMPARE: dict[str, Callable[[Path, list[Image], Any], list[tuple[Answer, Answer, str]]]] = {
    "classification": classification,
    "detection": detection,
    "segmentation": segmentation,
    "embedding": embedding,
}


def ask_mediapipe(python: str, task: str, model: Path, packed: Path, folder: Path) -> Any:
    """Return what MediaPipe answers for all pictures."""
    answers = folder / "answers.json"
    subprocess.run([python, str(READER), task, str(model), str(packed), str(answers)], check=True, capture_output=True)
    return json.loads(answers.read_text())


def main() -> None:
    """Write a row for each model and picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mediapipe", default=str(ROOT / ".venv" / "mediapipe" / "bin" / "python"))
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))  # converters
    data = test_data()
    images: dict[str, Any] = pictures(data)
    code = "import mediapipe; print(mediapipe.__version__)"
    version = subprocess.run([options.mediapipe, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task, words, model in files(data, folder):
            for size, given in (("its own", images), ("the model's", at_size_of(model, images))):
                np.savez(folder / "pictures.npz", **given)
                theirs = ask_mediapipe(options.mediapipe, task, model, folder / "pictures.npz", folder)
                found = COMPARE[task](model, list(given.values()), theirs)
                same = sum(ours[0] == other[0] for ours, other, _ in found)
                print(f"{task}, {words}, pictures at {size} size: {same} of {len(found)} first answers are the same")
                for picture, (ours, other, agreement) in zip(given, found, strict=True):
                    row = {"task": task, "model": words, "picture": picture, "size": size}
                    row |= {"edgeinfer": ours[0], "edgeinfer_score": f"{ours[1]:.3f}"}
                    row |= {"mediapipe": other[0], "mediapipe_score": f"{other[1]:.3f}"}
                    row |= {"same": "yes" if ours[0] == other[0] else "no", "agreement": agreement}
                    rows.append({**row, "versions": f"mediapipe {version}, {versions()}"})
    write_rows("mediapipe-answers", rows)


if __name__ == "__main__":
    main()
