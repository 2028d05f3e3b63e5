"""The command line: called in this process, and a few times as a person would call it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from PIL import Image as PillowImage

from edgeinfer import __version__, doctor
from edgeinfer.cli import main
from edgeinfer.runtime.runtime import Runtime

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("red", "green", "blue", "dark")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield
    root.level, root.handlers[:] = before


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a model that names colours, three pictures, and one file that is none."""
    model = tiny_models.classifier(labels=NAMES, normalization=(0.0, 255.0))
    (tmp_path / "m.tflite").write_bytes(model)
    for name, colour in COLOURS.items():
        pixels = np.full((10, 12, 3), colour, dtype=np.uint8)
        PillowImage.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    return tmp_path


def lines(capture: Capture) -> list[dict[str, Any]]:
    """Standard output as JSON, one object a line."""
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


def call(*words: object) -> int:
    return main([str(word) for word in words])


def edgeinfer(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "edgeinfer", *map(str, words)],
        env=environment,
        cwd=options.pop("cwd", ROOT),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


# --- run ------------------------------------------------------------------------------------------


@pytest.mark.device
def test_run_prints_one_line_a_picture_with_the_best_first(work: Path, capsys: Capture) -> None:
    assert call("run", work / "m.tflite", work / "red.png", work / "blue.png") == 0
    first, second = capsys.readouterr().out.splitlines()
    # Softmax of 8, 2, 0, 0 is 0.997 and 0.002; in 256ths 0.996 and 0.000 or 0.004.
    assert first.startswith(f"{work / 'red.png'}  red 0.99")
    assert second.startswith(f"{work / 'blue.png'}  blue 0.99")


@pytest.mark.device
def test_run_json_is_one_object_a_line_with_the_keys_of_the_interface(work: Path, capsys: Capture) -> None:
    assert call("run", work / "m.tflite", work / "green.png", work / "red.png", "--json", "--top", 2) == 0
    first, second = lines(capsys)
    assert list(first) == ["image", "task", "results", "timing_ms", "model"]
    assert first["image"] == str(work / "green.png")
    assert first["task"] == "classification"
    assert [list(row) for row in first["results"]] == [["class_id", "label", "confidence"]] * 2
    assert first["results"][0]["class_id"] == 1
    assert first["results"][0]["label"] == "green"
    assert first["results"][0]["confidence"] == pytest.approx(0.9968, abs=0.01)
    assert list(first["timing_ms"]) == ["read", "pre", "invoke", "post"]
    runtime = Runtime(work / "m.tflite")
    assert first["model"] == {
        "path": str(work / "m.tflite"),
        "sha256": runtime.sha256,
        "engine": f"{runtime.engine.name} {runtime.engine.version}",
        "device": "cpu",
    }
    assert second["results"][0]["label"] == "red"


def test_one_bad_picture_does_not_cost_the_others(work: Path, capsys: Capture) -> None:
    assert call("run", work / "m.tflite", work / "bad.png", work / "red.png") == 2
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert "red 0.9" in said.out
    assert f"{work / 'bad.png'}: InputError: " in said.err


def test_one_bad_picture_under_json_is_an_error_object_in_its_place(work: Path, capsys: Capture) -> None:
    code = call("run", work / "m.tflite", work / "red.png", work / "bad.png", work / "none.png", "--json")
    good, bad, missing = lines(capsys)
    assert code == 2
    assert good["results"]
    assert bad["image"] == str(work / "bad.png")
    assert list(bad["error"]) == ["type", "message", "received", "expected", "next"]
    assert bad["error"]["type"] == "InputError"
    assert missing["error"]["type"] == "InputFileError"


def test_run_takes_labels_normalization_and_resize_from_the_line(work: Path, capsys: Capture) -> None:
    (work / "names.txt").write_text("rot\ngrün\nblau\ndunkel\n", encoding="utf-8")
    code = call(
        *("run", work / "m.tflite", work / "green.png", "--json", "--labels", work / "names.txt"),
        *("--normalization", 0, 255, "--resize", "crop", "--filter", "nearest"),
    )
    assert code == 0
    assert lines(capsys)[0]["results"][0]["label"] == "grün"


