"""The input that a device is checked with: a broken device is found out by it, or the search says that none is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeinfer.model.metadata import OutputSpec, read
from edgeinfer.runtime.edgetpu import known_input
from edgeinfer.runtime.edgetpu.known_input import KnownInput, choose
from edgeinfer.runtime.edgetpu.twin import Twin
from edgeinfer.runtime.engines import find_engine, open_interpreter

PICTURE = np.zeros((1, 16, 16, 3), np.int8)
ROW = OutputSpec("answer", (1, 3), "int8", scale=1 / 255, zero_point=-128)


def peak(inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """A model that answers with the greatest value of each channel."""
    return [inputs[0].max(axis=(1, 2))]


def broken(right: Sequence[NDArray[Any]]) -> list[list[NDArray[Any]]]:
    """What devices answer that are dead, or that give each class the next one's number."""
    lowest = [np.full_like(one, np.iinfo(one.dtype).min if one.dtype.itemsize == 1 else one.min()) for one in right]
    return [lowest, [np.zeros_like(one) for one in right], [np.roll(one, 1, axis=-1) for one in right]]


def test_the_right_answer_passes_and_those_of_a_broken_device_do_not() -> None:
    known = choose(peak, [PICTURE], [ROW])
    assert known.sees
    assert known.disagreement(peak(known.inputs)) == ""
    assert all("steps of the CPU's" in known.disagreement(one) for one in broken(known.expected))


def test_the_same_input_is_chosen_each_time() -> None:
    first, second = (choose(peak, [PICTURE], [ROW]) for _ in range(2))
    assert np.array_equal(first.inputs[0], second.inputs[0])


def test_a_model_that_always_answers_the_lowest_number_cannot_be_checked() -> None:
    known = choose(lambda _: [np.full((1, 3), -128, np.int8)], [PICTURE], [ROW])
    assert not known.sees
    assert known.disagreement(known.expected) == ""


def test_an_output_that_one_step_of_the_input_changes_altogether_is_not_compared() -> None:
    floats = OutputSpec("places", (1, 3), "float32")

    def jumps(inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        random = np.random.default_rng(abs(int(inputs[0].astype(np.int64).sum())))
        return [random.random((1, 3)).astype(np.float32), *peak(inputs)]

    known = choose(jumps, [PICTURE], [floats, ROW])
    assert known.compared == (False, True)
    assert known.sees
    assert known.disagreement([known.expected[0] + 5, known.expected[1]]) == ""


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("shape", [(), (7,), (1, 7), (1, 5, 7), (2, 5, 7, 4)])
def test_every_kind_of_input_is_filled(dtype: str, shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, dtype)
    patterns = [one for (one,) in known_input._patterns([empty])]
    assert all((one.shape, one.dtype) == (shape, empty.dtype) for one in patterns)
    assert len({one.tobytes() for one in patterns}) > 1
    if dtype == "float32":
        assert all(one.min() >= 0 and one.max() <= 1 for one in patterns)


def test_whole_numbers_that_may_be_indices_stay_zero() -> None:
    assert not any(one.any() for (one,) in known_input._patterns([np.zeros((1, 5), np.int32)]))


def test_a_model_that_answers_nothing_is_searched_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def nothing(inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        runs.append(inputs)
        return [np.full((1, 3), -128, np.int8)]

    monkeypatch.setattr(known_input, "SEARCH_S", 0.0)
    assert not choose(nothing, [PICTURE], [ROW]).sees
    assert len(runs) == known_input.AT_LEAST + 2


# --- published models -----------------------------------------------------------------------------


def chosen(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[KnownInput, Twin]:
    monkeypatch.setattr(known_input, "SEARCH_S", float("inf"))
    metadata = read(path)
    order = tuple(range(len(metadata.inputs))), tuple(range(len(metadata.outputs)))
    twin = Twin(open_interpreter(find_engine(), path, threads=2), metadata.outputs, *order)
    return twin.known_input(), twin


@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224_quant", "mobilenet_v1_0.25_128_quant"])
def test_a_classifier_of_a_thousand_classes_is_asked_something_it_answers_clearly(
    test_data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, twin = chosen(test_data / "coral" / f"{name}.tflite", monkeypatch)
    assert known.sees
    assert known.disagreement(twin.run(known.inputs)) == ""
    assert all(known.disagreement(one) for one in broken(known.expected))


def test_a_map_of_classes_is_asked_for_more_than_its_background(
    test_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_engine().name == "tflite-runtime":
        pytest.skip("a run takes seconds there: without XNNPACK's kernels for uint8")
    known, twin = chosen(test_data / "coral" / "deeplabv3_mnv2_dm05_pascal_quant.tflite", monkeypatch)
    assert known.sees
    assert known.disagreement(twin.run(known.inputs)) == ""
    assert known.disagreement([np.zeros_like(known.expected[0])])
    assert known.disagreement([known.expected[0] + 1])


def test_of_a_detector_the_scores_are_compared(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, twin = chosen(test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite", monkeypatch)
    assert known.sees
    assert known.compared[2]
    assert known.disagreement(twin.run(known.inputs)) == ""
    assert known.disagreement([np.zeros_like(one) for one in known.expected])


def test_a_model_whose_points_jump_is_said_to_be_unchecked(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_input, "_DRAWN", known_input._DRAWN[:1])
    known, twin = chosen(test_data / "coral" / "movenet_single_pose_lightning_ptq.tflite", monkeypatch)
    assert not known.sees
    assert known.disagreement(twin.run(known.inputs)) == ""
