"""Accuracy by hand on a tiny model, and the published accuracy of a public one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from edgeinfer.dataset import Dataset, from_arrays, open_dataset
from edgeinfer.errors import InputError, InputFileError
from edgeinfer.evaluate import answers, evaluate, label_doubt, score
from edgeinfer.pipeline import Pipeline
from edgeinfer.progress import Progress
from edgeinfer.results import Classifications
from edgeinfer.tasks import classifier
from edgeinfer.timing import Stopwatch

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
TIMING = Stopwatch().timing()


def colours(classes: int = 4, labels: tuple[str, ...] = ()) -> Pipeline[Classifications]:
    """Class 0 is red, 1 green, 2 blue, 3 dark; later ones never win."""
    return classifier(tiny_models.classifier(normalization=(0.0, 255.0), classes=classes, labels=labels))


def pictures(*shown: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in shown])


def test_top_1_is_the_share_of_first_answers_that_are_right() -> None:
    # Four of five: the last is called blue and is black.
    data = from_arrays(pictures(RED, GREEN, BLUE, BLACK, BLACK), np.array([0, 1, 2, 3, 2]))
    result = evaluate(colours(), data)
    assert (result.samples, result.top1) == (5, 0.8)
    # Wilson, 4 of 5: centre (0.8 + z²/10) / (1 + z²/5), by hand 0.3755..0.9638.
    assert result.top1_interval == pytest.approx((0.3755, 0.9638), abs=1e-4)


def test_few_classes_have_no_top_5() -> None:
    result = evaluate(colours(), from_arrays(pictures(RED), np.array([0])))
    assert result.top5 is None
    assert result.top5_interval is None


def test_top_5_counts_the_right_class_among_the_first_five() -> None:
    found = np.array([[4, 3, 2, 1, 0], [9, 8, 7, 6, 5], [1, 2, 3, 4, 5], [7, 1, 2, 3, 4]])
    result = score(found, np.array([4, 5, 9, 3]), 10, TIMING)
    assert (result.top1, result.top5) == (0.25, 0.75)


def test_only_the_first_five_count_for_top_5() -> None:
    found = np.array([[4, 3, 2, 1, 0, 9]])
    assert score(found, np.array([9]), 10, TIMING).top5 == 0.0


def test_fewer_answers_than_five_have_no_top_5() -> None:
    assert score(np.array([[4, 3]]), np.array([3]), 10, TIMING).top5 is None


def test_names_are_matched_and_numbers_are_offset() -> None:
    pipeline = colours(labels=("red", "green", "blue", "dark"))
    named = Dataset("d", list(pictures(RED, BLUE)), np.array([1, 0]), ("Blue", "RED"))
    assert evaluate(pipeline, named).top1 == 1.0
    numbered = from_arrays(pictures(GREEN, BLUE), np.array([0, 1]))
    assert evaluate(pipeline, numbered, class_offset=1).top1 == 1.0


def test_the_labels_of_the_call_beat_those_of_the_file() -> None:
    pipeline = colours(labels=("red", "green", "blue", "dark"))
    data = Dataset("d", list(pictures(RED, BLUE)), np.array([1, 0]), ("blau", "rot"))
    assert evaluate(pipeline, data, labels=("rot", "grün", "blau", "dunkel")).top1 == 1.0
    with pytest.raises(InputError, match="none of the model's labels"):
        evaluate(pipeline, data)


# --- labels that do not fit -----------------------------------------------------------------------


def doubt(
    found: np.ndarray | list[int], truth: np.ndarray | list[int], classes: int, class_offset: int | None = 0
) -> InputError | None:
    return label_doubt(np.array(found), np.array(truth), classes, name="d", class_offset=class_offset)


@pytest.mark.parametrize(("right", "fits"), [(15, True), (14, False), (10, False), (0, False)])
def test_labels_fit_where_the_model_is_surely_right_more_often_than_chance(right: int, fits: bool) -> None:
    # Wilson by hand for 20 samples: 15 right are 53.1 % at least, 14 right 48.1 %; chance of two classes is 50 %.
    truth = np.arange(20) % 2
    found = np.where(np.arange(20) < right, truth, 1 - truth)
    said = doubt(found, truth, 2)
    assert (said is None) is fits
    if said is not None:
        assert "chance" in said.message
        assert f"{right} of 20 answers right" in said.received
        assert "50.00%" in said.expected
        assert "normalization" in said.next_step
        assert "class-offset" not in said.next_step


@pytest.mark.parametrize(("shift", "before", "after"), [(1, 0, 1), (-1, 0, -1), (-1, 1, 0)])
def test_an_offset_that_would_make_the_labels_fit_is_named(shift: int, before: int, after: int) -> None:
    truth = 1 + np.arange(30) % 8
    said = doubt(truth + shift, truth, 10, before)
    assert said is not None
    assert (
        f"0 of 30 answers are right as the labels stand, 30 with every class one {'higher' if shift > 0 else 'lower'}"
        in said.received
    )
    assert f"`--class-offset {after}`" in said.next_step


def test_a_missing_background_is_seen_through_answers_that_are_right_by_luck() -> None:
    # 1000 classes of which 7 of 400 are surely more than chance, and 344 would be right with every class one higher.
    truth = np.arange(400) * 2
    found = truth + 1
    found[:7] = truth[:7]
    found[7:56] = 999
    said = doubt(found, truth, 1001)
    assert said is not None
    assert "7 of 400" in said.received
    assert "344 with" in said.received


def test_an_offset_that_would_fit_no_better_than_chance_is_not_named() -> None:
    # With every class one lower 8 of 24 are right, which is what chance among four classes gives now and then.
    said = doubt(np.arange(24) % 3, np.full(24, 3), 4)
    assert said is not None
    assert "chance" in said.message


def test_an_offset_that_is_not_surely_better_is_not_named() -> None:
    # 2 of 400 among 1001 classes are surely more than chance, but not surely more than the 1 that is right now.
    truth, found = np.arange(400) * 2, np.full(400, 1000)
    found[0] = truth[0]
    found[1:3] = truth[1:3] + 1
    said = doubt(found, truth, 1001)
    assert said is not None
    assert "chance" in said.message


def test_labels_that_are_matched_by_name_are_not_offered_an_offset() -> None:
    truth = np.arange(30) % 8
    said = doubt(truth + 1, truth, 10, None)
    assert said is not None
    assert "class-offset" not in said.next_step
    assert "one line off" in said.next_step


def test_a_weak_model_whose_mistakes_lie_next_to_the_truth_is_no_doubt() -> None:
    truth = np.arange(400) % 9
    found = np.where(np.arange(400) < 160, truth, truth + 1)  # 160 right, 240 one too high: surely more, not twice
    assert doubt(found, truth, 10) is None


def test_labels_of_a_single_class_fit_a_model_that_is_mostly_right() -> None:
    assert doubt(np.array([3] * 18 + [1] * 2), np.full(20, 3), 10) is None


def test_a_measurement_with_labels_that_do_not_fit_warns(caplog: pytest.LogCaptureFixture) -> None:
    shown = pictures(*[GREEN, BLUE] * 10)
    evaluate(colours(), from_arrays(shown, np.array([1, 2] * 10)))
    assert caplog.text == ""
    evaluate(colours(), from_arrays(shown, np.array([0, 1] * 10)))
    assert "--class-offset 1" in caplog.text
    caplog.clear()
    evaluate(colours(), from_arrays(shown[:19], np.array([0, 1] * 10)[:19]))
    assert caplog.text == ""


def test_the_json_is_that_of_the_interface() -> None:
    result = evaluate(colours(classes=7), from_arrays(pictures(RED, GREEN), np.array([0, 0])))
    found = json.loads(json.dumps(result.to_json()))
    assert list(found) == ["task", "samples", "metrics", "interval95", "timing_ms"]
    assert found["task"] == "classification"
    assert found["samples"] == 2
    assert found["metrics"] == {"top1": 0.5, "top5": 1.0}
    assert set(found["interval95"]) == {"top1", "top5"}
    low, high = found["interval95"]["top1"]
    assert 0 < low < 0.5 < high < 1
    assert set(found["timing_ms"]) == {"read", "pre", "invoke", "post", "frames"}
    assert found["timing_ms"]["frames"] == 2


def test_without_top_5_the_json_has_no_such_key() -> None:
    found = evaluate(colours(), from_arrays(pictures(RED), np.array([0]))).to_json()
    assert found["metrics"] == {"top1": 1.0}


def test_every_sample_is_reported() -> None:
    seen: list[Progress] = []
    evaluate(colours(), from_arrays(pictures(RED, GREEN), np.array([0, 1])), progress=seen.append)
    assert seen == [Progress("evaluate", 1, 2), Progress("evaluate", 2, 2)]


def test_answers_come_most_confident_first() -> None:
    found = answers(colours(), from_arrays(pictures(GREEN, BLACK)))
    assert found.dtype == np.int64
    # Green has the one strong channel, then "dark"; equals come by number.
    assert found.tolist() == [[1, 3, 0, 2], [3, 0, 1, 2]]


def test_a_sample_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    data = Dataset("photos", [tmp_path / "bad.jpg"], np.array([0]))
    with pytest.raises(InputError, match=r"`bad\.jpg` of photos: ") as caught:
        evaluate(colours(), data)
    assert caught.value.expected


def test_a_file_that_went_away_is_named_and_stays_a_missing_file(tmp_path: Path) -> None:
    data = Dataset("photos", [tmp_path / "gone.jpg"], np.array([0]))
    with pytest.raises(InputFileError, match=r"`gone\.jpg` of photos: "):
        evaluate(colours(), data)


def test_an_array_is_named_by_its_place() -> None:
    data = Dataset("arrays", [pictures(RED)[0], np.zeros((2, 2), np.float32)], np.array([0, 0]))
    with pytest.raises(InputError, match="`sample 1` of arrays: "):
        evaluate(colours(), data)


def test_data_without_labels_is_refused_before_anything_runs() -> None:
    pipeline = colours()
    with pytest.raises(InputError, match="has no labels"):
        evaluate(pipeline, from_arrays(pictures(RED)))
    assert pipeline.timing.frames == 0


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="no samples"):
        evaluate(colours(), from_arrays(pictures(RED)[:0], np.array([], np.int64)))
    with pytest.raises(InputError, match="no samples"):
        answers(colours(), from_arrays(pictures(RED)[:0]))


def test_a_single_probability_tells_two_classes_apart() -> None:
    classify = classifier(
        tiny_models.classifier(dtype="uint8", classes=1, channels=1, activation="sigmoid", normalization=(0.0, 255.0))
    )
    data = from_arrays(np.stack([np.full((8, 8), level, np.uint8) for level in (255, 255)]), np.array([1, 0]))
    assert evaluate(classify, data).top1 == 0.5


def test_the_public_resnet_has_its_published_accuracy(test_data: Path) -> None:
    classify = classifier(test_data / "mlperf_tiny/ic/pretrainedResnet_quant.tflite", normalization=(0.0, 1.0))
    data = open_dataset(test_data / "cifar10_jpeg/test5k.npz")
    result = evaluate(classify, data.take(np.arange(0, len(data), 5)))
    assert result.samples == 1000
    low, high = result.top1_interval
    assert low < 0.7588 < high  # on all 5000, by the reference's own script
