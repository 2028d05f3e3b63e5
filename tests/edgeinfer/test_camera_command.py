"""`edgeinfer camera` as a person or a service starts it: real processes, videos, pipes, ports and signals."""

from __future__ import annotations

import argparse
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny_models

from edgeinfer import camera_command
from edgeinfer.cli import main

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("red", "green", "blue", "dark")
RED, BLUE = (255, 0, 0), (0, 0, 255)
GENEROUS_S = 60
# The promise is one second on a machine that has nothing else to do, which the tests' machine never is.
STOPPED_S = 5.0
FRAMES, FPS = 20, 20
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that names colours, and a video of 20 frames, the first half red, the second blue."""
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI"):  # `CI` says that nobody looks at a terminal
        monkeypatch.delenv(name, raising=False)
    Path("m.tflite").write_bytes(tiny_models.classifier(labels=NAMES, normalization=(0.0, 255.0)))
    writer = cv2.VideoWriter("v.avi", cv2.VideoWriter_fourcc(*"MJPG"), FPS, (64, 48))
    assert writer.isOpened()
    for number in range(FRAMES):
        writer.write(np.full((48, 64, 3), (RED if number < FRAMES / 2 else BLUE)[::-1], np.uint8))
    writer.release()
    return tmp_path


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "edgeinfer", "camera", *map(str, words), "--threads", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=options.pop("stderr", subprocess.PIPE),
        text=True,
        **options,
    )


def run(*words: object) -> tuple[int, list[dict[str, Any]], str]:
    """Its exit code, standard output as JSON, standard error."""
    child = start(*words)
    out, err = child.communicate(timeout=GENEROUS_S)
    return child.returncode, [json.loads(line) for line in out.splitlines()], err


@contextmanager
def running(*words: object) -> Iterator[subprocess.Popen[str]]:
    """The command on an endless video, after its first answer; it is ended by force where the test has not done it."""
    child = start("m.tflite", "--source", "v.avi", "--repeat", "--jsonl", *words)
    try:
        assert child.stdout is not None
        assert "results" in child.stdout.readline(), child.stderr and child.stderr.read()
        yield child
    finally:
        child.kill()
        child.communicate()


def refused(capsys: Capture, *words: object) -> tuple[int, dict[str, str]]:
    """Exit code and error of a call in this process that must not get as far as a frame."""
    code = main(["camera", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)["error"]


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.device
def test_every_frame_of_a_file_is_answered_in_order(work: Path) -> None:
    code, lines, err = run("m.tflite", "--source", "v.avi", "--jsonl")
    assert code == 0
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert [line["results"][0]["label"] for line in lines] == ["red"] * 10 + ["blue"] * 10
    assert err.startswith("20 frames, 0 dropped, ")
    assert len(err.splitlines()) == 1


def test_it_ends_after_the_frames_that_were_asked_for(work: Path) -> None:
    code, lines, _ = run("m.tflite", "--source", "v.avi", "--repeat", "--jsonl", "--frames", 3)
    assert (code, len(lines)) == (0, 3)


@pytest.mark.device
def test_json_is_one_object_at_the_end_with_the_keys_of_the_interface(work: Path) -> None:
    code, (found,), err = run("m.tflite", "--source", "v.avi", "--save", "out.avi", "--json")
    assert (code, err) == (0, "")
    assert set(found) == {
        *("source", "ended", "frames", "dropped", "seconds", "fps", "limit_fps", "latency_ms"),
        *("models", "health", "trouble", "errors", "machine"),
    }
    assert (found["source"], found["ended"], found["frames"], found["dropped"]) == ("v.avi", "source", FRAMES, 0)
    assert set(found["latency_ms"]) == {"capture", "inference", "output", "age"}
    assert set(found["latency_ms"]["age"]) == {"p50", "p90", "p95", "p99"}
    # The age of a frame has in it what was done with it.
    assert found["latency_ms"]["age"]["p50"] > found["latency_ms"]["inference"]["p50"] > 0
    (model,) = found["models"]
    assert (model["name"], model["task"], model["path"], model["threads"]) == ("m", "classification", "m.tflite", 1)
    assert set(model["timing_ms"]) == {"pre", "invoke", "post"}
    assert found["machine"]["python"] == sys.version.split()[0]


def test_the_object_at_the_end_comes_behind_the_lines(work: Path) -> None:
    code, lines, err = run("m.tflite", "--source", "v.avi", "--frames", 2, "--jsonl", "--json")
    assert (code, err) == (0, "")
    assert [set(line) & {"frame", "frames"} for line in lines] == [{"frame"}, {"frame"}, {"frames"}]
    assert lines[-1]["ended"] == "frames"


def test_models_are_told_apart_by_name_and_number(work: Path) -> None:
    code, lines, _ = run("m.tflite", "m.tflite", "--source", "v.avi", "--frames", 1, "--jsonl")
    assert code == 0
    assert [one["model"] for one in lines[0]["models"]] == ["m", "m-2"]


def test_a_recording_has_every_frame_of_a_file(work: Path) -> None:
    code, _, _ = run("m.tflite", "--source", "v.avi", "--save", "out.avi", "--json")
    assert code == 0
    with closing_video("out.avi") as video:
        assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES
        _, first = video.read()
    assert first.shape == (48, 64, 3)
    # Red as OpenCV has it, except where the label stands.
    assert np.median(first.reshape(-1, 3), axis=0) == pytest.approx([0, 0, 255], abs=12)


@contextmanager
def closing_video(name: str) -> Iterator[Any]:
    video = cv2.VideoCapture(name)
    try:
        yield video
    finally:
        video.release()


# --- the page -------------------------------------------------------------------------------------


def page_of(child: subprocess.Popen[str]) -> tuple[str, str]:
    """The page's address, and the line that says how to see it from elsewhere."""
    assert child.stderr is not None
    first, second = child.stderr.readline(), child.stderr.readline()
    assert first.startswith("Page: http://"), first + second + child.stderr.read()
    return first.removeprefix("Page: ").strip(), second


