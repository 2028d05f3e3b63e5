"""Training data: whatever form it comes in, it ends as the arrays that the device's preprocessing makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest

from converters import Card
from converters.errors import CalibrationError, TrainingError
from converters.examples import fingerprint, open_examples, prepare_examples
from converters.graph.leading import Leading
from converters.load import ModelFacts, TensorFacts
from converters.train.batches import Examples
from edgeinfer.dataset import Dataset
from edgeinfer.errors import InputError, InputFileError, OutputError
from edgeinfer.progress import Progress

FACTS = ModelFacts(
    "colours",
    "keras",
    (TensorFacts("patch", (1, 8, 8, 3), "float32"),),
    (TensorFacts("colour", (1, 4), "float32"),),
    leading=Leading(1 / 127.5, -1.0, ("scale",)),
)
BARE = replace(FACTS, leading=None)
CARD = Card(labels=colours.NAMES)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders, two pictures of 12 x 10 pixels in each; by name "blue" comes first, in the model "red" does."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder = tmp_path / "photos"
    x = np.random.default_rng(1).integers(0, 256, (8, 10, 12, 3), dtype=np.uint8)
    for number, name in enumerate(name for name in colours.NAMES for _ in range(2)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        pillow.fromarray(x[number]).save(folder / name / f"{number}.png")
    return folder


def prepared(source: Any, folder: Path, facts: ModelFacts = FACTS, card: Card = CARD, **settings: Any) -> Any:
    folder.mkdir(exist_ok=True)
    return prepare_examples(open_examples(source), facts, card, folder, **settings)


# --- what comes out -------------------------------------------------------------------------------


def test_class_folders_become_pixels_in_the_models_size_and_order_of_classes(photos: Path, tmp_path: Path) -> None:
    said: list[Progress] = []
    examples = prepared(photos, tmp_path / "work", progress=said.append)
    (pixels,) = examples.inputs
    assert (pixels.shape, pixels.dtype) == ((8, 8, 8, 3), np.uint8)
    # The folders come by name: blue, dark, green, red. The model counts red, green, blue, dark.
    assert examples.labels.tolist() == [2, 2, 3, 3, 1, 1, 0, 0]
    assert examples.normalization == (0, 1)  # the Rescaling is a layer of the model that is trained
    assert [one.done for one in said] == list(range(1, 9))
    assert {(one.step, one.total) for one in said} == {("training data", 8)}


def test_pictures_are_resized_as_the_device_does_it(photos: Path, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    (pixels,) = prepared(photos, tmp_path / "work", card=replace(CARD, resize="crop", filter="nearest")).inputs
    # 12 x 10 is cropped to its middle, 10 x 10, and nearest takes the pixel in the middle of each cell of 1.25.
    whole = np.asarray(pillow.open(photos / "blue" / "4.png"))[:, 1:11]
    rows = np.floor((np.arange(8) + 0.5) * 1.25).astype(int)
    assert np.array_equal(pixels[0], whole[rows][:, rows])


def test_pictures_lie_on_disk_and_are_mapped_into_memory(photos: Path, tmp_path: Path) -> None:
    (pixels,) = prepared(photos, tmp_path / "work").inputs
    assert isinstance(pixels, np.memmap)
    (path,) = (tmp_path / "work").iterdir()
    assert np.array_equal(np.load(path), pixels)


def test_a_second_run_in_the_folder_does_not_pull_the_pixels_from_under_the_first(photos: Path, tmp_path: Path) -> None:
    (first,) = prepared(photos, tmp_path / "work").inputs
    before = first.copy()
    prepared(colours.labelled(4, seed=9), tmp_path / "work")
    assert np.array_equal(first, before)


def test_arrays_npz_and_data_set_are_the_same_examples(tmp_path: Path) -> None:
    x, y = colours.pictures(12)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    for source in ((x, y), [x, y], tmp_path / "d.npz", str(tmp_path / "d.npz"), Dataset("mine", x, y)):
        examples = prepared(source, tmp_path / "work")
        assert np.array_equal(examples.inputs[0], x)
        assert np.array_equal(examples.labels, y)


def test_one_hot_labels_are_classes(tmp_path: Path) -> None:
    x, y = colours.pictures(12)
    assert prepared((x, np.eye(4)[y]), tmp_path).labels.tolist() == y.tolist()


def test_floats_are_the_models_own_input_and_stay_in_memory(tmp_path: Path) -> None:
    x, y = colours.floats(12), colours.pictures(12)[1]
    examples = prepared((x.astype(np.float64), y), tmp_path / "work", BARE)
    assert examples.inputs[0].dtype == np.float32
    assert np.array_equal(examples.inputs[0], x)
    assert examples.normalization is None
    assert list((tmp_path / "work").iterdir()) == []


def test_the_card_says_how_pixels_become_input(tmp_path: Path) -> None:
    card = replace(CARD, normalization=(127.5, 64.0))
    assert prepared(colours.labelled(4), tmp_path, BARE, card).normalization == (127.5, 64.0)


def test_an_offset_counts_the_background(tmp_path: Path) -> None:
    facts = replace(FACTS, outputs=(TensorFacts("colour", (1, 5), "float32"),))
    examples = prepared(colours.labelled(4), tmp_path, facts, Card(), class_offset=1)
    assert examples.labels.tolist() == [1, 2, 3, 4]


def test_tokens_stay_whole_numbers(tmp_path: Path) -> None:
    facts = replace(BARE, inputs=(TensorFacts("tokens", (1, 6), "int32"),))
    tokens = np.arange(24).reshape(4, 6)
    (array,) = prepared((tokens, np.arange(4)), tmp_path, facts).inputs
    assert array.dtype == np.int32
    assert np.array_equal(array, tokens)


def test_one_probability_tells_two_classes_apart(tmp_path: Path) -> None:
    facts = replace(FACTS, outputs=(TensorFacts("yes", (1, 1), "float32"),))
    x, y = colours.pictures(8)
    assert prepared((x, y % 2), tmp_path, facts, Card()).labels.tolist() == [0, 1] * 4
    with pytest.raises(InputError, match="classes that the model has not"):
        prepared((x, y), tmp_path, facts, Card())


def test_a_callers_own_batches_stay_what_they_are() -> None:
    class Batches:
        pass

    own = Batches()
    assert prepare_examples(open_examples(own), FACTS, CARD, Path("nowhere")) is own
    assert open_examples(None) is None


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("none-such", InputFileError, "no data here"),
        ((colours.pictures(4)[0], np.arange(3)), InputError, "do not fit its samples"),
        ((colours.pictures(4)[0], np.array(["a", "b", "c", "d"])), CalibrationError, "no array of numbers"),
        ((colours.pictures(4)[0].astype(np.int32), np.arange(4)), InputError, "neither pictures nor model input"),
        (Dataset("mine", colours.pictures(4)[0]), InputError, "training data has no labels"),
        ((np.ones((4, 9, 9, 3), np.float32), np.arange(4)), InputError, "Training sample 0 has the wrong shape"),
        ((np.full((4, 8, 8, 3), np.nan, np.float32), np.arange(4)), InputError, "Training sample 0 holds values"),
        ((colours.pictures(8)[0], np.arange(8)), InputError, "classes that the model has not"),
        (Dataset("mine", colours.pictures(2)[0], np.arange(2), ("rouge", "vert")), InputError, "none of the model's"),
        (Dataset("mine", colours.pictures(2)[0], np.arange(2), ("red", "vert")), InputError, "Some classes"),
    ],
    ids=[
        "not there",
        "labels of another length",
        "labels that are words",
        "pixels of another type",
        "no labels",
        "wrong shape",
        "NaN",
        "too many classes",
        "names that are none of the labels",
        "names of which some are labels",
    ],
)
def test_data_that_cannot_be_right_is_refused(source: Any, error: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words) as caught:
        prepared(source, tmp_path)
    assert "alibration" not in str(caught.value)


def test_a_folder_without_classes_has_no_labels(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labels"):
        prepared(photos / "red", tmp_path)


def test_a_broken_picture_is_named(photos: Path, tmp_path: Path) -> None:
    (photos / "green" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(InputError, match=r"Training picture `2\.png`"):
        prepared(photos, tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_pictures_without_a_normalization_are_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nobody says") as caught:
        prepared(colours.labelled(4), tmp_path, BARE)
    assert "--normalization" in caught.value.next_step


@pytest.mark.parametrize("which", ["inputs", "outputs"])
def test_a_data_set_trains_one_input_and_one_output(which: str, tmp_path: Path) -> None:
    facts = replace(FACTS, **{which: 2 * getattr(FACTS, which)})  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="one input and one output"):
        prepared(colours.labelled(4), tmp_path, facts)


def test_a_full_disk_is_said_before_the_first_pixel_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file that is mapped into memory and finds no room ends the process by a signal, so the room is asked for first.
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(OutputError, match="training data") as caught:
        prepared(colours.labelled(4), tmp_path / "work")
    assert "No space left" in caught.value.received
    assert list((tmp_path / "work").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="training data"):
        prepare_examples(colours.labelled(4), FACTS, CARD, tmp_path / "gone")


# --- fingerprints ---------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_numbers() -> None:
    x, y = colours.pictures(1500)  # more than are hashed at once
    first = fingerprint(Examples((x,), y, (0.0, 1.0)))
    assert fingerprint(Examples((x.copy(),), y.copy(), (0.0, 1.0))) == first
    pixel, label = x.copy(), y.copy()
    pixel[1400, 7, 7, 2] ^= 1
    label[1400] ^= 1
    others = [
        Examples((pixel,), y, (0.0, 1.0)),
        Examples((x,), label, (0.0, 1.0)),
        Examples((x,), y, (0.0, 255.0)),
        Examples((x,), y),
        Examples((x.reshape(1500, 8, 24),), y, (0.0, 1.0)),
        Examples((x.view(np.int8),), y, (0.0, 1.0)),
        Examples((x[:1499],), y[:1499], (0.0, 1.0)),
        None,
    ]
    assert first not in {fingerprint(one) for one in others}
    assert len({fingerprint(one) for one in others}) == len(others)


def test_the_fingerprint_of_pictures_on_disk_is_that_of_the_same_in_memory(photos: Path, tmp_path: Path) -> None:
    mapped = prepared(photos, tmp_path / "work")
    held = replace(mapped, inputs=(np.array(mapped.inputs[0]),))
    assert fingerprint(mapped) == fingerprint(held)


@pytest.mark.tensorflow
def test_a_callers_own_batches_are_told_apart_by_their_length_where_they_have_one(keras: Any) -> None:
    import tensorflow as tf

    def batches(count: int) -> Any:
        return tf.data.Dataset.from_tensor_slices(np.zeros((count, 2))).batch(1)

    unknown = batches(6).filter(lambda _: True)
    prints = {fingerprint(one) for one in (batches(6), batches(5), batches(6).repeat(), unknown)}
    assert fingerprint(batches(6)) == fingerprint(batches(6))
    assert len(prints) >= 3
