from __future__ import annotations

import struct
from pathlib import Path

import pytest
import tiny_compiled
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_compiled import compiled, flex_map, package, program
from tiny_flatbuffer import Scalar, Table, Vector, flatbuffer

from edgeinfer.errors import DamagedModelError
from edgeinfer.model.payload import Layer, is_compiled, min_runtime_version, payloads
from edgeinfer.model.schema import parse

# Decoded by others' code: the options with `flexbuffers` of the flatbuffers package, the package and its programs
# with Debian's `flatc --json` and the `executable.fbs` that google-coral/libedgetpu publishes.
EXPECTED = {
    "deeplabv3_mnv2_dm05_pascal_quant_edgetpu.tflite": {
        "version": 12,
        "cached": 766720,
        "streamed": 0,
        "instructions": (160672, 8016),
        "scratch": 0,
        "token": 3933219329259043533,
        "inputs": [("MobilenetV2/MobilenetV2/input", 513, 513, 3, "uint8", 0.0078125, 128, 789512)],
        "outputs": [
            (
                "aspp0/Relu;aspp0/add_fold;concat_projection/Conv2D_Fold;aspp0/Conv2D_Fold;aspp0/BatchNorm_Fold/bias",
                *(33, 33, 256, "uint8", 0.029083, 0, 278784),
            ),
            (
                "image_pooling/Relu;image_pooling/add_fold;concat_projection/Conv2D_Fold;"
                "image_pooling/Conv2D_Fold;image_pooling/BatchNorm_Fold/bias",
                *(1, 1, 256, "uint8", 0.012298, 0, 256),
            ),
        ],
    },
    "keras_lstm_mnist_ptq_edgetpu.tflite": {
        "version": 12,
        "cached": 43968,
        "streamed": 576,
        "instructions": (60864, 3152),
        "scratch": 672,
        "token": 7830959935386762675,
        # The state's zero points are stored as 127 and 32768.
        "inputs": [
            ("serving_default_x:0", 1, 28, 28, "uint8", 0.003922, 0, 784),
            ("tfl.pseudo_qconst", 1, 1, 20, "int8", 0.007782, -1, 24),
            ("tfl.pseudo_qconst1", 1, 1, 20, "int16", 0.000244, 0, 40),
        ],
        "outputs": [
            ("StatefulPartitionedCall:0", 1, 1, 10, "uint8", 0.003906, 0, 16),
            ("tfl.pseudo_qconst_variable_output", 1, 1, 20, "int8", 0.007782, -1, 24),
            ("tfl.pseudo_qconst1_variable_output", 1, 1, 20, "int16", 0.000244, 0, 40),
        ],
    },
    "mobilenet_v1_0.25_128_quant_edgetpu.tflite": {
        "version": 12,
        "cached": 566912,
        "streamed": 0,
        "instructions": (170032, 12624),
        "scratch": 0,
        "token": 7860026270054507660,
        "inputs": [("input", 128, 128, 3, "uint8", 0.0078125, 128, 49152)],
        "outputs": [("MobilenetV1/Predictions/Reshape_1", 1, 1, 1001, "uint8", 0.003906, 0, 1008)],
    },
    "movenet_single_pose_lightning_ptq_edgetpu.tflite": {
        "version": 12,
        "cached": 2862656,
        "streamed": 2368,
        "instructions": (133408, 10032),
        "scratch": 0,
        "token": 9508110473025251570,
        "inputs": [("tfl.quantize", 192, 192, 3, "int8", 1.0, -128, 110592)],
        # Stored zero points 0, 0, 0, 119 and 107.
        "outputs": [
            ("Reshape_2", 1, 2304, 1, "int8", 0.002044, -128, 9216),
            ("Sigmoid", 48, 48, 17, "int8", 0.003906, -128, 46080),
            ("Sigmoid1", 48, 48, 17, "int8", 0.004097, -128, 46080),
            (
                "kpt_offset_0/conv2d_7/BiasAdd;kpt_regress_0/conv2d_6/Conv2D;"
                "kpt_offset_0/conv2d_7/Conv2D;conv2d_7/bias1",
                *(48, 48, 34, "int8", 0.199781, -9, 82944),
            ),
            (
                "kpt_regress_0/conv2d_6/BiasAdd;kpt_regress_0/conv2d_6/Conv2D;conv2d_6/bias1",
                *(48, 48, 34, "int8", 0.68844, -21, 82944),
            ),
        ],
    },
    "tools/split_concat_edgetpu.tflite": {
        "version": 13,
        "cached": 192,
        "streamed": 0,
        "instructions": (23648, 1232),
        "scratch": 0,
        "token": 1107233529072990225,
        "inputs": [
            ("input1", 8, 8, 3, "uint8", 0.0078125, 128, 192),
            ("inputs/rnn1", 8, 8, 1, "uint8", 0.0078125, 128, 64),
            ("inputs/rnn2", 8, 8, 2, "uint8", 0.0078125, 128, 128),
        ],
        "outputs": [
            ("concat/split0", 8, 8, 1, "uint8", 0.0078125, 128, 256),
            ("outputs/rnn1", 8, 8, 1, "uint8", 0.0078125, 128, 256),
            ("concat/split2", 8, 8, 1, "uint8", 0.0078125, 128, 256),
            ("concat/split4", 8, 8, 1, "uint8", 0.0078125, 128, 256),
            ("outputs/rnn2", 8, 8, 2, "uint8", 0.0078125, 128, 256),
        ],
    },
}


