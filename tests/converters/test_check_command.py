"""`edgeinfer-convert check` as a person and as a program see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_models
from tiny_compiled import compiled
from tiny_models import OperatorSpec, TensorSpec

from converters import cli
from converters.targets import TARGETS

HARD_SWISH = 117


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "birds.tflite"
    path.write_bytes(tiny_models.classifier(dtype="uint8"))
    return path


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    """A file of which no accelerator gets anything."""
    path = tmp_path / "swish.tflite"
    tensors = [TensorSpec(name, (1, 4), "int8", 0.1) for name in ("x", "y")]
    path.write_bytes(tiny_models.model(tensors, [OperatorSpec(HARD_SWISH, (0,), (1,))], inputs=[0], outputs=[1]))
    return path


@pytest.mark.parametrize("name", [one.name for one in TARGETS])
def test_text_says_at_once_whether_the_target_takes_the_file(
    good: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(good), "--target", name]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"birds.tflite for {name}: the target takes it.\n")
    assert "runs on" in out
    assert err == ""


def test_json_is_one_object_with_a_row_per_op(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(good), "--target", "edgetpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["target"], said["loads"], said["good"]) == ("edgetpu", True, True)
    assert [row["op"] for row in said["ops"]] == ["MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert set(said["ops"][0]) == {"index", "op", "version", "layer", "runs_on", "reason", "evidence"}


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "json"])
def test_a_refusal_is_exit_code_5_and_still_an_answer(
    idle: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(idle), "--target", "edgetpu", *words]) == 5
    out, err = capsys.readouterr()
    assert "HARD_SWISH" in out
    assert err == ""
    if not words:
        assert "does not take it" in out
        assert "none on the Edge TPU" in out


def test_a_target_of_ones_own_is_a_json_file(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "board.json"
    own.write_text(json.dumps({"name": "board", "engines": ["litert"], "op_versions": {"SOFTMAX": 0}}))
    assert cli.main(["check", str(good), "--target", str(own)]) == 5
    assert "board has no such op" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["good", "--target", "edgetpuu"], 2, 'Did you mean "edgetpu"?'),
        (["good"], 2, "--target"),
        (["missing", "--target", "cpu"], 2, "missing.tflite"),
        (["text", "--target", "cpu"], 4, "text.tflite"),
        (["empty", "--target", "cpu"], 2, "empty.tflite"),
        (["cut", "--target", "edgetpu"], 4, "cut.tflite"),
        (["keras", "--target", "cpu"], 4, "edgeinfer-convert"),
        (["folder", "--target", "cpu"], 2, "folder.tflite"),
        (["compiled", "--target", "edgetpu"], 2, "compiled for an Edge TPU already"),
        (["good", "--target", "board.json"], 2, "board.json"),
    ],
    ids=["target", "no target", "no file", "text", "empty", "cut off", "keras", "folder", "compiled", "no target file"],
)
def test_bad_input_is_said_in_words_with_its_exit_code(
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    whole = good.read_bytes()
    files = {"good": whole, "text": b"hello, world, this is text", "empty": b"", "cut": whole[: len(whole) // 2]}
    files |= {"keras": b"PK\x03\x04" + bytes(40), "compiled": compiled()}
    for name, content in files.items():
        (tmp_path / f"{name}.tflite").write_bytes(content)
    (tmp_path / "folder.tflite").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", f"{words[0]}.tflite", *words[1:]]) == code
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in err
    assert out == ""


def test_an_error_under_json_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "m.tflite", "--target", "toaster", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "RecipeError"


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", "--help"])
    assert caught.value.code == 0
    assert "edgeinfer-convert check birds.tflite --target edgetpu" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", [one.name for one in TARGETS])
def test_no_line_about_a_real_network_is_wider_than_a_page(
    test_data: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = test_data / "coral" / "mobilenet_v2_1.0_224_quant.tflite"
    assert cli.main(["check", str(model), "--target", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    # What is to be copied stays in one line, whatever the path.
    assert all(len(line) < 100 for line in lines if str(model) not in line)
    # Google's own compiled twin of this file has nothing but the custom op: all 66 ops are mapped.
    if name == "edgetpu":
        assert "66 ops: 66 on the Edge TPU." in lines
