from __future__ import annotations

import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_flatbuffer import Scalar, Table, Vector
from tiny_models import OperatorSpec, TensorSpec

from edgeinfer.errors import DamagedModelError, EdgeInferError
from edgeinfer.model.schema import parse
from edgeinfer.model.tensors import Tensor

CLASSIFIER = tiny_models.classifier()


def one_tensor(tensor: TensorSpec) -> Tensor:
    return parse(tiny_models.model([tensor], [], inputs=[], outputs=[])).main.tensors[0]


def refused(data: bytes, words: str = "") -> None:
    with pytest.raises(DamagedModelError, match=words or None):
        parse(data)


def test_the_graph_comes_back_as_it_was_written() -> None:
    model = parse(tiny_models.classifier(dtype="int8", size=(8, 6), channels=3, classes=4))
    assert model.description == "made by tiny_models"
    assert model.min_runtime_version == "1.14.0"
    assert [(one.op, one.version) for one in model.main.operators] == [
        ("MEAN", 2),
        ("FULLY_CONNECTED", 4),
        ("SOFTMAX", 2),
    ]
    assert (model.main.inputs, model.main.outputs) == ((0,), (6,))
    image, weights, answer = (model.main.tensors[index] for index in (0, 3, 6))
    assert (image.name, image.shape, image.dtype) == ("image", (1, 6, 8, 3), "int8")
    assert image.zero_point == (-128,)
    assert image.scale == pytest.approx((1 / 255,))
    assert (image.constant_bytes, weights.constant_bytes) == (0, 12)
    assert (answer.scale, answer.zero_point) == ((1 / 256,), (-128,))


def test_options_come_back_by_name() -> None:
    operators = parse(CLASSIFIER).main.operators
    assert operators[0].options == {"keep_dims": 0}
    assert operators[2].options == {"beta": 1.0}


def test_an_option_that_is_absent_has_the_default_of_the_schema() -> None:
    options = {1: Scalar("i", 2), 2: Scalar("i", 3)}
    data = tiny_models.model([], [OperatorSpec(tiny_models.CONV_2D, (), (), 1, options)], inputs=[], outputs=[])
    found = parse(data).main.operators[0].options
    assert (found["stride_w"], found["stride_h"], found["dilation_w"], found["padding"]) == (2, 3, 1, 0)


def test_a_custom_op_has_its_own_name() -> None:
    operator = OperatorSpec(tiny_models.CUSTOM, (), (), custom_code="Mine", custom_options=b"\x01")
    found = parse(tiny_models.model([], [operator], inputs=[], outputs=[])).main.operators[0]
    assert (found.op, found.custom) == ("Mine", True)


def test_an_op_newer_than_the_table_keeps_its_number() -> None:
    data = tiny_models.model([], [OperatorSpec(9999, (), ())], inputs=[], outputs=[])
    assert parse(data).op_codes[0].op == "BUILTIN_9999"


def test_metadata_buffers_come_back_by_name() -> None:
    data = tiny_models.classifier(metadata={"NOTES": b"hello"})
    assert bytes(parse(data).metadata["NOTES"]) == b"hello"


def test_signatures_come_back() -> None:
    pair = [Table({0: "picture", 1: Scalar("I", 0)})], [Table({0: "classes", 1: Scalar("I", 1)})]
    signature = Table({0: pair[0], 1: pair[1], 2: "serving_default", 4: Scalar("I", 0)})
    tensors = [TensorSpec("a", (1,)), TensorSpec("b", (1,))]
    data = tiny_models.model(tensors, [], inputs=[0], outputs=[1], changes={7: [signature]})
    (found,) = parse(data).signatures
    assert (found.key, found.inputs, found.outputs) == ("serving_default", {"picture": 0}, {"classes": 1})


def test_a_zip_behind_the_model_is_left_alone() -> None:
    data = tiny_models.with_files(CLASSIFIER, {"labels.txt": "a"})
    assert parse(data).main == parse(CLASSIFIER).main
    assert parse(data).data == data


