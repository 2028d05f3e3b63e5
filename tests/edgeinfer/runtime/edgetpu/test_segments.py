"""A model in segments: each tensor goes where it belongs, answers come in order, frames overlap.

The devices are those of the stand-in (`edgetpu_standin`); that it is faster on real ones was not measured.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from edgetpu_standin import payload
from tiny_models import CUSTOM, OperatorSpec, TensorSpec

from edgeinfer.errors import DeviceError, InputError, MetadataError
from edgeinfer.runtime.edgetpu.segments import Segments
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions

pytestmark = pytest.mark.device

ROOT = Path(__file__).resolve().parents[4]

TWO = "usb:/sys/bus/usb/devices/2-1,usb:/sys/bus/usb/devices/2-2"


def segment(folder: Path, name: str, *, given: str, made: str, more: int, length: int = 4) -> Path:
    """A compiled file that adds `more` stored units to each of its values; scale 1/255."""
    tensors = [TensorSpec(one, (1, length), "uint8", 1 / 255, 0) for one in (given, made)]
    one = OperatorSpec(
        CUSTOM,
        (0,),
        (1,),
        custom_code="edgetpu-custom-op",
        custom_options=payload(f"add:{more}", given=(1, length), made=(1, length)),
    )
    path = folder / f"{name}_edgetpu.tflite"
    path.write_bytes(tiny_models.model(tensors, [one], inputs=[0], outputs=[1]))
    return path


@pytest.fixture
def options(standin: Path, monkeypatch: pytest.MonkeyPatch) -> EdgeTpuOptions:
    monkeypatch.setenv("STANDIN_DEVICES", TWO)
    return EdgeTpuOptions(library=str(standin), restarts=0)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return (
        segment(tmp_path, "m_segment_0_of_2", given="image", made="middle", more=10),
        segment(tmp_path, "m_segment_1_of_2", given="middle", made="answer", more=20),
    )


def stored(number: int) -> np.ndarray:
    return np.full((1, 4), number / 255, np.float32)


def test_one_frame_passes_all_segments(paths: tuple[Path, Path], options: EdgeTpuOptions) -> None:
    with Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:
        found = segments(stored(5))
    assert {name: (values * 255).round().tolist() for name, values in found.items()} == {"answer": [[35.0] * 4]}


def test_answers_come_in_the_order_of_the_frames(paths: tuple[Path, Path], options: EdgeTpuOptions) -> None:
    with Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:
        answers = [int((found["answer"][0, 0] * 255).round()) for found in segments.run(map(stored, range(100)))]
        assert answers == [number + 30 for number in range(100)]
        assert [*segments.run([])] == []


def test_an_array_that_is_written_again_does_not_change_a_frame_on_its_way(
    paths: tuple[Path, Path], options: EdgeTpuOptions
) -> None:
    buffer = np.zeros((1, 4), np.float32)

    def camera() -> object:
        for number in range(20):
            buffer[...] = number / 255
            yield buffer

    with Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:
        answers = [int((found["answer"][0, 0] * 255).round()) for found in segments.run(camera())]  # type: ignore[arg-type]
    assert answers == [number + 30 for number in range(20)]


def test_names_that_differ_are_matched_by_position(tmp_path: Path, options: EdgeTpuOptions) -> None:
    files = (
        segment(tmp_path, "a", given="image", made="one", more=10),
        segment(tmp_path, "b", given="two", made="answer", more=20),
    )
    with Segments(files, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:
        assert (segments(stored(0))["answer"] * 255).round().tolist() == [[30.0] * 4]


def test_a_segment_that_was_not_compiled_runs_on_the_cpu(
    paths: tuple[Path, Path], tmp_path: Path, options: EdgeTpuOptions
) -> None:
    tensors = [TensorSpec(name, (1, 4), "uint8", 1 / 255, 0) for name in ("answer", "last")]
    shape = TensorSpec("shape", (2,), "int32", values=[1, 4])
    reshape = OperatorSpec(tiny_models.RESHAPE, (0, 2), (1,), 17, {0: tiny_models.Vector("i", (1, 4))})
    (tmp_path / "head.tflite").write_bytes(tiny_models.model([*tensors, shape], [reshape], inputs=[0], outputs=[1]))
    with Segments(
        (*paths, tmp_path / "head.tflite"), devices=("edgetpu:0", "edgetpu:1", "cpu"), edgetpu=options
    ) as segments:
        assert (segments(stored(0))["last"] * 255).round().tolist() == [[30.0] * 4]


def test_segments_that_do_not_fit_are_refused(tmp_path: Path, options: EdgeTpuOptions) -> None:
    files = (
        segment(tmp_path, "a", given="image", made="middle", more=10),
        segment(tmp_path, "b", given="middle", made="answer", more=20, length=5),
    )
    with pytest.raises(MetadataError, match="do not fit one another") as caught:
        Segments(files, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options)
    assert "`middle` uint8 (1, 5)" in caught.value.received


@pytest.mark.parametrize(("files", "devices"), [(1, 1), (2, 1), (2, 3)])
def test_each_segment_has_a_device(tmp_path: Path, files: int, devices: int) -> None:
    with pytest.raises(InputError, match="a device for each"):
        Segments([tmp_path / "m.tflite"] * files, devices=["edgetpu"] * devices)


def test_arrays_that_do_not_fit_are_refused_and_the_next_frames_run(
    paths: tuple[Path, Path], options: EdgeTpuOptions
) -> None:
    with Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:
        with pytest.raises(InputError, match="does not fit"):
            segments(np.zeros((1, 5), np.float32))
        with pytest.raises(InputError, match="one array per input"):
            segments(stored(0), stored(0))
        assert (segments(stored(0))["answer"] * 255).round().tolist() == [[30.0] * 4]


def test_a_device_that_fails_ends_the_run_with_its_error_after_the_answers_before_it(
    paths: tuple[Path, Path], options: EdgeTpuOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_INVOKE", "fail@3:bus error")  # counted in each process
    with Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:
        answers = []
        with pytest.raises(DeviceError, match="did not run the model") as caught:
            answers.extend(segments.run(map(stored, range(10))))
    assert caught.value.received == "bus error"
    assert [int((found["answer"][0, 0] * 255).round()) for found in answers] == [30, 31]


def test_nothing_behind_a_frame_that_failed_is_tried(
    paths: tuple[Path, Path], options: EdgeTpuOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_INVOKE", "fail@1+:bus error")
    monkeypatch.setenv("STANDIN_COUNT", str(tmp_path / "count"))
    taken = []

    def frames() -> Iterator[np.ndarray]:
        for number in range(100):
            taken.append(number)
            yield stored(number)

    options = replace(options, restarts=1)
    with (
        Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options, in_flight=50) as segments,
        pytest.raises(DeviceError, match="did not run the model"),
    ):
        list(segments.run(frames()))
    assert (tmp_path / "count").stat().st_size == 2  # the first frame and its second try
    assert len(taken) <= 51


def test_a_run_that_is_broken_off_tries_nothing_more(
    paths: tuple[Path, Path], options: EdgeTpuOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_SLOW_MS", "700")
    monkeypatch.setenv("STANDIN_COUNT", str(tmp_path / "count"))
    with Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options, in_flight=10) as segments:
        answers = segments.run(map(stored, range(10)))
        next(answers)
        answers.close()  # what `break` in a loop does, and an error or Ctrl-C
        # One frame has passed both segments, and the next two are with them: not all ten, which are 20 runs.
        assert (tmp_path / "count").stat().st_size <= 10
        monkeypatch.setenv("STANDIN_SLOW_MS", "0")
        assert (segments(stored(1))["answer"] * 255).round().tolist() == [[31.0] * 4]


def test_ctrl_c_does_not_wait_for_a_device_that_hangs(
    paths: tuple[Path, Path], options: EdgeTpuOptions, tmp_path: Path
) -> None:
    code = """
