"""The data formats: what is found, how it is counted, and what is refused by name."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinfer.dataset import Dataset, from_arrays, match_classes, matches_by_name, open_dataset
from edgeinfer.errors import InputError, InputFileError


def touch(folder: Path, *names: str) -> Path:
    """Make empty files; a picture is read only when it is taken."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(data: Dataset) -> list[str]:
    return [Path(source).name for source in data]


def table(folder: Path, text: str) -> Path:
    touch(folder, "a.jpg", "b.jpg")
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


# --- folders --------------------------------------------------------------------------------------


def test_class_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    data = open_dataset(touch(tmp_path, "dog/1.jpg", "cat/2.png", "cat/more/3.JPEG"))
    assert names(data) == ["2.png", "3.JPEG", "1.jpg"]
    assert data.classes == ("cat", "dog")
    assert data.truth is not None
    assert data.truth.tolist() == [0, 0, 1]
    assert data.truth.dtype == np.int64


def test_what_is_no_picture_is_left_out(tmp_path: Path) -> None:
    assert names(open_dataset(touch(tmp_path, "cat/1.jpg", "cat/readme.txt", "cat/Thumbs.db"))) == ["1.jpg"]


def test_pictures_beside_class_folders_are_refused_and_not_dropped(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "old/3.jpg")
    with pytest.raises(InputError, match="beside class folders") as caught:
        open_dataset(tmp_path)
    assert "2 pictures" in caught.value.received


def test_tokens_are_model_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "tokens.npz", x=np.arange(12, dtype=np.int32).reshape(3, 4), y=np.array([0, 1, 0]))
    assert open_dataset(tmp_path / "tokens.npz").sources[1].tolist() == [4, 5, 6, 7]


def test_hidden_folders_and_files_are_left_out(tmp_path: Path) -> None:
    data = open_dataset(touch(tmp_path, ".git/1.jpg", "cat/._2.jpg", "cat/.thumbs/3.jpg", "cat/4.jpg"))
    assert data.classes == ("cat",)
    assert names(data) == ["4.jpg"]


def test_a_hidden_folder_above_the_data_does_not_hide_it(tmp_path: Path) -> None:
    assert names(open_dataset(touch(tmp_path / ".cache", "cat/1.jpg").resolve())) == ["1.jpg"]


def test_a_folder_with_a_pictures_name_is_no_picture(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "cat/old.jpg/readme.txt")
    assert names(open_dataset(tmp_path)) == ["1.jpg"]


def test_a_class_without_pictures_keeps_its_number(tmp_path: Path) -> None:
    touch(tmp_path, "bird/1.jpg", "dog/2.jpg")
    (tmp_path / "cat").mkdir()
    data = open_dataset(tmp_path)
    assert data.classes == ("bird", "cat", "dog")
    assert data.truth is not None
    assert data.truth.tolist() == [0, 2]


def test_a_folder_of_pictures_has_no_labels(tmp_path: Path) -> None:
    data = open_dataset(touch(tmp_path, "b.png", "a.jpg"))
    assert names(data) == ["a.jpg", "b.png"]
    assert data.truth is None
    assert data.classes == ()


def test_an_empty_folder_beside_pictures_makes_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "old").mkdir()
    data = open_dataset(tmp_path)
    assert names(data) == ["a.jpg"]
    assert data.truth is None


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no samples") as caught:
        open_dataset(tmp_path)
    assert "labels.csv" in caught.value.expected


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no data") as caught:
        open_dataset(tmp_path / "none")
    assert str(tmp_path / "none") in caught.value.received


def test_a_file_of_another_kind_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set") as caught:
        open_dataset(touch(tmp_path, "data.zip") / "data.zip")
    assert ".npz" in caught.value.expected


# --- labels.csv -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "file,class\nb.jpg,7\na.jpg,3\n",
        "b.jpg,7\na.jpg,3\n",
        "\ufefffile,class\r\nb.jpg,7\r\n\r\na.jpg,3\r\n",
        'file,class,who\nb.jpg, 7,me\n"a.jpg",+3,you',
    ],
    ids=["heading", "bare", "from a spreadsheet", "more columns"],
)
def test_a_table_gives_files_and_classes_in_its_order(tmp_path: Path, text: str) -> None:
    data = open_dataset(table(tmp_path, text))
    assert names(data) == ["b.jpg", "a.jpg"]
    assert data.truth is not None
    assert data.truth.tolist() == [7, 3]


def test_a_table_beats_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg")
    (tmp_path / "labels.csv").write_text("cat/1.jpg,5\n")
    data = open_dataset(tmp_path)
    assert data.truth is not None
    assert data.truth.tolist() == [5]
    assert data.classes == ()


