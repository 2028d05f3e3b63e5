"""A model in segments: each tensor goes where it belongs, answers come in order, frames overlap.

The devices are those of the stand-in (`edgetpu_standin`); that it is faster on real ones was not measured.
"""

from __future__ import annotations

import time
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