def test_a_normalization_that_contradicts_the_files_own_is_said(
    work: Path, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    assert call("run", work / "m.tflite", work / "red.png", "--normalization", 0, 255) == 0
    assert caplog.text == ""
    assert call("run", work / "m.tflite", work / "red.png", "--normalization", 127.5, 127.5) == 0
    assert "--normalization 127.5 127.5 takes the place of the file's own, 0 255." in caplog.text


def test_as_a_process_the_contradiction_is_on_standard_error(work: Path) -> None:
    done = edgeinfer("run", work / "m.tflite", work / "red.png", "--json", "--normalization", 0, 1)
    assert done.returncode == 0
    assert "takes the place of the file's own" in done.stderr
    assert json.loads(done.stdout)["results"]


def test_run_leaves_out_what_would_be_printed_as_zero(work: Path, capsys: Capture) -> None:
    assert call("run", work / "m.tflite", work / "red.png", "--top", 4) == 0
    said = capsys.readouterr().out
    assert "red 0.99" in said
    assert " 0.000" not in said
    assert call("run", work / "m.tflite", work / "red.png", "--top", 4, "--json") == 0
    assert len(lines(capsys)[0]["results"]) == 4


def test_run_quotes_labels_that_do_not_end_where_they_seem_to(work: Path, capsys: Capture) -> None:
    (work / "names.txt").write_text('red, like "blood"\ngreen tea\nblue\ndark\n')
    for name, shown in (("red", r'"red, like \"blood\"" 0.99'), ("green", "green tea 0.99")):
        assert call("run", work / "m.tflite", work / f"{name}.png", "--labels", work / "names.txt") == 0
        assert f"{name}.png  {shown}" in capsys.readouterr().out


def test_a_folder_for_a_picture_is_called_one(work: Path, capsys: Capture) -> None:
    assert call("run", work / "m.tflite", work) == 2
    said = capsys.readouterr().err
    assert "is a folder, not a picture" in said
    assert "Errno" not in said


def test_a_negative_mean_is_no_option(work: Path, capsys: Capture) -> None:
    assert call("run", work / "m.tflite", work / "red.png", "--json", "--normalization", "-1", "2") == 0
    assert lines(capsys)[0]["results"]


# --- inspect, bench, evaluate, doctor ---------------------------------------------------------------


def test_inspect_json_has_the_keys_of_the_interface(work: Path, capsys: Capture) -> None:
    assert call("inspect", work / "m.tflite", "--json") == 0
    (found,) = lines(capsys)
    assert set(found) == {
        *("inputs", "outputs", "ops", "parameters", "macs", "bytes"),
        *("metadata", "min_runtime_version", "edgetpu"),
    }
    assert found["bytes"] == (work / "m.tflite").stat().st_size
    assert found["inputs"][0]["shape"] == [1, 8, 8, 3]
    assert [set(op) for op in found["ops"]] == [{"index", "op", "version", "count"}] * 3
    # FULLY_CONNECTED from 3 to 4: 12 weights and 4 biases, 12 multiplications.
    assert (found["parameters"], found["macs"]) == (16, 12)
    assert found["edgetpu"] is None


def test_inspect_for_people_names_the_file_and_its_ops(work: Path, capsys: Capture) -> None:
    assert call("inspect", work / "m.tflite") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{work / 'm.tflite'}\n")
    assert "FULLY_CONNECTED" in said


def test_bench_json_has_the_keys_of_the_interface(work: Path, capsys: Capture) -> None:
    assert call("bench", work / "m.tflite", "--runs", 5, "--warmup", 2, "--threads", 1, "--json") == 0
    (found,) = lines(capsys)
    assert (found["model"], found["runs"], found["warmup"], found["threads"]) == ("m.tflite", 5, 2, 1)
    assert set(found["latency_ms"]) == {"p50", "p90", "p95", "p99", "first"}


def test_bench_for_people_names_machine_engine_and_percentiles(work: Path, capsys: Capture) -> None:
    assert call("bench", work / "m.tflite", "--runs", 5) == 0
    said = capsys.readouterr().out
    assert "m.tflite on " in said
    assert "p95" in said
    assert "5 runs after 10" in said


def test_bench_without_runs_is_wrong_input(work: Path, capsys: Capture) -> None:
    assert call("bench", work / "m.tflite", "--runs", 0, "--json") == 2
    assert lines(capsys)[0]["error"]["received"] == "runs=0, warmup=10"


@pytest.fixture
def labelled(work: Path) -> Path:
    """Class folders: three pictures in the right one, one in the wrong one."""
    data = work / "data"
    for name in COLOURS:
        (data / name).mkdir(parents=True)
        shutil.copy(work / f"{name}.png", data / name / "1.png")
    shutil.copy(work / "red.png", data / "blue" / "2.png")
    return data


def test_evaluate_json_has_the_keys_of_the_interface(work: Path, labelled: Path, capsys: Capture) -> None:
    assert call("evaluate", work / "m.tflite", labelled, "--json") == 0
    (found,) = lines(capsys)
    assert list(found) == ["task", "samples", "metrics", "interval95", "timing_ms", "device"]
    assert (found["samples"], found["metrics"], found["device"]) == (4, {"top1": 0.75}, "cpu")


def test_evaluate_for_people_gives_the_interval(work: Path, labelled: Path, capsys: Capture) -> None:
    assert call("evaluate", work / "m.tflite", labelled) == 0
    said = capsys.readouterr().out
    # Wilson, 3 of 4: 0.3006 to 0.9544.
    assert "top-1  75.00%  (95 % interval 30.06% to 95.44%), 4 samples" in said


def test_evaluate_counts_numbers_with_the_offset(work: Path, capsys: Capture) -> None:
    (work / "labels.csv").write_text("file,class\nred.png,1\ngreen.png,2\n")
    assert call("evaluate", work / "m.tflite", work, "--class-offset", -1, "--json") == 0
    assert lines(capsys)[0]["metrics"] == {"top1": 1.0}


def test_evaluate_matches_names_with_the_labels_of_the_line(work: Path, labelled: Path, capsys: Capture) -> None:
    (work / "names.txt").write_text("green\nred\nblue\ndark\n")
    assert call("evaluate", work / "m.tflite", labelled, "--labels", work / "names.txt", "--json") == 0
    # Red and green have changed their names: of four pictures only the blue one is right.
    assert lines(capsys)[0]["metrics"] == {"top1": 0.25}


def test_evaluate_asks_for_the_offset_where_a_background_stands_in_front(work: Path, capsys: Capture) -> None:
    (work / "names.txt").write_text("background\ngreen\nblue\ndark\n")
    (work / "labels.csv").write_text("file,class\ngreen.png,0\nblue.png,1\n")
    words = ("evaluate", work / "m.tflite", work, "--labels", work / "names.txt", "--json")
    assert call(*words) == 2
    assert "--class-offset 1" in lines(capsys)[0]["error"]["next"]
    assert call(*words, "--class-offset", 1) == 0
    assert lines(capsys)[0]["metrics"] == {"top1": 1.0}


def test_evaluate_without_labels_is_wrong_input(work: Path, capsys: Capture) -> None:
    (work / "bad.png").unlink()
    assert call("evaluate", work / "m.tflite", work) == 2
    assert "has no labels" in capsys.readouterr().err


@pytest.mark.device
def test_doctor_is_good_here_and_says_what_it_found(capsys: Capture) -> None:
    assert call("doctor") == 0
    assert "ok  engine" in capsys.readouterr().out


def test_doctor_json_has_the_keys_of_the_interface(capsys: Capture) -> None:
    assert call("doctor", "--json") == 0
    (found,) = lines(capsys)
    assert list(found) == ["checks"]
    assert all(list(check) == ["name", "ok", "found", "cure"] for check in found["checks"])


def test_doctor_ends_with_3_and_the_cure_where_something_is_missing(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = (doctor.Check("numpy", True, "numpy 2"), doctor.Check("engine", False, "none", "pip install it"))
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    assert call("doctor") == 3
    assert capsys.readouterr().out.splitlines() == [
        "ok  numpy          numpy 2",
        "NO  engine         none",
        "                   pip install it",
    ]


# --- errors and exit codes ------------------------------------------------------------------------


def test_an_unknown_option_under_json_is_an_error_object(capsys: Capture) -> None:
    assert call("run", "m.tflite", "a.jpg", "--json", "--colour") == 2
    said = capsys.readouterr()
    found = json.loads(said.out)["error"]
    assert found["type"] == "InputError"
    assert "--colour" in found["message"]
    assert found["expected"].startswith("usage: edgeinfer")
    assert said.err == ""


@pytest.mark.parametrize(
    "words",
    [(), ("fly",), ("run", "m.tflite"), ("bench", "m.tflite", "--runs", "many"), ("run", "m", "a", "--resize", "bend")],
    ids=["nothing", "unknown command", "no picture", "no number", "no such choice"],
)
def test_wrong_usage_is_exit_2_with_the_usage(words: tuple[str, ...], capsys: Capture) -> None:
    assert call(*words) == 2
    assert "usage: edgeinfer" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "inspect", "bench", "evaluate"])
