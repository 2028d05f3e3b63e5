from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny_compiled
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_flatbuffer import Field, Scalar, Table, Vector
from tiny_models import OperatorSpec, TensorSpec

from converters.edgetpu.check import Prediction, predict
from edgeinfer.errors import DamagedModelError
from edgeinfer.model.ops import BUILTINS
from edgeinfer.model.schema import parse

CODES = {row[0]: code for code, row in enumerate(BUILTINS)}
MAPPED = "Mapped to Edge TPU"
DTYPE = "Operation is working on an unsupported data type"
LIMIT = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
SECOND = "More than one subgraph is not supported"


def quantized(name: str, shape: tuple[int, ...], dtype: str = "int8") -> TensorSpec:
    return TensorSpec(name, shape, dtype, 0.5)


def weights(shape: tuple[int, ...]) -> TensorSpec:
    size = 1
    for length in shape:
        size *= length
    return TensorSpec("weights", shape, "int8", 0.5, data=bytes(size))


def numbers(*values: int) -> TensorSpec:
    return TensorSpec("numbers", (len(values),), "int32", values=values)


def operator(
    name: str,
    inputs: Sequence[int],
    outputs: Sequence[int],
    *,
    options: tuple[int, dict[int, Field]] = (0, {}),
    version: int = 1,
) -> OperatorSpec:
    return OperatorSpec(CODES[name], tuple(inputs), tuple(outputs), options[0], options[1], version)


def one(
    name: str,
    tensors: Sequence[TensorSpec],
    *,
    outputs: int = 1,
    options: tuple[int, dict[int, Field]] = (0, {}),
    version: int = 1,
) -> Prediction:
    """A model of one op whose last tensors are its outputs."""
    places = range(len(tensors))
    ends = list(places[-outputs:])
    op = operator(name, places[:-outputs], ends, options=options, version=version)
    fed = [place for place in places[:-outputs] if tensors[place].bytes is None]
    return predict(parse(tiny_models.model(tensors, [op], inputs=fed, outputs=ends)))


def only(found: Prediction) -> tuple[str, str, str]:
    (verdict,), (why,) = found.verdicts, found.findings
    return verdict.runs_on, why.rule, why.status


# --- whole files --------------------------------------------------------------------------------------


def test_a_full_int8_classifier_maps_whole() -> None:
    found = predict(parse(tiny_models.classifier()))
    assert [(one.op, one.runs_on, one.reason, one.evidence) for one in found.verdicts] == [
        ("MEAN", "edgetpu", MAPPED, "seen"),
        ("FULLY_CONNECTED", "edgetpu", MAPPED, "seen"),
        ("SOFTMAX", "edgetpu", MAPPED, "seen"),
    ]
    assert (found.mapped, found.wrong, found.ends_at) == (3, "", None)


def test_a_float_model_is_refused_as_not_quantized() -> None:
    found = predict(parse(tiny_models.classifier(dtype="float32")))
    assert "not quantized" in found.wrong
    assert found.mapped == 0
    assert {why.status for why in found.findings} == {DTYPE}
    assert "float32 instead of int8" in found.verdicts[0].reason


def test_a_float_convolution_has_no_cure_that_is_for_its_versions() -> None:
    kernel = TensorSpec("kernel", (4, 3, 3, 3), values=[0.0] * 108)
    ends = [TensorSpec(name, shape) for name, shape in (("image", (1, 8, 8, 3)), ("made", (1, 6, 6, 4)))]
    found = one("CONV_2D", [ends[0], kernel, ends[1]], options=(1, {}))
    assert found.findings[0].words == "float32 instead of int8 or uint8."


def test_an_int16_model_does_not_map() -> None:
    found = predict(parse(tiny_models.classifier(dtype="int16")))
    assert {one.runs_on for one in found.verdicts} == {"cpu"}
    assert found.mapped == 0


def test_a_compiled_file_is_refused() -> None:
    found = predict(parse(tiny_compiled.compiled()))
    assert "compiled for the Edge TPU already" in found.wrong
    assert found.mapped == 0


