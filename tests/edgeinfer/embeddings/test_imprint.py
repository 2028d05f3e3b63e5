"""`ImprintedClassifier`: weights and confidences against the formulas of the paper, and files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinfer.embeddings.imprint import SCALE, ImprintedClassifier
from edgeinfer.embeddings.retrieval import Index
from edgeinfer.errors import InputError
from edgeinfer.results import Embedding


def embedding(*numbers: float) -> Embedding:
    return Embedding(np.array(numbers, np.float32))


class Model:
    def __init__(self, digit: str) -> None:
        self.sha256 = digit * 64
        self.path = Path(f"{digit}.tflite")


@pytest.fixture
def classify() -> ImprintedClassifier:
    made = ImprintedClassifier(Model("1"), scale=10.0)
    made.add("mug", embedding(2, 0))
    made.add("plate", embedding(0, 3))
    return made


def test_the_confidence_is_the_softmax_of_scaled_cosines(classify: ImprintedClassifier) -> None:
    found = classify(embedding(3, 4))  # cosines 0.6 and 0.8
    assert found.labels == ("plate", "mug")
    assert found.class_id.tolist() == [1, 0]
    assert found.confidence.tolist() == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))], rel=1e-5)


def test_the_length_of_an_embedding_does_not_matter(classify: ImprintedClassifier) -> None:
    first, second = classify(embedding(3, 4)), classify(embedding(300, 400))
    assert first.confidence.tolist() == pytest.approx(second.confidence.tolist(), rel=1e-5)


def test_a_weight_is_the_mean_of_unit_embeddings() -> None:
    # (1, 0) and (0, 1) after normalization, whatever their lengths: the weight is (1, 1) / sqrt(2).
    made = ImprintedClassifier(scale=1.0)
    made.add("both", [embedding(100, 0), embedding(0, 0.1)])
    made.add("east", embedding(1, 0))
    found = made(embedding(1, 0))
    logits = 1.0, 1 / math.sqrt(2)
    assert found.labels == ("east", "both")
    assert found.confidence[0] == pytest.approx(math.exp(logits[0]) / sum(math.exp(one) for one in logits), rel=1e-5)


@given(st.permutations(range(6)), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_pictures_can_come_in_any_order_and_in_parts(order: list[int], cut: int) -> None:
    rows = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32) + 2
    whole, parts = ImprintedClassifier(), ImprintedClassifier()
    for made in (whole, parts):
        made.add("other", embedding(1, 0, 0, 0, 0))
    whole.add("class", rows)
    parts.add("class", rows[order[:cut]])
    parts.add("class", rows[order[cut:]])
    query = Embedding(rows[0])
    np.testing.assert_allclose(whole(query).confidence, parts(query).confidence, rtol=1e-5)


def test_a_new_class_changes_no_other_classs_weight(classify: ImprintedClassifier) -> None:
    before = classify(embedding(3, 4)).confidence
    classify.add("bowl", embedding(-1, 0))
    after = classify(embedding(3, 4))
    assert after.labels == ("plate", "mug", "bowl")
    assert after.confidence[0] / after.confidence[1] == pytest.approx(before[0] / before[1], rel=1e-4)


def test_a_class_can_be_removed(classify: ImprintedClassifier) -> None:
    assert classify.remove("mug") == 1
    assert classify.remove("mug") == 0
    assert classify.labels == ("plate",)
    assert classify(embedding(1, 0)).confidence.tolist() == [1.0]


def test_top_k_cuts_and_keeps_the_confidence(classify: ImprintedClassifier) -> None:
    assert classify(embedding(3, 4), top_k=1).confidence.tolist() == classify(embedding(3, 4)).confidence[:1].tolist()


def test_a_large_scale_does_not_overflow() -> None:
    made = ImprintedClassifier(scale=1e6)
    made.add("a", embedding(1, 0))
    made.add("b", embedding(-1, 0))
    assert made(embedding(1, 0)).confidence.tolist() == [1.0, 0.0]


def test_an_embedding_of_zeros_is_every_class(classify: ImprintedClassifier) -> None:
    assert classify(embedding(0, 0)).confidence.tolist() == [0.5, 0.5]


def test_no_class_yet_is_an_error() -> None:
    with pytest.raises(InputError, match="no class yet"):
        ImprintedClassifier()(embedding(1, 2))


def test_pictures_that_cancel_each_other_out_are_refused(classify: ImprintedClassifier) -> None:
    with pytest.raises(InputError, match="cancel"):
        classify.add("bowl", [embedding(1, 1), embedding(-1, -1)])
    with pytest.raises(InputError, match="cancel"):
        classify.add("mug", embedding(-1, 0))
    assert classify.labels == ("mug", "plate")
    assert classify(embedding(1, 0)).label == "mug"


@pytest.mark.parametrize("wrong", [embedding(1, math.nan), embedding(0, 0), embedding(1, 2, 3)])
def test_what_cannot_be_compared_is_not_added(classify: ImprintedClassifier, wrong: Embedding) -> None:
    with pytest.raises(InputError):
        classify.add("bowl", wrong)
    assert len(classify) == 2


@pytest.mark.parametrize("wrong", [embedding(1, math.nan), embedding(1, 2, 3)])
def test_what_cannot_be_compared_is_not_classified(classify: ImprintedClassifier, wrong: Embedding) -> None:
    with pytest.raises(InputError):
        classify(wrong)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_is_above_zero(scale: float) -> None:
    with pytest.raises(InputError, match="scale"):
        ImprintedClassifier(scale=scale)


def test_no_rows_are_an_error(classify: ImprintedClassifier) -> None:
    with pytest.raises(InputError, match="top_k"):
        classify(embedding(1, 2), top_k=0)


# --- files ----------------------------------------------------------------------------------------


def test_saved_classes_answer_the_same_and_can_be_added_to(classify: ImprintedClassifier, tmp_path: Path) -> None:
    classify.add("mug", [embedding(3, 1)])
    classify.save(tmp_path / "c.npz")
    loaded = ImprintedClassifier.load(tmp_path / "c.npz", Model("1"))
    assert loaded.scale == 10.0
    for made in (classify, loaded):
        made.add("mug", embedding(2, 1))
        made.add("bowl", embedding(-1, 1))
    query = embedding(3, 4)
    assert loaded(query).labels == classify(query).labels
    assert loaded(query).confidence.tolist() == classify(query).confidence.tolist()


def test_no_classes_can_be_saved(tmp_path: Path) -> None:
    ImprintedClassifier().save(tmp_path / "c.npz")
    loaded = ImprintedClassifier.load(tmp_path / "c.npz")
    assert (len(loaded), loaded.scale) == (0, SCALE)
    loaded.add("a", embedding(1, 2))
    assert loaded(embedding(1, 2)).label == "a"


def test_classes_of_another_model_are_refused(classify: ImprintedClassifier, tmp_path: Path) -> None:
    classify.save(tmp_path / "c.npz")
    with pytest.raises(InputError, match="another model"):
        ImprintedClassifier.load(tmp_path / "c.npz", Model("2"))


def test_an_index_is_told_apart(tmp_path: Path) -> None:
    Index().save(tmp_path / "i.npz")
    with pytest.raises(InputError, match="something else"):
        ImprintedClassifier.load(tmp_path / "i.npz")


def stored(path: Path, sums: np.ndarray, **changes: object) -> Path:
    about = {"format": 1, "kind": "imprinted", "model": {"sha256": "", "name": ""}}
    about |= {"labels": ["a", "b"], "counts": [1, 2], "scale": 10.0, **changes}
    np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), sums=sums)
    return path


SUMS = np.array([[1.0, 0.0], [0.0, 1.5]])


def test_the_format_is_what_it_says(tmp_path: Path) -> None:
    assert ImprintedClassifier.load(stored(tmp_path / "c.npz", SUMS)).labels == ("a", "b")


@pytest.mark.parametrize(
    ("sums", "changes"),
    [
        (SUMS, {"labels": ["a", "a"]}),
        (SUMS, {"labels": ["a"]}),
        (SUMS, {"counts": [1]}),
        (SUMS, {"counts": [1, 0]}),
        (SUMS, {"counts": None}),
        (SUMS, {"counts": [True, 2]}),
        (SUMS, {"counts": [10**400, 2]}),
        (SUMS, {"scale": 0}),
        (SUMS, {"scale": "10"}),
        (SUMS, {"scale": 10**400}),
        (SUMS, {"scale": None}),
        (SUMS.astype(np.float32), {}),
        (SUMS[0], {}),
        (SUMS * np.nan, {}),
        (SUMS * 0, {}),
        (SUMS * 3, {}),
        (SUMS * 1e300, {}),
        (SUMS[:, :0], {}),
    ],
    ids=[
        *(
            "the same label twice",
            "fewer labels",
            "fewer counts",
            "no pictures",
            "no counts",
            "a count that is a truth",
            "a count beyond all",
        ),
        *(
            "no scale",
            "a text",
            "a scale beyond all",
            "null",
            "float32",
            "one axis",
            "NaN",
            "zeros",
            "longer than its pictures",
            "huge",
        ),
        "no column",
    ],
)
def test_contents_that_contradict_themselves_are_an_error(
    sums: np.ndarray, changes: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="damaged"):
        ImprintedClassifier.load(stored(tmp_path / "c.npz", sums, **changes))