def row(layer: Layer) -> tuple[object, ...]:
    # flatc prints floats with six places.
    scale = pytest.approx(layer.scale, abs=6e-7)
    return (layer.name, layer.y, layer.x, layer.z, layer.dtype, scale, layer.zero_point, layer.size_bytes)


@pytest.mark.parametrize("name", EXPECTED)
def test_public_files_hold_what_an_independent_decoder_found(test_data: Path, name: str) -> None:
    expected = EXPECTED[name]
    file = parse((test_data / "coral" / name).read_bytes())
    (found,) = payloads(file)
    assert [one.kind for one in found.executables] == ["execution-only", "parameter-caching"]
    assert tuple(one.instruction_bytes for one in found.executables) == expected["instructions"]
    assert (found.cached_bytes, found.streamed_bytes) == (expected["cached"], expected["streamed"])
    assert (found.scratch_bytes, found.caching_token) == (expected["scratch"], expected["token"])
    assert found.min_runtime_version == min_runtime_version(file) == expected["version"]
    assert [row(one) for one in found.inputs] == expected["inputs"]
    assert [row(one) for one in found.outputs] == expected["outputs"]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_programs_ends_are_the_tensors_of_its_op(test_data: Path, name: str) -> None:
    file = parse((test_data / "coral" / name).read_bytes())
    (held,) = payloads(file)
    operator = file.main.operators[held.operator]
    tensors = {file.main.tensors[index].name: file.main.tensors[index] for index in operator.inputs + operator.outputs}
    for layer in (*held.inputs, *held.outputs):
        tensor = tensors[layer.name.removesuffix("_variable_output")]  # a state goes in and comes out
        assert (layer.dtype, layer.y * layer.x * layer.z) == (tensor.dtype, tensor.elements)
        assert ((layer.scale,), (layer.zero_point,)) == (tensor.scale, tensor.zero_point)


def test_a_file_made_by_hand_holds_what_was_put_in() -> None:
    file = parse(compiled())
    (found,) = payloads(file)
    assert is_compiled(file)
    assert (found.operator, found.min_runtime_version) == (0, 13)
    assert (found.cached_bytes, found.streamed_bytes, found.instruction_bytes) == (4096, 64, 1536)
    assert (found.scratch_bytes, found.caching_token) == (32, 2**63 + 1)
    assert found.inputs == (Layer("x", 4, 4, 3, "int8", 0.5, -3, 48),)
    assert found.outputs == (Layer("y", 1, 1, 10, "int8", 0.25, -128, 10),)


