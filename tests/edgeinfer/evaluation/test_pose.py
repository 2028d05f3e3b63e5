"""Poses measured, by hand on a tiny model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import tiny_models

from edgeinfer.annotations.truth import Bodies, PoseData
from edgeinfer.errors import InputError
from edgeinfer.evaluate import evaluate
from edgeinfer.evaluation.pose import evaluate_pose
from edgeinfer.pipeline import Pipeline
from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.tensor import stretch
from edgeinfer.results import Keypoints
from edgeinfer.runtime.runtime import Runtime, Tensors

POINTS = [(10.0, 10.0), (20.0, 30.0)]
FAR = [(300.0, 300.0), (300.0, 320.0)]
NAMES = ("nose", "tail")


def poser(answers: Mapping[int, Sequence[tuple[object, float]]], names: Sequence[str] = NAMES) -> Pipeline[Keypoints]:
    """A real model whose answer, the picture's colour, stands for the bodies that it finds: (points, confidence)."""
    runtime = Runtime(tiny_models.classifier(normalization=(0.0, 255.0)))

    def post(outputs: Tensors, view: View) -> Keypoints:
        bodies = answers.get(int(outputs.raw().argmax()), ())
        xy = np.array([points for points, _ in bodies], np.float32).reshape(-1, 2, 2)
        confidence = np.array([[sure, sure] for _, sure in bodies], np.float32).reshape(-1, 2)
        return Keypoints(xy, confidence, tuple(names))

    return Pipeline(runtime, pre=stretch(runtime.input), post=post)


def bodies(*points: object, labelled: object = (True, True), crowd: bool = False) -> Bodies:
    count = len(points)
    return Bodies(
        np.array(points, np.float64).reshape(count, 2, 2),
        np.array([labelled] * count, bool).reshape(count, 2),
        np.array([(5.0, 5.0, 25.0, 35.0)] * count).reshape(count, 4),
        np.full(count, 400.0),
        np.full(count, crowd),
    )


def data(*truths: Bodies, names: Sequence[str] = NAMES) -> PoseData:
    """Picture i shows colour i: 0 red, 1 green, 2 blue."""
    images = np.zeros((len(truths), 8, 8, 3), np.uint8)
    for channel in range(len(truths)):
        images[channel, ..., channel % 3] = 255
    return PoseData("d", list(images), truths, (0.1, 0.1), tuple(names))


def test_bodies_that_lie_right_are_fully_alike() -> None:
    result = evaluate_pose(poser({0: [(POINTS, 0.9)]}), data(bodies(POINTS)))
    assert (result.samples, result.oks, result.map50_95) == (1, pytest.approx(1.0), pytest.approx(1.0))


def test_the_similarity_is_the_mean_over_bodies_and_missing_ones_have_none() -> None:
    # Off by 2 in one point: (exp(-4 / (2 · 400 · 0.2²)) + 1) / 2, in the second picture nothing is found.
    near = [(12.0, 10.0), (20.0, 30.0)]
    result = evaluate_pose(poser({0: [(near, 0.9)]}), data(bodies(POINTS), bodies(POINTS)))
    assert result.oks == pytest.approx((math.exp(-4 / 32) + 1) / 2 / 2)


def test_a_wrong_body_in_front_halves_the_precision_and_not_the_similarity() -> None:
    result = evaluate_pose(poser({0: [(FAR, 0.9), (POINTS, 0.5)]}), data(bodies(POINTS)))
    assert (result.oks, result.map50_95) == (pytest.approx(1.0), pytest.approx(0.5))


def test_crowds_and_bodies_without_points_need_not_be_found() -> None:
    both = data(bodies(POINTS), bodies(POINTS, crowd=True), bodies(POINTS, labelled=(False, False)))
    result = evaluate_pose(poser({0: [(POINTS, 0.9)], 1: [(POINTS, 0.95)], 2: [(POINTS, 0.99)]}), both)
    assert (result.oks, result.map50_95) == (pytest.approx(1.0), pytest.approx(1.0))


def test_points_are_matched_by_name() -> None:
    turned = poser({0: [(POINTS[::-1], 0.9)]}, names=("tail", "nose"))
    assert evaluate_pose(turned, data(bodies(POINTS))).oks == pytest.approx(1.0)
    assert evaluate_pose(turned, data(bodies(POINTS), names=())).oks < 0.1
    assert evaluate(turned, data(bodies(POINTS)), labels=("nose", "tail")).oks < 0.1
    with pytest.raises(InputError, match="some points of the data"):
        evaluate_pose(turned, data(bodies(POINTS), names=("nose", "ear")))


def test_nobody_to_find_is_refused() -> None:
    with pytest.raises(InputError, match="Nothing has to be found"):
        evaluate_pose(poser({}), data(bodies(POINTS, crowd=True)))


def test_the_json_is_that_of_the_interface() -> None:
    result = evaluate(poser({0: [(POINTS, 0.9)]}), data(bodies(POINTS), bodies(POINTS), bodies()))
    found = json.loads(json.dumps(result.to_json()))
    assert list(found) == ["task", "samples", "metrics", "interval95", "timing_ms"]
    assert (found["task"], found["samples"]) == ("pose", 3)
    assert found["metrics"] == {"oks": pytest.approx(0.5), "map50_95": pytest.approx(51 / 101)}
    for name, (low, high) in found["interval95"].items():
        assert 0 <= low <= found["metrics"][name] <= high <= 1