def test_the_page_is_served_and_said_to_be_seen_through_ssh(work: Path) -> None:
    with running("--bind", "127.0.0.1:0") as child:
        url, elsewhere = page_of(child)
        port = url.rstrip("/").rpartition(":")[2]
        assert f"ssh -L {port}:127.0.0.1:{port} " in elsewhere
        assert f"http://localhost:{port}/" in elsewhere
        with urllib.request.urlopen(f"{url}status.json", timeout=GENEROUS_S) as reply:
            assert json.load(reply)["source"] == "v.avi"


def test_a_token_is_asked_for_and_not_written_into_a_log(work: Path) -> None:
    with running("--bind", "127.0.0.1:0", "--token", "open-sesame-7") as child:
        url, _ = page_of(child)
        assert url.endswith("/?token=...")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url.partition('?')[0]}status.json", timeout=GENEROUS_S)
        caught.value.close()
        assert caught.value.code in (401, 403)


def test_where_somebody_looks_on_a_file_takes_its_own_time(work: Path) -> None:
    code, (found,), _ = run("m.tflite", "--source", "v.avi", "--bind", "127.0.0.1:0", "--json")
    assert code == 0
    # 20 frames at 20 a second; the last may be late, and some of those before may be dropped.
    assert found["seconds"] > 0.7
    assert found["frames"] + found["dropped"] <= FRAMES


def test_without_a_screen_the_page_is_the_default(work: Path) -> None:
    child = start("m.tflite", "--source", "v.avi", "--frames", 2)
    out, err = child.communicate(timeout=GENEROUS_S)
    if child.returncode == 3:  # another program of this machine has the port
        assert "Port 8080 is taken" in err
    else:
        assert (child.returncode, err.splitlines()[0]) == (0, "Page: http://127.0.0.1:8080/")
        assert out.startswith("2 frames, ")