def test_a_missing_model_is_exit_2(command: str, tmp_path: Path, capsys: Capture) -> None:
    more = [tmp_path] if command in ("run", "evaluate") else []
    assert call(command, tmp_path / "none.tflite", *more) == 2
    assert capsys.readouterr().err.startswith("InputFileError: ")


@pytest.mark.parametrize("command", ["run", "inspect", "bench", "evaluate"])
def test_a_damaged_model_is_exit_4(command: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "m.tflite").write_bytes(tiny_models.dense()[:-200])
    more = [tmp_path] if command in ("run", "evaluate") else []
    assert call(command, tmp_path / "m.tflite", *more) == 4
    assert capsys.readouterr().err.startswith("DamagedModelError: `m.tflite`: ")


def test_a_model_with_an_op_that_the_engine_lacks_is_exit_5(tmp_path: Path, capsys: Capture) -> None:
    tensors = [tiny_models.TensorSpec("a", (1, 2)), tiny_models.TensorSpec("b", (1, 2))]
    operators = [tiny_models.OperatorSpec(tiny_models.LOGISTIC, (0,), (1,), version=99)]
    (tmp_path / "m.tflite").write_bytes(tiny_models.model(tensors, operators, inputs=[0], outputs=[1]))
    assert call("bench", tmp_path / "m.tflite") == 5
    assert capsys.readouterr().err.startswith("UnsupportedOpError: ")


