"""`edgeinfer-convert`: words in, exit codes and files out. The work behind it is tried in `test_convert.py`."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import colours
import numpy as np
import pytest
import tiny_models

import converters
from converters import (
    Card,
    Conversion,
    Distill,
    FineTune,
    Fit,
    Prune,
    Quantize,
    Recipe,
    Report,
    Training,
    Verify,
    cli,
)
from converters.errors import AccuracyDropError, CalibrationError, ConversionError
from converters.report import StepRow
from converters.targets import Target
from converters.verify import compare
from edgeinfer.dataset import Dataset
from edgeinfer.errors import MissingDependencyError, UnsupportedOpError
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.metadata import Normalization, Resize, read

pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: metadata is written on workstations")

ROOT = Path(converters.__file__).parents[1]
TFLITE = tiny_models.classifier()
ROW = StepRow("int8", len(TFLITE), 1000, 16, 12, 0.5)
REPORT = Report("birds", "cpu", "int8", "int8", (ROW,), (), None, {}, ())
RESULT = Conversion(TFLITE, read(TFLITE), Recipe.int8(), REPORT)


class Called:
    """Stands in for `convert`: remembers what it was called with, and returns or raises what it is told."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}
        self.failure: BaseException | None = None

    def __call__(self, model: Any, calibration: Any, **settings: Any) -> Conversion:
        self.arguments = {"model": model, "calibration": calibration, **settings}
        if self.failure is not None:
            raise self.failure
        return RESULT


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Called:
    stand_in = Called()
    monkeypatch.setattr(cli, "convert", stand_in)
    monkeypatch.chdir(tmp_path)
    return stand_in


def run(*words: str) -> int:
    return cli.main(["birds.keras", *words, "-o", "birds.tflite"])


# --- words into values ----------------------------------------------------------------------------


def test_without_options_the_defaults_are_those_of_the_function(called: Called) -> None:
    assert run("--calibration", "photos") == 0
    assert (called.arguments["model"], called.arguments["calibration"]) == (Path("birds.keras"), Path("photos"))
    assert called.arguments["recipe"] == Recipe.int8()
    assert called.arguments["card"] == Card()
    training = called.arguments["training"]
    assert (training.validation, training.class_offset) == (None, None)


def test_every_option_reaches_the_function(called: Called, tmp_path: Path) -> None:
    (tmp_path / "birds.txt").write_text("wren\nrobin\n")
    words = "--calibration c --validation v --class-offset 1 --target raspberrypi --scheme int8 --io uint8 --samples 9 "
    words += "--max-drop 0.5 --seed 3 --labels birds.txt --normalization 127.5 128 --resize crop --filter nearest"
    assert run(*words.split()) == 0
    steps = (Quantize("int8", io="uint8", samples=9), Verify(max_drop=0.5))
    assert called.arguments["recipe"] == Recipe(steps, target="raspberrypi", seed=3)
    card = Card(labels=("wren", "robin"), normalization=(127.5, 128), resize="crop", filter="nearest")
    assert called.arguments["card"] == card
    training = called.arguments["training"]
    assert isinstance(training, Training)
    assert (training.validation, training.class_offset) == (Path("v"), 1)


def test_task_head_roles_and_ending_reach_the_function(called: Called) -> None:
    head = '{"kind": "yolo", "channels": "first"}'
    assert run("--task", "detection", "--head", head, "--roles", "predictions") == 0
    card = Card(task="detection", head=DetectionHead("yolo", channels="first"), roles=("predictions",))
    assert called.arguments["card"] == card
    assert run("--ending", "top-k", "--top-k", "3") == 0
    assert called.arguments["recipe"].quantize == Quantize(ending="top-k", top_k=3)