def test_the_port_of_another_is_said_to_be_taken_with_the_next_one(work: Path) -> None:
    with running("--bind", "127.0.0.1:0") as child:
        url, _ = page_of(child)
        port = int(url.rstrip("/").rpartition(":")[2])
        second = start("m.tflite", "--source", "v.avi", "--bind", f"127.0.0.1:{port}")
        _, err = second.communicate(timeout=GENEROUS_S)
    assert second.returncode == 3
    assert f"Port {port} is taken" in err
    assert f"--bind 127.0.0.1:{port + 1}" in err


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code", "ended"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 0, "terminated"), (signal.SIGHUP, 0, "terminated")],
    ids=["Ctrl-C", "kill", "closed terminal"],
)
def test_a_signal_ends_it_soon_and_in_good_order(number: int, code: int, ended: str, work: Path) -> None:
    with running("--json", "--save", "out.avi", "--bind", "127.0.0.1:0") as child:
        sent = time.monotonic()
        child.send_signal(number)
        out, err = child.communicate(timeout=GENEROUS_S)
        assert time.monotonic() - sent < STOPPED_S
    found = json.loads(out.splitlines()[-1])
    assert (child.returncode, found["ended"]) == (code, ended)
    assert "Traceback" not in err
    with closing_video("out.avi") as video:
        assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) >= 1
    assert not list(work.glob(".*"))  # nothing unfinished is left


def test_an_interrupt_is_heard_while_a_camera_does_not_answer(work: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(GENEROUS_S)
        child = start("m.tflite", "--source", f"http://127.0.0.1:{server.getsockname()[1]}/", "--bind", "127.0.0.1:0")
        connection, _ = server.accept()  # and now it waits for a picture
        with closing(connection):
            sent = time.monotonic()
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=GENEROUS_S)
            assert time.monotonic() - sent < STOPPED_S
    assert child.returncode == 130
    assert "Interrupted" in err
    assert "Traceback" not in err


def test_a_reader_that_has_gone_is_no_failure(work: Path) -> None:
    with running() as child:
        assert child.stdout is not None
        child.stdout.close()
        child.stdout = None
        _, err = child.communicate(timeout=GENEROUS_S)
        assert child.returncode == 0
        assert err == ""


def test_a_reader_that_has_stopped_reading_does_not_hold_up_the_end(work: Path) -> None:
    with running() as child:
        stat = Path(f"/proc/{child.pid}/io")
        full, before = 0, -1
        while full < 10:  # the pipe is full where nothing is written any more
            written = int(next(line.split()[1] for line in stat.read_text().splitlines() if line.startswith("wchar")))
            full, before = (full + 1 if written == before else 0), written
            time.sleep(0.05)
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(GENEROUS_S) == 130
        assert time.monotonic() - sent < STOPPED_S


def test_a_terminal_has_a_line_that_says_how_it_goes(work: Path) -> None:
    ours, theirs = pty.openpty()
    child = start("m.tflite", "--source", "v.avi", "--repeat", "--bind", "127.0.0.1:0", stderr=theirs)
    os.close(theirs)
    seen = b""
    timer = threading.Timer(GENEROUS_S, child.kill)
    timer.start()
    try:
        while b" dropped  " not in seen or not seen.endswith(b"\r"):
            seen += os.read(ours, 1024)
        child.send_signal(signal.SIGTERM)
        while True:
            seen += os.read(ours, 1024)
    except OSError:  # Linux' word for the end of a terminal
        pass
    finally:
        timer.cancel()
        os.close(ours)
    out, _ = child.communicate()
    assert child.returncode == 0
    line = next(one for one in seen.decode().split("\r") if " dropped  " in one)
    assert " fps  " in line
    assert " ms old  " in line
    assert any(f"{name} 0.9" in line for name in ("red", "blue"))
    # The line is gone at the end, and the summary is on standard output.
    assert seen.endswith(b"\x1b[K")
    assert " frames, " in out


# --- what is refused ------------------------------------------------------------------------------


def test_a_model_that_cannot_be_loaded_is_refused_before_anything_is_begun(work: Path, capsys: Capture) -> None:
    Path("bad.tflite").write_bytes(tiny_models.dense()[:-200])
    code, error = refused(capsys, "bad.tflite", "--source", "/dev/video99", "--save", "out.avi", "--bind", "nowhere")
    assert (code, error["type"]) == (4, "DamagedModelError")
    assert not list(work.glob("*out*"))


