"""Every gate, seen refusing a file that was made for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_models import OperatorSpec, TensorSpec

from converters.errors import CalibrationError, ConversionError
from converters.targets import Io, Scheme, target
from converters.tflite.gates import GateResult, check_file, check_input_range, quantized_inputs
from edgeinfer.errors import DamagedModelError, UnsupportedOpError
from edgeinfer.model.metadata import InputSpec
from edgeinfer.runtime.engines import installed_engines

CPU, PI = target("cpu"), target("raspberrypi-tflite")
SHAPE = 77
LOG = 73
VAR_HANDLE, READ_VARIABLE = 142, 143

with_litert = pytest.mark.skipif(
    all(engine.name != "litert" for engine in installed_engines()), reason="LiteRT is not installed"
)


def chain(*tensors: TensorSpec, op: int = tiny_models.LOGISTIC, **settings: Any) -> bytes:
    """A model whose ops each turn one tensor into the next."""
    operators = [OperatorSpec(op, (index,), (index + 1,), **settings) for index in range(len(tensors) - 1)]
    return tiny_models.model(tensors, operators, inputs=[0], outputs=[len(tensors) - 1])


def refused(tflite: bytes, kind: type[Exception], *, scheme: Scheme = "float32", io: Io = "float32") -> Any:
    with pytest.raises(kind) as caught:
        check_file(tflite, scheme=scheme, io=io, target=CPU)
    return caught.value


# --- files that pass ------------------------------------------------------------------------------


@with_litert
@pytest.mark.parametrize(
    ("dtype", "scheme"), [("int8", "int8"), ("uint8", "int8"), ("float32", "float32")], ids=["int8", "uint8", "float"]
)
def test_a_good_file_passes_every_gate(dtype: Any, scheme: Scheme) -> None:
    rows = check_file(tiny_models.classifier(dtype=dtype), scheme=scheme, io=dtype, target=CPU)
    assert all(row.ok for row in rows)
    assert [row.name for row in rows][-2:] == ["op versions", "runs in litert"]


@with_litert
def test_an_engine_that_is_not_installed_is_said_and_not_passed_over() -> None:
    if len(installed_engines()) > 1 and any(one.name == "tflite-runtime" for one in installed_engines()):
        pytest.skip("both engines are installed")
    rows = check_file(tiny_models.classifier(), scheme="int8", io="int8", target=PI)
    assert rows[-2].name == "runs in tflite-runtime"
    assert rows[-2].ok is None
    assert "not tried" in rows[-2].detail
    # So that what no engine could run is found nevertheless.
    assert rows[-1] == GateResult("runs in litert", True, rows[-1].detail)


@pytest.mark.device
@pytest.mark.skipif(
    all(engine.name != "tflite-runtime" for engine in installed_engines()), reason="tflite-runtime is not installed"
)
def test_tflite_runtime_runs_a_file_for_the_raspberry_pi_once() -> None:
    rows = check_file(tiny_models.classifier(), scheme="int8", io="int8", target=PI)
    assert GateResult("runs in tflite-runtime", True, "tflite-runtime 2.14.0: one run, finite") in rows


def test_bytes_that_are_no_model_are_refused() -> None:
    refused(b"no model", DamagedModelError)


# --- one gate each --------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "said"), [("FlexErf", "TensorFlow itself"), ("MyOp", "custom op")])
def test_a_custom_op_is_refused_by_name(code: str, said: str) -> None:
    tflite = chain(TensorSpec("x", (1, 4)), TensorSpec("net/erf/Erf", (1, 4)), op=tiny_models.CUSTOM, custom_code=code)
    error = refused(tflite, UnsupportedOpError)
    assert f"`{code}`" in error.message
    assert said in error.message
    assert "layer `erf`" in error.received
    assert error.exit_code == 5


def test_variables_are_refused() -> None:
    tensors = [
        TensorSpec("x", (1, 4)),
        TensorSpec("handle", (), "int32"),
        TensorSpec("net/dense/ReadVariableOp", (1, 4)),
    ]
    operators = [OperatorSpec(VAR_HANDLE, (), (1,)), OperatorSpec(READ_VARIABLE, (1,), (2,))]
    error = refused(tiny_models.model(tensors, operators, inputs=[0], outputs=[2]), ConversionError)
    assert "variables" in error.message
    assert "VAR_HANDLE" in error.received


def test_an_op_that_asks_for_a_shape_is_refused() -> None:
    tflite = chain(TensorSpec("x", (1, 4)), TensorSpec("net/flatten/Shape", (2,), "int32"), op=SHAPE)
    error = refused(tflite, ConversionError)
    assert "SHAPE" in error.received
    assert "layer `flatten`" in error.received


def test_an_open_size_is_refused() -> None:
    tflite = chain(TensorSpec("x", (1, 4), shape_signature=(-1, 4)), TensorSpec("y", (1, 4)))
    error = refused(tflite, ConversionError)
    assert "`x`" in error.message
    assert error.received == "shape (-1, 4)"


@pytest.mark.parametrize("shape", [(2, 4), ()], ids=["two", "none"])
def test_another_batch_than_one_is_refused(shape: tuple[int, ...]) -> None:
    error = refused(chain(TensorSpec("x", shape), TensorSpec("y", shape)), ConversionError)
    assert error.received == f"shape {shape}"


@pytest.mark.parametrize(
    ("dtype", "io"), [("int8", "uint8"), ("uint8", "int8"), ("float32", "int8"), ("int8", "float32")]
)
def test_ends_of_another_type_than_asked_for_are_refused(dtype: str, io: Io) -> None:
    error = refused(tiny_models.classifier(dtype=dtype), ConversionError, scheme="int8", io=io)
    assert error.received == dtype
    assert error.expected == io


def int8(name: str, shape: tuple[int, ...] = (1, 4)) -> TensorSpec:
    return TensorSpec(name, shape, "int8", 1 / 256, -128)


def test_a_float_op_inside_an_int8_model_is_refused_by_op_and_layer() -> None:
    tensors = [int8("x"), TensorSpec("net/odd/dequantize", (1, 4)), TensorSpec("net/odd/Erf", (1, 4)), int8("y")]
    operators = [
        OperatorSpec(tiny_models.DEQUANTIZE, (0,), (1,)),
        OperatorSpec(tiny_models.LOGISTIC, (1,), (2,)),
        OperatorSpec(tiny_models.QUANTIZE, (2,), (3,)),
    ]
    tflite = tiny_models.model(tensors, operators, inputs=[0], outputs=[3])
    error = refused(tflite, ConversionError, scheme="int8", io="int8")
    assert error.received == "op 0 DEQUANTIZE version 1 -> `net/odd/dequantize` (layer `odd`)"


def float_ended(*, reader: tuple[OperatorSpec, ...] = ()) -> bytes:
    tensors = [TensorSpec("x", (1, 4)), int8("a"), int8("b"), TensorSpec("y", (1, 4)), TensorSpec("z", (1, 4))]
    operators = [
        OperatorSpec(tiny_models.QUANTIZE, (0,), (1,)),
        OperatorSpec(tiny_models.LOGISTIC, (1,), (2,), version=2),
        OperatorSpec(tiny_models.DEQUANTIZE, (2,), (3,), version=2),
        *reader,
    ]
    outputs = [4] if reader else [3]
    return tiny_models.model(tensors if reader else tensors[:4], operators, inputs=[0], outputs=outputs)


@with_litert
def test_float_ends_may_be_quantized_at_the_front_and_dequantized_at_the_end() -> None:
    rows = check_file(float_ended(), scheme="int8", io="float32", target=CPU)
    assert all(row.ok for row in rows)


@pytest.mark.parametrize("source", [3, 0], ids=["behind the last DEQUANTIZE", "on the float input"])
def test_float_ends_do_not_excuse_a_float_op(source: int) -> None:
    tflite = float_ended(reader=(OperatorSpec(tiny_models.LOGISTIC, (source,), (4,)),))
    refused(tflite, ConversionError, scheme="int8", io="float32")


def test_uint8_has_no_place_in_an_int16x8_model() -> None:
    tensors = [TensorSpec("x", (1, 4)), TensorSpec("a", (1, 4), "uint8", 1 / 256, 0), TensorSpec("y", (1, 4))]
    operators = [
        OperatorSpec(tiny_models.QUANTIZE, (0,), (1,)),
        OperatorSpec(tiny_models.DEQUANTIZE, (1,), (2,)),
    ]
    tflite = tiny_models.model(tensors, operators, inputs=[0], outputs=[2])
    assert "uint8" in refused(tflite, ConversionError, scheme="int16x8").message


def versioned(version: int) -> bytes:
    """A Dense layer whose op claims this version."""
    weights = TensorSpec("w", (2, 4), values=[1.0] * 8)
    tensors = [TensorSpec("x", (1, 4)), weights, TensorSpec("net/hidden/MatMul", (1, 2))]
    dense = OperatorSpec(tiny_models.FULLY_CONNECTED, (0, 1, -1), (2,), 8, version=version)
    return tiny_models.model(tensors, [dense], inputs=[0], outputs=[2])


def test_an_op_version_above_an_engine_of_the_target_is_refused() -> None:
    # tflite-runtime 2.14 says of version 12: "Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'".
    with pytest.raises(UnsupportedOpError) as caught:
        check_file(versioned(12), scheme="dynamic", io="float32", target=PI)
    assert "FULLY_CONNECTED in version 12" in caught.value.message
    assert "layer `hidden`" in caught.value.received
    assert caught.value.expected == "version 10 or lower in tflite-runtime 2.14.0"
    assert "one scale per Dense weight" in caught.value.next_step
    assert caught.value.exit_code == 5


@with_litert
@pytest.mark.parametrize(("version", "device"), [(10, PI), (14, CPU)], ids=["raspberrypi-tflite", "cpu"])
def test_an_op_version_at_the_ceiling_passes(version: int, device: Any) -> None:
    rows = {row.name: row for row in check_file(versioned(version), scheme="dynamic", io="float32", target=device)}
    assert rows["op versions"].ok
    assert f"highest version {version}" in rows["op versions"].detail


@with_litert
def test_an_answer_that_is_not_finite_is_refused() -> None:
    weights = TensorSpec("w", (2, 4), values=[float("inf")] * 8)
    tensors = [TensorSpec("x", (1, 4)), weights, TensorSpec("y", (1, 2))]
    dense = OperatorSpec(tiny_models.FULLY_CONNECTED, (0, 1, -1), (2,), 8)
    error = refused(tiny_models.model(tensors, [dense], inputs=[0], outputs=[2]), ConversionError)
    assert "not finite" in error.message
    assert error.received == "2 of 2 numbers are not"


@with_litert
def test_what_the_engine_refuses_is_refused() -> None:
    # An inner length of 5 against 4: every table is sound, but the kernel cannot multiply.
    weights = TensorSpec("w", (2, 5), values=[1.0] * 10)
    tensors = [TensorSpec("x", (1, 4)), weights, TensorSpec("y", (1, 2))]
    dense = OperatorSpec(tiny_models.FULLY_CONNECTED, (0, 1, -1), (2,), 8)
    refused(tiny_models.model(tensors, [dense], inputs=[0], outputs=[2]), DamagedModelError)


# --- the input's range ----------------------------------------------------------------------------

# Scale and zero point for a range of 0..1 in int8: (1 - 0) / 255, and -128 stands for 0.
UNIT = InputSpec("image", (1, 8, 8, 3), "int8", 1 / 255, -128)


@pytest.mark.parametrize(
    ("spec", "declared"),
    [
        (UNIT, (0.0, 1.0)),
        (replace(UNIT, scale=2 / 255, zero_point=-1), (-1.0, 1.0)),
        (replace(UNIT, dtype="uint8", zero_point=0), (0.0, 1.0)),
        (replace(UNIT, dtype="int16", scale=1 / 32767, zero_point=0), (0.0, 1.0)),
        (replace(UNIT, scale=4 / 255), (0.0, 1.0)),
        (replace(UNIT, scale=0.26 / 255), (0.0, 1.0)),
        (replace(UNIT, scale=2 / 255), (1.0, 2.0)),
        (replace(UNIT, dtype="float32", scale=0.0, zero_point=0), (0.0, 1.0)),
    ],
    ids=["int8", "signed", "uint8", "int16", "4 times wider", "almost 4 times narrower", "without 0", "float32"],
)
def test_a_range_that_fits_says_nothing(spec: InputSpec, declared: tuple[float, float]) -> None:
    assert check_input_range(spec, declared=declared) == ()


@pytest.mark.parametrize(
    ("times", "said"), [(5.0, "5.0 times wider"), (16.0, "16.0 times wider"), (0.125, "8.0 times narrower")]
)
def test_a_range_some_times_off_is_a_warning(times: float, said: str) -> None:
    (warning,) = check_input_range(replace(UNIT, scale=times / 255), declared=(0.0, 1.0))
    assert said in warning
    assert "`image`" in warning


@pytest.mark.parametrize(
    ("spec", "declared"),
    [
        (replace(UNIT, scale=1.0), (0.0, 1.0)),
        (UNIT, (0.0, 255.0)),
        (replace(UNIT, scale=0.0), (0.0, 1.0)),
        (replace(UNIT, zero_point=127), (0.5, 1.0)),
        (UNIT, (1.0, 1.0)),
        (UNIT, (0.0, float("inf"))),
    ],
    ids=["pixels for 0..1", "0..1 for pixels", "scale 0", "the other side of 0", "empty", "endless"],
)
def test_a_range_that_cannot_be_right_is_refused(spec: InputSpec, declared: tuple[float, float]) -> None:
    with pytest.raises(CalibrationError):
        check_input_range(spec, declared=declared)


def test_the_range_of_a_float_input_is_that_of_the_tensor_behind_quantize() -> None:
    (spec,) = quantized_inputs(float_ended())
    assert (spec.name, spec.dtype, spec.scale, spec.zero_point) == ("x", "int8", 1 / 256, -128)


def test_the_range_of_an_integer_input_is_its_own() -> None:
    (spec,) = quantized_inputs(tiny_models.classifier(dtype="uint8"))
    assert (spec.dtype, spec.zero_point) == ("uint8", 0)
    assert spec.scale == pytest.approx(1 / 255)


def test_a_float_model_has_no_range() -> None:
    (spec,) = quantized_inputs(tiny_models.classifier(dtype="float32"))
    assert spec.scale == 0.0


# --- what TensorFlow's converter really writes ----------------------------------------------------

Convert = Callable[..., bytes]


@pytest.fixture(scope="session")
def converted() -> Convert:
    """Make a small CNN with a Dense layer into a file: `converted(scheme, batch=1, io=None, span=1.0)`."""
    tf = pytest.importorskip("tensorflow")
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    keras = tf.keras
    keras.utils.set_random_seed(0)
    source = keras.Input((8, 8, 3), name="image")
    middle = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(source)
    hidden = keras.layers.Dense(64, activation="relu", name="hidden")(keras.layers.Flatten()(middle))
    model = keras.Model(source, keras.layers.Dense(10, activation="softmax", name="answer")(hidden))

    def convert(scheme: str, *, batch: int | None = 1, io: str | None = None, span: float = 1.0) -> bytes:
        function = tf.function(lambda image: model(image, training=False), autograph=False)
        traced = function.get_concrete_function(tf.TensorSpec((batch, 8, 8, 3), tf.float32, name="image"))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(traced)])
        random = np.random.default_rng(0)
        samples = [[random.random((1, 8, 8, 3), np.float32) * np.float32(span)] for _ in range(3)]
        converter.optimizations = [] if scheme == "float32" else [tf.lite.Optimize.DEFAULT]
        if scheme in ("int8", "int16x8", "fallback"):
            converter.representative_dataset = lambda: iter(samples)
            sets = tf.lite.OpsSet
            exact = {
                "int8": sets.TFLITE_BUILTINS_INT8,
                "int16x8": sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                "fallback": sets.TFLITE_BUILTINS,
            }
            converter.target_spec.supported_ops = [exact[scheme]]
        if io is not None:
            converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(io)
        return bytes(converter.convert())

    return convert


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("scheme", "io"), [("int8", "int8"), ("int8", "uint8"), ("int8", "float32"), ("int16x8", "float32")]
)
def test_full_integer_files_of_the_converter_pass(converted: Convert, scheme: Scheme, io: Io) -> None:
    rows = check_file(converted(scheme, io=io), scheme=scheme, io=io, target=PI)
    assert all(row.ok is not False for row in rows)


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore")
def test_a_dynamic_range_dense_of_the_converter_is_refused_for_the_raspberry_pi(converted: Convert) -> None:
    tflite = converted("dynamic")
    assert all(row.ok for row in check_file(tflite, scheme="dynamic", io="float32", target=CPU))
    with pytest.raises(UnsupportedOpError, match="FULLY_CONNECTED in version 12") as caught:
        check_file(tflite, scheme="dynamic", io="float32", target=PI)
    assert "hidden" in caught.value.received


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore")
def test_an_open_batch_of_the_converter_is_refused(converted: Convert) -> None:
    refused(converted("float32", batch=None), ConversionError)


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore")
def test_pixels_for_0_to_1_show_in_the_input_of_the_converter(converted: Convert) -> None:
    for io in ("int8", "float32"):
        (good,) = quantized_inputs(converted("int8", io=io))
        (wrong,) = quantized_inputs(converted("int8", io=io, span=255.0))
        assert check_input_range(good, declared=(0.0, 1.0)) == ()
        with pytest.raises(CalibrationError, match="times wider"):
            check_input_range(wrong, declared=(0.0, 1.0))