@pytest.mark.parametrize(
    "words",
    [["--head", "yolo"], ["--head", "[1]"], ["--head", '{"kind": "polygons"}'], ["--roles", "boxes,colours"]],
    ids=["no JSON", "no object", "another kind", "another role"],
)
def test_a_head_or_a_role_that_is_none_is_wrong_usage(
    called: Called, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert words[0] in capsys.readouterr().err


def test_the_data_of_a_training_reaches_the_function(called: Called) -> None:
    assert run(*["--train", "t", "--validation", "v", "--test", "s", "--teacher", "big.keras", "--work", "w"]) == 0
    training = called.arguments["training"]
    assert (training.train, training.validation, training.test) == (Path("t"), Path("v"), Path("s"))
    assert (training.teacher, called.arguments["work"]) == (Path("big.keras"), Path("w"))
    assert run() == 0
    training = called.arguments["training"]
    assert (training.train, training.test, training.teacher, called.arguments["work"]) == (None, None, None, None)


def test_a_target_of_ones_own_is_a_json_file(called: Called, tmp_path: Path) -> None:
    own = Target("board", ("litert",), op_versions=(("CONV_2D", 3),))
    (tmp_path / "board.json").write_text(json.dumps(own.to_json()))
    assert run("--target", "board.json") == 0
    assert called.arguments["recipe"].target == own


def test_a_name_that_only_a_compiled_file_has_is_wrong_usage(
    called: Called, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["birds.keras", "--target", "edgetpu", "-o", "birds_edgetpu.tflite"]) == 2
    assert "-o birds.tflite" in capsys.readouterr().err
    assert called.arguments == {}


def test_no_verify_leaves_the_check_away(called: Called) -> None:
    assert run("--no-verify") == 0
    assert called.arguments["recipe"] == Recipe((Quantize(),))


def test_a_max_drop_of_zero_is_a_gate_and_not_the_default(called: Called) -> None:
    assert run("--max-drop", "0") == 0
    assert called.arguments["recipe"].steps[1] == Verify(max_drop=0)


def test_a_recipe_file_is_the_recipe(called: Called, tmp_path: Path) -> None:
    recipe = Recipe((Quantize("dynamic"),), target="raspberrypi", seed=8)
    recipe.save(tmp_path / "r.json")
    assert run("--recipe", "r.json") == 0
    assert called.arguments["recipe"] == recipe


@pytest.mark.parametrize(
    "words",
    ["--scheme int8", "--io uint8", "--samples 9", "--max-drop 0", "--no-verify", "--target cpu", "--seed 0"],
)
def test_a_recipe_file_and_what_it_holds_exclude_each_other(
    called: Called, tmp_path: Path, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Recipe.int8().save(tmp_path / "r.json")
    assert run("--recipe", "r.json", *words.split()) == 2
    assert words.split()[0] in capsys.readouterr().err
    assert called.arguments == {}


def test_no_verify_and_a_max_drop_exclude_each_other(called: Called, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--no-verify", "--max-drop", "0.1") == 2
    assert "--max-drop" in capsys.readouterr().err
    assert called.arguments == {}


# --- what is printed and written ------------------------------------------------------------------


def test_the_report_goes_to_stdout_and_the_file_to_its_place(
    called: Called, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run() == 0
    out, err = capsys.readouterr()
    assert out == f"{REPORT}\n\nWrote birds.tflite\n"
    assert err == ""
    assert (tmp_path / "birds.tflite").read_bytes() == TFLITE


def test_json_is_one_object_with_the_promised_keys(called: Called, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json") == 0
    said = json.loads(capsys.readouterr().out)
    keys = "output bytes gzip_bytes scheme io target steps float quantized agreement"
    assert said.keys() >= set(keys.split())
    assert (said["output"], said["bytes"], said["agreement"]) == ("birds.tflite", len(TFLITE), None)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (AccuracyDropError("Lost too much."), 1),
        (CalibrationError("Empty."), 2),
        (ConversionError("Crashed."), 3),
        (MissingDependencyError("No TensorFlow."), 3),
        (OSError(28, "No space left on device"), 3),
        (UnsupportedOpError("No such op."), 5),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_failure_has_its_exit_code_and_leaves_no_file(
    called: Called, failure: BaseException, code: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    called.failure = failure
    assert run() == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err
    assert not (tmp_path / "birds.tflite").exists()


def test_an_error_under_json_is_an_object_on_stdout(called: Called, capsys: pytest.CaptureFixture[str]) -> None:
    called.failure = CalibrationError("Wrong.", received="a", expected="b", next_step="c")
    assert run("--json") == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": {"type": "CalibrationError", "message": "Wrong.", "received": "a", "expected": "b", "next": "c"}
    }
    assert err == ""


def test_wrong_usage_under_json_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--json", "birds.keras"]) == 2
    assert "-o/--output" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_debug_shows_where_an_error_comes_from(called: Called, capsys: pytest.CaptureFixture[str]) -> None:
    called.failure = ConversionError("Crashed.")
    assert run("--debug") == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_failed_gate_shows_the_report_and_the_reason(called: Called, capsys: pytest.CaptureFixture[str]) -> None:
    called.failure = AccuracyDropError("Lost too much.")
    called.failure.report = REPORT
    assert run() == 1
    err = capsys.readouterr().err
    assert str(REPORT) in err
    assert "AccuracyDropError: Lost too much." in err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["birds.keras"],
        ["birds.keras", "-o", "x.tflite", "--scheme", "int4"],
        ["birds.keras", "-o", "x.tflite", "--samples", "many"],
        ["birds.keras", "-o", "x.tflite", "--samples", "0"],
        ["birds.keras", "-o", "x.tflite", "--max-drop", "2"],
        ["birds.keras", "-o", "x.tflite", "--target", "moon"],
        ["birds.keras", "-o", "x.tflite", "--io", "uint8", "--scheme", "float16"],
        ["birds.keras", "-o", "x.tflite", "--normalization", "0", "0"],
        ["birds.keras", "-o", "x.tflite", "--labels", "none.txt"],
        ["birds.keras", "-o", "x.tflite", "--recipe", "none.json"],
        ["birds.keras", "-o", "x.tflite", "--seed", "-1"],
        ["annotate"],
        ["annotate", "none.tflite"],
    ],
    ids=lambda words: " ".join(words[-2:]) or "nothing",
)
def test_wrong_words_are_exit_code_2(called: Called, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert capsys.readouterr().err.strip()
    assert called.arguments == {}


def test_an_output_folder_that_is_not_there_is_refused_before_the_work(
    called: Called, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["birds.keras", "-o", "none/birds.tflite"]) == 2
    assert "mkdir -p none" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    assert cli.main(["birds.keras", "-o", "folder"]) == 2
    assert called.arguments == {}


def test_the_model_itself_is_no_place_to_write_to(called: Called, tmp_path: Path) -> None:
    (tmp_path / "birds.keras").write_bytes(b"weeks of training")
    (tmp_path / "link").symlink_to("birds.keras")
    for output in ("birds.keras", "./birds.keras", "link"):
        assert cli.main(["birds.keras", "-o", output]) == 2
    assert called.arguments == {}
    assert (tmp_path / "birds.keras").read_bytes() == b"weeks of training"


@pytest.mark.parametrize("words", [["--help"], ["annotate", "--help"]], ids=["convert", "annotate"])
def test_help_has_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 0
    assert "Example: edgeinfer-convert" in capsys.readouterr().out


# --- annotate -------------------------------------------------------------------------------------


def test_annotate_changes_the_file_in_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(TFLITE)
    (tmp_path / "l.txt").write_text("red\ngreen\nblue\ndark\n")
    words = ["--labels", str(tmp_path / "l.txt"), "--normalization", "127.5", "127.5", "--resize", "letterbox"]
    assert cli.main(["annotate", str(path), *words]) == 0
    said = read(path)
    assert said.outputs[0].labels == ("red", "green", "blue", "dark")
    assert said.inputs[0].normalization == Normalization(127.5, 127.5)
    assert said.inputs[0].resize == Resize("letterbox")
    assert f"Wrote {path}, {path.stat().st_size} bytes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "task"),
    [
        (("--task", "embedding"), "embedding"),
        (("--task", "classification", "--labels", "names.txt"), "classification"),
    ],
    ids=["embedding", "classification"],
)
def test_annotate_says_the_task(words: tuple[str, ...], task: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\ndark\n")
    path = tmp_path / "m.tflite"
    path.write_bytes(TFLITE)
    placed = [str(tmp_path / word) if word.endswith(".txt") else word for word in words]
    assert cli.main(["annotate", str(path), *placed]) == 0
    assert read(path).task == task


def test_annotate_to_another_file_leaves_the_first_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, other = tmp_path / "m.tflite", tmp_path / "other.tflite"
    path.write_bytes(TFLITE)
    assert cli.main(["annotate", str(path), "--task", "tensors", "-o", str(other), "--json"]) == 0
    assert path.read_bytes() == TFLITE
    assert read(other).task == "tensors"
    assert json.loads(capsys.readouterr().out) == {"output": str(other), "bytes": other.stat().st_size}


def test_annotate_changes_of_the_resize_only_what_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(converters.annotate(TFLITE, resize=Resize("letterbox", "nearest", 114)))
    assert cli.main(["annotate", str(path), "--filter", "bilinear-antialias"]) == 0
    assert read(path).inputs[0].resize == Resize("letterbox", "bilinear-antialias", 114)
    assert cli.main(["annotate", str(path), "--resize", "crop"]) == 0
    assert read(path).inputs[0].resize == Resize("crop", "bilinear-antialias", 114)


def test_annotate_refuses_labels_that_do_not_fit_and_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(TFLITE)
    (tmp_path / "l.txt").write_text("red\n")
    assert cli.main(["annotate", str(path), "--labels", str(tmp_path / "l.txt")]) == 2
    assert path.read_bytes() == TFLITE


def test_annotate_says_what_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"no model")
    assert cli.main(["annotate", str(path), "--task", "tensors"]) == 4
    assert "DamagedModelError" in capsys.readouterr().err


# --- the real thing -------------------------------------------------------------------------------


def environment(folder: Path) -> dict[str, str]:
    """The environment of a command, with a temporary folder of its own that can be looked into afterwards."""
    (folder / "temporary").mkdir()
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "temporary")}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "converters.cli", *map(str, words)]


