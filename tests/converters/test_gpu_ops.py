"""Which ops Android's GPU delegate takes, by its documentation and source."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tiny_models
from tiny_flatbuffer import Field, Scalar
from tiny_models import OperatorSpec, TensorSpec

from converters.gpu_ops import gpu_reason, gpu_reasons
from edgeinfer.model.ops import BUILTINS
from edgeinfer.model.schema import Subgraph, parse

CODES = {row[0]: code for code, row in enumerate(BUILTINS)}
Shape = tuple[int, ...]
Options = tuple[int, dict[int, Field]]


def tensor(shape: Shape, dtype: str = "int8") -> TensorSpec:
    return TensorSpec("t", shape, dtype, 0.5 if dtype in ("int8", "uint8", "int16") else None)


def numbers(*values: int, shape: Shape = ()) -> TensorSpec:
    return TensorSpec("numbers", shape or (len(values),), "int32", values=values)


def constant(shape: Shape, dtype: str = "int8") -> TensorSpec:
    size = {"int8": 1, "float32": 4}[dtype]
    for length in shape:
        size *= length
    return TensorSpec("c", shape, dtype, 0.5 if dtype == "int8" else None, data=bytes(size))


def reason(
    name: str,
    inputs: Sequence[TensorSpec],
    output: TensorSpec,
    *,
    options: Options = (0, {}),
    version: int = 1,
) -> str:
    places = range(len(inputs))
    operator = OperatorSpec(CODES[name], tuple(places), (len(inputs),), options[0], options[1], version)
    fed = [place for place in places if inputs[place].bytes is None]
    graph = parse(tiny_models.model([*inputs, output], [operator], inputs=fed, outputs=[len(inputs)])).main
    return gpu_reason(graph, graph.operators[0])


def row(name: str, dtype: str = "int8", version: int = 1, options: Options = (0, {})) -> str:
    return reason(name, [tensor((1, 4), dtype)], tensor((1, 4), dtype), version=version, options=options)


@pytest.mark.parametrize("name", ["LOGISTIC", "RESHAPE", "HARD_SWISH", "CEIL", "SIGN", "LEAKY_RELU"])
def test_what_the_documentation_or_the_source_names_is_taken(name: str) -> None:
    assert row(name) == ""


def test_what_neither_names_is_not() -> None:
    assert "not among" in row("ARG_MAX")
    operator = OperatorSpec(tiny_models.CUSTOM, (0,), (1,), custom_code="Own")
    tensors = [tensor((1, 4)), tensor((1, 4))]
    graph = parse(tiny_models.model(tensors, [operator], inputs=[0], outputs=[1])).main
    assert "not among" in gpu_reason(graph, graph.operators[0])


def test_a_version_above_the_delegates_is_not() -> None:
    # model_builder.cc: CONV_2D and DEPTHWISE_CONV_2D up to 6, FULLY_CONNECTED up to 9.
    assert row("FULLY_CONNECTED", version=9) == ""
    assert row("FULLY_CONNECTED", version=10).startswith("version 10; the GPU delegate takes 9")


# --- types and lengths: IsAllAllowedTensors, model_builder.cc ---------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "bool"])
def test_what_is_computed_is_float_or_8_bits_wide(dtype: str) -> None:
    assert "computed in " + dtype in row("LOGISTIC", dtype)
    assert row("LOGISTIC", "uint8") == row("LOGISTIC", "float32") == ""


def test_index_arithmetic_is_not_taken_and_constant_int32_is() -> None:
    # As in MoveNet: int32 that is computed from int32.
    whole = tensor((1, 17), "int32")
    assert "computed in int32" in reason("MUL", [whole, whole], whole)
    assert "computed in int32" in reason("RESHAPE", [whole, numbers(17, 1)], tensor((17, 1), "int32"))
    assert reason("RESHAPE", [tensor((1, 17)), numbers(17, 1)], tensor((17, 1))) == ""


def test_five_lengths_are_too_many() -> None:
    large = tensor((1, 2, 2, 2, 2))
    assert "1x2x2x2x2" in reason("RESHAPE", [tensor((1, 16)), numbers(1, 2, 2, 2, 2)], large)
    assert "4 lengths at most" in reason("ADD", [tensor((1, 16)), constant((1, 1, 1, 1, 16))], tensor((1, 16)))


# --- conditions: gpu_compatibility.cc --------------------------------------------------------------

PICTURE, HALF, ROW = tensor((1, 4, 4, 4)), tensor((1, 2, 4, 4)), tensor((1, 4))
FLOATS, WHOLES, TRUTHS = tensor((1, 4), "float32"), tensor((1, 4), "int32"), tensor((1, 4), "bool")
AXIS = numbers(1)
VALUE = constant((1,), "float32")


@pytest.mark.parametrize(
    ("name", "inputs", "output", "options", "said"),
    [
        ("SLICE", [PICTURE, numbers(0, 0, 0, 0), numbers(1, 2, 4, 4)], HALF, (0, {}), ""),
        ("SLICE", [ROW, numbers(0, 0), numbers(1, 2)], tensor((1, 2)), (0, {}), "2 lengths"),
        ("STRIDED_SLICE", [PICTURE, *[numbers(0, 0, 0, 0)] * 3], HALF, (32, {0: Scalar("i", 1)}), ""),
        ("STRIDED_SLICE", [PICTURE, *[numbers(0, 0, 0, 0)] * 3], HALF, (32, {4: Scalar("i", 1)}), "axis"),
        ("STRIDED_SLICE", [ROW, *[numbers(0, 0)] * 3], tensor((1, 2)), (32, {}), "2 lengths"),
        ("PAD", [HALF, numbers(*[0] * 8, shape=(4, 2))], PICTURE, (0, {}), ""),
        ("PAD", [ROW, numbers(*[0] * 4, shape=(2, 2))], ROW, (0, {}), "paddings of 2x2"),
        ("PAD", [HALF, tensor((4, 2), "int32")], PICTURE, (0, {}), "computed in int32"),
        ("MIRROR_PAD", [HALF, numbers(*[0] * 8, shape=(4, 2))], PICTURE, (77, {0: Scalar("b", 0)}), ""),
        ("MIRROR_PAD", [HALF, numbers(*[0] * 8, shape=(4, 2))], PICTURE, (77, {0: Scalar("b", 1)}), "reflect"),
        ("DEPTHWISE_CONV_2D", [PICTURE, constant((1, 3, 3, 4)), constant((4,))], PICTURE, (2, {}), ""),
        ("DEPTHWISE_CONV_2D", [PICTURE, constant((1, 3, 3, 8))], tensor((1, 4, 4, 8)), (2, {}), "multiplier of 2"),
        ("DEPTHWISE_CONV_2D", [tensor((1, 4, 4, 1)), constant((1, 3, 3, 8))], tensor((1, 4, 4, 8)), (2, {}), ""),
        ("FULLY_CONNECTED", [ROW, constant((4, 4))], ROW, (8, {}), ""),
        ("FULLY_CONNECTED", [ROW, constant((4, 4))], ROW, (8, {1: Scalar("b", 1)}), "format"),
        ("FULLY_CONNECTED", [HALF, constant((4, 4))], tensor((8, 4)), (8, {2: Scalar("B", 1)}), "keeps"),
        ("MEAN", [PICTURE, numbers(1, 2)], ROW, (27, {}), ""),
        ("SUM", [PICTURE, numbers(1, 2)], ROW, (27, {}), ""),
        ("SUM", [PICTURE, constant((2,))], ROW, (27, {}), "axes"),
        ("SOFTMAX", [ROW], ROW, (9, {0: Scalar("f", 1.0)}), ""),
        ("SOFTMAX", [ROW], ROW, (9, {0: Scalar("f", 2.0)}), "beta"),
        ("SPACE_TO_DEPTH", [PICTURE], tensor((1, 2, 2, 16)), (19, {0: Scalar("i", 2)}), ""),
        ("GATHER", [FLOATS, numbers(0, 2)], tensor((1, 2), "float32"), (23, {}), ""),
        ("GATHER", [FLOATS, numbers(0, 2, shape=(1, 2))], tensor((1, 2), "float32"), (23, {}), "row"),
        ("CAST", [WHOLES], FLOATS, (37, {}), ""),
        ("CAST", [TRUTHS], FLOATS, (37, {}), ""),
        ("CAST", [TRUTHS], WHOLES, (37, {}), "bool to int32"),
        ("CAST", [ROW], FLOATS, (37, {}), "int8 to float32"),
        ("GREATER", [FLOATS, FLOATS], TRUTHS, (0, {}), ""),
        ("LESS", [FLOATS, constant((1, 4), "float32")], TRUTHS, (0, {}), ""),
        ("EQUAL", [WHOLES, WHOLES], TRUTHS, (0, {}), "computed in int32"),
        ("FLOOR_DIV", [FLOATS, FLOATS], FLOATS, (0, {}), ""),
        ("SELECT_V2", [TRUTHS, FLOATS, VALUE], FLOATS, (0, {}), ""),
        ("SELECT_V2", [TRUTHS, ROW, ROW], ROW, (0, {}), "int8"),
        ("SELECT_V2", [TRUTHS, FLOATS, constant((1, 1), "float32")], FLOATS, (0, {}), "stretched"),
        ("ONE_HOT", [tensor((1, 1), "int32"), AXIS, VALUE, VALUE], FLOATS, (61, {0: Scalar("i", -1)}), ""),
        ("ONE_HOT", [tensor((3, 1), "int32"), AXIS, VALUE, VALUE], FLOATS, (61, {0: Scalar("i", -1)}), "not 1"),
        ("MUL", [tensor((1, 4, 4, 1)), tensor((1, 1, 1, 4))], PICTURE, (21, {}), "smaller"),
        ("MUL", [PICTURE, tensor((1, 1, 1, 4))], PICTURE, (21, {}), ""),
        ("ADD", [PICTURE, constant((4,))], PICTURE, (11, {}), ""),
        ("ADD", [PICTURE, constant((4, 4))], PICTURE, (11, {}), "stretched"),
        ("ADD", [PICTURE, constant((1, 4))], PICTURE, (11, {}), ""),
    ],
)  # fmt: skip
def test_an_op_is_held_against_its_conditions(
    name: str, inputs: list[TensorSpec], output: TensorSpec, options: Options, said: str
) -> None:
    found = reason(name, inputs, output, options=options)
    assert said in found
    assert bool(found) == bool(said)


# --- the one group: GetOpsToReplace, model_builder.cc ------------------------------------------------


def chain(*names: str) -> Subgraph:
    tensors = [tensor((1, 4)) for _ in range(len(names) + 1)]
    operators = [OperatorSpec(CODES[name], (place,), (place + 1,)) for place, name in enumerate(names)]
    return parse(tiny_models.model(tensors, operators, inputs=[0], outputs=[len(names)])).main


def test_only_the_largest_group_goes_to_the_gpu() -> None:
    found = gpu_reasons(chain("RELU", "ROUND", "RELU", "TANH", "ROUND", "RELU"))
    assert [not one for one in found] == [False, False, True, True, False, False]
    assert "largest group" in found[0]
    assert "not among" in found[1]


def test_a_whole_graph_is_one_group() -> None:
    assert gpu_reasons(chain("RELU", "TANH")) == ("", "")
    assert set(gpu_reasons(chain("ROUND"))) == {"not among the GPU delegate's ops"}


def test_float16_weights_go_where_they_are_used() -> None:
    half = TensorSpec("w", (1, 4), "float16", values=[1.0] * 4)
    floats = [TensorSpec(name, (1, 4)) for name in ("x", "a", "b", "c", "d", "e")]
    # 0 is turned first, as a converter writes them, and is used last.
    operators = [
        OperatorSpec(CODES["DEQUANTIZE"], (6,), (5,)),
        OperatorSpec(CODES["RELU"], (0,), (1,)),
        OperatorSpec(CODES["ROUND"], (1,), (2,)),
        OperatorSpec(CODES["ADD"], (2, 5), (3,)),
        OperatorSpec(CODES["RELU"], (3,), (4,)),
    ]
    graph = parse(tiny_models.model([*floats, half], operators, inputs=[0], outputs=[4])).main
    assert [not one for one in gpu_reasons(graph)] == [True, False, False, True, True]
