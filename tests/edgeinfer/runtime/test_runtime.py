"""`Runtime`: floats in, floats out, raw numbers on request, and every refusal by name."""

from __future__ import annotations

import gc
import hashlib
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_flatbuffer import Scalar

from edgeinfer.errors import (
    DamagedModelError,
    DeviceError,
    EdgeInferError,
    InputError,
    InputFileError,
    MetadataError,
    UnsupportedOpError,
)
from edgeinfer.runtime import runtime as runtime_module
from edgeinfer.runtime import trial
from edgeinfer.runtime.edgetpu.guard import Faults
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
from edgeinfer.runtime.engines import Engine, Interpreter, find_engine, open_interpreter
from edgeinfer.runtime.runtime import Runtime

pytestmark = pytest.mark.device

RED = np.zeros((8, 8, 3), dtype=np.float32)
RED[..., 0] = 1.0


def adder() -> bytes:
    """Two inputs: the output is their sum."""
    tensors = [tiny_models.TensorSpec(name, (1, 3)) for name in ("left", "right", "sum")]
    operators = [tiny_models.OperatorSpec(tiny_models.ADD, (0, 1), (2,), 11, {0: Scalar("b", 0)})]
    return tiny_models.model(tensors, operators, inputs=[0, 1], outputs=[2])


def logistic(*, version: int = 1, op: int = tiny_models.LOGISTIC, custom_code: str = "") -> bytes:
    tensors = [tiny_models.TensorSpec("a", (1, 2)), tiny_models.TensorSpec("b", (1, 2))]
    operators = [tiny_models.OperatorSpec(op, (0,), (1,), version=version, custom_code=custom_code)]
    return tiny_models.model(tensors, operators, inputs=[0], outputs=[1])


# --- arrays in, arrays out ------------------------------------------------------------------------


def test_a_float_model_takes_and_gives_floats() -> None:
    # Output k is (k + 1) times the sum: 1 + 2 + ... + 6 = 21.
    answer = Runtime(tiny_models.dense())(np.arange(1, 7, dtype=np.float32)[None])
    assert answer["answer"].dtype == np.float32
    assert answer["answer"].tolist() == [[21.0, 42.0]]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_floats_go_in_and_probabilities_come_out_whatever_is_stored(dtype: str) -> None:
    # The logits lie 8 apart: e^8 / (e^8 + e^0 + e^0 + e^2) = 0.9968 (the last class, "dark", has logit 2).
    (answer,) = Runtime(tiny_models.classifier(dtype=dtype))(RED).values()
    assert answer.dtype == np.float32
    assert answer.shape == (1, 4)
    assert answer[0, 0] == pytest.approx(0.9968, abs=0.01)


def test_quantized_floats_are_rounded_and_saturated() -> None:
    # Scale 1/128: 0.5 is 64, 0.0039 is 0.499 and so 0, 5.0 saturates at 127.
    runtime = Runtime(tiny_models.dense(dtype="int8", shape=(1, 3), outputs=1))
    runtime(np.array([[0.5, 0.0039, 5.0]], np.float32))
    # The scale of the output is 3 * 1 / 127, the weights are 127 * (1 / 127): (64 + 0 + 127) / 128 = 1.492.
    assert runtime.raw_output().tolist() == [[round(191 / 128 / (3 / 127))]]


def test_the_batch_may_be_left_out() -> None:
    runtime = Runtime(tiny_models.dense())
    values = np.arange(6, dtype=np.float32)
    assert runtime(values)["answer"].tolist() == runtime(values[None])["answer"].tolist()


def test_float64_is_welcome() -> None:
    assert Runtime(tiny_models.dense())(np.ones(6))["answer"].tolist() == [[6.0, 12.0]]


def test_answers_belong_to_the_caller() -> None:
    runtime = Runtime(tiny_models.dense())
    first = runtime(np.ones(6, np.float32))["answer"]
    runtime(np.zeros(6, np.float32))
    assert first.tolist() == [[6.0, 12.0]]
    first[...] = 5.0


def test_raw_outputs_belong_to_the_caller() -> None:
    runtime = Runtime(tiny_models.dense())
    runtime(np.ones(6, np.float32))
    first = runtime.raw_output()
    runtime(np.zeros(6, np.float32))
    assert first.tolist() == [[6.0, 12.0]]


def test_several_inputs_take_one_array_each() -> None:
    runtime = Runtime(adder())
    answer = runtime(np.array([[1, 2, 3]], np.float32), np.array([[10, 20, 30]], np.float32))
    assert answer["sum"].tolist() == [[11.0, 22.0, 33.0]]


def test_too_few_arrays_are_refused_with_the_names() -> None:
    with pytest.raises(InputError, match="one array per input") as caught:
        Runtime(adder())(np.ones((1, 3), np.float32))
    assert caught.value.received == "1 arrays"
    assert "`left` (1, 3), `right` (1, 3)" in caught.value.expected


