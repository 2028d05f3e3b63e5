"""Segmentation measured, by hand on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from PIL import Image

from edgeinfer.annotations.masks import open_masks
from edgeinfer.annotations.truth import SegmentationData
from edgeinfer.errors import InputError
from edgeinfer.evaluate import evaluate
from edgeinfer.evaluation.segmentation import evaluate_segmentation
from edgeinfer.pipeline import Pipeline
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.tensor import stretch
from edgeinfer.progress import Progress
from edgeinfer.results import Mask
from edgeinfer.runtime.runtime import Runtime, Tensors

LABELS = ("red", "green", "blue", "dark")


def segmenter(labels: tuple[str, ...] = LABELS) -> Pipeline[Mask]:
    """A real model that paints the whole picture with its one class: 0 red, 1 green, 2 blue, 3 dark."""
    runtime = Runtime(tiny_models.classifier(normalization=(0.0, 255.0)))

    def post(outputs: Tensors, view: View) -> Mask:
        width, height = view.image_size
        return Mask(np.full((height, width), outputs.raw().argmax(), np.uint8), labels)

    return Pipeline(runtime, pre=stretch(runtime.input), post=post)


def picture(channel: int) -> np.ndarray:
    image = np.zeros((2, 4, 3), np.uint8)
    image[..., channel] = 255
    return image


def mask(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint8).reshape(2, 4)


def data(*samples: tuple[int, np.ndarray]) -> SegmentationData:
    return SegmentationData("d", [picture(channel) for channel, _ in samples], [truth for _, truth in samples])


def test_pixels_of_all_pictures_count_together() -> None:
    # Red: 6 right, 2 are green. Green: 7 right, 1 does not count, 2 missed.
    result = evaluate_segmentation(segmenter(), data((0, mask(0, 0, 0, 0, 0, 0, 1, 1)), (1, mask(1, *[1] * 6, 255))))
    assert result.samples == 2
    assert result.class_iou == {"red": pytest.approx(6 / 8), "green": pytest.approx(7 / 9)}
    assert result.miou == pytest.approx((6 / 8 + 7 / 9) / 2)
    assert result.pixel_accuracy == pytest.approx(13 / 15)
    assert result.absent == 2


def test_without_labels_the_masks_say_how_many_classes_there_are() -> None:
    result = evaluate_segmentation(segmenter(()), data((0, mask(*[0] * 8)), (2, mask(*[2] * 8))))
    assert result.class_iou == {"0": 1.0, "2": 1.0}
    assert (result.miou, result.absent) == (1.0, 0)


def test_the_interval_holds_the_value() -> None:
    wrong, right = (0, mask(*[1] * 8)), (0, mask(*[0] * 8))
    result = evaluate_segmentation(segmenter(), data(*[wrong, right, right, right] * 5))
    assert 0 < result.miou_interval[0] < result.miou < result.miou_interval[1] < 1


def test_a_mask_of_another_size_is_named() -> None:
    small = SegmentationData("street", [picture(0)], [np.zeros((2, 3), np.uint8)])
    with pytest.raises(InputError, match=r"`mask 0` of street: .*same picture"):
        evaluate_segmentation(segmenter(), small)


def test_a_class_that_the_model_has_not_is_named() -> None:
    with pytest.raises(InputError, match="a class that the model has not") as caught:
        evaluate_segmentation(segmenter(), data((0, mask(*[4] * 8))))
    assert caught.value.received == "4"
    assert "0 to 3" in caught.value.expected


def test_masks_in_which_nothing_counts_are_refused() -> None:
    with pytest.raises(InputError, match="No pixel"):
        evaluate_segmentation(segmenter(), data((0, mask(*[255] * 8))))


def test_an_offset_of_classes_is_refused() -> None:
    with pytest.raises(InputError, match="`class_offset`"):
        evaluate(segmenter(), data((0, mask(*[0] * 8))), class_offset=1)


def test_masks_are_read_from_files_and_the_json_is_that_of_the_interface(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.fromarray(picture(1)).save(tmp_path / "images" / "a.png")
    Image.fromarray(mask(1, 1, 1, 1, 1, 1, 0, 255)).save(tmp_path / "masks" / "a.png")
    seen: list[Progress] = []
    result = evaluate(segmenter(), open_masks(tmp_path), progress=seen.append)
    assert seen == [Progress("evaluate", 1, 1)]
    found = json.loads(json.dumps(result.to_json()))
    assert list(found) == ["task", "samples", "metrics", "interval95", "timing_ms"]
    assert (found["task"], found["samples"]) == ("segmentation", 1)
    assert found["metrics"] == {"miou": pytest.approx((6 / 7 + 0) / 2)}
    assert len(found["interval95"]["miou"]) == 2


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"`bad\.png` cannot be read"):
        evaluate_segmentation(segmenter(), SegmentationData("d", [picture(0)], [tmp_path / "bad.png"]))
