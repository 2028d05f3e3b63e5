"""`Index`: similarities against the definition, and files against what happens to files."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgeinfer.embeddings.file import FORMAT, LoadedModel
from edgeinfer.embeddings.imprint import ImprintedClassifier
from edgeinfer.embeddings.retrieval import Index, Match
from edgeinfer.errors import InputError, InputFileError, OutputError
from edgeinfer.results import Embedding
from edgeinfer.runtime.runtime import Runtime

VECTORS = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.just(4)),
    elements=st.floats(-100, 100, width=32),
).filter(lambda rows: bool((np.abs(rows).max(axis=1) > 1e-3).all()))


def embedding(*numbers: float) -> Embedding:
    return Embedding(np.array(numbers, np.float32))


@dataclass
class Model:
    sha256: str
    path: Path | None = None


ONE, OTHER = Model("1" * 64, Path("one.tflite")), Model("2" * 64, Path("other.tflite"))


@pytest.fixture
def index() -> Index:
    made = Index(ONE)
    made.add("east", embedding(2, 0))
    made.add("north", embedding(0, 5))
    made.add("north-east", embedding(1, 1))
    return made


# --- search ---------------------------------------------------------------------------------------


def test_the_most_similar_comes_first(index: Index) -> None:
    found = index.search(embedding(0.1, 3))
    assert found.label == "north"
    assert found.labels == ("north", "north-east", "east")
    length = math.hypot(0.1, 3)
    assert found.similarity.tolist() == pytest.approx([3 / length, 3.1 / length / math.sqrt(2), 0.1 / length], abs=1e-6)


def test_matches_are_rows_of_label_and_similarity(index: Index) -> None:
    assert next(iter(index.search(embedding(7, 0)))) == Match("east", 1.0)


def test_k_cuts(index: Index) -> None:
    assert index.search(embedding(1, 0), 2).labels == ("east", "north-east")


def test_more_than_there_are_gives_all(index: Index) -> None:
    assert len(index.search(embedding(1, 0), 100)) == len(index) == 3


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_of_equals_the_first_added_comes_first(k: int) -> None:
    made = Index()
    for name in "abcde":
        made.add(name, embedding(1, 2, 3))
    assert made.search(embedding(3, 2, 1), k).labels == tuple("abcde")[:k]


def test_one_label_may_have_several_pictures() -> None:
    made = Index()
    made.add("ada", [embedding(1, 0), embedding(0, 1)])
    made.add("ben", embedding(-1, 0))
    assert made.search(embedding(1, 1), 2).labels == ("ada", "ada")
    assert made.labels == ("ada", "ben")


def test_an_empty_index_finds_nothing() -> None:
    found = Index().search(embedding(1, 2))
    assert len(found) == 0
    with pytest.raises(InputError, match="index is empty"):
        _ = found.label


def test_an_embedding_of_zeros_is_like_nothing(index: Index) -> None:
    assert index.search(embedding(0, 0)).similarity.tolist() == [0, 0, 0]


def cosine(one: list[float], other: list[float]) -> float:
    """The definition in float64; whole lengths first, so that nothing vanishes."""
    lengths = math.hypot(*one), math.hypot(*other)
    return (
        math.fsum((a / lengths[0]) * (b / lengths[1]) for a, b in zip(one, other, strict=True)) if all(lengths) else 0.0
    )


@given(VECTORS, npst.arrays(np.float32, 4, elements=st.floats(-100, 100, width=32)), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_it_is_a_loop_over_cosines(rows: np.ndarray, query: np.ndarray, k: int) -> None:
    made = Index()
    for number, row in enumerate(rows):
        made.add(str(number), row)
    found = made.search(Embedding(query), k)
    expected = [cosine(row.tolist(), query.tolist()) for row in rows]
    assert len(found) == min(k, len(rows))
    np.testing.assert_allclose(found.similarity, sorted(expected, reverse=True)[: len(found)], atol=1e-5)
    np.testing.assert_allclose(found.similarity, [expected[int(label)] for label in found.labels], atol=1e-5)


def test_adding_one_by_one_is_adding_all_at_once() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    single, whole = Index(), Index()
    for row in rows:
        single.add("a", row)
    whole.add("a", rows)
    query = Embedding(rows[3] + rows[70])
    assert single.search(query, 100).similarity.tolist() == whole.search(query, 100).similarity.tolist()


def test_very_large_and_very_small_embeddings_have_a_direction() -> None:
    made = Index()
    made.add("large", np.array([3e38, 0], np.float32))
    made.add("small", np.array([0, 1e-44], np.float32))
    assert made.search(embedding(1e-44, 0)).similarity.tolist() == [1, 0]


def test_what_is_removed_is_not_found(index: Index) -> None:
    assert index.remove("north") == 1
    assert index.remove("north") == 0
    assert index.search(embedding(0, 1)).labels == ("north-east", "east")
    index.add("south", embedding(0, -1))
    assert index.search(embedding(0, -1)).label == "south"


def test_everything_can_be_removed_and_other_lengths_added(index: Index) -> None:
    for label in index.labels:
        index.remove(label)
    index.add("a", embedding(1, 2, 3))
    assert index.search(embedding(1, 2, 3)).label == "a"


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [embedding(1, math.nan), np.array([[1, 2], [math.inf, 0]]), embedding(0, 0), np.array([[1, 1], [0, 0]])],
    ids=["NaN", "infinity", "zeros", "a row of zeros"],
)
def test_what_has_no_direction_is_not_added(index: Index, wrong: Embedding | np.ndarray) -> None:
    with pytest.raises(InputError):
        index.add("a", wrong)
    assert len(index) == 3


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((0, 2)), np.ones((2, 2, 2)), np.array(3.0), np.array(["a", "b"]), []],
    ids=["no row", "3 axes", "no axis", "texts", "an empty list"],
)
def test_what_is_no_embedding_is_not_added(wrong: np.ndarray | list[Embedding]) -> None:
    with pytest.raises(InputError):
        Index().add("a", wrong)


def test_embeddings_of_another_length_are_refused(index: Index) -> None:
    for call in (lambda: index.add("a", embedding(1, 2, 3)), lambda: index.search(embedding(1, 2, 3))):
        with pytest.raises(InputError, match="another model") as caught:
            call()
        assert (caught.value.received, caught.value.expected) == ("3 numbers", "2 numbers")


def test_embeddings_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="different models"):
        Index().add("a", [embedding(1, 2), embedding(1, 2, 3)])


def test_a_search_for_what_is_no_number_is_an_error(index: Index) -> None:
    with pytest.raises(InputError, match="not finite"):
        index.search(embedding(1, math.nan))


@pytest.mark.parametrize("label", ["", 3, None])
def test_a_label_is_a_text(label: str) -> None:
    with pytest.raises(InputError, match="label"):
        Index().add(label, embedding(1, 2))


def test_no_matches_are_an_error(index: Index) -> None:
    with pytest.raises(InputError, match="`k`"):
        index.search(embedding(1, 0), 0)


# --- files ----------------------------------------------------------------------------------------


def test_a_saved_index_finds_the_same(index: Index, tmp_path: Path) -> None:
    index.save(tmp_path / "i.npz")
    loaded = Index.load(tmp_path / "i.npz", ONE)
    query = embedding(1, 3)
    assert loaded.search(query).labels == index.search(query).labels
    assert loaded.search(query).similarity.tolist() == index.search(query).similarity.tolist()
    assert (loaded.origin.sha256, loaded.origin.name) == (ONE.sha256, "one.tflite")
    loaded.add("south", embedding(0, -1))
    assert loaded.search(embedding(0, -1)).label == "south"


def test_labels_keep_their_letters(tmp_path: Path) -> None:
    made = Index()
    names = ("Zoë", "李", "a\0b\0", "\n", "x" * 5000)
    for name in names:
        made.add(name, embedding(1, 2))
    made.save(tmp_path / "i.npz")
    assert Index.load(tmp_path / "i.npz").labels == names


def test_an_empty_index_can_be_saved(tmp_path: Path) -> None:
    Index().save(tmp_path / "i.npz")
    loaded = Index.load(tmp_path / "i.npz")
    assert len(loaded) == 0
    loaded.add("a", embedding(1, 2))
    assert loaded.search(embedding(1, 2)).label == "a"


def test_an_index_of_another_model_is_refused(index: Index, tmp_path: Path) -> None:
    index.save(tmp_path / "i.npz")
    with pytest.raises(InputError, match="another model") as caught:
        Index.load(tmp_path / "i.npz", OTHER)
    assert "`one.tflite`" in caught.value.received
    assert "`other.tflite`" in caught.value.expected
    assert caught.value.next_step


@pytest.mark.parametrize(("made_with", "loaded_with"), [(None, ONE), (ONE, None), (None, None)])
def test_nothing_is_compared_where_nobody_says_the_model(
    made_with: LoadedModel | None, loaded_with: LoadedModel | None, tmp_path: Path
) -> None:
    made = Index(made_with)
    made.add("a", embedding(1, 2))
    made.save(tmp_path / "i.npz")
    assert Index.load(tmp_path / "i.npz", loaded_with).labels == ("a",)


def test_a_runtime_is_such_a_model(tmp_path: Path) -> None:
    first, second = (Runtime(tiny_models.dense(outputs=count)) for count in (2, 3))
    made = Index(first)
    made.add("a", embedding(1, 2))
    made.save(tmp_path / "i.npz")
    assert Index.load(tmp_path / "i.npz", first).labels == ("a",)
    with pytest.raises(InputError, match="another model"):
        Index.load(tmp_path / "i.npz", second)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        Index.load(tmp_path / "none.npz")


def test_a_file_is_written_whole_or_not_at_all(index: Index, tmp_path: Path) -> None:
    (tmp_path / "i.npz").write_bytes(b"before")
    with pytest.raises(OutputError):
        index.save(tmp_path / "none" / "i.npz")
    with pytest.raises(OutputError):
        index.save(tmp_path)
    assert (tmp_path / "i.npz").read_bytes() == b"before"
    index.save(tmp_path / "i.npz")
    assert [one.name for one in tmp_path.iterdir()] == ["i.npz"]


def record(**changes: object) -> dict[str, object]:
    about: dict[str, object] = {"format": FORMAT, "kind": "index", "model": {"sha256": "", "name": ""}, "labels": ["a"]}
    return {**about, **changes}


def stored(path: Path, about: object, vectors: np.ndarray) -> Path:
    np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), vectors=vectors)
    return path


UNIT = np.array([[0.6, 0.8]], np.float32)


def test_the_format_is_what_it_says(tmp_path: Path) -> None:
    assert Index.load(stored(tmp_path / "i.npz", record(), UNIT)).labels == ("a",)


@pytest.mark.parametrize(
    ("about", "vectors"),
    [
        (record(labels=["a", "b"]), UNIT),
        (record(labels=[3]), UNIT),
        (record(labels="a"), UNIT),
        (record(model=None), UNIT),
        (record(model={"sha256": 3, "name": ""}), UNIT),
        (record(format="1"), UNIT),
        ([1, 2], UNIT),
        (record(), UNIT.astype(np.float64)),
        (record(), UNIT[0]),
        (record(), UNIT * 2),
        (record(), UNIT * np.float32(np.nan)),
        (record(), np.zeros((1, 0), np.float32)),
    ],
    ids=[
        *("more labels", "a number", "a text", "no model", "a wrong model", "a wrong format", "a list"),
        *("float64", "one axis", "longer rows", "NaN", "no column"),
    ],
)
def test_contents_that_contradict_themselves_are_an_error(about: object, vectors: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged") as caught:
        Index.load(stored(tmp_path / "i.npz", about, vectors))
    assert "i.npz" in caught.value.received


def test_a_newer_file_asks_for_an_update(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="newer edgeinfer"):
        Index.load(stored(tmp_path / "i.npz", record(format=FORMAT + 1), UNIT))


def test_a_file_of_the_other_kind_is_told_apart(tmp_path: Path) -> None:
    made = ImprintedClassifier()
    made.add("a", embedding(1, 2))
    made.save(tmp_path / "c.npz")
    with pytest.raises(InputError, match="something else") as caught:
        Index.load(tmp_path / "c.npz")
    assert "imprinted" in caught.value.received


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (opened,)

    np.savez(
        tmp_path / "i.npz",
        about=np.frombuffer(json.dumps(record()).encode(), np.uint8),
        vectors=np.array([Trap()], dtype=object),
    )
    with pytest.raises(InputError, match="damaged"):
        Index.load(tmp_path / "i.npz")
    assert not opened.exists()


def test_a_file_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.save(out, np.zeros((1, 4_000_000), np.float32))
    with zipfile.ZipFile(tmp_path / "i.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vectors.npy", out.getvalue())
    with pytest.raises(InputError, match="larger than the file"):
        Index.load(tmp_path / "i.npz")


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_an_error_or_the_same_index(data: st.DataObject) -> None:
    made = Index(ONE)
    made.add("east", embedding(2, 0))
    made.add("north", embedding(0, 5))
    out = io.BytesIO()
    np.savez(
        out,
        about=np.frombuffer(json.dumps(record(labels=["east", "north"])).encode(), np.uint8),
        vectors=np.eye(2, dtype=np.float32),
    )
    content = bytearray(out.getvalue())
    if data.draw(st.booleans(), label="cut off"):
        content = content[: data.draw(st.integers(1, len(content) - 1), label="length")]
    else:
        place = data.draw(st.integers(0, len(content) - 1), label="place")
        content[place] ^= data.draw(st.integers(1, 255), label="bits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeinfer.embeddings.file.read_bytes", lambda _: bytes(content))
        try:
            loaded = Index.load("i.npz")
        except InputError:
            return
    assert loaded.labels == ("east", "north")
    assert loaded.search(embedding(0, 1)).label == "north"
