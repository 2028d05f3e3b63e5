"""The commands on an Edge TPU: what they answer, say and exit with where it works, fails, or was never there.

The device is the stand-in (`edgetpu_standin`); the processes are real.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgetpu_standin import edgetpu_pair
from PIL import Image as PillowImage

from edgeinfer.cli import main
from edgeinfer.live.live import Live
from edgeinfer.runtime.edgetpu import guard
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
from edgeinfer.runtime.runtime import Runtime
from edgeinfer.sources.camera import Camera
from edgeinfer.tasks import classifier, load

pytestmark = pytest.mark.device

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("red", "green", "blue")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def work(tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a compiled model that names colours, its twin, and a picture of each colour in its folder."""
    edgetpu_pair(tmp_path, labels=NAMES)
    for place, name in enumerate(NAMES):
        (tmp_path / "data" / name).mkdir(parents=True)
        pixels = np.zeros((10, 12, 3), np.uint8)
        pixels[..., place] = 255
        PillowImage.fromarray(pixels).save(tmp_path / "data" / name / "one.png")
    monkeypatch.setenv("EDGEINFER_EDGETPU_LIBRARY", str(standin))
    monkeypatch.setenv("STANDIN_COUNT", str(tmp_path / "count"))
    monkeypatch.setattr(guard, "PAUSES_S", (0.0,))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: object) -> int:
    return main([*map(str, words), "--json"])


def lines(capture: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capture.readouterr().out.splitlines()]


PICTURES = [f"data/{name}/one.png" for name in NAMES]


def test_run_answers_and_says_where(work: Path, capsys: Capture) -> None:
    assert call("run", "peak_edgetpu.tflite", *PICTURES, "--device", "edgetpu:usb:0") == 0
    found = lines(capsys)
    assert [line["results"][0]["label"] for line in found] == list(NAMES)
    assert found[2]["model"]["device"] == "edgetpu:usb:0"
    assert found[2]["model"]["faults"]["failures"] == 0


def test_run_goes_on_with_the_twin_and_counts_its_frames(
    work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_INVOKE", "segv@3+")  # the check, the first picture, then never again
    words = ("run", "peak_edgetpu.tflite", *PICTURES, "--device", "edgetpu", "--fallback", "peak.tflite")
    assert call(*words) == 0
    found = lines(capsys)
    assert [line["results"][0]["label"] for line in found] == list(NAMES)
    assert [line["model"]["faults"]["fallback_frames"] for line in found] == [0, 1, 2]
    assert found[2]["model"]["faults"]["kinds"] == {"crash": 4}


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ("segv@1+", "SIGSEGV"),
        ("fail@1+:USB transfer error 2", "USB transfer error 2"),
        ("gone@1", "is not there any more"),
    ],
)
def test_without_a_twin_a_failing_device_is_exit_3(
    work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, plan: str, says: str
) -> None:
    # `gone@1`: the device is listed while the model is loaded, and no more from the first frame on.
    monkeypatch.setenv("STANDIN_INVOKE", plan.replace("gone@1", "gone@2"))
    pictures = PICTURES[:2] if plan.startswith("gone") else PICTURES[:1]
    assert call("run", "peak_edgetpu.tflite", *pictures, "--device", "edgetpu") == 3
    error = lines(capsys)[-1]["error"]
    assert error["type"] == "DeviceError"
    assert says in error["message"] + error["received"]
    assert error["next"]


def test_a_device_that_is_not_there_is_exit_3(work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "")
    assert call("bench", "peak_edgetpu.tflite", "--device", "edgetpu") == 3
    assert lines(capsys)[-1]["error"]["message"] == "No Edge TPU is attached."


def test_a_file_that_is_not_compiled_is_exit_5(work: Path, capsys: Capture) -> None:
    assert call("run", "peak.tflite", PICTURES[0], "--device", "edgetpu") == 5
    assert "is not compiled" in lines(capsys)[-1]["error"]["message"]


def test_a_fallback_too_many_is_exit_2(work: Path, capsys: Capture) -> None:
    words = ("--device", "edgetpu", "--fallback", "peak.tflite", "--fallback", "peak.tflite")
    assert call("bench", "peak_edgetpu.tflite", *words) == 2
    assert "too many" in lines(capsys)[-1]["error"]["message"]