@pytest.fixture(scope="module")
def close_calls(keras: Any, small_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures on which the float model is barely decided, labelled with what it says: int8 differs on some."""
    random = np.random.default_rng(8).integers(0, 256, (3000, 16, 16, 3), dtype=np.uint8)
    said = keras.models.load_model(small_models["rescaled"]).predict(random.astype(np.float32), verbose=0)
    ranked = np.sort(said, axis=1)
    closest = np.argsort(ranked[:, -1] - ranked[:, -2])[:60]
    path = tmp_path_factory.mktemp("data") / "close.npz"
    np.savez(path, x=random[closest], y=said[closest].argmax(axis=1))
    return path


@pytest.mark.tensorflow
def test_a_real_conversion_prints_json_and_nothing_else(
    small_models: dict[str, Path], close_calls: Path, tmp_path: Path
) -> None:
    words = [small_models["rescaled"], "--calibration", close_calls, "--validation", close_calls, "--max-drop", 1]
    done = subprocess.run(
        command(*words, "--io", "uint8", "--json", "-o", tmp_path / "m.tflite"),
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["scheme"], said["io"], said["target"]) == ("int8", "uint8", "cpu")
    assert said["bytes"] == (tmp_path / "m.tflite").stat().st_size
    # The float file answers as Keras does, but for rounding where two classes are as good as equal.
    assert said["float"]["value"] >= 0.95
    assert said["float"]["samples"] == said["quantized"]["samples"] == 60
    assert said["quantized"]["value"] < said["float"]["value"]
    assert [step["step"] for step in said["steps"]] == ["float32", "int8"]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert read(tmp_path / "m.tflite").inputs[0].dtype == "uint8"


def test_a_failed_gate_says_its_error_and_its_figures_as_json(
    called: Called, capsys: pytest.CaptureFixture[str]
) -> None:
    # What was compared has a share of error of its own, which must not take the place of the error.
    called.failure = AccuracyDropError("Lost too much.")
    rows = np.ones((2, 6), np.float32)
    comparison = compare(tiny_models.dense(), tiny_models.dense(), Dataset("rows", rows))
    called.failure.report = dataclasses.replace(REPORT, comparison=comparison)
    assert run("--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["error"]["message"] == "Lost too much."
    assert said["output_error"] == 0.0


@pytest.mark.tensorflow
def test_a_real_conversion_that_loses_too_much_is_exit_code_1_and_kept_by_another_name(
    small_models: dict[str, Path], close_calls: Path, tmp_path: Path
) -> None:
    words = [small_models["rescaled"], "--calibration", close_calls, "--validation", close_calls, "--max-drop", 0]
    done = subprocess.run(
        command(*words, "-o", tmp_path / "m.tflite"),
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "AccuracyDropError: The converted model lost more accuracy than the recipe allows." in done.stderr
    assert "60 labelled samples" in done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.failed.tflite", "temporary"]
    assert read(tmp_path / "m.failed.tflite").made["recipe"]


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.tensorflow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc: the children of a process cannot be seen")
def test_ctrl_c_while_the_child_converts_leaves_nothing(small_models: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.random.default_rng(1).integers(0, 256, (40_000, 16, 16, 3), dtype=np.uint8))
    words = [small_models["rescaled"], "--calibration", tmp_path / "many.npy", "--samples", 40_000, "--no-verify"]
    process = subprocess.Popen(
        command(*words, "-o", tmp_path / "m.tflite"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "temporary").glob("*/calibration-0.npy")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)
        started = children(process.pid)
        assert len(started) == 1
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "Interrupted."
    assert not Path(f"/proc/{started[0]}").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.npy", "temporary"]
    assert list((tmp_path / "temporary").iterdir()) == []


# --- a recipe that trains, in real processes ------------------------------------------------------


@pytest.fixture(scope="module")
def task(colour_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model, data for all purposes, and two recipes; "diverges" ends in a loss of NaN."""
    folder = tmp_path_factory.mktemp("task")
    (folder / "m.keras").write_bytes(colour_model.read_bytes())
    (folder / "names.txt").write_text("\n".join(colours.NAMES))
    for number, (name, count) in enumerate((("train", 96), ("validation", 60), ("test", 48), ("calibration", 40))):
        x, y = colours.pictures(count, seed=number + 20)
        np.savez(folder / f"{name}.npz", x=x, y=y)
    steps = (Prune(sparsity=0.5, align=1, rounds=5, epochs=1), Distill(epochs=2), Quantize(), Verify(max_drop=1))
    Recipe(steps, fit=Fit(batch_size=32), seed=3).save(folder / "r.json")
    steps = (Prune(sparsity=0.5, align=4), FineTune(learning_rate=1e30), Quantize())
    Recipe(steps, fit=Fit(batch_size=32)).save(folder / "diverges.json")
    return folder


def training(task: Path, output: Path, *words: object, recipe: str = "r") -> list[str]:
    data = [word for name in ("calibration", "train", "validation", "test") for word in (f"--{name}", f"{name}.npz")]
    given = ["m.keras", *data, "--labels", "names.txt", "--recipe", f"{recipe}.json", "-o", output, *words]
    return command(
        *(task / str(one) if str(one).endswith((".npz", ".keras", "txt", ".json")) else one for one in given)
    )


@pytest.fixture(scope="module")
def uninterrupted(task: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The whole recipe in one go, with its temporary folder beside the result."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return subprocess.run(
        training(task, folder / "m.tflite", "--json"),
        capture_output=True,
        text=True,
        env=environment(folder),
        check=False,
        timeout=240,
    )


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_recipe_that_trains_prints_json_and_nothing_else(
    uninterrupted: subprocess.CompletedProcess[str], task: Path
) -> None:
    assert (uninterrupted.returncode, uninterrupted.stderr) == (0, "")
    said = json.loads(uninterrupted.stdout)
    output = Path(said["output"])
    assert said["bytes"] == output.stat().st_size
    assert (said["scheme"], said["judged_on"], said["account"]["measured_on"]) == (
        "int8",
        "validation data",
        "test data",
    )
    rows = said["account"]["steps"]
    assert [row["step"] for row in rows] == ["original", "prune", "distill", "int8"]
    assert [row["quantized"]["samples"] for row in rows] == [48] * 4
    assert rows[0]["float"]["value"] == 1.0
    # By hand: 16 channels twice to 16 in all; 4 x 4 channels at the least, 16 x 4 at the most, of 16 x 16.
    assert rows[1]["macs"] < rows[0]["macs"] / 3
    assert rows[1]["macs"] == rows[2]["macs"] == rows[3]["macs"]
    assert rows[0]["latency_ratio"] == 1.0
    assert said["float"]["samples"] == said["quantized"]["samples"] == 60
    assert [path.name for path in output.parent.iterdir() if path.is_file()] == ["m.tflite"]
    assert list((output.parent / "temporary").iterdir()) == []
    assert read(output).outputs[0].labels == colours.NAMES


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_makes_the_same_file(
    uninterrupted: subprocess.CompletedProcess[str], task: Path, tmp_path: Path
) -> None:
    words = training(task, tmp_path / "m.tflite", "--work", tmp_path / "work", "--json")
    variables = environment(tmp_path)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=variables)
    try:
        deadline = time.monotonic() + 200
        while not (tmp_path / "work" / "1-prune.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "work" / "2-distill.json").exists()
    assert not (tmp_path / "m.tflite").exists()
    done = subprocess.run(words, capture_output=True, text=True, env=variables, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)["account"]["steps"]
    assert ["taken from a former run" in row["notes"] for row in rows] == [False, True, False, False]
    whole = Path(json.loads(uninterrupted.stdout)["output"])
    assert (tmp_path / "m.tflite").read_bytes() == whole.read_bytes()


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_training_that_diverges_is_exit_code_3_and_its_finished_steps_stay(task: Path, tmp_path: Path) -> None:
    words = training(task, tmp_path / "m.tflite", "--work", tmp_path / "work", "--quiet", recipe="diverges")
    done = subprocess.run(words, capture_output=True, text=True, env=environment(tmp_path), check=False, timeout=240)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("TrainingError: The loss of the training is no finite number any more")
    assert "learning_rate=" in done.stderr
    assert "Traceback" not in done.stderr
    names = {path.name for path in (tmp_path / "work").iterdir()}
    assert {"0-original.keras", "1-prune.keras", "1-prune.json"} <= names
    assert not [name for name in names if name.startswith((".", "2-"))]
    assert not (tmp_path / "m.tflite").exists()


def test_annotate_without_anything_to_say_leaves_the_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.tflite").write_bytes(b"whatever")
    assert cli.main(["annotate", str(tmp_path / "m.tflite")]) == 2
    assert "nothing to write" in capsys.readouterr().err
    assert (tmp_path / "m.tflite").read_bytes() == b"whatever"


def test_annotate_refuses_a_task_that_the_device_would_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_models.classifier())
    before = path.read_bytes()
    assert cli.main(["annotate", str(path), "--task", "pose"]) == 2
    head = '{"kind": "yolo", "channels": "last", "objectness": false}'
    assert cli.main(["annotate", str(path), "--head", head, "--roles", "predictions"]) == 2
    assert path.read_bytes() == before
    assert "`answer`" in capsys.readouterr().err


def test_annotate_refuses_roles_that_contradict_the_detection_op(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ssd.tflite"
    path.write_bytes((test_data / "detection" / "ssd_mobilenet_v1_coco_quant_detect.tflite").read_bytes())
    assert cli.main(["annotate", str(path), "--roles", "scores,boxes,classes,count"]) == 2
    assert "boxes, classes, scores, count" in capsys.readouterr().err