def test_several_inputs_are_no_single_one() -> None:
    with pytest.raises(InputError, match="2 inputs") as caught:
        _ = Runtime(adder()).input
    assert caught.value.received == "`left`, `right`"


@pytest.mark.parametrize(
    "values",
    [np.ones((1, 5), np.float32), np.ones((1, 6), np.int32), np.full((1, 6), np.nan), np.full((1, 6), np.inf)],
    ids=["shape", "integers", "nan", "infinite"],
)
def test_arrays_that_do_not_fit_are_refused(values: np.ndarray) -> None:
    with pytest.raises(InputError):
        Runtime(tiny_models.dense())(values)


# --- raw access -----------------------------------------------------------------------------------


def test_what_is_written_into_the_input_reaches_the_model() -> None:
    runtime = Runtime(tiny_models.classifier(dtype="uint8"))
    runtime.input_view()[...] = np.array([0, 255, 0], dtype=np.uint8)
    runtime.invoke()
    assert runtime.raw_output().dtype == np.uint8
    assert int(runtime.raw_output().argmax()) == 1
    runtime.input_view()[...] = np.array([0, 0, 255], dtype=np.uint8)
    runtime.invoke()
    assert int(runtime.raw_output().argmax()) == 2


def test_the_input_view_has_the_files_shape_and_dtype() -> None:
    view = Runtime(tiny_models.classifier(size=(6, 4))).input_view()
    assert view.shape == (1, 4, 6, 3)
    assert view.dtype == np.int8


def test_a_file_that_is_replaced_while_it_is_loaded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_models.dense())
    read_metadata = runtime_module.read

    def replaced(file: object) -> object:
        path.write_bytes(tiny_models.classifier())  # after the check, before the engine opens it
        return read_metadata(file)

    monkeypatch.setattr(runtime_module, "read", replaced)
    with pytest.raises(DamagedModelError, match="changed while it was loaded"):
        Runtime(path)


def test_an_error_that_somebody_keeps_does_not_block_the_next_run() -> None:
    runtime = Runtime(tiny_models.dense())
    kept = []
    for wrong in (np.zeros((1, 5), np.float32), np.full((1, 6), np.nan, np.float32)):
        try:
            runtime(wrong)
        except InputError as error:
            kept.append(error)
    assert len(kept) == 2
    assert runtime(np.ones((1, 6), np.float32))["answer"].tolist() == [[6.0, 12.0]]


def test_a_runtime_goes_as_soon_as_nobody_holds_it() -> None:
    gc.disable()  # without a collection: an interpreter holds megabytes, and waits for none
    try:
        runtime = Runtime(tiny_models.dense())
        gone = weakref.ref(runtime)
        del runtime
        assert gone() is None
    finally:
        gc.enable()


def test_a_view_that_is_held_over_a_run_is_named_as_the_cause() -> None:
    runtime = Runtime(tiny_models.dense())
    view = runtime.input_view()
    with pytest.raises(DeviceError, match="failed while it ran") as caught:
        runtime.invoke()
    assert "view" in caught.value.next_step
    del view
    runtime.invoke()


def test_outputs_are_read_by_name_and_raw_by_name_or_position() -> None:
    runtime = Runtime(tiny_models.classifier())
    runtime(RED)
    (spec,) = runtime.outputs
    raw = runtime.tensors.raw(spec.name)
    assert raw.dtype == np.int8
    assert raw.tolist() == runtime.tensors.raw(0).tolist()
    # Softmax in int8: scale 1/256, zero point -128.
    assert runtime.tensors[spec.name].tolist() == [[(int(one) + 128) / 256 for one in raw[0]]]
    assert list(runtime.tensors) == [spec.name]
    assert len(runtime.tensors) == 1


def test_an_unknown_output_is_a_key_error_with_the_known_names() -> None:
    with pytest.raises(KeyError, match=r"no output `depth`; the model has answer"):
        _ = Runtime(tiny_models.dense()).tensors["depth"]


def test_an_unknown_raw_output_is_a_key_error_with_the_known_names() -> None:
    with pytest.raises(KeyError, match=r"no output `depth`; the model has answer"):
        Runtime(tiny_models.dense()).tensors.raw("depth")


# --- settings -------------------------------------------------------------------------------------


def test_a_path_and_its_bytes_are_the_same_model(tmp_path: Path) -> None:
    data = tiny_models.dense()
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    for model in (path, str(path), data):
        runtime = Runtime(model)
        assert runtime.sha256 == hashlib.sha256(data).hexdigest()
        assert runtime.size_bytes == len(data)
        assert runtime(np.ones(6, np.float32))["answer"].tolist() == [[6.0, 12.0]]
    assert Runtime(path).path == path
    assert Runtime(data).path is None


