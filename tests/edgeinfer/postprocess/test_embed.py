"""Embeddings out of stored numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from echo import Recorder, answers, metadata, output

from edgeinfer.errors import ModelError, WrongTaskError
from edgeinfer.model.metadata import OutputSpec, Resize
from edgeinfer.postprocess.embed import embedding_post
from edgeinfer.preprocess.geometry import place

pytestmark = pytest.mark.device

VIEW = place(Resize(), (8, 8), (8, 8)).view


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 1, 3)])
def test_a_row_is_an_embedding(shape: tuple[int, ...]) -> None:
    spec = output("features", shape)
    found = embedding_post(metadata(spec))(answers((spec, np.array([3, 0, 4], np.float32))), VIEW)
    assert found.vector.dtype == np.float32
    assert found.vector.tolist() == [3, 0, 4]


def test_stored_integers_are_dequantized() -> None:
    spec = output("features", (1, 3), "int8", (0.5, -2))
    found = embedding_post(metadata(spec))(answers((spec, np.array([-2, 0, 4], np.int8))), VIEW)
    assert found.vector.tolist() == [0, 1, 3]


def test_the_row_is_the_callers_own() -> None:
    spec = output("features", (1, 2))
    model, post = Recorder(spec), embedding_post(metadata(spec))
    first = post(model.answer(np.array([1, 2], np.float32)), VIEW)
    post(model.answer(np.array([7, 8], np.float32)), VIEW)
    assert first.vector.tolist() == [1, 2]


def test_the_only_row_among_several_outputs_is_taken() -> None:
    features, grid = output("features", (1, 2)), output("map", (1, 4, 4, 2))
    outputs = answers((grid, np.zeros((4, 4, 2), np.float32)), (features, np.array([1, 2], np.float32)))
    assert embedding_post(metadata(grid, features))(outputs, VIEW).vector.tolist() == [1, 2]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_feature_that_is_no_number_is_an_error(wrong: float) -> None:
    spec = output("features", (1, 2))
    with pytest.raises(ModelError, match="not a number in `features`") as caught:
        embedding_post(metadata(spec))(answers((spec, np.array([1, wrong], np.float32))), VIEW)
    assert "1 of 2" in caught.value.received


@pytest.mark.parametrize(
    "outputs",
    [
        [output("map", (1, 4, 4, 8))],
        [output("number", (1, 1))],
        [output("batch", (2, 8))],
        [output("flat", (8,))],
        [output("one", (1, 8)), output("other", (1, 8))],
    ],
    ids=["a map", "one number", "a batch", "no batch", "two rows"],
)
def test_other_outputs_are_refused_by_name_shape_and_type(outputs: list[OutputSpec]) -> None:
    with pytest.raises(WrongTaskError) as caught:
        embedding_post(metadata(*outputs))
    assert all(f"`{one.name}` {one.shape} {one.dtype}" in caught.value.received for one in outputs)
    assert "Pipeline" in caught.value.next_step
