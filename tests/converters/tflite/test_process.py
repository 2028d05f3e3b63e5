"""The child process: what it makes, and how its accidents look from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import converters
from converters.errors import CalibrationError, ConversionError
from converters.tflite.process import ConverterProcess, ConvertRequest
from edgeinfer.errors import OutputError, UnsupportedOpError

pytestmark = pytest.mark.tensorflow
ROOT = Path(converters.__file__).parents[1]


def open_file(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without the delegate the list of ops is the file's.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    return interpreter


def answers(path: Path, *inputs: Any) -> list[Any]:
    interpreter = open_file(path)
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]


def op_names(path: Path) -> list[str]:
    return [one["op_name"] for one in open_file(path)._get_ops_details()]


def plain(output: Path) -> ConvertRequest:
    return ConvertRequest(output, scheme="float32", io="float32")


@pytest.mark.parametrize("name", ["rescaled", "residual", "two_inputs"])
def test_the_float_file_agrees_with_keras(
    keras: Any, converter: ConverterProcess, small_models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    facts = converter.load(small_models[name])
    converter.convert(plain(tmp_path / "float.tflite"))
    own = [np.random.default_rng(5).uniform(0, 255, one.shape).astype(np.float32) for one in facts.inputs]
    model = keras.models.load_model(small_models[name])
    wanted = model.predict(own if len(own) > 1 else own[0], verbose=0)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    tensors = [x * facts.leading.scale + facts.leading.offset if facts.leading else x for x in own]
    got = answers(tmp_path / "float.tflite", *[x.astype(np.float32) for x in tensors])
    for one, other in zip(got, wanted, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-4)


def test_an_int8_file_takes_pixels_with_the_rescaling_in_its_scale(
    converter: ConverterProcess, small_models: dict[str, Path], pixels: Path, tmp_path: Path
) -> None:
    facts = converter.load(small_models["rescaled"])
    assert facts.leading is not None
    made = converter.convert(
        ConvertRequest(tmp_path / "int8.tflite", calibration=(pixels,), normalization=(127.5, 127.5))
    )
    assert (made.samples, made.size_bytes) == (12, (tmp_path / "int8.tflite").stat().st_size)
    interpreter = open_file(tmp_path / "int8.tflite")
    (tensor,) = interpreter.get_input_details()
    assert (tensor["name"], tensor["dtype"], tuple(tensor["shape"])) == ("photo", np.int8, (1, 16, 16, 3))
    # -1..1 over 255 steps; the middle, -0.5, is rounded to one side or the other.
    assert tensor["quantization"][0] == pytest.approx(2 / 255, rel=1e-6)
    assert tensor["quantization"][1] in (0, -1)
    (output,) = interpreter.get_output_details()
    assert (output["name"], output["dtype"]) == ("kinds", np.int8)
    assert op_names(tmp_path / "int8.tflite") == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_the_ends_of_an_int8_file_are_what_was_asked_for(
    converter: ConverterProcess, small_models: dict[str, Path], pixels: Path, tmp_path: Path, io: Any
) -> None:
    converter.load(small_models["rescaled"])
    converter.convert(ConvertRequest(tmp_path / "x.tflite", io=io, calibration=(pixels,), normalization=(127.5, 127.5)))
    interpreter = open_file(tmp_path / "x.tflite")
    ends = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert {one["dtype"] for one in ends} == {np.dtype(io).type}


@pytest.mark.parametrize("scheme", ["int16x8", "float16", "dynamic"])
def test_the_other_schemes_answer_nearly_as_the_float_file(
    converter: ConverterProcess, small_models: dict[str, Path], pixels: Path, tmp_path: Path, scheme: Any
) -> None:
    converter.load(small_models["rescaled"])
    converter.convert(plain(tmp_path / "float.tflite"))
    converter.convert(
        ConvertRequest(
            tmp_path / "x.tflite",
            scheme=scheme,
            io="float32",
            calibration=(pixels,) if scheme == "int16x8" else (),
            normalization=(127.5, 127.5),
        )
    )
    tensor = np.random.default_rng(1).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    assert answers(tmp_path / "x.tflite", tensor)[0] == pytest.approx(
        answers(tmp_path / "float.tflite", tensor)[0], abs=0.02
    )


def test_every_input_gets_its_own_calibration(
    converter: ConverterProcess, small_models: dict[str, Path], tmp_path: Path
) -> None:
    facts = converter.load(small_models["two_inputs"])
    generator = np.random.default_rng(2)
    # Ranges 0..1 and 0..100 must end in the scales of `zebra` and `ant`, in this order.
    for index, (one, top) in enumerate(zip(facts.inputs, (1.0, 100.0), strict=True)):
        array = generator.uniform(0, top, (20, *one.shape[1:])).astype(np.float32)
        array.flat[:2] = (0.0, top)
        np.save(tmp_path / f"{index}.npy", array)
    converter.convert(ConvertRequest(tmp_path / "two.tflite", calibration=(tmp_path / "0.npy", tmp_path / "1.npy")))
    details = open_file(tmp_path / "two.tflite").get_input_details()
    assert [one["name"] for one in details] == ["zebra", "ant"]
    assert [one["quantization"][0] for one in details] == pytest.approx([1 / 255, 100 / 255], rel=0.1)
    outputs = open_file(tmp_path / "two.tflite").get_output_details()
    assert [(one["name"], int(one["shape"][1])) for one in outputs] == [("zeta", 3), ("alpha", 2)]


def test_per_tensor_dense_keeps_fully_connected_at_a_version_that_old_runtimes_have(
    keras: Any, converter: ConverterProcess, tmp_path: Path
) -> None:
    layers = keras.layers
    keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Dense(64)]).save(tmp_path / "dense.keras")
    converter.load(tmp_path / "dense.keras")
    for name, flag in (("new", False), ("old", True)):
        converter.convert(ConvertRequest(tmp_path / name, scheme="dynamic", io="float32", per_tensor_dense=flag))
    # tflite-runtime 2.14 goes up to version 10.
    assert fully_connected_version(tmp_path / "new") == 12
    assert fully_connected_version(tmp_path / "old") <= 10


def fully_connected_version(path: Path) -> int:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    code = schema.BuiltinOperator.FULLY_CONNECTED
    versions: list[int] = [one.version for one in model.operatorCodes if one.builtinCode == code]
    return max(versions)


def test_ranges_are_the_files_and_the_next_conversion_has_none_of_them(
    converter: ConverterProcess, small_models: dict[str, Path], pixels: Path, tmp_path: Path
) -> None:
    def scales(name: str, ranges: Any = ()) -> tuple[float, float]:
        converter.convert(
            ConvertRequest(tmp_path / name, calibration=(pixels,), normalization=(127.5, 127.5), ranges=ranges)
        )
        interpreter = open_file(tmp_path / name)
        stem = interpreter._get_ops_details()[0]["outputs"][0]
        by_index = {one["index"]: one["quantization"][0] for one in interpreter.get_tensor_details()}
        return interpreter.get_input_details()[0]["quantization"][0], by_index[stem]

    facts = converter.load(small_models["rescaled"])
    plain = scales("plain")
    # The rescaling is taken off; what it made is the file's input.
    ranged = scales("ranged", (("to_range", -4.0, 4.0), ("stem", 0.0, 25.5)))
    assert ranged == pytest.approx((8 / 255, 0.1), rel=1e-6)
    assert plain == pytest.approx((2 / 255, plain[1]), rel=1e-6)
    assert plain[1] != pytest.approx(0.1, rel=0.01)
    assert scales("again") == plain
    assert facts.leading is not None
    assert open_file(tmp_path / "ranged").get_input_details()[0]["name"] == "photo"


@pytest.mark.parametrize(
    ("name", "high", "match"), [("stm", 1.0, "no layer `stm`"), ("stem", -1.0, "range of `stem` is none")]
)
def test_a_range_that_belongs_to_nothing_is_refused_and_the_child_lives_on(
    converter: ConverterProcess,
    small_models: dict[str, Path],
    pixels: Path,
    tmp_path: Path,
    name: str,
    high: float,
    match: str,
) -> None:
    converter.load(small_models["rescaled"])
    request = ConvertRequest(
        tmp_path / "x", calibration=(pixels,), normalization=(127.5, 127.5), ranges=((name, 0.0, high),)
    )
    with pytest.raises(ConversionError, match=match) as caught:
        converter.convert(request)
    assert name == "stem" or "`stem`" in caught.value.next_step
    assert converter.convert(plain(tmp_path / "x")).size_bytes > 0


def test_a_saved_model_has_no_layers_for_ranges(
    keras: Any, converter: ConverterProcess, small_models: dict[str, Path], pixels: Path, tmp_path: Path
) -> None:
    keras.models.load_model(small_models["rescaled"]).export(tmp_path / "saved", verbose=False)
    converter.load(tmp_path / "saved")
    with pytest.raises(ConversionError, match="does not say its layers"):
        converter.convert(
            ConvertRequest(
                tmp_path / "x", calibration=(pixels,), normalization=(127.5, 127.5), ranges=(("stem", 0.0, 1.0),)
            )
        )


def test_equal_work_gives_equal_bytes(
    converter: ConverterProcess, small_models: dict[str, Path], pixels: Path, tmp_path: Path
) -> None:
    def make(process: ConverterProcess, name: str) -> bytes:
        process.load(small_models["rescaled"])
        process.convert(ConvertRequest(tmp_path / name, calibration=(pixels,), normalization=(127.5, 127.5)))
        return (tmp_path / name).read_bytes()

    first = make(converter, "1")
    converter.convert(plain(tmp_path / "between"))
    assert make(converter, "2") == first
    with ConverterProcess(timeout=240.0) as other:
        assert make(other, "3") == first


def test_a_calibration_file_of_the_wrong_shape_is_refused_and_the_child_lives_on(
    converter: ConverterProcess, small_models: dict[str, Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((3, 4), np.float32))
    converter.load(small_models["rescaled"])
    with pytest.raises(CalibrationError) as caught:
        converter.convert(ConvertRequest(tmp_path / "x", calibration=(tmp_path / "wrong.npy",)))
    assert caught.value.expected == "(n, 16, 16, 3) with n above 0"
    assert converter.convert(plain(tmp_path / "x")).size_bytes > 0


def test_an_op_that_tensorflow_lite_lacks_is_named(keras: Any, converter: ConverterProcess, tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.ops.erfinv(keras.layers.Dense(3)(inputs))).save(tmp_path / "model.keras")
    converter.load(tmp_path / "model.keras")
    with pytest.raises(UnsupportedOpError, match="does not have") as caught:
        converter.convert(plain(tmp_path / "x"))
    assert caught.value.received == "`Erfinv`"


def test_an_op_that_the_scheme_lacks_is_named_with_its_layer(
    keras: Any, converter: ConverterProcess, tmp_path: Path
) -> None:
    layers = keras.layers
    keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.ELU(name="bend")]).save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32))
    converter.load(tmp_path / "model.keras")
    with pytest.raises(UnsupportedOpError, match="int16x8") as caught:
        converter.convert(
            ConvertRequest(tmp_path / "x", scheme="int16x8", io="float32", calibration=(tmp_path / "x.npy",))
        )
    assert caught.value.received == "`ELU` in layer `bend`"


def test_a_place_that_takes_no_file_is_an_output_error(
    converter: ConverterProcess, small_models: dict[str, Path], tmp_path: Path
) -> None:
    converter.load(small_models["residual"])
    with pytest.raises(OutputError):
        converter.convert(plain(tmp_path / "missing" / "x.tflite"))


def test_nothing_is_written_on_stdout_or_stderr(
    small_models: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ConverterProcess(timeout=240.0) as process:
        process.load(small_models["residual"])
        process.convert(plain(tmp_path / "x"))
    assert capfd.readouterr() == ("", "")


def test_converting_before_loading_is_refused() -> None:
    with ConverterProcess(timeout=240.0) as process, pytest.raises(ConversionError, match="No model is loaded"):
        process.convert(plain(Path("x")))


def test_a_crash_of_the_converter_is_an_error_with_the_cure(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    keras.Sequential([keras.Input((16, 8)), layers.LSTM(8, name="loop"), layers.Dense(4)]).save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(4, 16, 8)).astype(np.float32))
    with ConverterProcess(timeout=240.0) as process:
        process.load(tmp_path / "m.keras")
        with pytest.raises(ConversionError, match="SIGSEGV while converting to int8") as caught:
            process.convert(ConvertRequest(tmp_path / "x.tflite", calibration=(tmp_path / "x.npy",)))
        with pytest.raises(ConversionError, match="has ended"):
            process.convert(plain(tmp_path / "x.tflite"))
    assert "`loop` (LSTM)" in caught.value.next_step
    assert "unroll=True" in caught.value.next_step


def test_a_child_that_takes_too_long_is_ended(small_models: dict[str, Path]) -> None:
    with ConverterProcess(timeout=0.05) as process:
        child = child_of(process)
        with pytest.raises(ConversionError, match="took too long while loading"):
            process.load(small_models["residual"])
        assert child.poll() == -signal.SIGKILL


def test_a_child_that_somebody_kills_is_explained_by_memory(small_models: dict[str, Path]) -> None:
    with ConverterProcess(timeout=240.0) as process:
        child_of(process).kill()
        with pytest.raises(ConversionError, match="SIGKILL") as caught:
            process.load(small_models["residual"])
    assert "memory" in caught.value.next_step


def child_of(process: ConverterProcess) -> subprocess.Popen[bytes]:
    assert process._child is not None
    return process._child


SCRIPT = """
import sys
from pathlib import Path
from converters.tflite.process import ConverterProcess, ConvertRequest
with ConverterProcess() as process:
    print(process._child.pid, flush=True)
    process.load(Path(sys.argv[1]))
    process.convert(ConvertRequest(Path(sys.argv[2]), scheme="float32", io="float32"))
    print(sorted(name for name in ("tensorflow", "keras") if name in sys.modules), flush=True)
