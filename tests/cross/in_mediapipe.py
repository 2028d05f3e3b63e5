"""Runs in MediaPipe's own environment: one of its tasks answers for pictures, from one of our files.

    python in_mediapipe.py TASK MODEL.tflite PICTURES.npz ANSWERS.json

TASK is "classification", "detection", "segmentation", "embedding" or "pose"; the pictures are RGB, and of any size.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

# Of detections: what the object detector leaves out.
LEAST_SCORE = 0.3


def classify(base: Any, images: list[Any]) -> Any:
    """Return of each picture all classes: index, name, score, best first."""
    with vision.ImageClassifier.create_from_options(vision.ImageClassifierOptions(base_options=base)) as classifier:
        results = [classifier.classify(image).classifications[0].categories for image in images]
    return [[[row.index, row.category_name, row.score] for row in rows] for rows in results]


def detect(base: Any, images: list[Any]) -> Any:
    """Return of each picture what was found: name, score, box as (left, top, right, bottom) in pixels."""
    options = vision.ObjectDetectorOptions(base_options=base, score_threshold=LEAST_SCORE)
    found = []
    with vision.ObjectDetector.create_from_options(options) as detector:
        for image in images:
            boxes = []
            for row in detector.detect(image).detections:
                box, best = row.bounding_box, row.categories[0]
                xyxy = [box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height]
                boxes.append([best.category_name, best.score, xyxy])
            found.append(boxes)
    return found


def segment(base: Any, images: list[Any]) -> Any:
    """Return the labels, and of each picture the class of each pixel and the sum of a pixel's confidences."""
    options = vision.ImageSegmenterOptions(base_options=base, output_category_mask=True, output_confidence_masks=True)
    found = []
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        for image in images:
            result = segmenter.segment(image)
            sums = np.sum([mask.numpy_view().squeeze() for mask in result.confidence_masks], axis=0)
            found.append([result.category_mask.numpy_view().squeeze().tolist(), sums.tolist()])
        return {"labels": list(segmenter.labels), "answers": found}


def embed(base: Any, images: list[Any]) -> Any:
    """Return of each picture its features."""
    with vision.ImageEmbedder.create_from_options(vision.ImageEmbedderOptions(base_options=base)) as embedder:
        return [embedder.embed(image).embeddings[0].embedding.tolist() for image in images]


def pose(base: Any, images: list[Any]) -> Any:
    """Return of each picture how many people were found."""
    with vision.PoseLandmarker.create_from_options(vision.PoseLandmarkerOptions(base_options=base)) as poser:
        return [len(poser.detect(image).pose_landmarks) for image in images]


TASKS = {"classification": classify, "detection": detect, "segmentation": segment, "embedding": embed, "pose": pose}


def main(task: str, model: str, pictures: str, answers: str) -> None:
    """Answer for all pictures of a file."""
    with np.load(pictures) as stored:
        images = [
            mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(stored[name]))
            for name in stored.files
        ]
    Path(answers).write_text(json.dumps(TASKS[task](BaseOptions(model_asset_path=model), images)))


if __name__ == "__main__":
    main(*sys.argv[1:])
