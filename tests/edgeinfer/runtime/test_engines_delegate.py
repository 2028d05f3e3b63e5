"""Delegates: what the engines say of them, and what becomes of it. A stand-in for the library; the engines are real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edgetpu_standin import build, edgetpu_pair

from edgeinfer.errors import DeviceError, MissingDependencyError, UnsupportedOpError
from edgeinfer.runtime.engines import (
    Engine,
    Interpreter,
    engine_error,
    installed_engines,
    load_delegate,
    load_library,
    open_interpreter,
)

ENGINES = pytest.mark.parametrize(
    "engine", [one for one in installed_engines() if one.name != "tensorflow"], ids=lambda engine: engine.name
)
LITERT = Engine("litert", "2.3.0", verifies=True)


def answer(interpreter: Interpreter, value: np.ndarray) -> np.ndarray:
    interpreter.tensor(interpreter.get_input_details()[0]["index"])()[...] = value
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@ENGINES
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("what", ["peak", "copy", "add:3", "add:-100"])
@pytest.mark.parametrize("tail", [False, True], ids=["whole", "in part"])
def test_a_compiled_file_and_its_twin_give_the_same_answers(
    engine: Engine, dtype: str, what: str, tail: bool, standin: Path, tmp_path: Path
) -> None:
    pair = edgetpu_pair(tmp_path, what=what, dtype=dtype, tail=tail)
    device = open_interpreter(engine, pair.compiled, delegate=load_delegate(engine, str(standin)))
    twin = open_interpreter(engine, pair.twin)
    random = np.random.default_rng(0)
    for _ in range(5):
        pixels = random.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8).view(dtype)
        np.testing.assert_array_equal(answer(device, pixels), answer(twin, pixels))


@ENGINES
def test_the_pretended_op_computes_what_it_says(engine: Engine, standin: Path, tmp_path: Path) -> None:
    delegate = load_delegate(engine, str(standin))
    pixels = np.arange(-96, 96, dtype=np.int8).reshape(1, 8, 8, 3)
    added = open_interpreter(engine, edgetpu_pair(tmp_path, what="add:40").compiled, delegate=delegate)
    assert answer(added, pixels).ravel().tolist() == [min(127, value + 40) for value in range(-96, 96)]
    peak = open_interpreter(engine, edgetpu_pair(tmp_path).compiled, delegate=delegate)
    assert answer(peak, pixels).tolist() == [[93, 94, 95]]


@ENGINES
def test_options_arrive_and_a_delegate_outlives_its_interpreter(
    engine: Engine, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    delegate = load_delegate(engine, str(standin), {"device": "usb:0"})
    interpreter = open_interpreter(engine, edgetpu_pair(tmp_path).compiled, delegate=delegate)
    del delegate
    answer(interpreter, np.zeros((1, 8, 8, 3), np.int8))
    del interpreter
    log = (tmp_path / "log").read_text().splitlines()
    assert log == ["option device=usb:0", "create /sys/bus/usb/devices/2-1", "claim 0 peak", "invoke 1", "destroy"]


@ENGINES
def test_real_compiled_files_run_with_a_pretended_chip(engine: Engine, standin: Path, test_data: Path) -> None:
    for path in sorted((test_data / "coral").glob("*_edgetpu.tflite")):
        interpreter = open_interpreter(engine, path, delegate=load_delegate(engine, str(standin)))
        shape = interpreter.get_input_details()[0]["shape"]
        answers = [answer(interpreter, np.full(shape, value, np.uint8)) for value in (5, 5, 6)]
        np.testing.assert_array_equal(answers[0], answers[1])
        assert not np.array_equal(answers[0], answers[2])


@ENGINES
def test_a_missing_library_is_a_missing_dependency_in_the_loaders_words(engine: Engine) -> None:
    with pytest.raises(MissingDependencyError, match="`libnowhere") as caught:
        load_delegate(engine, "libnowhere.so.1")
    assert caught.value.received == "libnowhere.so.1: cannot open shared object file: No such file or directory"


@ENGINES
def test_a_library_without_a_delegate_is_a_device_error(engine: Engine, tmp_path: Path) -> None:
    library = build(tmp_path, "NOT_A_DELEGATE", name="plain.so")
    with pytest.raises(DeviceError, match="is not a TFLite delegate"):
        load_delegate(engine, str(library))


@ENGINES
@pytest.mark.parametrize(("how", "reason"), [("refuse", ""), ("refuse:no\nmemory", "no memory")])
def test_a_delegate_that_refuses_gives_its_reason_or_none(
    engine: Engine, how: str, reason: str, standin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_CREATE", how)
    with pytest.raises(DeviceError, match="refuses to start") as caught:
        load_delegate(engine, str(standin))
    assert caught.value.received == reason


@ENGINES
def test_nothing_is_written_on_stderr_by_what_fails(engine: Engine, tmp_path: Path) -> None:
    # An engine's own `load_delegate` leaves an AttributeError there, "Exception ignored in Delegate.__del__".
    build(tmp_path, "NOT_A_DELEGATE", name="plain.so")
    code = (
        "import sys; from edgeinfer.errors import EdgeInferError\n"
        "from edgeinfer.runtime.engines import find_engine, load_delegate\n"
        "for name in sys.argv[2:]:\n"
        "    try: load_delegate(find_engine(sys.argv[1]), name)\n"
        "    except EdgeInferError: pass\n"
    )
    command = [sys.executable, "-c", code, engine.name, "libnowhere.so.1", str(tmp_path / "plain.so")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


@ENGINES
def test_a_compiled_file_without_its_delegate_is_told_what_it_needs(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOpError, match="compiled for an Edge TPU") as caught:
        open_interpreter(engine, edgetpu_pair(tmp_path).compiled)
    assert 'device="edgetpu"' in caught.value.next_step


@ENGINES
def test_an_uncompiled_file_runs_beside_a_delegate_on_the_cpu_without_a_word(
    engine: Engine, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Why `edgetpu.probe` refuses such files: nothing else would tell.
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    interpreter = open_interpreter(engine, edgetpu_pair(tmp_path).twin, delegate=load_delegate(engine, str(standin)))
    answer(interpreter, np.zeros((1, 8, 8, 3), np.int8))
    assert (tmp_path / "log").read_text().splitlines() == ["create /sys/bus/usb/devices/2-1"]


@ENGINES
@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "Package requires runtime version (14), which is newer than this runtime version (13).",
            "The file was compiled for Edge TPU runtime 14 and later, and this is runtime 13.",
        ),
        ("Internal: unsupported chip.", "The Edge TPU's library refuses the file."),
    ],
)
def test_a_file_that_the_delegate_refuses_is_a_device_error(
    engine: Engine, said: str, message: str, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_PREPARE", f"refuse:{said}")
    with pytest.raises(DeviceError) as caught:
        open_interpreter(
            engine, edgetpu_pair(tmp_path).compiled, delegate=load_delegate(engine, str(standin), {"device": ""})
        )
    assert caught.value.message == message
    assert "(EdgeTpuDelegateForCustomOp) failed to prepare" in caught.value.received


@pytest.mark.device
def test_an_old_runtime_in_the_delegates_words_names_both_versions() -> None:
    # Word for word as a Coral Dev Board printed it.
    said = (
        "Failed precondition: Package requires runtime version (14), which is newer than this runtime version (13)."
        "Node number 185 (EdgeTpuDelegateForCustomOp) failed to prepare.\n"
    )
    error = engine_error(said, LITERT)
    assert isinstance(error, DeviceError)
    assert "runtime 14 and later, and this is runtime 13" in error.message
    assert "edgetpu_compiler -m 13" in error.next_step


@pytest.mark.device
def test_words_of_another_delegate_are_not_the_edge_tpus() -> None:
    assert not isinstance(engine_error("Node number 2 (TfLiteXNNPackDelegate) failed to prepare.", LITERT), DeviceError)


def test_a_library_is_loaded_without_an_engine(standin: Path) -> None:
    assert hasattr(load_library(str(standin)), "edgetpu_version")
