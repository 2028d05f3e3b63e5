"""Answers of a classification model, worked out by hand from the stored numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tiny_models import OperatorSpec, TensorSpec

from edgeinfer.errors import InputError, MetadataError, ModelError, WrongTaskError
from edgeinfer.model.metadata import Activation, ModelMetadata, OutputSpec
from edgeinfer.postprocess.classify import class_count, classification_post, classify
from edgeinfer.preprocess.geometry import View
from edgeinfer.results import Classifications
from edgeinfer.runtime.runtime import Runtime

pytestmark = pytest.mark.device


def output(
    classes: int,
    dtype: str = "float32",
    quantization: tuple[float, int] = (0.0, 0),
    activation: Activation = "softmax",
    labels: tuple[str, ...] = (),
) -> OutputSpec:
    return OutputSpec("answer", (1, classes), dtype, *quantization, labels=labels, activation=activation)


def test_int8_probabilities_are_256ths_above_minus_128() -> None:
    raw = np.array([[-128, 127, -64, 0]], dtype=np.int8)
    found = classify(raw, output(4, "int8", (1 / 256, -128)))
    assert found.class_id.tolist() == [1, 3, 2, 0]
    assert found.confidence.tolist() == [255 / 256, 128 / 256, 64 / 256, 0.0]


def test_uint8_probabilities_are_256ths() -> None:
    raw = np.array([[3, 250, 0]], dtype=np.uint8)
    found = classify(raw, output(3, "uint8", (1 / 256, 0)))
    assert found.class_id.tolist() == [1, 0, 2]
    assert found.confidence.tolist() == [250 / 256, 3 / 256, 0.0]


def test_float_probabilities_are_taken_as_they_are() -> None:
    found = classify(np.array([[0.25, 0.75]], dtype=np.float32), output(2))
    assert found.class_id.tolist() == [1, 0]
    assert found.confidence.tolist() == [0.75, 0.25]


def test_several_sigmoids_keep_their_own_confidence() -> None:
    found = classify(np.array([[0.75, 0.875]], dtype=np.float32), output(2, activation="sigmoid"))
    assert found.confidence.tolist() == [0.875, 0.75]


def test_the_lowest_int8_does_not_become_the_best() -> None:
    # The negative of -128 is -128 in int8: a sort by it would put this class first.
    found = classify(np.array([[-128, -127]], dtype=np.int8), output(2, "int8", (1 / 256, -128)))
    assert found.class_id.tolist() == [1, 0]


def test_the_lowest_int16_does_not_become_the_best() -> None:
    found = classify(np.array([[-32768, 5]], dtype=np.int16), output(2, "int16", (1 / 32768, 0)))
    assert found.class_id.tolist() == [1, 0]


def test_equals_come_by_class_number() -> None:
    raw = np.array([[5, 9, 5, 9, 5]], dtype=np.uint8)
    assert classify(raw, output(5, "uint8", (1 / 256, 0))).class_id.tolist() == [1, 3, 0, 2, 4]


@pytest.mark.parametrize("activation", ["none", "softmax"])
def test_more_rows_than_classes_gives_all_classes(activation: Activation) -> None:
    assert len(classify(np.array([[0.5, 0.5]], np.float32), output(2, activation=activation), top_k=10)) == 2


def test_top_k_cuts() -> None:
    found = classify(np.array([[1, 2, 3]], np.uint8), output(3, "uint8", (1 / 256, 0), labels=("a", "b", "c")), top_k=2)
    assert found.labels == ("c", "b")


def test_logits_pass_a_softmax_over_all_classes() -> None:
    # exp(0), exp(ln 2), exp(ln 5): 1, 2 and 5 eighths.
    raw = np.array([[0.0, math.log(2), math.log(5)]], np.float32)
    found = classify(raw, output(3, activation="none"), top_k=2)
    assert found.class_id.tolist() == [2, 1]
    assert found.confidence.tolist() == pytest.approx([5 / 8, 2 / 8], rel=1e-6)


def test_quantized_logits_pass_the_same_softmax() -> None:
    # scale 0.5, zero point 4: stored 4, 6, 8 are 0, 1, 2.
    raw = np.array([[4, 6, 8]], np.int8)
    total = 1 + math.e + math.e**2
    found = classify(raw, output(3, "int8", (0.5, 4), activation="none"))
    assert found.confidence.tolist() == pytest.approx([math.e**2 / total, math.e / total, 1 / total], rel=1e-6)


def test_large_logits_do_not_overflow() -> None:
    found = classify(np.array([[1e4, -1e4]], np.float32), output(2, activation="none"))
    assert found.confidence.tolist() == [1.0, 0.0]


def test_a_single_probability_is_class_one_of_two() -> None:
    found = classify(np.array([[192]], np.uint8), output(1, "uint8", (1 / 256, 0), "sigmoid", ("no", "yes")))
    assert found.class_id.tolist() == [1, 0]
    assert found.confidence.tolist() == [0.75, 0.25]
    assert found.labels == ("yes", "no")


def test_a_single_low_probability_answers_class_zero() -> None:
    found = classify(np.array([[0.125]], np.float32), output(1, activation="sigmoid"))
    assert found.class_id.tolist() == [0, 1]
    assert found.confidence.tolist() == [0.875, 0.125]


def test_a_single_logit_passes_a_sigmoid() -> None:
    found = classify(np.array([[math.log(3)]], np.float32), output(1, activation="none"))
    assert found.confidence.tolist() == pytest.approx([0.75, 0.25], rel=1e-6)


@pytest.mark.parametrize("logit", [-2000.0, 2000.0])
def test_a_single_large_logit_does_not_overflow(logit: float) -> None:
    found = classify(np.array([[logit]], np.float32), output(1, activation="none"))
    assert found.confidence.tolist() == [1.0, 0.0]
    assert found.class_id.tolist() == ([1, 0] if logit > 0 else [0, 1])


def test_a_single_probability_gives_as_many_rows_as_asked() -> None:
    assert len(classify(np.array([[0.75]], np.float32), output(1, activation="sigmoid"), top_k=1)) == 1


@pytest.mark.parametrize("labels", [("one",), ("a", "b", "c")])
def test_labels_that_do_not_fit_a_single_probability_are_an_error(labels: tuple[str, ...]) -> None:
    with pytest.raises(MetadataError, match="labels do not fit"):
        classify(np.array([[0.75]], np.float32), output(1, activation="sigmoid", labels=labels))


def test_labels_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(MetadataError, match="labels do not fit") as caught:
        classify(np.array([[1, 2, 3]], np.uint8), output(3, "uint8", (1.0, 0), labels=("a", "b")))
    assert caught.value.received == "2 labels"
    assert caught.value.expected == "3, one per class"


def test_no_rows_are_an_error() -> None:
    with pytest.raises(InputError, match="top_k"):
        classify(np.array([[1, 2]], np.uint8), output(2, "uint8", (1.0, 0)), top_k=0)


def test_a_class_that_is_no_number_is_an_error_and_not_an_answer() -> None:
    with pytest.raises(ModelError, match="not a number"):
        classify(np.array([[0.5, np.nan]], np.float32), output(2))


@pytest.mark.parametrize(
    ("shape", "classes"),
    [((1, 10), 10), ((1, 1, 1, 1001), 1001), ((1, 1), 2), ((1,), 2), ((), 2)],
)
def test_the_last_dimension_counts_the_classes(shape: tuple[int, ...], classes: int) -> None:
    assert class_count(OutputSpec("answer", shape, "float32")) == classes


def test_an_output_with_more_dimensions_is_read_along_the_last() -> None:
    spec = OutputSpec("answer", (1, 1, 1, 3), "uint8", 1 / 256, 0, activation="softmax")
    assert classify(np.array([[[[1, 9, 4]]]], np.uint8), spec).class_id.tolist() == [1, 2, 0]


@given(
    npst.arrays(np.int8, st.integers(2, 40)),
    st.floats(2**-10, 4.0, width=32),
    st.integers(-128, 127),
)
def test_the_ranking_is_that_of_the_dequantized_floats(raw: np.ndarray, scale: float, zero_point: int) -> None:
    real = (raw.astype(np.float64) - zero_point) * scale
    expected = sorted(range(len(real)), key=lambda index: (-real[index], index))
    spec = output(len(raw), "int8", (scale, zero_point), "sigmoid")
    found = classify(raw[None], spec, top_k=len(raw))
    assert found.class_id.tolist() == expected
    np.testing.assert_allclose(found.confidence, real[expected], rtol=1e-6)


@given(npst.arrays(np.float32, st.integers(2, 40), elements=st.floats(-80, 80, width=32)))
def test_the_softmax_is_that_of_the_definition(logits: np.ndarray) -> None:
    powers = [math.exp(float(one)) for one in logits]
    expected = sorted((power / math.fsum(powers) for power in powers), reverse=True)
    found = classify(logits[None], output(len(logits), activation="none"), top_k=len(logits))
    assert found.confidence.dtype == np.float32
    np.testing.assert_allclose(found.confidence, expected, rtol=2e-5, atol=1e-12)


# --- from the tensors of a model ------------------------------------------------------------------

TOPK_V2 = 48
NOWHERE = View((1, 1), (1, 1), (1.0, 1.0), (0.0, 0.0))


def ranked(scores: list[float], k: int, *, labels: tuple[str, ...] = (), top_k: int = 5) -> Classifications:
    """What comes of a model whose graph ranks, with TFLite's own op for it: the best `k` of these scores."""
    record = {"schema": 1, "task": "classification", "outputs": [{"role": "scores"}, {"role": "classes"}]}
    tensors = [
        TensorSpec("row", (1, len(scores))),
        TensorSpec("k", (), "int32", values=[k]),
        TensorSpec("best", (1, k)),
        TensorSpec("places", (1, k), "int32"),
    ]
    data = tiny_models.model(tensors, [OperatorSpec(TOPK_V2, (0, 1), (2, 3))], inputs=[0], outputs=[2, 3])
    runtime = Runtime(tiny_models.with_files(data, {"edgeinfer.json": json.dumps(record)}))
    post = classification_post(runtime.metadata, labels=labels or None, top_k=top_k)
    runtime.input_view()[...] = scores  # what is no number would be refused on the usual way
    runtime.invoke()
    return post(runtime.tensors, NOWHERE)


