"""From a command's options to a pipeline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from edgeinfer.command import picture_options
from edgeinfer.errors import InputError, InputFileError, MetadataError
from edgeinfer.model_options import (
    chosen_task,
    detection_options,
    model_options,
    open_pipeline,
    open_runtime,
    task_options,
)

RED = np.full((4, 4, 3), (255, 0, 0), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that names colours, and says how to normalize but not what it does."""
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_models.classifier(labels=("red", "green", "blue", "dark"), normalization=(0.0, 255.0)))
    return path


def parsed(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    model_options(parser)
    task_options(parser)
    picture_options(parser)
    return parser.parse_args([str(word) for word in words])


def test_threads_and_device_reach_the_runtime(model: Path) -> None:
    runtime = open_runtime(parsed("--threads", 1, "--device", "cpu"), model)
    assert (runtime.threads, runtime.device, runtime.path) == (1, "cpu", model)


def test_one_device_is_that_of_all_models(model: Path) -> None:
    options = parsed("--device", "cpu")
    assert [open_runtime(options, model, place=place, of=3).device for place in range(3)] == ["cpu"] * 3


@pytest.mark.parametrize(("given", "models"), [(2, 1), (2, 3), (3, 2)])
def test_several_devices_are_one_for_each_model(model: Path, given: int, models: int) -> None:
    with pytest.raises(InputError, match="once for each") as caught:
        open_runtime(parsed(*["--device", "cpu"] * given), model, of=models)
    assert caught.value.received.startswith(f"{given} for {models} model")


def test_a_fallback_for_models_that_are_all_on_the_cpu_is_one_too_many(model: Path) -> None:
    with pytest.raises(InputError, match="too many") as caught:
        open_runtime(parsed("--device", "cpu", "--device", "cpu", "--fallback", model), model, of=2)
    assert caught.value.received == "1 for 2 models, 0 of them on an Edge TPU"


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="does not exist"):
        open_runtime(parsed(), tmp_path / "none.tflite")


def test_a_file_that_says_nothing_is_taken_for_a_classifier(tmp_path: Path) -> None:
    path = tmp_path / "bare.tflite"
    path.write_bytes(tiny_models.dense())
    runtime = open_runtime(parsed(), path)
    assert runtime.metadata.task == "tensors"
    assert chosen_task(parsed(), runtime) == "classification"


def test_the_task_of_the_line_wins(model: Path) -> None:
    assert chosen_task(parsed("--task", "embedding"), open_runtime(parsed(), model)) == "embedding"


def test_labels_of_the_line_take_the_place_of_the_files_own(model: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("rot\ngelb\nblau\ndunkel\n")
    options = parsed("--labels", tmp_path / "names.txt")
    assert open_pipeline(options, open_runtime(options, model))(RED).label == "rot"
    assert open_pipeline(parsed(), open_runtime(parsed(), model))(RED).label == "red"


def test_an_answer_has_as_many_classes_as_were_asked_for(model: Path) -> None:
    assert len(open_pipeline(parsed(), open_runtime(parsed(), model), top_k=2)(RED)) == 2


def test_a_resize_of_the_line_takes_the_place_of_the_files_own(model: Path) -> None:
    halves = np.zeros((8, 24, 3), np.uint8)
    halves[:, :10], halves[:, 10:] = (255, 0, 0), (0, 0, 255)
    stretched = open_pipeline(parsed(), open_runtime(parsed(), model))(halves)
    options = parsed("--resize", "crop")
    cropped = open_pipeline(options, open_runtime(options, model))(halves)
    assert stretched.label == cropped.label == "blue"
    # Blue has 14 of 24 columns of the whole, and 6 of the 8 in the middle.
    assert cropped.confidence[0] > stretched.confidence[0]


def test_a_threshold_is_refused_where_nothing_is_detected() -> None:
    with pytest.raises(InputError, match="`--iou` is for detections") as caught:
        detection_options(parsed("--iou", 0.5), "pose")
    assert "--task detection" in caught.value.next_step


def test_nothing_said_of_a_detection_is_its_defaults() -> None:
    assert detection_options(parsed(), "classification") is None
    options = detection_options(parsed("--confidence", 0.4), "detection")
    assert options is not None
    assert options.confidence == 0.4


def test_a_head_is_json() -> None:
    options = detection_options(parsed("--head", json.dumps({"kind": "yolo", "unit": "share"})), "detection")
    assert options is not None
    assert options.head is not None
    assert options.head.kind == "yolo"
    with pytest.raises(InputError, match="not JSON"):
        detection_options(parsed("--head", "yolo"), "detection")
    with pytest.raises(MetadataError):
        detection_options(parsed("--head", '{"kind": "yule"}'), "detection")
