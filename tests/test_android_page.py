"""What docs/android.md tells people to type is what the programs take, and its Python runs; its Kotlin cannot, here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from converters.check_command import check_parser
from converters.cli import annotate_parser, convert_parser
from edgeinfer.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/android.md").read_text(encoding="utf-8")
NAMES = ("red", "green", "blue", "dark")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.parametrize("line", re.findall(r"^edgeinfer-convert .*$", PAGE, re.M))
def test_a_line_is_taken_as_it_stands_there(line: str) -> None:
    _, *words = shlex.split(line)
    parsers = {"annotate": annotate_parser, "check": check_parser}
    command = words[0] if words[0] in parsers else "convert"
    options = parsers.get(command, convert_parser)().parse_args(words if command == "convert" else words[1:])
    assert str(options.model).endswith(".keras" if command == "convert" else ".tflite")
    assert command == "annotate" or options.target == "android"


def test_the_line_that_inspects_is_taken() -> None:
    assert "`edgeinfer inspect birds.tflite`" in PAGE
    assert callable(build_parser().parse_args(["inspect", "birds.tflite"]).handler)


@pytest.mark.parametrize("io", ["uint8", "int8"])
def test_the_python_of_the_page_turns_a_picture_into_a_tensor_and_an_output_into_a_name(
    tmp_path: Path, io: str
) -> None:
    model = tmp_path / "birds.tflite"
    model.write_bytes(tiny_models.classifier(dtype=io, labels=NAMES, normalization=(0.0, 255.0)))
    (source,) = blocks("python")
    module = types.ModuleType("birds")
    exec(compile(source, "docs/android.md", "exec"), module.__dict__)
    birds = module.Birds(str(model))
    width, height = birds.spec.size
    green = np.full((height, width, 3), (0, 255, 0), np.uint8)
    tensor = np.frombuffer(birds.tensor(green.tobytes()), birds.spec.dtype).reshape(height, width, 3)
    top = np.iinfo(io).max
    assert tensor[0, 0].tolist() == [np.iinfo(io).min, top, np.iinfo(io).min]
    output = np.full(birds.scores.shape, np.iinfo(io).min, io)
    output[0, 2] = top
    name, confidence = birds.answer(output.tobytes()).split()
    assert name == "blue"
    assert float(confidence) > 0.9


def test_the_labels_come_out_of_the_file_as_the_page_says(tmp_path: Path) -> None:
    assert "`python3 -m zipfile -e birds.tflite app/src/main/assets/`" in PAGE
    (tmp_path / "birds.tflite").write_bytes(tiny_models.classifier(dtype="uint8", labels=NAMES))
    command = [sys.executable, "-m", "zipfile", "-e", "birds.tflite", "assets/"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "assets" / "labels.txt").read_text().split() == list(NAMES)


@pytest.mark.parametrize("path", re.findall(r"`((?:tests|benchmarks)/[\w./]+)`", PAGE))
def test_a_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_kotlin_closes_what_it_opens() -> None:
    """No compiler of Kotlin is here: brackets are all that can be looked at."""
    found = blocks("kotlin")
    assert len(found) >= 5
    for block in found:
        code = re.sub(r"/\*.*?\*/|//.*?$|\"[^\"]*\"", "", block, flags=re.S | re.M)
        assert [code.count(pair[0]) for pair in ("()", "{}", "[]")] == [
            code.count(pair[1]) for pair in ("()", "{}", "[]")
        ]