def test_classes_that_the_graph_has_ranked_come_out_as_they_stand() -> None:
    found = ranked([0.125, 0.0, 0.25, 0.5, 0.125], 3)
    assert found.class_id.tolist() == [3, 2, 0]
    assert found.class_id.dtype == np.int64
    np.testing.assert_array_equal(found.confidence, np.array([0.5, 0.25, 0.125], np.float32))


def test_ranked_classes_are_named_by_their_number_and_one_beyond_the_names_is_its_number() -> None:
    assert ranked([0.25, 0.125, 0.5], 3, labels=("cat", "dog")).labels == ("2", "cat", "dog")


def test_fewer_than_the_graph_ranks_can_be_had() -> None:
    assert ranked([0.25, 0.125, 0.5], 3, top_k=2).class_id.tolist() == [2, 0]


def test_a_ranked_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ModelError, match="not a number"):
        ranked([math.nan, math.nan, math.nan], 2)


def test_no_rows_of_a_ranked_model_are_an_error() -> None:
    with pytest.raises(InputError, match="top_k"):
        ranked([0.25, 0.75], 2, top_k=0)


def test_a_row_of_scores_is_ranked_here() -> None:
    runtime = Runtime(tiny_models.classifier(labels=("red", "green", "blue", "dark")))
    post = classification_post(runtime.metadata, top_k=1)
    runtime.set_input(np.broadcast_to(np.array([0.0, 1.0, 0.0], np.float32), (1, 8, 8, 3)))
    runtime.invoke()
    assert post(runtime.tensors, NOWHERE).label == "green"


def test_outputs_that_are_no_row_are_another_task() -> None:
    outputs = (OutputSpec("map", (1, 8, 8, 4), "float32"),)
    with pytest.raises(WrongTaskError, match="no row"):
        classification_post(ModelMetadata("classification", (), outputs))


@given(
    st.sampled_from(["int8", "uint8", "float32"]).flatmap(
        lambda dtype: npst.arrays(dtype, st.integers(2, 60), elements=st.integers(0, 4))
    ),
    st.integers(1, 70),
)
def test_the_best_are_those_of_a_stable_sort_of_all(scores: np.ndarray, top_k: int) -> None:
    found = classify(scores, output(scores.size, str(scores.dtype), (1 / 256, 0)), top_k=top_k)
    every = sorted(range(scores.size), key=lambda place: (-int(scores[place]), place))
    assert found.class_id.tolist() == every[:top_k]
