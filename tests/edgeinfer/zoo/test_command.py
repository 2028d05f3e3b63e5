"""`edgeinfer models` and `edgeinfer models fetch`: called in this process, against a real server on 127.0.0.1."""

from __future__ import annotations

import functools
import http.server
import json
import logging
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeinfer.command import Parser, run_command
from edgeinfer.zoo import fetch as zoo
from edgeinfer.zoo.command import add_models
from edgeinfer.zoo.published import MODELS, PublishedFile, ZooModel

Capture = pytest.CaptureFixture[str]
DIGEST = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc": FIPS 180-2, appendix B.1
LETTERS = PublishedFile("owner/name", "0" * 40, "folder/letters.tflite", DIGEST, 3)
TINY = ZooModel("letters", "classification", LETTERS, "Three letters.", licence="CC0-1.0", normalization=(127.5, 127.5))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of a folder, and a tiny model in it and in the list."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "EDGEINFER_ZOO_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    monkeypatch.setattr(zoo, "MODELS", (*MODELS, TINY))
    place = tmp_path / "www" / LETTERS.place
    place.parent.mkdir(parents=True)
    place.write_bytes(b"abc")
    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield
    root.level, root.handlers[:] = before


def call(line: str) -> int:
    """Run the sub-command as the command line does."""
    words = shlex.split(line)

    def run() -> int:
        parser = Parser(prog="edgeinfer")
        add_models(parser.add_subparsers(required=True, parser_class=Parser))
        options = parser.parse_args(words)
        code: int = options.handler(options)
        return code

    return run_command(run, words)


def test_the_list_is_a_table_of_all_models(capsys: Capture) -> None:
    assert call("models") == 0
    head, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert head.split() == ["NAME", "TASK", "SIZE", "LICENCE"]
    assert len(rows) == len(MODELS)
    column = head.index("LICENCE")
    for row, model in zip(rows, MODELS, strict=True):
        assert row.split()[:2] == [model.name, model.task]
        assert row[column:].startswith(model.licence)
        assert row.endswith(model.sentence)


def test_the_list_says_sizes_in_decimal_units(capsys: Capture) -> None:
    assert call("models") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    sizes = {row[0]: row[2:4] for row in rows if row}
    assert sizes["ssd-mobilenet-v1-coco"] == ["4.18", "MB"]  # 4183312 bytes
    assert sizes["lstm-mnist"] == ["14", "kB"]  # 13928 bytes


def test_the_list_as_json_holds_what_is_pinned(capsys: Capture) -> None:
    assert call("models --json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    ssd = rows["ssd-mobilenet-v1-coco"]
    assert ssd["task"] == "detection"
    assert ssd["bytes"] == 4183312
    assert ssd["labels"]["url"].endswith("/coco_labels.txt")
    assert rows["movenet-lightning"]["labels"] is None
    assert rows["person-96-int8"]["normalization"] == [0.0, 255.0]


def test_fetch_prints_the_path_and_talks_of_licence_and_use_on_standard_error(
    mirror: str, tmp_path: Path, capsys: Capture
) -> None:
    assert call(f"models fetch letters --mirror {mirror}") == 0
    out, said = capsys.readouterr()
    path = tmp_path / "a cache" / "edgeinfer" / "models" / "letters" / "letters.tflite"
    assert out == f"{path}\n"
    assert path.read_bytes() == b"abc"
    assert "Licence: CC0-1.0." in said
    assert f"https://github.com/owner/name/tree/{'0' * 40}" in said
    assert f"Run it: edgeinfer run '{path}' PICTURE --normalization 127.5 127.5" in said


@pytest.mark.parametrize("line", ["models fetch letters --json", "models --json fetch letters"])
def test_fetch_as_json_is_one_object_and_no_talk(
    line: str, mirror: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("EDGEINFER_ZOO_URL", mirror)
    assert call(line) == 0
    out, said = capsys.readouterr()
    row = json.loads(out)
    assert Path(row["path"]).read_bytes() == b"abc"
    assert (row["labels_path"], row["licence"], row["sha256"]) == (None, "CC0-1.0", DIGEST)
    assert row["run"].startswith("edgeinfer run ")
    assert said == ""


def test_a_misspelt_name_is_exit_code_2(mirror: str, capsys: Capture) -> None:
    assert call(f"models fetch leters --mirror {mirror}") == 2
    assert "Did you mean `letters`?" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_exit_code_2(mirror: str, capsys: Capture) -> None:
    assert call(f"models fetch letters --mirror {mirror}/nowhere") == 3
    assert "does not have the file" in capsys.readouterr().err


def test_other_bytes_are_exit_code_4_and_json_says_so(mirror: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "www" / LETTERS.place).write_bytes(b"abd")
    assert call(f"models fetch letters --mirror {mirror} --json") == 4
    out, said = capsys.readouterr()
    assert json.loads(out)["error"]["type"] == "DamagedModelError"
    assert said == ""


def test_the_help_shows_an_example(capsys: Capture) -> None:
    for line, example in (
        ("models --help", "edgeinfer models fetch ssd-mobilenet-v1-coco"),
        ("models fetch --help", "edgeinfer models fetch movenet-lightning"),
    ):
        with pytest.raises(SystemExit, match="0"):
            call(line)
        assert example in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("mobilenet-v2-1.0-224", "PICTURE"),
        ("resnet8-cifar10-int8", "PICTURE --normalization 0 1"),
        ("person-96-float", "PICTURE --normalization 0 255"),
        ("ssd-mobilenet-v1-coco", "PICTURE --labels /c/coco_labels.txt"),
        ("deeplab-v3-pascal", "PICTURE --labels /c/pascal_voc_segmentation_labels.txt"),
        ("mobilenet-v1-embedding", "PICTURE --task embedding"),
    ],
)
def test_the_line_to_run_a_model_adds_what_the_file_does_not_say(name: str, end: str) -> None:
    assert zoo.run_line(zoo.find(name), Path("/c/m.tflite")) == f"edgeinfer run /c/m.tflite {end}"


def test_a_model_that_takes_no_picture_can_be_timed() -> None:
    assert zoo.run_line(zoo.find("lstm-mnist"), Path("/c/m.tflite")) == "edgeinfer bench /c/m.tflite"