def test_a_buffer_behind_the_tables_is_found_by_its_offset() -> None:
    # The form of files above 2 GB: offset and size from the start of the file instead of a vector.
    weights = struct.pack("<3f", 1, 2, 3)
    tensor = Table({0: Vector("i", [3]), 1: Scalar("b", 0), 2: Scalar("I", 1), 3: "w"})
    graph = Table({0: [tensor], 1: Vector("i", []), 2: Vector("i", []), 3: []})

    def file(offset: int) -> bytes:
        buffer = Table({1: Scalar("Q", offset), 2: Scalar("Q", len(weights))})
        return tiny_models.model([], [], inputs=[], outputs=[], changes={2: [graph], 4: [Table(), buffer]})

    size = len(file(100))
    constant = parse(file(size) + weights).main.tensors[0].constant
    assert constant is not None
    assert bytes(constant) == weights
    refused(file(size) + weights[:-1], "buffer")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"PK\x03\x04" + bytes(40), "edgeinfer-convert model.keras --calibration "),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "edgeinfer-convert model.h5 --calibration "),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
    ],
    ids=["keras", "h5", "lfs", "html"],
)
def test_a_mix_up_is_named(start: bytes, words: str) -> None:
    with pytest.raises(DamagedModelError, match="not a TFLite model") as caught:
        parse(start)
    assert words in caught.value.next_step


def test_another_schema_version_is_refused() -> None:
    refused(tiny_models.model([], [], inputs=[], outputs=[], changes={0: Scalar("I", 4)}), "schema version")


def test_a_file_without_a_graph_is_refused() -> None:
    refused(tiny_models.model([], [], inputs=[], outputs=[], changes={2: []}), "no graph")


@pytest.mark.parametrize(
    ("inputs", "outputs", "operator"),
    [
        ([1], [], OperatorSpec(0, (), ())),
        ([-1], [], OperatorSpec(0, (), ())),
        ([], [7], OperatorSpec(0, (), ())),
        ([], [], OperatorSpec(0, (1,), ())),
        ([], [], OperatorSpec(0, (-2,), ())),
        ([], [], OperatorSpec(0, (), (-1,))),
        ([], [], OperatorSpec(0, (), (1,))),
    ],
    ids=["input", "input -1", "output", "op input", "op input -2", "op output -1", "op output"],
)
def test_a_tensor_index_out_of_range_is_refused(inputs: list[int], outputs: list[int], operator: OperatorSpec) -> None:
    refused(tiny_models.model([TensorSpec("a", (1,))], [operator], inputs=inputs, outputs=outputs), "tensor")


def test_an_op_code_index_out_of_range_is_refused() -> None:
    data = tiny_models.model([], [OperatorSpec(0, (), ())], inputs=[], outputs=[], changes={1: []})
    refused(data, "operator 0")


def test_an_op_version_below_1_is_refused() -> None:
    refused(tiny_models.model([], [OperatorSpec(0, (), (), version=0)], inputs=[], outputs=[]), "op code 0")


def test_a_buffer_index_out_of_range_is_refused() -> None:
    refused(tiny_models.model([TensorSpec("a", (1,))], [], inputs=[], outputs=[], changes={4: []}), "tensor 0")


def test_a_metadata_buffer_out_of_range_is_refused() -> None:
    entry = Table({0: "X", 1: Scalar("I", 9)})
    refused(tiny_models.model([], [], inputs=[], outputs=[], changes={6: [entry]}), "metadata `X`")


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("float32", (2, 3), 24), ("int8", (2, 3), 6), ("int64", (3,), 24), ("float16", (), 2), ("bool", (5,), 5)],
)
def test_a_constant_has_exactly_the_bytes_of_its_shape(dtype: str, shape: tuple[int, ...], size: int) -> None:
    assert one_tensor(TensorSpec("w", shape, dtype, data=bytes(size))).constant_bytes == size
    for wrong in (size - 1, size + 1):
        if wrong:
            with pytest.raises(DamagedModelError, match="tensor 0"):
                one_tensor(TensorSpec("w", shape, dtype, data=bytes(wrong)))


@pytest.mark.parametrize("shape", [(-1, 2), (1 << 20, 1 << 20), (1 << 30, 1 << 30, 1 << 30, 0x7FFFFFFF), (1,) * 9])
def test_an_impossible_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DamagedModelError, match="tensor 0"):
        one_tensor(TensorSpec("a", shape))