def test_a_program_that_stands_alone_is_sent_each_time() -> None:
    (found,) = payloads(parse(compiled(tiny_compiled.options(package([program(0, parameters=100)], runtime=10)))))
    assert (found.cached_bytes, found.streamed_bytes, found.caching_token) == (0, 100, 0)


def test_the_highest_version_of_several_ops_counts() -> None:
    tensors = [tiny_models.TensorSpec(name, (1, 4), "int8", 1.0) for name in "abc"]
    operators = [
        tiny_models.OperatorSpec(
            tiny_models.CUSTOM,
            (place,),
            (place + 1,),
            custom_code="edgetpu-custom-op",
            custom_options=tiny_compiled.options(package([program(0)], runtime=version)),
        )
        for place, version in enumerate((14, 10))
    ]
    file = parse(tiny_models.model(tensors, operators, inputs=[0], outputs=[2]))
    assert min_runtime_version(file) == 14
    assert [one.operator for one in payloads(file)] == [0, 1]


def test_a_file_that_is_not_compiled_holds_nothing() -> None:
    file = parse(tiny_models.classifier())
    assert (payloads(file), min_runtime_version(file), is_compiled(file)) == ((), None, False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (b"", "holds no program"),
        (b"banana", "damaged"),
        (flex_map({"1": 0}), "holds no program"),
        (flex_map({"4": 5}), "holds no program"),
        (flex_map({"4": b"TFL3" * 8}), "not what it should be"),
        (flex_map({"4": package([])}), "programs do not fit"),
        (flex_map({"4": package([program(7)])}), "a program is impossible"),
        (flex_map({"4": package([program(0, scratch=-1)])}), "a program is impossible"),
        (flex_map({"4": package([program(0)], runtime=-2)}), "holds no program"),
        (flex_map({"4": package([b"\0" * 4])}), "not what it should be"),
    ],
    ids=["empty", "no map", "no package", "number", "other letters", "none", "kind", "scratch", "version", "cut"],
)
def test_what_is_wrong_is_said(options: bytes, says: str) -> None:
    with pytest.raises(DamagedModelError, match=says):
        payloads(parse(compiled(options)))


def test_a_layer_of_an_unknown_type_is_refused() -> None:
    strange = tiny_compiled.layer("x", (1, 1, 1), scale=1.0, stored_zero_point=0, kind=6)
    with pytest.raises(DamagedModelError, match="layer `x` is impossible"):
        payloads(parse(compiled(tiny_compiled.options(package([program(0, inputs=[strange])])))))


def test_a_scale_that_is_no_number_is_refused() -> None:
    strange = tiny_compiled.layer("x", (1, 1, 1), scale=float("nan"), stored_zero_point=0)
    with pytest.raises(DamagedModelError, match="no finite scale"):
        payloads(parse(compiled(tiny_compiled.options(package([program(0, inputs=[strange])])))))


@settings(max_examples=300)
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    whole = bytearray(tiny_compiled.options(package(tiny_compiled.TINY_PROGRAMS)))
    # The zeros of parameters and instructions are no structure: the ends of the buffer are where damage matters.
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 700), st.integers(len(whole) - 400, len(whole) - 1)))
        whole[at % len(whole)] = data.draw(st.integers(0, 255))
    file = parse(compiled(bytes(whole)))
    try:
        payloads(file)
    except DamagedModelError:
        return


def test_programs_that_share_their_bytes_do_not_keep_the_reader_busy() -> None:
    # One program that a thousand offsets point at: a reader that believes them reads a thousand times the file.
    one = program(0, parameters=200)
    count = 1000
    offsets = b"".join(struct.pack("<I", 4 * (count - place)) for place in range(count))
    head = struct.pack("<IHHHHiII", 12, 6, 8, 4, 0, 8, 4, count)
    shared = head + offsets + struct.pack("<I", len(one)) + one + b"\0"
    held = flatbuffer(Table({0: Scalar("i", 13), 1: Vector("B", shared, align=16)}), b"DWN1")
    with pytest.raises(DamagedModelError, match="programs do not fit"):
        payloads(parse(compiled(tiny_compiled.options(held))))