def test_a_second_subgraph_is_refused() -> None:
    tensors = [quantized("x", (1, 4)), quantized("y", (1, 4))]
    empty = Table({0: [], 1: Vector("i", []), 2: Vector("i", []), 3: [], 4: "body"})
    data = tiny_models.model(
        tensors, [operator("LOGISTIC", [0], [1])], inputs=[0], outputs=[1], changes={2: [_main(tensors), empty]}
    )
    assert "2 subgraphs" in predict(parse(data)).wrong


def _main(tensors: Sequence[TensorSpec]) -> Table:
    listed: list[Table] = [
        Table({0: Vector("i", one.shape), 1: Scalar("b", 9), 2: Scalar("I", 0), 3: one.name}) for one in tensors
    ]
    run = Table({0: Scalar("I", 0), 1: Vector("i", [0]), 2: Vector("i", [1])})
    return Table({0: listed, 1: Vector("i", [0]), 2: Vector("i", [1]), 3: [run], 4: "main"})


def test_a_size_that_is_computed_is_refused_with_the_cure() -> None:
    found = one("RESHAPE", [quantized("x", (1, 4)), TensorSpec("size", (2,), "int32"), quantized("y", (4, 1))])
    assert only(found) == ("refused", "run-time shape", LIMIT)
    assert found.wrong.startswith("The compiler would stop at op 0 (RESHAPE): its size `size` is computed")
    assert "static batch of 1" in found.wrong


def test_an_open_signature_alone_does_no_harm() -> None:
    tensors = [
        TensorSpec("x", (1, 4), "int8", 0.5, shape_signature=(-1, 4)),
        TensorSpec("y", (1, 4), "int8", 0.5, shape_signature=(-1, 4)),
    ]
    assert only(one("LOGISTIC", tensors)) == ("edgetpu", "mapped", MAPPED)


def test_a_grouped_convolution_stops_the_compiler() -> None:
    tensors = [quantized("x", (1, 4, 4, 4)), weights((4, 3, 3, 2)), quantized("y", (1, 4, 4, 4))]
    found = one("CONV_2D", tensors, version=6)
    assert found.verdicts[0].runs_on == "refused"
    assert "`groups`" in found.wrong


# --- one op -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tensors", "status"),
    [
        ("LEAKY_RELU", [quantized("x", (1, 4)), quantized("y", (1, 4))], "Operation not supported"),
        ("ARG_MAX", [quantized("x", (1, 4)), numbers(1), TensorSpec("y", (1,), "int64")], DTYPE),
        ("DEQUANTIZE", [quantized("x", (1, 4)), TensorSpec("y", (1, 4))], DTYPE),
        ("QUANTIZE", [TensorSpec("x", (1, 4)), quantized("y", (1, 4))], LIMIT),
        ("GELU", [quantized("x", (1, 4)), quantized("y", (1, 4))], "Operation not supported"),
    ],
    ids=["leaky relu", "argmax", "dequantize", "quantize", "not in the table"],
)  # fmt: skip
def test_ops_that_stay_say_why_in_the_compilers_words(name: str, tensors: list[TensorSpec], status: str) -> None:
    found = one(name, tensors)
    assert found.verdicts[0].runs_on == "cpu"
    assert found.verdicts[0].reason.startswith(status)


def test_floats_at_the_ends_and_floats_between_have_each_their_cure() -> None:
    tensors = [quantized("x", (1, 4)), TensorSpec("f", (1, 4)), TensorSpec("g", (1, 4)), quantized("y", (1, 4))]
    tensors += [TensorSpec("z", (1, 4))]
    operators = [
        operator("DEQUANTIZE", [0], [1]),
        operator("ELU", [1], [2]),
        operator("QUANTIZE", [2], [3]),
        operator("DEQUANTIZE", [3], [4]),
    ]
    first, _, third, last = (
        one.reason for one in predict(parse(tiny_models.model(tensors, operators, inputs=[], outputs=[4]))).verdicts
    )
    assert first.endswith("It stands beside ELU. Use ReLU, ReLU6 or silu as the activation.")
    assert third.endswith("It stands beside ELU. Use ReLU, ReLU6 or silu as the activation.")
    assert last.endswith("`--io int8`, then there are no floats at the ends.")


