from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer.errors import InputError, InputFileError
from edgeinfer.model.labels import parse_labels, read_labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("cat\ndog", ("cat", "dog")),
        ("\ufeffcat\r\ndog\r\n\r\n\n", ("cat", "dog")),
        ("  cat \n dog\t\n", ("cat", "dog")),
        ("a\n\nb\n", ("a", "", "b")),
        ("0  background\n1  tench, Tinca tinca\n", ("background", "tench, Tinca tinca")),
        ("0  person\n1  bicycle\n3  motorcycle\n", ("0  person", "1  bicycle", "3  motorcycle")),
        ("1  one\n2  two\n", ("1  one", "2  two")),
        ("0  cat\ndog\n", ("0  cat", "dog")),
        ("0\n1\n2\n", ("0", "1", "2")),
        ("größer\n猫\n", ("größer", "猫")),
        ("", ()),
        ("\n\n", ()),
    ],
    ids=[
        "plain", "no last newline", "windows", "blanks", "blank inside", "numbered", "with a gap", "from 1",
        "half numbered", "digits as names", "not ascii", "empty", "blank",
    ],
)  # fmt: skip
def test_labels_are_read(text: str, labels: tuple[str, ...]) -> None:
    assert parse_labels(text) == labels


NAMES = st.lists(
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1).filter(lambda name: not name[0].isdigit()),
    min_size=1,
)


@given(NAMES)
def test_names_that_are_written_a_line_each_come_back(names: list[str]) -> None:
    assert parse_labels("\n".join(names) + "\n") == tuple(names)


@given(NAMES)
def test_numbered_names_come_back(names: list[str]) -> None:
    assert parse_labels("".join(f"{index}  {name}\n" for index, name in enumerate(names))) == tuple(names)


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"cat\r\ndog\r\n")
    assert read_labels(tmp_path / "labels.txt") == ("cat", "dog")


def test_a_file_that_is_missing_not_text_or_blank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError):
        read_labels(tmp_path / "missing.txt")
    (tmp_path / "empty").touch()
    with pytest.raises(InputFileError, match="is empty") as caught:
        read_labels(tmp_path / "empty")
    # Written by hand: no copy broke off.
    assert (caught.value.expected, caught.value.next_step) == ("one class a line", "")
    (tmp_path / "latin").write_bytes("größer".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_labels(tmp_path / "latin")
    (tmp_path / "blank").write_bytes(b"\n\n")
    with pytest.raises(InputError, match="no labels"):
        read_labels(tmp_path / "blank")


def test_a_real_file_of_google_coral_has_1001_names(test_data: Path) -> None:
    labels = read_labels(test_data / "coral" / "imagenet_labels.txt")
    assert len(labels) == 1001
    assert labels[0] == "background"
    assert labels[286].startswith("Egyptian cat")
