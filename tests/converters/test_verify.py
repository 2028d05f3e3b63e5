"""Two files on the same data, with files whose answers can be said by hand: class k is the strongest channel k."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_flatbuffer import Scalar

from converters import verify
from converters.recipe import Verify
from converters.verify import Comparison, cautions, compare, judge
from edgeinfer.dataset import Dataset, from_arrays
from edgeinfer.errors import InputError, MetadataError
from edgeinfer.intervals import share_interval
from edgeinfer.preprocess.image import read_image

NAMES = ("red", "green", "blue", "dark")
# The second file has red and green swapped, so it agrees with the first on blue and dark only.
RED, GREEN, BLUE, DARK = range(4)
TOPK_V2, ARG_MAX, ARG_MAX_OPTIONS, INT32 = 48, 56, 40, 2
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.uint8)


def file(labels: tuple[str, ...] = NAMES, dtype: str = "float32", **settings: Any) -> bytes:
    return tiny_models.classifier(dtype=dtype, labels=labels, normalization=(0.0, 255.0), **settings)


def photos(*classes: int) -> Any:
    """One picture of one colour each: (n, 8, 8, 3) uint8."""
    return np.broadcast_to(COLOURS[list(classes)][:, None, None, :], (len(classes), 8, 8, 3)).copy()


def three_classes() -> bytes:
    """A file that has no class "dark": on a black picture it answers red, the first among equals."""
    return file(NAMES[:3], classes=3)


def test_files_that_answer_alike_agree_on_everything() -> None:
    found = compare(file(), file(dtype="int8"), Dataset("colours", photos(RED, GREEN, BLUE, DARK)))
    assert (found.samples, found.agreement) == (4, 1.0)
    assert found.agreement_interval == share_interval(4, 4)
    assert (found.original, found.quantized, found.drop, found.drop_interval, found.error) == (None,) * 5


def test_agreement_is_the_share_of_samples_with_the_same_first_class() -> None:
    data = Dataset("colours", photos(RED, DARK, GREEN, DARK, DARK, BLUE, BLUE, RED))
    found = compare(file(), three_classes(), data)
    assert found.agreement == 5 / 8
    # Wilson 1927, worked out apart: centre (5/8 + z^2/16) / (1 + z^2/8), half width beside it, z = 1.96.
    assert found.agreement_interval == pytest.approx((0.3057, 0.8632), abs=1e-3)


def test_the_drop_is_that_of_the_first_model_against_the_second() -> None:
    # The first model is right on all but the last one; the second one says red for the two dark ones.
    data = Dataset("colours", photos(RED, GREEN, DARK, DARK, BLUE), np.array([0, 1, 3, 3, 0]))
    found = compare(file(), three_classes(), data)
    assert found.original is not None
    assert found.quantized is not None
    assert (found.original.top1, found.quantized.top1) == (4 / 5, 2 / 5)
    assert found.drop == pytest.approx(2 / 5)
    assert found.agreement == 3 / 5
    # Agresti and Min 2005 by hand: (2.5 - 0.5) / 7 +- 1.96 * sqrt(3 - 4 / 7) / 7.
    assert found.drop_interval == pytest.approx((2 / 7 - 0.43634, 2 / 7 + 0.43634), abs=1e-4)


def test_a_second_model_that_is_better_has_a_drop_below_zero() -> None:
    found = compare(three_classes(), file(), Dataset("dark", photos(DARK, DARK, RED), np.array([0, 1, 0])))
    # Truth "red" twice and "green" once: the first says red three times, the second dark, dark, red.
    assert found.drop == pytest.approx(1 / 3)
    other = compare(file(), three_classes(), Dataset("dark", photos(DARK, DARK, RED), np.array([0, 1, 0])))
    assert other.drop == pytest.approx(-1 / 3)


def test_classes_are_matched_by_name_before_number() -> None:
    data = Dataset("names", photos(RED, BLUE), np.array([1, 0]), ("Blue", "Red"))
    found = compare(file(), file(dtype="int8"), data)
    assert found.original is not None
    assert found.original.top1 == 1.0


def test_a_class_offset_moves_the_datas_numbers() -> None:
    data = Dataset("numbers", photos(GREEN, BLUE), np.array([0, 1]))
    found = compare(file(), file(dtype="int8"), data, class_offset=1)
    assert found.original is not None
    assert found.original.top1 == 1.0


def test_classes_that_the_model_has_not_are_refused_before_anything_runs() -> None:
    said: list[Any] = []
    with pytest.raises(InputError, match="classes that the model has not"):
        compare(file(), file(), Dataset("x", photos(RED, RED), np.array([0, 4])), progress=said.append)
    assert said == []


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="nothing to compare on"):
        compare(file(), file(), Dataset("none", []))


def test_a_sample_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InputError, match=r"sample 1.*of scans"):
        compare(file(), file(), Dataset("scans", [photos(RED)[0], b"no picture"]))


def test_a_sample_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(InputError, match=r"sample 0.*of floats"):
        compare(file(), file(), Dataset("floats", [np.zeros((9, 9, 3), np.float32)]))


def test_every_picture_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for number, picture in enumerate(photos(RED, GREEN, BLUE)):
        pillow.fromarray(picture).save(tmp_path / f"{number}.png")
    read: list[str] = []

    def counted(source: Any) -> Any:
        if isinstance(source, Path):
            read.append(source.name)
        return read_image(source)

    monkeypatch.setattr(verify, "read_image", counted)
    monkeypatch.setattr("edgeinfer.pipeline.read_image", counted)
    compare(file(), file(dtype="int8"), Dataset("files", sorted(tmp_path.glob("*.png"))))
    assert read == ["0.png", "1.png", "2.png"]


def test_floats_are_the_models_own_input() -> None:
    own = photos(RED, GREEN, DARK).astype(np.float32) / 255
    found = compare(file(), file(dtype="int8"), Dataset("floats", own, np.array([0, 1, 3])))
    assert found.original is not None
    assert found.original.top1 == 1.0
    assert found.agreement == 1.0


def test_latencies_are_percentiles_in_milliseconds_of_both_files() -> None:
    found = compare(file(), file(dtype="int8"), Dataset("colours", photos(*[RED] * 20)))
    for latency in (found.original_latency, found.quantized_latency):
        assert 0 < latency.p50 <= latency.p90 <= latency.p95 <= latency.p99 < 1000


def test_progress_counts_the_samples() -> None:
    said: list[Any] = []
    compare(file(), file(), Dataset("colours", photos(RED, RED)), progress=said.append)
    assert [(one.step, one.done, one.total) for one in said] == [("verify", 1, 2), ("verify", 2, 2)]


# --- models that do not classify ------------------------------------------------------------------


def test_a_model_without_classes_has_an_error_share() -> None:
    # Output k is the sum of the six inputs times (k + 1). The second file has one output row scaled by hand:
    # dense() of int8 stores 6 inputs in steps of 1/128 and its outputs in steps of 12/127.
    values = np.array([[0.5, -0.25, 0.125, 0.0, 0.25, 0.25]], np.float32)
    found = compare(
        tiny_models.dense(shape=(1, 6)), tiny_models.dense(dtype="int8", shape=(1, 6)), Dataset("rows", [values])
    )
    exact = np.array([0.875, 1.75])
    step = 12 / 127
    # The weight of output 0 is 64 steps of 2/127, not 1; that of output 1 is 127 of them, exactly 2.
    stored = np.round(np.array([0.875 * 64 * 2 / 127, 1.75]) / step) * step
    wanted = np.sqrt(np.sum((stored - exact) ** 2) / np.sum(exact**2))
    assert found.error == pytest.approx(wanted, rel=1e-4)
    assert (found.agreement, found.agreement_interval, found.drop, found.original) == (None,) * 4


def test_a_float_model_that_answers_zeros_has_an_absolute_error() -> None:
    zeros = np.zeros((1, 6), np.float32)
    found = compare(tiny_models.dense(), tiny_models.dense(), Dataset("rows", [zeros]))
    assert found.error == 0.0


def test_a_picture_for_a_model_that_takes_none_is_refused() -> None:
    with pytest.raises(InputError, match="no picture"):
        compare(tiny_models.dense(), tiny_models.dense(), Dataset("pictures", photos(RED)))


def two_rows(activation: bool) -> bytes:
    """Two inputs (1, 3), added; with a softmax it is a classification."""
    tensors = [
        tiny_models.TensorSpec("first", (1, 3)),
        tiny_models.TensorSpec("second", (1, 3)),
        tiny_models.TensorSpec("sum", (1, 3)),
        tiny_models.TensorSpec("chance", (1, 3)),
    ]
    options = {0: Scalar("f", 1.0)}
    operators = [tiny_models.OperatorSpec(tiny_models.ADD, (0, 1), (2,), 11, {0: Scalar("b", 0)})]
    if activation:
        operators.append(tiny_models.OperatorSpec(tiny_models.SOFTMAX, (2,), (3,), 9, options))
    last = 3 if activation else 2
    return tiny_models.model(tensors[: last + 1], operators, inputs=[0, 1], outputs=[last])


ROWS = [
    (np.array([[1, 0, 0]], np.float32), np.array([[0, 0, 3]], np.float32)),  # class 2
    (np.array([[1, 0, 0]], np.float32), np.array([[1, 0, 0]], np.float32)),  # class 0
]


def test_several_inputs_without_classes_have_an_error_share() -> None:
    found = compare(two_rows(False), two_rows(False), Dataset("rows", ROWS))
    assert (found.error, found.agreement) == (0.0, None)
    assert found.original_latency.p50 > 0


def test_several_inputs_with_classes_have_an_agreement_and_with_truth_an_accuracy() -> None:
    found = compare(two_rows(True), two_rows(True), Dataset("rows", ROWS, np.array([2, 1])))
    assert (found.agreement, found.error, found.drop) == (1.0, None, 0.0)
    assert found.original is not None
    assert found.original.top1 == 0.5
    assert found.original_latency.p50 > 0


# --- maps and ranked classes ----------------------------------------------------------------------


def class_map() -> bytes:
    """The class of each pixel is the strongest of its three channels: ARG_MAX over them, (1, 2, 2) int32."""
    record = {"schema": 1, "task": "segmentation", "outputs": [{"role": "classmap"}]}
    tensors = [
        tiny_models.TensorSpec("pixels", (1, 2, 2, 3)),
        tiny_models.TensorSpec("axis", (), "int32", values=[3]),
        tiny_models.TensorSpec("map", (1, 2, 2), "int32"),
    ]
    argmax = tiny_models.OperatorSpec(ARG_MAX, (0, 1), (2,), ARG_MAX_OPTIONS, {0: Scalar("b", INT32)})
    data = tiny_models.model(tensors, [argmax], inputs=[0], outputs=[2])
    return tiny_models.with_files(data, {"edgeinfer.json": json.dumps(record)})


def score_map() -> bytes:
    """The same scores as they are, doubled: the largest stays the largest."""
    tensors = [tiny_models.TensorSpec("pixels", (1, 2, 2, 3)), tiny_models.TensorSpec("map", (1, 2, 2, 3))]
    add = tiny_models.OperatorSpec(tiny_models.ADD, (0, 0), (1,), 11, {0: Scalar("b", 0)})
    data = tiny_models.model(tensors, [add], inputs=[0], outputs=[1])
    return tiny_models.with_files(data, {"edgeinfer.json": json.dumps({"schema": 1, "task": "segmentation"})})


def best_two() -> bytes:
    record = {"schema": 1, "task": "classification", "outputs": [{"role": "scores"}, {"role": "classes"}]}
    tensors = [
        tiny_models.TensorSpec("row", (1, 3)),
        tiny_models.TensorSpec("k", (), "int32", values=[2]),
        tiny_models.TensorSpec("best", (1, 2)),
        tiny_models.TensorSpec("places", (1, 2), "int32"),
    ]
    data = tiny_models.model(tensors, [tiny_models.OperatorSpec(TOPK_V2, (0, 1), (2, 3))], inputs=[0], outputs=[2, 3])
    return tiny_models.with_files(data, {"edgeinfer.json": json.dumps(record)})


@pytest.mark.parametrize("second", [class_map, score_map], ids=["map of classes", "map of scores"])
def test_maps_are_compared_pixel_by_pixel_whether_the_graph_takes_the_largest_or_not(second: Any) -> None:
    pixels = np.random.default_rng(0).random((3, 2, 2, 3), np.float32)
    found = compare(class_map(), second(), Dataset("maps", list(pixels)))
    assert (found.agreement, found.agreement_interval, found.error, found.drop) == (1.0, None, None, None)


def test_the_agreement_of_maps_is_the_share_of_the_pixels() -> None:
    fixed = np.zeros((1, 2, 2, 3), np.float32)
    fixed[..., 0] = 1.0
    ones = compare(class_map(), constant_map([0, 0, 0, 1]), Dataset("maps", [fixed]))
    assert ones.agreement == 3 / 4


def constant_map(classes: list[int]) -> bytes:
    """Class scores that the input is added to: one of ten at the given class of each pixel."""
    scores = [10.0 if channel == one else 0.0 for one in classes for channel in range(3)]
    tensors = [
        tiny_models.TensorSpec("pixels", (1, 2, 2, 3)),
        tiny_models.TensorSpec("scores", (1, 2, 2, 3), values=scores),
        tiny_models.TensorSpec("map", (1, 2, 2, 3)),
    ]
    add = tiny_models.OperatorSpec(tiny_models.ADD, (0, 1), (2,), 11, {0: Scalar("b", 0)})
    data = tiny_models.model(tensors, [add], inputs=[0], outputs=[2])
    return tiny_models.with_files(data, {"edgeinfer.json": json.dumps({"schema": 1, "task": "segmentation"})})


def test_ranked_classes_have_an_accuracy_like_any_others() -> None:
    rows = [np.array([row], np.float32) for row in ([0, 0.5, 0.25], [0.75, 0.25, 0], [0, 0.25, 0.5])]
    found = compare(best_two(), best_two(), Dataset("rows", rows, np.array([1, 0, 1])))
    assert found.agreement == 1.0
    assert found.original is not None
    assert found.original.top1 == pytest.approx(2 / 3)


# --- JSON -----------------------------------------------------------------------------------------


def test_json_holds_both_accuracies_with_their_intervals() -> None:
    said = compare(file(), three_classes(), from_arrays(photos(RED, DARK), np.array([0, 3]))).to_json()
    assert json.loads(json.dumps(said)) is not None
    assert said["float"] == {"metric": "top1", "value": 1.0, "interval95": list(share_interval(2, 2)), "samples": 2}
    assert said["quantized"] == {"metric": "top1", "value": 0.5, "interval95": list(share_interval(1, 2)), "samples": 2}
    assert (said["agreement"], said["drop"], said["samples"]) == (0.5, 0.5, 2)
    latencies = said["latency_ms"]
    assert isinstance(latencies, dict)
    assert set(latencies) == {"float", "quantized"}


# --- models that pictures do not fit --------------------------------------------------------------


def row_classifier() -> bytes:
    """One input (1, 3) and a softmax: a classification of numbers, not of pictures."""
    tensors = [tiny_models.TensorSpec("row", (1, 3)), tiny_models.TensorSpec("chance", (1, 3))]
    softmax = tiny_models.OperatorSpec(tiny_models.SOFTMAX, (0,), (1,), 9, {0: Scalar("f", 1.0)})
    return tiny_models.model(tensors, [softmax], inputs=[0], outputs=[1])


def test_a_classifier_of_numbers_is_compared_on_numbers() -> None:
    rows = np.array([[0, 0, 9], [9, 0, 0]], np.float32)
    found = compare(row_classifier(), row_classifier(), Dataset("rows", rows, np.array([2, 2])))
    assert (found.agreement, found.drop) == (1.0, 0.0)
    assert found.original is not None
    assert found.original.top1 == 0.5


def test_floats_need_no_normalization_and_pictures_do() -> None:
    silent = tiny_models.classifier(dtype="float32", labels=NAMES)
    own = photos(RED, DARK).astype(np.float32) / 255
    assert compare(silent, silent, Dataset("floats", own)).agreement == 1.0
    with pytest.raises(MetadataError, match="how to normalize"):
        compare(silent, silent, Dataset("pictures", photos(RED)))


def test_labels_for_a_model_that_is_no_classification_are_refused() -> None:
    data = Dataset("rows", np.ones((2, 6), np.float32), np.array([0, 1]))
    with pytest.raises(InputError, match="does not say that it answers with classes") as caught:
        compare(tiny_models.dense(), tiny_models.dense(), data)
    assert "--task classification" in caught.value.next_step


# --- gates ----------------------------------------------------------------------------------------


def test_a_drop_is_judged_where_there_are_labels() -> None:
    data = Dataset("colours", photos(RED, GREEN, DARK, DARK, BLUE), np.array([0, 1, 3, 3, 0]))
    found = compare(file(), three_classes(), data)  # a drop of 2 in 5
    assert judge(found, Verify(max_drop=0.4, min_agreement=0.6)) is None
    failed = judge(found, Verify(max_drop=0.39, min_agreement=0.0))
    assert failed is not None
    assert "40.00 points" in failed.received
    assert "take more" in failed.next_step  # the interval of five samples reaches below any limit


def test_agreement_is_judged_beside_the_drop_where_the_step_asks_for_it() -> None:
    # Every truth is blue, so both are right on the one blue picture: no drop, and they agree on 3 in 5.
    data = Dataset("colours", photos(RED, GREEN, DARK, DARK, BLUE), np.array([2, 2, 2, 2, 2]))
    found = compare(file(), three_classes(), data)
    assert found.drop == 0.0
    assert judge(found, Verify()) is None
    assert judge(found, Verify(min_agreement=0.6)) is None
    failed = judge(found, Verify(min_agreement=0.61))
    assert failed is not None
    assert "60.00%" in failed.received
    assert "min_agreement" in failed.next_step


def test_agreement_is_judged_where_there_are_none() -> None:
    found = compare(file(), three_classes(), Dataset("colours", photos(RED, DARK)))
    assert judge(found, Verify(min_agreement=0.5)) is None
    assert judge(found, Verify(min_agreement=0.51)) is not None


def test_the_error_share_is_judged_where_there_are_no_classes() -> None:
    data = Dataset("rows", np.ones((2, 6), np.float32))
    found = compare(tiny_models.dense(), tiny_models.dense(), data)
    assert found.error == 0
    assert judge(found, Verify(max_error=0)) is None
    far = dataclasses.replace(found, error=0.6)
    assert judge(far, Verify(max_error=0.6)) is None
    failed = judge(far, Verify())
    assert failed is not None
    assert "60.00%" in failed.received


# --- labels that do not fit the model -------------------------------------------------------------


def colours_in_turn(samples: int, truth: tuple[int, ...]) -> Dataset:
    """Red, green, blue, red, ... and what the labels say of them."""
    classes = np.arange(samples) % 3
    return Dataset("colours", photos(*classes), np.array(truth)[classes])


def test_labels_that_have_nothing_to_do_with_the_model_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit the model") as caught:
        compare(file(), file(dtype="int8"), colours_in_turn(24, (3, 3, 3)))
    assert "0 of 24 answers right" in caught.value.received
    assert "25.00%" in caught.value.expected
    assert "normalization" in caught.value.next_step


@pytest.mark.parametrize(
    ("shown", "truth", "offset"), [((GREEN, BLUE, DARK), (0, 1, 2), 1), ((RED, GREEN, BLUE), (1, 2, 3), -1)]
)
def test_labels_that_count_one_beside_the_model_are_refused_with_the_offset(
    shown: tuple[int, ...], truth: tuple[int, ...], offset: int
) -> None:
    data = Dataset("colours", photos(*shown * 8), np.array(truth * 8))
    with pytest.raises(InputError, match="count the classes otherwise") as caught:
        compare(file(), file(dtype="int8"), data)
    assert "0 of 24 answers are right" in caught.value.received
    assert f"--class-offset {offset}" in caught.value.next_step
    assert compare(file(), file(dtype="int8"), data, class_offset=offset).drop == 0.0


def test_few_samples_are_compared_with_a_caution() -> None:
    found = compare(file(), file(dtype="int8"), colours_in_turn(19, (3, 3, 3)))
    assert found.drop == 0.0
    (first, _) = cautions(found, Verify())
    assert first == found.doubt
    assert "0 of 19 answers right" in first


def test_labels_that_fit_leave_no_doubt() -> None:
    found = compare(file(), file(dtype="int8"), colours_in_turn(24, (0, 1, 2)))
    assert (found.doubt, found.drop) == ("", 0.0)


def test_names_that_are_no_labels_are_refused_unless_an_offset_says_how_they_count() -> None:
    data = Dataset("names", photos(RED, GREEN), np.array([0, 1]), ("n01440764", "n01491361"))
    with pytest.raises(InputError, match="none of the model's labels"):
        compare(file(), file(), data)
    assert compare(file(), file(), data, class_offset=0).drop == 0.0


# --- cautions -------------------------------------------------------------------------------------


def measured(samples: int, interval: tuple[float, float] | None) -> Comparison:
    found = compare(file(), file(), Dataset("colours", photos(RED)))
    return dataclasses.replace(found, samples=samples, drop=0.0, drop_interval=interval)


def test_an_interval_wider_than_the_drop_that_may_be_lost_is_said_with_the_samples_that_would_do() -> None:
    # Four times too wide: sixteen times the samples.
    (said,) = cautions(measured(100, (-0.02, 0.02)), Verify(max_drop=0.01))
    assert said.startswith("100 labelled samples")
    assert "-2.00 to 2.00 points" in said
    assert "about 1,600 samples" in said
    # 2.5 times too wide: 6.25 times 1234 are 7712.5, and a forecast has two digits.
    (said,) = cautions(measured(1234, (-0.01, 0.015)), Verify(max_drop=0.01))
    assert "about 7,800 samples" in said


def test_an_interval_that_fits_needs_no_caution() -> None:
    assert cautions(measured(100, (-0.02, 0.02)), Verify(max_drop=0.04)) == ()
    assert cautions(measured(100, None), Verify()) == ()
    # No number of samples would do.
    assert cautions(measured(100, (-0.02, 0.02)), Verify(max_drop=0.0)) == ()