def test_upsampling_is_recognized_by_its_ops() -> None:
    tensors = [
        quantized("x", (1, 4, 4, 8)),
        numbers(1, 4, 1, 4, 8),
        quantized("a", (1, 4, 1, 4, 8)),
        TensorSpec("times", (5,), "int32", values=[1, 1, 2, 1, 1]),
        quantized("y", (1, 4, 2, 4, 8)),
    ]
    operators = [operator("RESHAPE", [0, 1], [2]), operator("TILE", [2, 3], [4], version=3)]
    found = predict(parse(tiny_models.model(tensors, operators, inputs=[0], outputs=[4])))
    assert [why.rule for why in found.findings] == ["rank", "op version"]
    assert all("instead of UpSampling2D" in one.reason for one in found.verdicts)


def test_requantizing_maps() -> None:
    assert only(one("QUANTIZE", [quantized("x", (1, 4)), quantized("y", (1, 4), "uint8")]))[0] == "edgetpu"


def test_a_custom_op_stays() -> None:
    tensors = [quantized("x", (1, 4)), quantized("y", (1, 4))]
    op = OperatorSpec(tiny_models.CUSTOM, (0,), (1,), custom_code="Decoder")
    found = predict(parse(tiny_models.model(tensors, [op], inputs=[0], outputs=[1])))
    assert only(found) == ("cpu", "custom op", "Operation not supported")


def test_a_version_above_the_known_one_stays() -> None:
    tensors = [quantized("x", (1, 4)), quantized("y", (1, 4))]
    assert only(one("LOGISTIC", tensors, version=3)) == ("cpu", "op version", "Operation version not supported")


def test_a_version_that_no_pair_has_shown_is_an_estimate() -> None:
    tensors = [quantized("x", (1, 4)), weights((2, 4)), quantized("y", (1, 2))]
    shown = {version: one("FULLY_CONNECTED", tensors, version=version).verdicts[0].evidence for version in (4, 9)}
    assert shown == {4: "seen", 9: "estimated"}


@pytest.mark.parametrize(
    ("name", "evidence", "says"),
    [
        ("RSQRT", "estimated", ""),  # a table, from memory
        ("L2_NORMALIZATION", "documented", "by a public log of the compiler"),
        ("RELU6", "documented", ""),  # a table
        ("LEAKY_RELU", "documented", "by a public log of the compiler"),
        ("ELU", "documented", "google-coral/edgetpu#508"),
    ],
)
def test_where_a_fact_comes_from_is_said(name: str, evidence: str, says: str) -> None:
    found = one(name, [quantized("x", (1, 4)), quantized("y", (1, 4))]).verdicts[0]
    assert found.evidence == evidence
    assert says in found.reason


def test_an_argmax_can_be_left_out_only_where_the_model_ends() -> None:
    tensors = [quantized("x", (1, 4)), numbers(1), TensorSpec("i", (1,), "int32"), TensorSpec("f", (1,))]
    argmax, cast = operator("ARG_MAX", [0, 1], [2]), operator("CAST", [2], [3])
    at_end = predict(parse(tiny_models.model(tensors[:3], [argmax], inputs=[0], outputs=[2])))
    within = predict(parse(tiny_models.model(tensors, [argmax, cast], inputs=[0], outputs=[3])))
    assert "Leave the argmax out" in at_end.verdicts[0].reason
    assert "Leave the argmax out" not in within.verdicts[0].reason


# Options by slot: see schema.fbs of tensorflow/tensorflow.
RELU = Scalar("b", 1)
PICTURE = quantized("x", (1, 8, 8, 4))
SMALL = quantized("y", (1, 4, 4, 4))