def test_it_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(tiny_models.dense())
    engine = find_engine()
    runtime = Runtime(tmp_path / "m.tflite", threads=2)
    assert repr(runtime) == f"Runtime(m.tflite, {engine.name} {engine.version}, device=cpu, threads=2)"
    assert runtime.load_ms > 0


def test_threads_default_to_the_cores_that_may_be_used() -> None:
    assert Runtime(tiny_models.dense()).threads == len(os.sched_getaffinity(0))


def test_the_environment_sets_the_threads_and_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_THREADS", "3")
    assert Runtime(tiny_models.dense()).threads == 3
    assert Runtime(tiny_models.dense(), threads=1).threads == 1


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_threads_out_of_range_are_refused(threads: int) -> None:
    with pytest.raises(InputError, match="threads") as caught:
        Runtime(tiny_models.dense(), threads=threads)
    assert caught.value.received == str(threads)


@pytest.mark.parametrize("text", ["many", "1.5"])
def test_an_environment_that_says_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_THREADS", text)
    with pytest.raises(InputError, match="EDGEINFER_THREADS"):
        Runtime(tiny_models.dense())


@pytest.mark.parametrize("device", ["gpu", "npu:0"])
def test_hardware_that_nothing_runs_on_here_is_a_device_error(device: str) -> None:
    with pytest.raises(DeviceError, match="CPU or on an Edge TPU") as caught:
        Runtime(tiny_models.dense(), device=device)
    assert caught.value.received == f'device="{device}"'


@pytest.mark.parametrize("device", ["edgetpu", "edgetpu:usb:0"])
def test_a_file_that_was_not_compiled_never_runs_as_if_on_an_edge_tpu(device: str, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(tiny_models.dense())
    with pytest.raises(UnsupportedOpError, match=r"`m\.tflite`: The file is not compiled") as caught:
        Runtime(tmp_path / "m.tflite", device=device)
    assert f'device="{device}"' in caught.value.received


def test_a_compiled_file_is_refused_by_the_cpu() -> None:
    data = logistic(op=tiny_models.CUSTOM, custom_code="edgetpu-custom-op")
    with pytest.raises(UnsupportedOpError, match="runs on one only"):
        Runtime(data, device="cpu")


@pytest.mark.parametrize("given", [{"fallback": b"any"}, {"edgetpu": EdgeTpuOptions()}], ids=["fallback", "edgetpu"])
def test_what_is_said_of_a_device_is_refused_on_the_cpu(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="for a model on an Edge TPU"):
        Runtime(tiny_models.dense(), **given)


def test_on_the_cpu_there_are_no_faults_and_nothing_to_close() -> None:
    with Runtime(tiny_models.dense()) as runtime:
        assert runtime.faults == Faults()
        assert runtime.on_fallback is False
        runtime.close()
        assert runtime(np.ones(6, np.float32))["answer"].tolist() == [[6.0, 12.0]]


def test_a_misspelt_device_is_wrong_input_and_answered_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="not known") as caught:
        Runtime(tiny_models.dense(), device="CPU0")
    assert (caught.value.received, caught.value.next_step) == ('device="CPU0"', "Did you mean `cpu`?")
    monkeypatch.setenv("EDGEINFER_DEVICE", "cup")
    with pytest.raises(InputError) as caught:
        Runtime(tiny_models.dense())
    assert (caught.value.received, caught.value.next_step) == ('EDGEINFER_DEVICE="cup"', "Did you mean `cpu`?")


def test_a_variable_that_is_out_of_range_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_THREADS", "0")
    with pytest.raises(InputError, match="`EDGEINFER_THREADS` is out of range"):
        Runtime(tiny_models.dense())


def test_the_environment_sets_the_device_and_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_DEVICE", "edgetpu")
    with pytest.raises(UnsupportedOpError, match="not compiled"):
        Runtime(tiny_models.dense())
    assert Runtime(tiny_models.dense(), device="cpu").device == "cpu"


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="not known"):
        Runtime(tiny_models.dense(), engine="onnx")


def test_the_environment_chooses_the_engine_and_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = find_engine()
    monkeypatch.setenv("EDGEINFER_ENGINE", "onnx")
    with pytest.raises(InputError, match="not known"):
        Runtime(tiny_models.dense())
    assert Runtime(tiny_models.dense(), engine=installed.name).engine == installed


def test_a_trial_is_made_just_for_engines_that_do_not_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr("edgeinfer.runtime.runtime.try_first", lambda *_, sha256, **__: tried.append(sha256))
    runtime = Runtime(tiny_models.dense())
    assert bool(tried) is not runtime.engine.verifies
    tried.clear()
    Runtime(tiny_models.dense(), trial=True)
    assert tried == [runtime.sha256]
    tried.clear()
    Runtime(tiny_models.dense(), trial=False)
    assert not tried