def test_tensors_that_no_device_could_hold_together_are_refused() -> None:
    tensors = [TensorSpec(str(index), (1 << 28,), "int8") for index in range(17)]
    refused(tiny_models.model(tensors, [], inputs=[], outputs=[]), "subgraph 0")


@pytest.mark.parametrize(
    ("scale", "zero_point", "axis", "words"),
    [
        ([0.1, 0.2], [0, 0], 0, "along an axis of 3"),
        ([0.1, 0.2], [0, 0], 2, "axis 2"),
        ([0.1], [0], -1, "axis -1"),
        ([0.1], [128], 0, "zero points"),
        ([0.1], [-129], 0, "zero points"),
        ([float("nan")], [0], 0, "not finite"),
        ([float("inf")], [0], 0, "not finite"),
        ([-0.5], [0], 0, "negative"),
        ([0.1, 0.1], [0], 1, ""),
        ([0.1, 0.1, 0.1], [0, 0], 0, "as many of both"),
    ],
)
def test_an_impossible_quantization_is_refused(
    scale: list[float], zero_point: list[int], axis: int, words: str
) -> None:
    tensor = TensorSpec("w", (3, 2), "int8", scale, zero_point, axis)
    if not words:
        # The builder repeats a single zero point, so this one is well formed: two scales along an axis of two.
        assert one_tensor(tensor).zero_point == (0, 0)
        return
    with pytest.raises(DamagedModelError) as caught:
        one_tensor(tensor)
    assert words in str(caught.value)


def test_a_variable_with_a_constant_value_is_refused() -> None:
    with pytest.raises(DamagedModelError, match="tensor 0"):
        one_tensor(TensorSpec("v", (1,), "int8", data=b"\x01", is_variable=True))


def test_strings_must_lie_inside_their_buffer() -> None:
    good = struct.pack("<iii", 1, 12, 15) + b"cat"
    assert one_tensor(TensorSpec("s", (1,), "string", data=good)).constant_bytes == 15
    for bad in (
        struct.pack("<iii", 1, 12, 99) + b"cat",
        struct.pack("<iii", 2, 12, 15) + b"cat",
        struct.pack("<iii", 1, 15, 12) + b"cat",
        struct.pack("<iii", -1, 12, 15) + b"cat",
        b"\x01",
    ):
        with pytest.raises(DamagedModelError):
            one_tensor(TensorSpec("s", (1,), "string", data=bad))


def test_weights_in_another_file_are_refused() -> None:
    tensor = Table({0: Vector("i", [1]), 1: Scalar("b", 0), 2: Scalar("I", 0), 3: "w", 10: Scalar("I", 1)})
    graph = Table({0: [tensor], 3: []})
    refused(tiny_models.model([], [], inputs=[], outputs=[], changes={2: [graph]}), "tensor 0")


@pytest.mark.parametrize("place", range(50))
def test_a_file_that_was_cut_off_is_refused(place: int) -> None:
    data = tiny_models.classifier(labels=())
    # The last bytes are padding of the writer; a copy that broke off loses more.
    refused(data[: (len(data) - 32) * place // 49])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(CLASSIFIER) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_overwritten_bytes_are_read_or_refused_and_nothing_else(changes: list[tuple[int, int]]) -> None:
    data = bytearray(CLASSIFIER)
    for place, value in changes:
        data[place] = value
    with suppress(EdgeInferError):
        parse(bytes(data))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_behind_the_identifier_are_refused_or_read(noise: bytes) -> None:
    with suppress(EdgeInferError):
        parse(b"\x10\x00\x00\x00TFL3" + noise)


def test_real_files_are_read(test_data: Path) -> None:
    files = sorted(test_data.rglob("*.tflite"))
    assert files
    for file in files:
        assert parse(file.read_bytes()).main.tensors, file.name


def test_a_real_file_is_read_in_a_few_milliseconds(test_data: Path) -> None:
    data = (test_data / "coral" / "mobilenet_v2_1.0_224_quant.tflite").read_bytes()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        parse(data)
        times.append(time.perf_counter() - started)
    # 2 ms on the machine where it was written; loose, because a shared machine is noisy.
    assert min(times) < 0.05