@pytest.mark.parametrize(
    ("name", "tensors", "options", "mapped"),
    [
        ("MAX_POOL_2D", [PICTURE, SMALL], (5, {}), True),
        ("MAX_POOL_2D", [PICTURE, SMALL], (5, {5: RELU}), False),
        ("CONCATENATION", [SMALL, SMALL, quantized("z", (1, 4, 4, 8))], (10, {}), True),
        ("CONCATENATION", [SMALL, SMALL, quantized("z", (1, 4, 4, 8))], (10, {1: RELU}), False),
        ("CONCATENATION", [SMALL, weights((1, 4, 4, 4)), quantized("z", (1, 4, 4, 8))], (10, {}), True),
        (
            "CONCATENATION",
            [SMALL, TensorSpec("c", (1, 4, 4, 1), "int8", 0.5, data=bytes(range(16))), quantized("z", (1, 4, 4, 5))],
            (10, {}),
            False,
        ),
        ("CONCATENATION", [SMALL, SMALL, weights((1, 4, 4, 4)), quantized("z", (1, 4, 4, 12))], (10, {}), False),
        ("CONV_2D", [PICTURE, weights((4, 3, 3, 4)), quantized("z", (1, 8, 8, 4))], (1, {}), True),
        ("CONV_2D", [PICTURE, quantized("w", (4, 3, 3, 4)), quantized("z", (1, 8, 8, 4))], (1, {}), False),
        ("CONV_2D", [PICTURE, weights((4, 3, 3, 4)), quantized("z", (1, 8, 8, 4))], (1, {5: Scalar("i", 2)}), False),
        ("CONV_2D", [PICTURE, weights((4, 3, 1, 4)), quantized("z", (1, 8, 8, 4))], (1, {5: Scalar("i", 2)}), True),
        ("FULLY_CONNECTED", [quantized("x", (2, 4)), weights((3, 4)), quantized("y", (2, 3))], (8, {}), False),
        (
            "FULLY_CONNECTED",
            [quantized("x", (1, 4)), weights((3, 4)), quantized("y", (1, 3))],
            (8, {1: Scalar("b", 1)}),
            False,
        ),
        ("SOFTMAX", [quantized("x", (1, 16384)), quantized("y", (1, 16384))], (9, {}), True),
        ("SOFTMAX", [quantized("x", (1, 16385)), quantized("y", (1, 16385))], (9, {}), False),
        ("MEAN", [PICTURE, numbers(1, 2), quantized("y", (1, 4))], (27, {}), True),
        ("MEAN", [quantized("x", (1, 2, 2, 6)), numbers(3), quantized("y", (1, 2, 2))], (27, {}), False),
        ("MEAN", [quantized("x", (1, 2, 2, 8)), numbers(-1), quantized("y", (1, 2, 2))], (27, {}), True),
        ("MEAN", [quantized("x", (1, 256, 128, 3)), numbers(1, 2), quantized("y", (1, 3))], (27, {}), False),
        ("SUM", [quantized("x", (2, 1, 1, 8)), numbers(0), quantized("y", (1, 1, 8))], (27, {}), False),
        ("SQUEEZE", [quantized("x", (1, 1, 1, 8)), quantized("y", (1, 8))], (30, {0: Vector("i", [1, 2])}), True),
        ("SQUEEZE", [quantized("x", (1, 8, 1, 8)), quantized("y", (1, 8, 8))], (30, {0: Vector("i", [2])}), False),
        ("RESIZE_BILINEAR", [SMALL, numbers(8, 8), PICTURE], (15, {}), True),
        (
            "RESIZE_BILINEAR",
            [quantized("x", (1, 1, 1, 4)), numbers(8, 9), quantized("y", (1, 8, 9, 4))],
            (15, {}),
            False,
        ),
        ("PRELU", [PICTURE, weights((1, 1, 4)), quantized("y", (1, 8, 8, 4))], (0, {}), True),
        ("PRELU", [PICTURE, weights((8, 8, 4)), quantized("y", (1, 8, 8, 4))], (0, {}), False),
        (
            "ADD",
            [quantized("x", (1, 2, 8, 8, 4)), quantized("z", (1, 2, 8, 8, 4)), quantized("y", (1, 2, 8, 8, 4))],
            (11, {}),
            False,
        ),
        ("ADD", [quantized("x", (4, 2, 8)), quantized("z", (4, 2, 8)), quantized("y", (4, 2, 8))], (11, {}), True),
        (
            "PAD",
            [PICTURE, TensorSpec("p", (4, 2), "int32", values=[0, 0, 1, 1, 0, 0, 0, 0]), quantized("y", (1, 10, 8, 4))],
            (0, {}),
            True,
        ),
        (
            "PAD",
            [SMALL, TensorSpec("p", (4, 2), "int32", values=[0, 1, 0, 0, 0, 0, 0, 0]), quantized("y", (2, 1, 4, 4))],
            (0, {}),
            False,
        ),
        ("PACK", [quantized("x", (4, 4)), quantized("z", (4, 4)), quantized("y", (2, 4, 4))], (59, {}), False),
        (
            "PACK",
            [quantized("x", (4, 4)), quantized("z", (4, 4)), quantized("y", (4, 4, 2))],
            (59, {1: Scalar("i", 2)}),
            True,
        ),
        (
            "STRIDED_SLICE",
            [PICTURE, numbers(0, 0, 0, 0), numbers(1, 8, 8, 2), numbers(1, 1, 1, 1), quantized("y", (1, 8, 8, 2))],
            (32, {}),
            True,
        ),
        (
            "STRIDED_SLICE",
            [PICTURE, numbers(0, 0, 0, 0), numbers(1, 8, 8, 4), numbers(1, 2, 2, 1), SMALL],
            (32, {}),
            False,
        ),
        (
            "STRIDED_SLICE",
            [PICTURE, numbers(0, 0, 0, 0), numbers(1, 8, 8, 2), numbers(1, 1, 1, 1), quantized("y", (1, 8, 8, 2))],
            (32, {2: Scalar("i", 1)}),
            False,
        ),
    ],
)
def test_an_op_is_held_against_its_conditions(
    name: str, tensors: list[TensorSpec], options: tuple[int, dict[int, Field]], mapped: bool
) -> None:
    runs_on, rule, status = only(one(name, tensors, options=options))
    # A batch above 1 in four lengths is a matter of rank, whatever the op would do with it.
    batched = any(length > 1 for tensor in tensors if tensor.bytes is None for length in tensor.shape[:-3])
    limit = "rank" if batched else f"{name} limit"
    expected = ("edgetpu", "mapped", MAPPED) if mapped else ("cpu", limit, LIMIT)
    assert (runs_on, rule, status) == expected