def test_files_that_a_table_names_and_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="names 2 files") as caught:
        open_dataset(table(tmp_path, "a.jpg,1\nnone.jpg,2\nneither.jpg,3\n"))
    assert caught.value.received == "none.jpg, neither.jpg"


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("file,class\na.jpg,1\nb.jpg,macaw\n", 3),
        ("a.jpg,1\nb.jpg\n", 2),
        ("a.jpg,1\nb.jpg,1.5\n", 2),
        ("a.jpg,1\nb.jpg,+-3\n", 2),
        ("a.jpg,1\nb.jpg," + "9" * 30 + "\n", 2),
        ("file,class\n\na.jpg,\n", 3),
    ],
    ids=["name", "one column", "half a class", "two signs", "beyond all classes", "nothing"],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, text: str, row: int) -> None:
    with pytest.raises(InputError, match=f"Row {row} of") as caught:
        open_dataset(table(tmp_path, text))
    assert caught.value.expected == "parrot.jpg,88"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00a.jpg", b"a.jpg,\x001\n"], ids=["another encoding", "null byte"])
def test_a_table_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    table(tmp_path, "")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"labels\.csv"):
        open_dataset(tmp_path)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no samples"):
        open_dataset(table(tmp_path, "file,class\n"))


# --- NumPy files ----------------------------------------------------------------------------------

PICTURES = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


def test_x_and_y_are_samples_and_classes(tmp_path: Path) -> None:
    data = open_dataset(npz(tmp_path / "d.npz", x=PICTURES, y=np.array([3, 1])))
    assert len(data) == 2
    assert [sample.tolist() for sample in data] == PICTURES.tolist()
    assert data.truth is not None
    assert data.truth.tolist() == [3, 1]


def test_x_alone_has_no_labels(tmp_path: Path) -> None:
    assert open_dataset(npz(tmp_path / "d.npz", x=PICTURES)).truth is None


def test_an_npy_is_x_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", PICTURES)
    data = open_dataset(tmp_path / "d.npy")
    assert data.truth is None
    assert [sample.tolist() for sample in data] == PICTURES.tolist()


def test_encoded_pictures_are_cut_at_their_offsets(tmp_path: Path) -> None:
    packed = np.frombuffer(b"onetwothree", dtype=np.uint8)
    path = npz(
        tmp_path / "d.npz",
        jpeg=packed,
        offset=np.array([0, 3, 6, 11]),
        label=np.array([2, 0, 1], np.uint8),
        classes=np.array(["cat", "dog", "bird"]),
    )
    data = open_dataset(path)
    assert list(data) == [b"one", b"two", b"three"]
    assert data.truth is not None
    assert data.truth.tolist() == [2, 0, 1]
    assert data.classes == ("cat", "dog", "bird")


def test_classes_stored_as_bytes_are_names(tmp_path: Path) -> None:
    packed = np.zeros(2, dtype=np.uint8)
    path = npz(tmp_path / "d.npz", jpeg=packed, offset=np.array([0, 1, 2]), classes=np.array([b"cat", b"dog"]))
    assert open_dataset(path).classes == ("cat", "dog")


@pytest.mark.parametrize(
    "offset",
    [
        np.array([0, 6, 3]),
        np.array([0, 6, 3], dtype=np.uint64),
        np.array([0, 3, 3]),
        np.array([0, 12]),
        np.array([-1, 3]),
        np.array([0.0, 3.0]),
        np.array([0]),
        np.array([[0, 3]]),
    ],
    ids=["falling", "falling unsigned", "equal", "beyond", "negative", "floats", "one", "matrix"],
)
def test_offsets_that_do_not_cut_the_bytes_are_refused(tmp_path: Path, offset: np.ndarray) -> None:
    with pytest.raises(InputError, match="does not cut"):
        open_dataset(npz(tmp_path / "d.npz", jpeg=np.zeros(11, np.uint8), offset=offset))


def test_packed_bytes_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not cut"):
        open_dataset(npz(tmp_path / "d.npz", jpeg=np.zeros((3, 4), np.uint8), offset=np.array([0, 3])))


def test_an_archive_without_known_arrays_names_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the known arrays") as caught:
        open_dataset(npz(tmp_path / "d.npz", images=PICTURES, labels=np.array([1, 2])))
    assert caught.value.received == "images, labels"