class Refusal:
    """An engine whose delegate refuses every model, as XNNPACK does some int8 graphs; its own kernels may run them."""

    def __init__(self, *, kernels_run: bool) -> None:
        self.kernels_run = kernels_run
        self.delegates: list[bool] = []

    def open(self, engine: Engine, model: Path | bytes, *, threads: int, default_delegates: bool = True) -> Interpreter:
        self.delegates.append(default_delegates)
        if default_delegates or not self.kernels_run:
            raise DamagedModelError(
                "It refuses.", received="failed to create XNNPACK runtime. Failed to apply delegate"
            )
        return open_interpreter(engine, model, threads=threads, default_delegates=False)


def test_a_graph_that_the_delegate_refuses_runs_on_the_engines_own_kernels(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = Refusal(kernels_run=True)
    monkeypatch.setattr("edgeinfer.runtime.placement.open_interpreter", refusal.open)
    assert Runtime(tiny_models.dense())(np.ones(6, np.float32))["answer"].tolist() == [[6.0, 12.0]]
    assert refusal.delegates == [True, False]
    assert "slower built-in kernels" in caplog.text


def test_a_graph_that_the_kernels_refuse_too_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeinfer.runtime.placement.open_interpreter", Refusal(kernels_run=False).open)
    with pytest.raises(DamagedModelError) as caught:
        Runtime(tiny_models.dense())
    assert "XNNPACK" in caught.value.received


# --- refusals -------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError) as caught:
        Runtime(tmp_path / "none.tflite")
    assert "none.tflite" in str(caught.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        Runtime(tmp_path / "m.tflite")


@pytest.mark.parametrize("data", [b"", b"no model", bytes(1000), b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_what_is_no_tflite_file_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedModelError):
        Runtime(data)


def test_an_op_version_above_the_ceiling_is_named() -> None:
    with pytest.raises(UnsupportedOpError, match="LOGISTIC") as caught:
        Runtime(logistic(version=99))
    assert "99" in str(caught.value)


def test_a_custom_op_is_named() -> None:
    with pytest.raises(UnsupportedOpError, match="MyOp"):
        Runtime(logistic(op=tiny_models.CUSTOM, custom_code="MyOp"))


def test_a_file_for_an_edge_tpu_is_named_as_such() -> None:
    with pytest.raises(UnsupportedOpError, match="Edge TPU"):
        Runtime(logistic(op=tiny_models.CUSTOM, custom_code="edgetpu-custom-op"))


def test_a_file_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(MetadataError):
        Runtime(tiny_models.classifier(classes=4, labels=("a", "b")))


# --- damaged files --------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [tiny_models.classifier, tiny_models.dense], ids=["classifier", "dense"])
def test_a_file_that_was_cut_off_anywhere_is_damaged(build: Callable[[], bytes]) -> None:
    data = build()
    for place in range(50):
        with pytest.raises(DamagedModelError):
            Runtime(data[: len(data) * place // 50])


def test_what_is_wrong_with_a_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "birds.tflite").write_bytes(tiny_models.dense()[:-200])
    with pytest.raises(DamagedModelError, match=r"^`birds\.tflite`: The model file is damaged"):
        Runtime(tmp_path / "birds.tflite")
    tensors = [tiny_models.TensorSpec("a", (1, 2)), tiny_models.TensorSpec("b", (1, 2))]
    operators = [tiny_models.OperatorSpec(tiny_models.LOGISTIC, (0,), (1,), version=99)]
    (tmp_path / "new.tflite").write_bytes(tiny_models.model(tensors, operators, inputs=[0], outputs=[1]))
    with pytest.raises(UnsupportedOpError, match=r"^`new\.tflite`: .*LOGISTIC version 99") as caught:
        Runtime(tmp_path / "new.tflite")
    assert caught.value.next_step


@pytest.mark.slow
def test_a_few_wrong_bytes_never_end_the_process() -> None:
    # Where the engine does not verify files, each that passes the check costs a child process.
    random = np.random.default_rng(20)
    ends = {"ran": 0, "refused": 0}
    for number in range(200):
        data = bytearray(tiny_models.classifier() if number % 2 else tiny_models.dense())
        for place in random.integers(0, len(data), size=random.integers(1, 5)):
            data[place] = random.integers(0, 256)
        try:
            runtime = Runtime(bytes(data), threads=1)
            for index in range(len(runtime.inputs)):
                trial.fill(runtime.input_view(index), random)
            runtime.invoke()
            dict(runtime.tensors)
            ends["ran"] += 1
        except EdgeInferError:
            ends["refused"] += 1
    assert min(ends.values()) > 20, ends