import sys, threading
import numpy as np
from edgeinfer.runtime.edgetpu.segments import Segments
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
def frames():
    yield np.zeros((1, 4), np.float32)
    print("one is on the way", flush=True)
    threading.Event().wait()
options = EdgeTpuOptions(library=sys.argv[3], first_deadline_s=300.0)
with Segments(sys.argv[1:3], devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:
    list(segments.run(frames()))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, paths), str(options.library)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "STANDIN_INVOKE": "hang@1+"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "one is on the way\n"
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert err.splitlines()[-1] == "KeyboardInterrupt"


def test_a_second_run_is_refused_until_the_first_has_ended(paths: tuple[Path, Path], options: EdgeTpuOptions) -> None:
    with Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:
        first = segments.run(map(stored, range(10)))
        assert (next(first)["answer"] * 255).round().tolist() == [[30.0] * 4]
        with pytest.raises(InputError, match="one run at a time"):
            next(segments.run([stored(100)]))
        with pytest.raises(InputError, match="one run at a time"):
            segments(stored(100))
        rest = [int((found["answer"][0, 0] * 255).round()) for found in first]
        assert rest == [number + 30 for number in range(1, 10)]
        assert (segments(stored(100))["answer"] * 255).round().tolist() == [[130.0] * 4]


def test_two_threads_at_once_get_their_own_answers_or_are_refused(
    paths: tuple[Path, Path], options: EdgeTpuOptions
) -> None:
    problems: list[str] = []
    with Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:

        def call(number: int) -> None:
            for _ in range(50):
                try:
                    found = int((segments(stored(number))["answer"][0, 0] * 255).round())
                except InputError:
                    continue
                except Exception as error:  # whatever it is, it is none of what was promised
                    problems.append(repr(error))
                else:
                    if found != number + 30:
                        problems.append(f"{found} for {number}")

        threads = [threading.Thread(target=call, args=(number,)) for number in (0, 50, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_a_run_whose_segments_are_closed_ends_with_an_error_of_ours(
    paths: tuple[Path, Path], options: EdgeTpuOptions
) -> None:
    for in_flight in (1, 4):
        segments = Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options, in_flight=in_flight)
        answers = segments.run(map(stored, range(100)))
        next(answers)
        segments.close()
        with pytest.raises(DeviceError):
            list(answers)
        with pytest.raises(DeviceError, match="closed"):
            segments(stored(0))


@pytest.mark.clock
def test_frames_overlap(paths: tuple[Path, Path], options: EdgeTpuOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_SLOW_MS", "100")
    with Segments(paths, devices=("edgetpu:0", "edgetpu:1"), edgetpu=options) as segments:
        segments(stored(0))
        start = time.perf_counter()
        assert len([*segments.run([stored(0)] * 10)]) == 10
        taken = time.perf_counter() - start
    # One after the other: 20 runs of 100 ms. Overlapping: 11 of them.
    assert taken < 1.8