"""


def start_script(folder: Path, model: Path) -> subprocess.Popen[str]:
    """Start the script above, as a user would: in a folder of its own, without a `__main__` guard."""
    (folder / "script.py").write_text(SCRIPT)
    (folder / "temporary").mkdir()
    return subprocess.Popen(
        [sys.executable, "script.py", str(model), "out.tflite"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def is_gone(pid: int) -> bool:
    for _ in waiting():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
    return False


def waiting(seconds: float = 20.0) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.05)


def test_a_script_without_a_main_guard_converts_and_never_imports_tensorflow(
    small_models: dict[str, Path], tmp_path: Path
) -> None:
    script = start_script(tmp_path, small_models["residual"])
    out, err = script.communicate(timeout=120)
    assert (script.returncode, err, out.splitlines()[1]) == (0, "", "[]")
    assert (tmp_path / "out.tflite").stat().st_size > 0
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_file_in_the_working_directory_does_not_stand_in_for_a_module(
    small_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    with ConverterProcess(timeout=240.0) as process:
        assert process.load(small_models["residual"]).parameters


def test_ctrl_c_ends_the_child_without_a_word_from_it(small_models: dict[str, Path], tmp_path: Path) -> None:
    script = start_script(tmp_path, small_models["residual"])
    assert script.stdout is not None
    pid = int(script.stdout.readline())
    time.sleep(0.5)
    # What a terminal does: the signal goes to the whole group.
    os.killpg(script.pid, signal.SIGINT)
    _, err = script.communicate(timeout=30)
    assert is_gone(pid)
    assert script.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_child_does_not_outlive_a_parent_that_was_killed(small_models: dict[str, Path], tmp_path: Path) -> None:
    script = start_script(tmp_path, small_models["residual"])
    assert script.stdout is not None
    pid = int(script.stdout.readline())
    # A child that is still starting has nobody listening yet; give it the time to import.
    time.sleep(2.0)
    script.kill()
    script.communicate(timeout=30)
    assert is_gone(pid)
    assert any(not list((tmp_path / "temporary").iterdir()) for _ in waiting(5.0))


def test_resnet_8_becomes_a_quarter_of_its_size(converter: ConverterProcess, test_data: Path, tmp_path: Path) -> None:
    facts = converter.load(test_data / "mlperf_tiny" / "ic" / "pretrainedResnet.h5")
    # 78,666 parameters: MLPerf Tiny's own count for this network.
    assert (facts.parameters, facts.kind, facts.inputs[0].shape) == (78_666, "h5", (1, 32, 32, 3))
    array = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", array)
    request = ConvertRequest(tmp_path / "int8.tflite", calibration=(tmp_path / "pixels.npy",), normalization=(0.0, 1.0))
    # The file that MLPerf ships has 98,496 bytes.
    assert converter.convert(request).size_bytes < 98_496


def test_a_keras_applications_file_of_keras_2_days_converts(
    keras: Any, converter: ConverterProcess, test_data: Path, tmp_path: Path
) -> None:
    facts = converter.load(test_data / "keras_imagenet" / "mobilenet_v1_0.25_128_from_tflite.h5")
    assert facts.outputs[0].shape == (1, 1001)
    converter.convert(plain(tmp_path / "float.tflite"))
    assert not {"SHAPE", "PACK", "VAR_HANDLE", "STRIDED_SLICE"} & set(op_names(tmp_path / "float.tflite"))