def test_pickled_objects_are_never_unpacked(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return (tmp_path / "sprung").write_text, ("x",)

    for name in ("d.npz", "d.npy"):
        trap = np.array([Trap()], dtype=object)
        if name.endswith("npz"):
            np.savez(tmp_path / name, x=trap)
        else:
            np.save(tmp_path / name, trap, allow_pickle=True)
        with pytest.raises(InputError, match="cannot be read"):
            open_dataset(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 and no more", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_numpy_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(tmp_path / name)


def test_the_content_says_whether_it_is_an_array_or_an_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PICTURES)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    npz(tmp_path / "b.npz", x=PICTURES).rename(tmp_path / "b.npy")
    assert len(open_dataset(tmp_path / "a.npz")) == 2
    assert len(open_dataset(tmp_path / "b.npy")) == 2


def test_a_missing_numpy_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no such file"):
        open_dataset(tmp_path / "none.npz")


def test_damaged_archives_raise_our_errors_only(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=PICTURES, y=np.array([1, 2]))
    whole = buffer.getvalue()
    random = np.random.default_rng(3)
    refused = 0
    for number in range(300):
        data = bytearray(whole[: random.integers(len(whole))] if number % 3 == 0 else whole)
        for place in random.integers(0, max(1, len(data)), size=4 if data else 0):
            data[place] = random.integers(256)
        (tmp_path / "d.npz").write_bytes(data)
        try:
            list(open_dataset(tmp_path / "d.npz"))
        except InputError:
            refused += 1
    assert refused > 200


def test_a_compressed_stream_that_breaks_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise zlib.error("Error -3 while decompressing data: invalid block type")

    npz(tmp_path / "d.npz", x=PICTURES)
    monkeypatch.setattr(np, "load", broken)
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(tmp_path / "d.npz")


# --- arrays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "truth"),
    [
        (np.array([2, 0]), [2, 0]),
        (np.array([[2], [0]]), [2, 0]),
        (np.array([2.0, 0.0], np.float32), [2, 0]),
        (np.array([True, False]), [1, 0]),
        (np.array([[0, 0, 1], [1, 0, 0]]), [2, 0]),
        (np.array([[0, 0, 1], [1, 0, 0]], np.float32), [2, 0]),
        (np.array([2, 0], np.uint8), [2, 0]),
    ],
    ids=["plain", "column", "whole floats", "yes or no", "one-hot", "one-hot floats", "bytes"],
)
def test_labels_in_their_usual_shapes(y: np.ndarray, truth: list[int]) -> None:
    found = from_arrays(PICTURES, y).truth
    assert found is not None
    assert found.tolist() == truth
    assert found.dtype == np.int64


@pytest.mark.parametrize(
    "y",
    [
        np.array([1, 2, 3]),
        np.array([0.5, 1.0]),
        np.array([np.nan, 1.0]),
        np.array([np.inf, 1.0]),
        np.array(["cat", "dog"]),
        np.array([[0, 1, 1], [1, 0, 0]]),
        np.array([[0.2, 0.8], [0.6, 0.4]]),
        np.array([[0, 0, 0], [1, 0, 0]]),
        np.array(1),
    ],
    ids=["too many", "half", "nan", "infinite", "names", "two at once", "soft", "none hot", "scalar"],
)
def test_labels_that_are_no_class_each_are_refused(y: np.ndarray) -> None:
    with pytest.raises(InputError, match="do not fit"):
        from_arrays(PICTURES, y)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((2, 4, 5, 3), np.int32),
        np.zeros(5, np.float32),
        np.zeros((2, 8), np.uint8),
        np.zeros((2, 4, 5, 3), bool),
        np.zeros((1, 2, 4, 5, 3), np.uint8),
        np.float32(3),
    ],
    ids=["int32", "one dimension", "flat pixels", "bool", "five dimensions", "scalar"],
)
def test_samples_that_are_neither_pictures_nor_floats_are_refused(x: np.ndarray) -> None:
    with pytest.raises(InputError, match="neither pictures nor model input"):
        from_arrays(x)


def test_grey_pictures_and_features_are_welcome() -> None:
    assert len(from_arrays(np.zeros((3, 28, 28), np.uint8))) == 3
    assert len(from_arrays(np.zeros((3, 6), np.float64))) == 3


def test_take_gives_the_samples_at_these_places() -> None:
    data = Dataset("d", ["a", "b", "c"], np.array([5, 6, 7]), ())
    part = data.take(np.array([2, 0]))
    assert list(part) == ["c", "a"]
    assert part.truth is not None
    assert part.truth.tolist() == [7, 5]
    assert Dataset("d", ["a", "b"]).take(np.array([1])).truth is None


def test_one_truth_a_sample_is_checked() -> None:
    with pytest.raises(InputError, match="labels"):
        Dataset("d", ["a", "b"], np.array([1]))


def test_a_truth_without_a_class_name_is_refused() -> None:
    with pytest.raises(InputError, match="class"):
        Dataset("d", ["a", "b"], np.array([0, 2]), ("cat", "dog"))


# --- from the data's classes to the model's -------------------------------------------------------