@pytest.mark.parametrize(
    ("name", "before", "after", "rule", "evidence"),
    [
        # The heads of public YOLOv8n and YOLOv5n, as their compiled files and the compiler's logs have them.
        ("TRANSPOSE", (1, 20, 20, 144), (1, 144, 20, 20), "mapped", "seen"),
        ("TRANSPOSE", (1, 26, 26, 100), (1, 100, 26, 26), "mapped", "estimated"),
        ("TRANSPOSE", (1, 40, 40, 144), (1, 144, 40, 40), "TRANSPOSE limit", "seen"),
        ("RESHAPE", (1, 40, 40, 255), (1, 1600, 3, 85), "mapped", "seen"),
        ("RESHAPE", (1, 80, 80, 255), (1, 6400, 3, 85), "RESHAPE limit", "seen"),
        ("RESHAPE", (1, 144, 40, 40), (1, 144, 1600), "long row", "seen"),
        ("LOGISTIC", (1, 80, 2100), (1, 80, 2100), "mapped", "documented"),
        ("LOGISTIC", (1, 80, 8400), (1, 80, 8400), "long row", "seen"),
        ("LOGISTIC", (1, 80, 80, 80), (1, 80, 80, 80), "mapped", "seen"),
    ],
)
def test_large_tensors_stay_where_large_ones_stayed(
    name: str, before: tuple[int, ...], after: tuple[int, ...], rule: str, evidence: str
) -> None:
    constants = {"TRANSPOSE": [numbers(0, 3, 1, 2)], "RESHAPE": [numbers(*after)]}.get(name, [])
    found = one(name, [quantized("x", before), *constants, quantized("y", after)])
    assert (found.findings[0].rule, found.verdicts[0].evidence) == (rule, evidence)