def test_without_a_camera_it_is_said_which_there_are(work: Path, capsys: Capture) -> None:
    code, error = refused(capsys, "m.tflite", "--source", "/dev/video99", "--jsonl")
    assert (code, error["type"]) == (3, "DeviceError")
    assert "/dev/video99" in error["message"]
    assert "cameras that are here" in error["received"]


def test_a_window_that_was_asked_for_is_no_page(work: Path, capsys: Capture) -> None:
    code, error = refused(capsys, "m.tflite", "--source", "v.avi", "--window")
    assert code == 3
    assert "edgeinfer camera MODEL --bind 127.0.0.1:8080" in error["next"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--frames", "0"), 2, "`--frames`"),
        (("--max-fps", "-1"), 2, "`--max-fps`"),
        (("--max-temp", "nan"), 2, "`--max-temp`"),
        (("--save", "v.avi"), 2, "take the place of the video"),
        (("--save", "out.mkv"), 2, "what kind of video"),
        (("--save", "nowhere/out.avi"), 3, "does not exist"),
        (("--bind", "0.0.0.0:0"), 2, "Everybody on the network"),
        (("--bind", "here"), 2, "no address"),
        (("--token", "short"), 2, "no token"),
        (("--mqtt", "http://host"), 2, "no URL of an MQTT broker"),
        (("--size", "10", "10", "--jsonl"), 2, "`size`"),
        (("--fps", "0", "--jsonl"), 2, "`fps`"),
        (("--top", "0", "--jsonl"), 2, "top_k"),
        (("--confidence", "0.5", "--jsonl"), 2, "`--confidence` is for detections"),
        (("--sorce", "0"), 2, "--sorce"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_makes_no_sense_is_refused(
    words: tuple[str, ...], code: int, said: str, work: Path, capsys: Capture
) -> None:
    if words[0] == "--mqtt":
        pytest.importorskip("paho.mqtt.enums", reason="paho-mqtt 2 is not installed")
    exit_code, error = refused(capsys, "m.tflite", "--source", "v.avi", *words)
    assert (exit_code, said in error["message"]) == (code, True), error
    assert not list(work.glob("*out*"))


def test_a_broker_that_is_not_there_is_said_before_a_frame_is_answered(work: Path, capsys: Capture) -> None:
    pytest.importorskip("paho.mqtt.enums", reason="paho-mqtt 2 is not installed")
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    code, error = refused(capsys, "m.tflite", "--source", "v.avi", "--mqtt", f"mqtt://127.0.0.1:{port}")
    assert (code, error["type"]) == (3, "DeviceError")


def test_what_belongs_to_one_model_is_refused_with_two(work: Path, capsys: Capture) -> None:
    code, error = refused(capsys, "m.tflite", "m.tflite", "--source", "v.avi", "--labels", "names.txt")
    assert (code, error["message"]) == (2, "`--labels` belongs to one model.")


def test_a_model_that_takes_no_pictures_is_refused(work: Path, capsys: Capture) -> None:
    Path("features.tflite").write_bytes(tiny_models.dense())
    code, error = refused(capsys, "features.tflite", "--source", "v.avi", "--jsonl")
    assert (code, error["message"]) == (2, "`features.tflite` takes no pictures.")


def test_a_machine_that_does_not_say_how_hot_it_is_is_named(
    work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeinfer import health

    monkeypatch.setattr(health, "read_health", lambda: health.Health())
    assert main(["camera", "m.tflite", "--source", "v.avi", "--frames", "1", "--jsonl", "--max-temp", "70"]) == 0
    assert "does not say how hot it is" in capsys.readouterr().err


def test_help_shows_examples(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["camera", "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "edgeinfer camera ssd.tflite --bind 0.0.0.0:8080 --token" in said
    assert "--max-temp C" in said


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_TOKEN", "from-the-environment")
    assert camera_command._token(argparse.Namespace(token=None)) == "from-the-environment"
    assert camera_command._token(argparse.Namespace(token="from-the-option")) == "from-the-option"
