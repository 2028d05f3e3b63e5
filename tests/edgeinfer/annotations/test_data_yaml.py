"""The yaml of a YOLO-format folder, in the ways that people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeinfer.annotations.data_yaml import DataYaml, read_data_yaml
from edgeinfer.errors import InputError, InputFileError


def names(folder: Path, text: str) -> tuple[str, ...]:
    return said(folder, text).names


def said(folder: Path, text: str) -> DataYaml:
    path = folder / "data.yaml"
    path.write_text(text, encoding="utf-8")
    return read_data_yaml(path)


@pytest.mark.parametrize(
    "text",
    [
        "names:\n  0: cat\n  1: traffic light\n",
        "names:\n  1: traffic light\n  0: cat\n",
        "names:\n  - cat\n  - traffic light\n",
        "names:\n- cat\n- traffic light\n",
        "names: [cat, traffic light]\n",
        "names: [ 'cat' , \"traffic light\" ]  # two\n",
        "names: ['cat',\n        'traffic light',\n       ]\n",
        "names: {0: cat, 1: traffic light}\n",
        "names: {\n  0: 'cat',  # small\n  1: traffic light\n}\n",
        "names:  # the classes\n  # animals\n  0: cat  # small\n\n  1: 'traffic light'\n",
        "\ufeff# data\nnc: 2\nnames:\n  0: cat\n  1: traffic light\ndownload: https://example.org/a.zip\n",
        '"names":\r\n  0: cat\r\n  1: "traffic light"\r\nval: images\r\n',
    ],
)
def test_names_are_read_however_they_are_written(tmp_path: Path, text: str) -> None:
    assert names(tmp_path, text) == ("cat", "traffic light")


def test_quotes_keep_what_they_hold(tmp_path: Path) -> None:
    text = "names:\n  0: 'it''s'\n  1: \"a \\\"b\\\", c\"\n  2: 'x: y # z'\n"
    assert names(tmp_path, text) == ("it's", 'a "b", c', "x: y # z")
    assert names(tmp_path, "names: ['a, b', \"c]\"]\n") == ("a, b", "c]")


def test_plain_names_may_hold_marks(tmp_path: Path) -> None:
    assert names(tmp_path, "names:\n  0: C#\n  1: a'b\n  2: 1:1\n") == ("C#", "a'b", "1:1")


def test_numbers_may_be_names(tmp_path: Path) -> None:
    assert names(tmp_path, "names: [0, 1]\n") == ("0", "1")


def test_the_folders_are_read(tmp_path: Path) -> None:
    found = said(tmp_path, "path: ../coco  # root\ntrain: 'images/train'\nval: images/val\ntest:\nnames: [a]\n")
    assert found == DataYaml(("a",), "../coco", "images/train", "images/val")


def test_without_names_there_are_none(tmp_path: Path) -> None:
    assert said(tmp_path, "train: a\n") == DataYaml(train="a")


@pytest.mark.parametrize(
    "text",
    [
        "names: cat\n",
        "names: [cat\n",
        "names: [[cat], dog]\n",
        "names: {0: cat, dog}\n",
        "names: [0: cat]\n",
        "names: {0: cat, 2: dog}\n",
        "names:\n  0: cat\n  2: dog\n",
        "names:\n  1: cat\n  2: dog\n",
        "names:\n  0: cat\n  0: dog\n",
        "names:\n  - cat\n  1: dog\n",
        "names:\n  cat\n",
        "names:\n  0:\n    cat\n",
    ],
)
def test_names_of_another_form_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"`names` of `data\.yaml` are not understood"):
        said(tmp_path, text)


def test_a_file_that_is_missing_or_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="does not exist"):
        read_data_yaml(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"names: [\xff]")
    with pytest.raises(InputError, match="not UTF-8"):
        read_data_yaml(tmp_path / "bad.yaml")