@pytest.mark.parametrize(("parts", "axis", "mapped"), [(2, 3, True), (2, 0, False), (1, 0, True)])
def test_a_split_keeps_the_batch_whole(parts: int, axis: int, mapped: bool) -> None:
    outputs = [quantized(f"y{part}", (1, 4, 4, 2)) for part in range(parts)]
    tensors = [TensorSpec("axis", (1,), "int32", values=[axis]), quantized("x", (1, 4, 4, 4)), *outputs]
    found = one("SPLIT", tensors, outputs=parts, options=(35, {0: Scalar("i", parts)}))
    assert (found.verdicts[0].runs_on == "edgetpu") == mapped


def test_how_far_a_resize_was_seen_is_said() -> None:
    small, large = quantized("x", (1, 2, 2, 4)), quantized("y", (1, 32, 32, 4))
    assert one("RESIZE_BILINEAR", [small, numbers(32, 32), large], options=(15, {})).verdicts[0].evidence == "seen"
    large = quantized("y", (1, 20, 20, 4))
    found = one("RESIZE_BILINEAR", [small, numbers(20, 20), large], options=(15, {})).verdicts[0]
    assert (found.runs_on, found.evidence) == ("cpu", "estimated")
    assert "enlarges 10.0 times" in found.reason


@pytest.mark.parametrize(
    ("name", "tensors", "options", "says", "evidence"),
    [
        (
            "RESIZE_BILINEAR",
            [SMALL, numbers(16, 16), quantized("z", (1, 16, 16, 4))],
            15,
            "enlarges 4.0 times",
            "estimated",
        ),
        ("SOFTMAX", [SMALL, quantized("z", (1, 4, 4, 4))], 9, "over 16 rows", "documented"),
        ("MEAN", [SMALL, numbers(3), quantized("z", (1, 4, 4))], 27, "over the depth", "documented"),
        (
            "CONCATENATION",
            [SMALL, weights((1, 4, 4, 4)), quantized("z", (1, 4, 4, 8))],
            10,
            "joins a constant",
            "documented",
        ),
    ],
    ids=["resize", "softmax", "mean", "concatenation"],
)
def test_what_goes_beyond_all_that_was_seen_is_not_called_seen(
    name: str, tensors: list[TensorSpec], options: int, says: str, evidence: str
) -> None:
    found = one(name, tensors, options=(options, {})).verdicts[0]
    assert (found.runs_on, found.evidence) == ("edgetpu", evidence)
    assert found.reason.startswith(f"{MAPPED}: ")
    assert says in found.reason


def test_a_hint_of_the_runtime_is_a_note_and_no_verdict() -> None:
    tensors = [quantized("x", (1, 4)), numbers(1, 0), quantized("y", (4, 1))]
    found = one("TRANSPOSE", tensors)
    assert found.verdicts[0].runs_on == "edgetpu"
    assert any("TRANSPOSE: may need runtime version 14" in note for note in found.notes)


# --- the partition ------------------------------------------------------------------------------------


def chain(*names: str) -> bytes:
    """Ops of one input each, one behind the other."""
    tensors = [quantized(f"t{place}", (1, 4)) for place in range(len(names) + 1)]
    operators = [operator(name, [place], [place + 1]) for place, name in enumerate(names)]
    return tiny_models.model(tensors, operators, inputs=[0], outputs=[len(names)])