def test_a_missing_device_is_exit_3(work: Path, capsys: Capture) -> None:
    assert call("run", work / "m.tflite", work / "red.png", "--device", "gpu") == 3
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "variable", "meant"),
    [
        (("--engine", "litret"), {}, "Did you mean `litert`?"),
        (("--device", "cup"), {}, "Did you mean `cpu`?"),
        ((), {"EDGEINFER_ENGINE": "litret"}, "Did you mean `litert`?"),
        ((), {"EDGEINFER_DEVICE": "cup"}, "Did you mean `cpu`?"),
        ((), {"EDGEINFER_LOG_LEVEL": "wraning"}, "Did you mean `warning`?"),
        (("--tpo", "3"), {}, "Did you mean `--top`? See edgeinfer run --help"),
        (("--resize", "strech"), {}, "Did you mean `stretch`? See edgeinfer run --help"),
    ],
    ids=["engine", "device", "EDGEINFER_ENGINE", "EDGEINFER_DEVICE", "EDGEINFER_LOG_LEVEL", "option", "choice"],
)
def test_a_misspelt_word_is_exit_2_and_answered_with_the_one_that_was_meant(
    words: tuple[str, ...],
    variable: dict[str, str],
    meant: str,
    work: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    assert call("run", work / "m.tflite", work / "red.png", *words) == 2
    said = capsys.readouterr().err
    assert f"Next: {meant}" in said
    assert all(name in said for name in variable)


def test_a_misspelt_option_is_answered_with_the_usage_of_its_command(capsys: Capture) -> None:
    assert call("bench", "m.tflite", "--thread-count", 3) == 2
    assert "Expected: usage: edgeinfer bench" in capsys.readouterr().err


def test_a_misspelt_command_is_answered_with_the_one_that_was_meant(capsys: Capture) -> None:
    assert call("evalute", "m.tflite", "photos") == 2
    assert "Did you mean `evaluate`? See edgeinfer --help" in capsys.readouterr().err


def test_an_interrupt_is_exit_130(work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_runtime: Runtime) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runtime, "invoke", interrupt)
    assert call("bench", work / "m.tflite") == 130
    assert "Interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("run", "--help")])