def test_bench_measures_the_device_and_says_so(work: Path, capsys: Capture) -> None:
    assert call("bench", "peak_edgetpu.tflite", "--device", "edgetpu", "--runs", 5, "--warmup", 1) == 0
    (found,) = lines(capsys)
    assert (found["device"], found["faults"]["failures"]) == ("edgetpu", 0)


def test_bench_says_in_words_where_it_ran_and_what_failed(
    work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_INVOKE", "abort@2")
    assert main(["bench", "peak_edgetpu.tflite", "--device", "edgetpu:0", "--runs", "5", "--warmup", "1"]) == 0
    said = capsys.readouterr().out
    assert "peak_edgetpu.tflite on edgetpu:0, " in said
    assert "faults   1, the latest: The Edge TPU's process ended while it ran the model: ended by SIGABRT" in said


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"STANDIN_DEVICES": ""}, "No Edge TPU is attached"),  # the twin answers from the start
        ({"STANDIN_INVOKE": "fail@4+:USB transfer error 2"}, "USB transfer error 2"),  # in the midst of the runs
        ({"STANDIN_INVOKE": "fail@2+:no bus"}, "no bus"),  # while it warms up
    ],
)
def test_bench_gives_no_figures_of_the_twin_for_the_devices(
    work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    words = ("--device", "edgetpu", "--fallback", "peak.tflite", "--runs", 5, "--warmup", 1)
    assert call("bench", "peak_edgetpu.tflite", *words) == 3
    (found,) = lines(capsys)
    assert found["error"]["type"] == "DeviceError"
    assert found["error"]["message"].startswith("`peak_edgetpu.tflite` was not measured on edgetpu: ")
    assert says in found["error"]["received"]
    assert "`edgeinfer bench peak.tflite`" in found["error"]["next"]


def test_evaluate_says_which_answers_are_the_twins(
    work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_INVOKE", "fail@3+:no bus")  # the check, the first picture, then never again
    words = ["evaluate", "peak_edgetpu.tflite", "data", "--device", "edgetpu:0", "--fallback", "peak.tflite"]
    said = "answered by the CPU twin (edgetpu:0 failed): 2 of 3 frames"
    assert main(words) == 0
    text = capsys.readouterr()
    assert text.out.splitlines()[-1] == said
    assert f"peak_edgetpu.tflite: {said}" in text.err.splitlines()
    (work / "count").unlink()
    assert main([*words, "--json"]) == 0
    text = capsys.readouterr()
    assert json.loads(text.out)["faults"]["fallback_frames"] == 2
    assert f"peak_edgetpu.tflite: {said}" in text.err.splitlines()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices of the runtimes that are closed; else they end when nobody holds them, some time later."""
    found: list[str] = []
    close = Runtime.close

    def noted(runtime: Runtime) -> None:
        close(runtime)
        found.append(runtime.device)

    monkeypatch.setattr(Runtime, "close", noted)
    return found


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ("run", "peak_edgetpu.tflite", PICTURES[0])),
        (2, ("run", "peak_edgetpu.tflite", "none.png")),
        (2, ("run", "peak_edgetpu.tflite", PICTURES[0], "--iou", "0.5")),
        (0, ("bench", "peak_edgetpu.tflite", "--runs", "1")),
        (2, ("bench", "peak_edgetpu.tflite", "--runs", "0")),
        (0, ("evaluate", "peak_edgetpu.tflite", "data")),
        (2, ("evaluate", "peak_edgetpu.tflite", "none")),
        (0, ("camera", "peak_edgetpu.tflite", "--source", "data/*/one.png", "--jsonl")),
        (2, ("camera", "peak_edgetpu.tflite", "--source", "data/*/one.png", "--jsonl", "--iou", "0.5")),
        (2, ("camera", "peak_edgetpu.tflite", "none.tflite", "--source", "data/*/one.png", "--jsonl")),
    ],
)
def test_a_command_lets_go_of_the_device_however_it_ends(
    work: Path, closed: list[str], code: int, words: tuple[str, ...]
) -> None:
    assert call(*words, "--device", "edgetpu:usb") == code
    assert closed == ["edgetpu:usb"]


def test_evaluate_measures_the_device(work: Path, capsys: Capture) -> None:
    assert call("evaluate", "peak_edgetpu.tflite", "data", "--device", "edgetpu") == 0
    (found,) = lines(capsys)
    assert (found["metrics"]["top1"], found["device"]) == (1.0, "edgetpu")
    assert found["faults"]["restarts"] == 0


def test_the_environment_chooses_the_device(work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_DEVICE", "edgetpu:usb")
    assert call("run", "peak_edgetpu.tflite", PICTURES[0]) == 0
    assert lines(capsys)[0]["model"]["device"] == "edgetpu:usb"


# --- live -----------------------------------------------------------------------------------------


def camera(*words: object) -> subprocess.Popen[str]:
    """`edgeinfer camera` on the pictures, without end, as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "edgeinfer", "camera", *map(str, words), "--source", "data/*/one.png", "--repeat"]
        + ["--jsonl", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_camera_ends_in_order_at_ctrl_c_and_lets_go_of_the_device(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_LOG", str(work / "log"))
    child = camera("peak_edgetpu.tflite", "--device", "edgetpu")
    try:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["results"][0]["label"] in NAMES
        os.killpg(child.pid, signal.SIGINT)  # what a terminal does
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 130, err
    (model,) = json.loads(out.splitlines()[-1])["models"]
    assert (model["device"], model["faults"]["failures"]) == ("edgetpu", 0)
    assert (work / "log").read_text().splitlines()[-1] == "destroy"


def test_camera_says_when_the_twin_answers(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_INVOKE", "fail@5+:no bus")
    words = ("--device", "edgetpu", "--fallback", "peak.tflite", "--frames", 20)
    child = camera("peak_edgetpu.tflite", *words)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    *frames, summary = (json.loads(line) for line in out.splitlines())
    assert [line["results"][0]["label"] for line in frames] == ["blue", "green", "red"] * 6 + ["blue", "green"]
    (model,) = summary["models"]
    assert model["faults"]["on_fallback"]
    assert model["faults"]["fallback_frames"] >= 17
    assert summary["trouble"] == "`peak_edgetpu` runs on the CPU: its edgetpu has failed."
    assert "CPU twin answers from now on" in err


def test_each_model_of_a_camera_has_its_device(work: Path, capsys: Capture) -> None:
    words = ("--device", "cpu", "--device", "edgetpu:0", "--fallback", "peak.tflite")
    source = ("--source", "data/*/one.png", "--jsonl")
    assert call("camera", "peak.tflite", "peak_edgetpu.tflite", *source, *words) == 0
    *frames, summary = lines(capsys)
    assert [(one["name"], one["device"]) for one in summary["models"]] == [
        ("peak", "cpu"),
        ("peak_edgetpu", "edgetpu:0"),
    ]
    assert summary["models"][1]["faults"]["checks"] == 1  # the twin is that of the compiled file
    assert len(frames) == 3


def test_the_loops_trouble_names_the_model_whose_device_has_failed(
    work: Path, standin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "")
    with (
        Runtime("peak_edgetpu.tflite", device="edgetpu:1", fallback="peak.tflite") as runtime,
        Camera("data/*/one.png") as source,
        Live(source, {"door": classifier(runtime)}) as live,
    ):
        assert len([*live]) == 3
        assert live.status().trouble == "`door` runs on the CPU: its edgetpu:1 has failed."


def test_load_takes_a_fallback(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "")
    pipeline = load("peak_edgetpu.tflite", device="edgetpu", fallback="peak.tflite")
    assert pipeline.runtime.on_fallback


def test_a_constructor_takes_a_runtime_with_its_options(work: Path, standin: Path) -> None:
    options = EdgeTpuOptions(library=str(standin), check_every=1)
    with Runtime("peak_edgetpu.tflite", device="edgetpu", fallback="peak.tflite", edgetpu=options) as runtime:
        classify = classifier(runtime)
        assert [classify(picture).label for picture in PICTURES] == list(NAMES)
        assert runtime.faults == guard.Faults(checks=4)