def labelled(*truth: int, classes: tuple[str, ...] = ()) -> Dataset:
    return Dataset("data", list(truth), np.array(truth, dtype=np.int64), classes)


def test_names_are_matched_to_the_models_labels() -> None:
    data = labelled(0, 1, 1, classes=("cat", "dog"))
    assert match_classes(data, ("bird", "dog", "cat"), 3).tolist() == [2, 1, 1]


def test_case_spaces_underscores_and_dashes_do_not_matter() -> None:
    data = labelled(0, 1, classes=("great_white-shark", "TENCH"))
    assert match_classes(data, ("tench", "Great White Shark"), 2).tolist() == [1, 0]


def test_a_misspelt_class_among_known_ones_is_refused() -> None:
    data = labelled(0, 1, classes=("cat", "dgo"))
    with pytest.raises(InputError, match="none of the model's labels") as caught:
        match_classes(data, ("bird", "dog", "cat"), 3)
    assert caught.value.received == "dgo"


def test_names_that_are_all_unknown_count_by_number() -> None:
    data = labelled(0, 1, classes=("n01440764", "n01491361"))
    assert match_classes(data, ("background", "tench", "shark"), 3, class_offset=1).tolist() == [1, 2]


def test_names_beat_the_offset() -> None:
    assert match_classes(labelled(0, classes=("cat",)), ("background", "cat"), 2, class_offset=7).tolist() == [1]


def test_the_first_of_two_labels_with_one_name_is_taken() -> None:
    assert match_classes(labelled(0, classes=("crane",)), ("ox", "crane", "crane"), 3).tolist() == [1]


def test_without_labels_classes_are_numbers() -> None:
    assert match_classes(labelled(0, 1, classes=("cat", "dog")), (), 3).tolist() == [0, 1]


def test_words_of_which_none_is_a_label_are_refused_unless_an_offset_says_how_they_count() -> None:
    data, labels = labelled(0, 1, classes=("cat", "dog")), ("bird", "fish", "horse")
    with pytest.raises(InputError, match="none of the model's labels") as caught:
        match_classes(data, labels, 3)
    assert caught.value.received == "cat, dog"
    assert "bird, fish, horse" in caught.value.expected
    assert "--class-offset 0" in caught.value.next_step
    assert match_classes(data, labels, 3, class_offset=0).tolist() == [0, 1]


def test_names_that_are_numbers_count_by_number() -> None:
    assert match_classes(labelled(0, 1, classes=("0", "1")), ("bird", "fish", "horse"), 3).tolist() == [0, 1]


@pytest.mark.parametrize("classes", [(), ("0", "1", "2")], ids=["no names", "numbers as names"])
def test_numbers_for_a_model_with_a_background_class_need_an_offset(classes: tuple[str, ...]) -> None:
    data, labels = labelled(0, 2, 1, classes=classes), ("Background", "tench", "shark", "ray")
    with pytest.raises(InputError, match="background") as caught:
        match_classes(data, labels, 4)
    assert "--class-offset 1" in caught.value.next_step
    assert match_classes(data, labels, 4, class_offset=1).tolist() == [1, 3, 2]
    assert match_classes(data, labels, 4, class_offset=0).tolist() == [0, 2, 1]


def test_numbers_that_reach_the_last_class_count_the_background_too() -> None:
    assert match_classes(labelled(0, 3), ("background", "tench", "shark", "ray"), 4).tolist() == [0, 3]


def test_what_is_matched_by_name_is_said() -> None:
    assert matches_by_name(labelled(0, classes=("Cat",)), ("dog", "cat"))
    assert not matches_by_name(labelled(0, classes=("cow",)), ("dog", "cat"))
    assert not matches_by_name(labelled(0), ("dog", "cat"))


def test_the_offset_is_added_to_numbers() -> None:
    assert match_classes(labelled(0, 5), (), 7, class_offset=1).tolist() == [1, 6]


@pytest.mark.parametrize(("truth", "offset"), [(9, 1), (0, -1)])
def test_classes_that_the_model_has_not_are_refused(truth: int, offset: int) -> None:
    with pytest.raises(InputError, match="classes that the model has not") as caught:
        match_classes(labelled(truth), (), 10, class_offset=offset)
    assert caught.value.expected == "0 to 9"
    assert "--class-offset" in caught.value.next_step


def test_unlabelled_data_has_no_truth_to_match() -> None:
    with pytest.raises(InputError, match="has no labels"):
        match_classes(Dataset("photos", ["a.jpg"]), (), 10)


def test_no_samples_have_no_truth_to_match() -> None:
    with pytest.raises(InputError, match="no samples"):
        match_classes(labelled(), (), 10)