def test_version_and_help_are_good(words: tuple[str, ...], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        call(*words)
    assert caught.value.code == 0
    assert (f"edgeinfer {__version__}" if words == ("--version",) else "usage: edgeinfer") in capsys.readouterr().out


# --- as a process of its own ----------------------------------------------------------------------


@pytest.mark.device
def test_as_a_process_it_answers_and_is_silent_otherwise(work: Path) -> None:
    done = edgeinfer("run", work / "m.tflite", work / "red.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert "red 0.9" in done.stdout


@pytest.mark.device
@pytest.mark.parametrize(("pictures", "loaded"), [(3, False), (4, True)])
def test_opencv_is_loaded_where_there_are_pictures_enough_to_pay_for_it(
    pictures: int, loaded: bool, work: Path
) -> None:
    pytest.importorskip("cv2")
    code = "import sys; from edgeinfer.cli import main; main(sys.argv[1:]); print('cv2' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", work / "m.tflite", *[work / "red.png"] * pictures],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *answers, said = done.stdout.splitlines()
    assert all(" red 0." in line for line in answers)
    assert said == str(loaded)


def test_as_a_process_an_error_has_no_traceback(work: Path) -> None:
    done = edgeinfer("run", work / "bad.png", work / "red.png")
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("DamagedModelError: ")
    assert "Traceback" not in done.stderr


def test_as_a_process_debug_shows_a_traceback(work: Path) -> None:
    done = edgeinfer("inspect", work / "bad.png", "--debug")
    assert done.returncode == 4
    assert "Traceback" in done.stderr


def test_as_a_process_it_still_says_what_it_is_asked_to_log(work: Path) -> None:
    code = (
        "import logging, sys\n"
        "from edgeinfer.command import run_command\n"
        "def run():\n"
        "    logging.getLogger('edgeinfer.x').info('loading')\n"
        "    return 0\n"
        "sys.exit(run_command(run, []))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEINFER_LOG_LEVEL": "INFO"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "edgeinfer.x: loading\n")


def test_a_reader_that_goes_away_is_no_failure(work: Path) -> None:
    pictures = " ".join(["red.png"] * 2000)
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m edgeinfer run m.tflite {pictures} | head -1; echo ${{PIPESTATUS[0]}}"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=work,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, code = done.stdout.splitlines()
    assert first.startswith("red.png  red 0.9")
    assert (code, done.stderr) == ("0", "")


def test_labels_can_be_printed_where_the_terminal_lacks_the_letters(work: Path) -> None:
    (work / "names.txt").write_text("rot\ngrün\nblau\ndunkel\n", encoding="utf-8")
    done = edgeinfer(
        *("run", work / "m.tflite", work / "green.png", "--labels", work / "names.txt"),
        env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0
    assert "gr\\xfcn 0.9" in done.stdout