def test_what_stands_behind_an_unsupported_op_stays_too() -> None:
    found = predict(parse(chain("LOGISTIC", "RELU", "LEAKY_RELU", "RELU")))
    assert [one.runs_on for one in found.verdicts] == ["edgetpu", "edgetpu", "cpu", "cpu"]
    assert found.verdicts[3].reason == f"{SECOND}: the chip takes one group of ops, which ends at op 1 (RELU)"
    assert (found.mapped, found.ends_at) == (2, found.verdicts[2])
    assert found.table[("RELU", SECOND)] == 1


def test_later_groups_map_with_the_experimental_option() -> None:
    file = parse(chain("LOGISTIC", "RELU", "LEAKY_RELU", "RELU"))
    found = predict(file, all_groups=True)
    assert [one.runs_on for one in found.verdicts] == ["edgetpu", "edgetpu", "cpu", "edgetpu"]


def test_unsupported_ops_in_front_do_no_harm() -> None:
    found = predict(parse(chain("LEAKY_RELU", "LOGISTIC", "RELU")))
    assert [one.runs_on for one in found.verdicts] == ["cpu", "edgetpu", "edgetpu"]
    assert found.ends_at is None


def test_the_group_follows_the_data_and_not_the_order_of_running() -> None:
    # x -> RELU -> a; x -> LEAKY_RELU -> b; x -> RELU -> c: the op that stays feeds nothing of the group.
    tensors = [quantized(name, (1, 4)) for name in ("x", "a", "b", "c")]
    operators = [operator("RELU", [0], [1]), operator("LEAKY_RELU", [0], [2]), operator("RELU", [1], [3])]
    found = predict(parse(tiny_models.model(tensors, operators, inputs=[0], outputs=[2, 3])))
    assert [one.runs_on for one in found.verdicts] == ["edgetpu", "cpu", "edgetpu"]


def test_layers_are_named_by_their_tensors() -> None:
    tensors = [quantized("x", (1, 4)), quantized("net/gate/Sigmoid;net/gate/mul", (1, 4))]
    assert one("LOGISTIC", tensors).verdicts[0].layer == "gate"


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_file_is_refused_or_judged(data: st.DataObject) -> None:
    whole = bytearray(tiny_models.classifier())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        file = parse(bytes(whole))
    except DamagedModelError:
        return
    assert len(predict(file).verdicts) == len(file.main.operators)


def test_a_prediction_is_json() -> None:
    said = json.loads(json.dumps(predict(parse(chain("LOGISTIC", "LEAKY_RELU"))).to_json()))
    assert (said["mapped"], said["wrong"], len(said["ops"])) == (1, "", 2)
    assert said["notes"][0].startswith("A prediction from public compiled models")


# --- real pairs ---------------------------------------------------------------------------------------

PAIRS = [
    "deeplabv3_mnv2_dm05_pascal_quant",
    "keras_lstm_mnist_ptq",
    "mobilenet_v1_0.25_128_quant",
    "movenet_single_pose_lightning_ptq",
    "tools/split_concat",
]


@pytest.mark.parametrize("name", PAIRS)
def test_public_pairs_came_out_of_the_compiler_as_predicted(test_data: Path, name: str) -> None:
    original = parse((test_data / "coral" / f"{name}.tflite").read_bytes())
    compiled = parse((test_data / "coral" / f"{name}_edgetpu.tflite").read_bytes()).main
    # An op that the compiler left keeps the names of its outputs.
    left = Counter((one.op, compiled.tensors[one.outputs[0]].name) for one in compiled.operators if not one.custom)
    found = predict(original)
    tensors = original.main.tensors
    stayed = Counter(
        (verdict.op, tensors[op.outputs[0]].name)
        for verdict, op in zip(found.verdicts, original.main.operators, strict=True)
        if verdict.runs_on != "edgetpu"
    )
    assert stayed == left
    assert not found.wrong
