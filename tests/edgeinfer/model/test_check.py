from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import MappingProxyType

import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_flatbuffer import Scalar, Table, Vector
from tiny_models import OperatorSpec, TensorSpec

from edgeinfer.errors import DamagedModelError, EdgeInferError, UnsupportedOpError
from edgeinfer.model.check import check
from edgeinfer.model.metadata import read
from edgeinfer.model.op_rules import RULES
from edgeinfer.model.ops import BUILTINS, Ceilings, ceilings
from edgeinfer.model.schema import parse
from edgeinfer.model.summary import summarize

LITERT = ceilings("litert")
TFLITE = ceilings("tflite-runtime")
ADD, CONV_2D, FULLY_CONNECTED, RESHAPE = 0, 3, 9, 22
CLASSIFIER = tiny_models.classifier()


def refused(data: bytes, words: str) -> DamagedModelError:
    with pytest.raises(DamagedModelError) as caught:
        check(data, LITERT)
    assert words in str(caught.value)
    return caught.value


def one_op(operator: OperatorSpec, tensors: list[TensorSpec], inputs: tuple[int, ...] = (0,)) -> bytes:
    return tiny_models.model(tensors, [operator], inputs=inputs, outputs=list(operator.outputs))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_a_good_file_passes_for_every_engine(dtype: str, activation: str) -> None:
    data = tiny_models.classifier(dtype=dtype, activation=activation)
    for one in (LITERT, TFLITE, ceilings("tensorflow")):
        assert check(data, one).main.operators


def test_real_files_pass_and_compiled_ones_do_not(test_data: Path) -> None:
    for file in sorted(test_data.rglob("*.tflite")):
        if file.stem.endswith("_edgetpu"):
            with pytest.raises(UnsupportedOpError, match="compiled for an Edge TPU"):
                check(file.read_bytes(), TFLITE)
        else:
            assert check(file.read_bytes(), TFLITE), file.name


class TestEngines:
    def test_a_version_above_the_ceiling_names_op_version_ceiling_and_cure(self) -> None:
        # The file that users meet: TensorFlow 2.21 makes it of a Dense layer under dynamic-range quantization.
        tensors = [
            TensorSpec("x", (1, 2)),
            TensorSpec("weights", (2, 2), values=[1, 0, 0, 1]),
            TensorSpec("dense", (1, 2)),
        ]
        data = one_op(OperatorSpec(FULLY_CONNECTED, (0, 1, -1), (2,), 8, {}, version=12), tensors)
        with pytest.raises(
            UnsupportedOpError, match=r"tflite-runtime 2\.14\.0 .* FULLY_CONNECTED version 12"
        ) as caught:
            check(data, TFLITE)
        assert "`dense`" in caught.value.received
        assert "version 10" in caught.value.expected
        assert "--target raspberrypi-tflite" in caught.value.next_step
        assert "LiteRT" in caught.value.next_step
        assert check(data, LITERT)

    def test_a_newer_engine_than_the_measured_one_decides_on_versions_itself(self) -> None:
        data = one_op(OperatorSpec(150, (0,), (1,), version=99), [TensorSpec("x", (1,)), TensorSpec("y", (1,))])
        assert check(data, ceilings("litert", "99.0"))
        with pytest.raises(UnsupportedOpError):
            check(data, LITERT)

    def test_an_op_that_no_operator_uses_is_still_refused(self) -> None:
        entry = Table({0: Scalar("b", 0), 2: Scalar("i", 99), 3: Scalar("i", 0)})
        data = tiny_models.model([], [], inputs=[], outputs=[], changes={1: [entry]})
        with pytest.raises(UnsupportedOpError, match="ADD version 99") as caught:
            check(data, LITERT)
        assert "no operator uses" in caught.value.received

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("edgetpu-custom-op", "Edge TPU"),
            ("FlexErf", "TensorFlow op `Erf`"),
            ("Mine", "custom op `Mine`"),
        ],
    )
    def test_a_custom_op_is_named(self, code: str, words: str) -> None:
        data = self.custom(code)
        with pytest.raises(UnsupportedOpError, match=words):
            check(data, TFLITE)

    def test_custom_ops_that_an_engine_has_pass(self) -> None:
        assert check(self.custom("Mfcc"), TFLITE)
        assert check(self.custom("FlexErf"), ceilings("tensorflow"))

    def test_a_caller_may_add_custom_ops(self) -> None:
        with_delegate: Ceilings = replace(TFLITE, custom=TFLITE.custom | {"edgetpu-custom-op"})
        assert check(self.custom("edgetpu-custom-op"), with_delegate)

    def test_a_newer_engine_still_has_no_flex_ops_and_no_edge_tpu(self) -> None:
        newer = ceilings("tflite-runtime", "9.0")
        assert check(self.custom("Mine"), newer)
        for code in ("FlexErf", "edgetpu-custom-op"):
            with pytest.raises(UnsupportedOpError):
                check(self.custom(code), newer)

    def test_an_empty_table_refuses_every_op(self) -> None:
        nothing = replace(TFLITE, versions=MappingProxyType({}))
        with pytest.raises(UnsupportedOpError) as caught:
            check(CLASSIFIER, nothing)
        assert caught.value.expected == "an op that this engine has"

    @staticmethod
    def custom(code: str) -> bytes:
        operator = OperatorSpec(tiny_models.CUSTOM, (0,), (1,), custom_code=code)
        return one_op(operator, [TensorSpec("x", (1, 4)), TensorSpec("y", (1, 4))])


class TestOrder:
    def test_reading_a_tensor_that_nothing_made_is_refused(self) -> None:
        refused(
            one_op(OperatorSpec(25, (1,), (2,), 9), [TensorSpec(name, (1, 2)) for name in "abc"]), "before it is made"
        )

    def test_reading_a_tensor_that_is_made_later_is_refused(self) -> None:
        tensors = [TensorSpec(name, (1, 2)) for name in "abc"]
        operators = [OperatorSpec(25, (1,), (2,), 9), OperatorSpec(25, (0,), (1,), 9)]
        refused(tiny_models.model(tensors, operators, inputs=[0], outputs=[2]), "before it is made")

    @pytest.mark.parametrize("target", [0, 2], ids=["the input", "a constant"])
    def test_writing_over_what_is_there_is_refused(self, target: int) -> None:
        tensors = [TensorSpec("a", (1, 2)), TensorSpec("b", (1, 2)), TensorSpec("w", (1, 2), values=[1, 2])]
        refused(one_op(OperatorSpec(25, (0,), (target,), 9), tensors), "writes over")

    def test_making_a_tensor_twice_is_refused(self) -> None:
        tensors = [TensorSpec(name, (1, 2)) for name in "ab"]
        operators = [OperatorSpec(25, (0,), (1,), 9), OperatorSpec(14, (0,), (1,))]
        refused(tiny_models.model(tensors, operators, inputs=[0], outputs=[1]), "writes over")

    def test_an_input_that_is_a_constant_is_refused(self) -> None:
        refused(tiny_models.model([TensorSpec("w", (1,), values=[1])], [], inputs=[0], outputs=[]), "is a constant")

    def test_an_output_that_nothing_makes_is_refused(self) -> None:
        refused(tiny_models.model([TensorSpec("y", (1,))], [], inputs=[], outputs=[0]), "nothing makes")

    def test_variables_and_empty_tensors_may_be_read(self) -> None:
        tensors = [TensorSpec("state", (1, 2), is_variable=True), TensorSpec("y", (1, 2)), TensorSpec("none", (0,))]
        operators = [OperatorSpec(25, (0,), (1,), 9)]
        assert check(tiny_models.model(tensors, operators, inputs=[], outputs=[1, 2]), LITERT)

    @pytest.mark.parametrize("target", [0, 7, -1], ids=["itself", "missing", "negative"])
    def test_a_subgraph_that_calls_itself_or_none_is_refused(self, target: int) -> None:
        options = {0: Scalar("i", target), 1: Scalar("i", target)}
        tensors = [TensorSpec("condition", (1,), "bool"), TensorSpec("y", (1,))]
        refused(one_op(OperatorSpec(118, (0,), (1,), 92, options), tensors), "subgraph")

    def test_a_loop_without_options_is_refused(self) -> None:
        tensors = [TensorSpec("condition", (1,), "bool"), TensorSpec("y", (1,))]
        refused(one_op(OperatorSpec(118, (0,), (1,)), tensors), "which subgraph")


def convolution(
    *,
    image: tuple[int, ...] = (1, 8, 8, 4),
    weights: tuple[int, ...] = (2, 3, 3, 4),
    bias: int = 2,
    made: tuple[int, ...] = (1, 8, 8, 2),
    stride: int = 1,
    dilation: int = 1,
    inputs: tuple[int, ...] = (0, 1, 2),
    axis: int | None = None,
    options_type: int = 1,
    signature: tuple[int, ...] | None = None,
) -> bytes:
    size = 1
    for length in weights:
        size *= length
    scale = None if axis is None else [0.1] * weights[axis]
    tensors = [
        TensorSpec("image", image, shape_signature=signature),
        TensorSpec("weights", weights, "float32", scale, 0, axis or 0, values=[1.0] * size),
        TensorSpec("bias", (bias,), values=[0.0] * bias),
        TensorSpec("made", made),
    ]
    names = (stride, stride, 0, dilation, dilation)
    options = {0: Scalar("b", 0)} | {
        slot + 1: Scalar("b" if slot == 2 else "i", value) for slot, value in enumerate(names)
    }
    return one_op(OperatorSpec(CONV_2D, inputs, (3,), options_type, options), tensors)


class TestConvolution:
    def test_a_good_one_passes(self) -> None:
        assert check(convolution(), LITERT)
        assert check(convolution(axis=0), LITERT)
        assert check(convolution(weights=(2, 3, 3, 2)), LITERT)
        assert check(convolution(stride=3, made=(1, 3, 3, 2)), LITERT)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"stride": 0}, "stride"),
            ({"stride": -1}, "stride"),
            ({"dilation": 0}, "dilation"),
            ({"weights": (2, 3, 3, 3)}, "other channels"),
            ({"weights": (3, 3, 3, 2), "bias": 3, "made": (1, 8, 8, 3)}, "other channels"),
            ({"weights": (2, 3, 12)}, "4 axes"),
            ({"bias": 3}, "bias of another length"),
            ({"image": (1, 8, 8)}, "4 axes"),
            ({"inputs": (0, 1)}, "inputs that it needs"),
            ({"inputs": (0, 1, -1)}, "not optional"),
            ({"inputs": (0, -1, 2)}, "not optional"),
            ({"axis": 3}, "another axis"),
            ({"options_type": 5}, "another op's options"),
            ({"made": (1, 8, 7, 2)}, "does not make the shape"),
            ({"image": (1, 0, 8, 4)}, ""),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_a_kernel_that_would_divide_by_zero_or_read_outside_is_refused(
        self, change: dict[str, object], words: str
    ) -> None:
        refused(convolution(**change), words)  # type: ignore[arg-type]

    def test_an_open_shape_is_left_to_the_engine(self) -> None:
        assert check(convolution(image=(1, 1, 1, 1), signature=(-1, -1, -1, -1), made=(1, 8, 8, 2)), LITERT)

    def test_missing_options_are_a_stride_of_0(self) -> None:
        refused(convolution(options_type=0), "stride")

    def test_a_depthwise_convolution_without_a_bias_is_refused(self) -> None:
        # It ends tflite-runtime 2.14 and LiteRT 2.3 by SIGSEGV.
        tensors = [
            TensorSpec("image", (1, 4, 4, 2)),
            TensorSpec("weights", (1, 3, 3, 2), values=[1.0] * 18),
            TensorSpec("made", (1, 4, 4, 2)),
        ]
        options = {1: Scalar("i", 1), 2: Scalar("i", 1), 3: Scalar("i", 1)}
        refused(one_op(OperatorSpec(4, (0, 1), (2,), 2, options), tensors), "inputs that it needs")


class TestShapes:
    """What an op makes, against the shape that the file states; all sizes worked out by hand."""

    @pytest.mark.parametrize(
        ("op", "options_type", "options", "shapes", "constant", "made"),
        [
            (25, 9, {}, [(1, 4)], None, (1, 4)),
            (0, 11, {}, [(1, 4), (3, 1)], None, (3, 4)),
            (2, 10, {0: Scalar("i", 1)}, [(1, 2, 3), (1, 4, 3)], None, (1, 6, 3)),
            (2, 10, {0: Scalar("i", -1)}, [(1, 2), (1, 3)], None, (1, 5)),
            (40, 27, {}, [(1, 5, 6, 3)], [1, 2], (1, 3)),
            (40, 27, {0: Scalar("b", 1)}, [(1, 5, 6, 3)], [-1], (1, 5, 6, 1)),
            (34, 0, {}, [(2, 3)], [1, 0, 2, 2], (3, 7)),
            (39, 0, {}, [(2, 3, 4)], [2, 0, 1], (4, 2, 3)),
            (69, 0, {}, [(2, 3)], [1, 4], (2, 12)),
            (22, 17, {}, [(2, 6)], [3, -1], (3, 4)),
            (17, 5, {0: Scalar("b", 1), 1: Scalar("i", 2), 2: Scalar("i", 2), 3: Scalar("i", 2), 4: Scalar("i", 3)},
             [(1, 9, 8, 3)], None, (1, 4, 4, 3)),
        ],
        ids=[
            "softmax", "add", "concat", "concat -1", "mean", "mean kept", "pad", "transpose", "tile", "reshape", "pool",
        ],
    )  # fmt: skip
    def test_the_right_shape_passes_and_another_is_refused(
        self,
        op: int,
        options_type: int,
        options: dict[int, Scalar],
        shapes: list[tuple[int, ...]],
        constant: list[int] | None,
        made: tuple[int, ...],
    ) -> None:
        def file(stated: tuple[int, ...]) -> bytes:
            tensors = [TensorSpec(f"x{index}", shape) for index, shape in enumerate(shapes)]
            count = len(tensors)
            places = list(range(count))
            if constant is not None:
                shape = (len(constant) // 2, 2) if op == 34 else (len(constant),)
                places.append(len(tensors))
                tensors.append(TensorSpec("constant", shape, "int32", values=constant))
            tensors.append(TensorSpec("made", stated))
            operator = OperatorSpec(op, tuple(places), (len(tensors) - 1,), options_type, options)
            return one_op(operator, tensors, tuple(range(count)))

        assert check(file(made), LITERT)
        refused(file((*made[:-1], made[-1] + 1)), "")

    def test_a_slice_with_masks(self) -> None:
        # x[0, 1:6:2, :] of (2, 8, 3): the first axis goes, (6 - 1) / 2 rounded up is 3.
        def file(stated: tuple[int, ...]) -> bytes:
            tensors = [TensorSpec("x", (2, 8, 3))]
            tensors += [
                TensorSpec(f"c{i}", (3,), "int32", values=v) for i, v in enumerate(([0, 1, 0], [1, 6, 0], [1, 2, 1]))
            ]
            tensors.append(TensorSpec("made", stated))
            options = {0: Scalar("i", 4), 1: Scalar("i", 4), 4: Scalar("i", 1)}
            return one_op(OperatorSpec(45, (0, 1, 2, 3), (4,), 32, options), tensors)

        assert check(file((3, 3)), LITERT)
        refused(file((4, 3)), "does not make")

    @pytest.mark.parametrize(
        ("op", "options_type", "values"),
        [(40, 27, [4]), (39, 0, [0, 0, 1, 2]), (34, 0, [1, 1, -1, 0, 0, 0, 0, 0]), (22, 17, [-1, -1]), (22, 17, [7])],
        ids=["axis", "order", "padding", "two open", "count"],
    )
    def test_constants_that_no_shape_follows_from_are_refused(
        self, op: int, options_type: int, values: list[int]
    ) -> None:
        shape = (4, 2) if op == 34 else (len(values),)
        tensors = [
            TensorSpec("x", (1, 2, 3, 4)),
            TensorSpec("c", shape, "int32", values=values),
            TensorSpec("y", (1, 24)),
        ]
        refused(one_op(OperatorSpec(op, (0, 1), (2,), options_type), tensors), "operator 0")


class TestNumbers:
    def test_scales_that_addition_cannot_bring_together_are_refused(self) -> None:
        # It ends tflite-runtime 2.14 by SIGABRT.
        tensors = [
            TensorSpec("a", (1, 4), "int8", 0.05, 0),
            TensorSpec("b", (1, 4), "int8", 0.05, 0),
            TensorSpec("sum", (1, 4), "int8", 1e-30, 0),
        ]
        refused(one_op(OperatorSpec(ADD, (0, 1), (2,), 11), tensors, (0, 1)), "scales")
        tensors[2] = TensorSpec("sum", (1, 4), "int8")
        refused(one_op(OperatorSpec(ADD, (0, 1), (2,), 11), tensors, (0, 1)), "without a scale")
        tensors[2] = TensorSpec("sum", (1, 4), "int8", 0.1, 0)
        assert check(one_op(OperatorSpec(ADD, (0, 1), (2,), 11), tensors, (0, 1)), LITERT)

    def test_a_scale_of_0_is_refused_where_a_kernel_divides_by_it(self) -> None:
        tensors = [TensorSpec("a", (1, 4), "int8", 0.0, 0), TensorSpec("b", (1, 4), "int8", 1 / 256, -128)]
        refused(one_op(OperatorSpec(25, (0,), (1,), 9), tensors), "scale 0")

    def test_text_where_numbers_belong_is_refused(self) -> None:
        tensors = [TensorSpec("a", (1, 4), "string"), TensorSpec("b", (1, 4))]
        refused(one_op(OperatorSpec(25, (0,), (1,), 9), tensors), "takes numbers")

    def test_a_dense_layer_of_another_length_is_refused(self) -> None:
        tensors = [TensorSpec("x", (1, 5)), TensorSpec("w", (2, 4), values=[0.0] * 8), TensorSpec("y", (1, 2))]
        refused(one_op(OperatorSpec(FULLY_CONNECTED, (0, 1, -1), (2,), 8), tensors), "another length")

    def test_a_reshape_that_changes_the_count_is_refused(self) -> None:
        options = {0: Vector("i", [1, 3])}
        tensors = [TensorSpec("x", (1, 4)), TensorSpec("y", (1, 3))]
        refused(one_op(OperatorSpec(RESHAPE, (0,), (1,), 17, options), tensors), "number of elements")


SMALL = {"int8": CLASSIFIER, "float32": tiny_models.classifier(dtype="float32")}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(SMALL)),
    st.lists(
        st.tuples(st.integers(0, 10_000), st.one_of(st.integers(0, 255), st.integers(0, 8))), min_size=1, max_size=4
    ),
)
def test_damage_is_refused_by_an_error_of_ours_or_passes(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL[name])
    for place, value in changes:
        data[place % len(data)] = value
    with suppress(EdgeInferError):
        check(bytes(data), TFLITE)


class TestOpsWithoutTensors:
    @pytest.mark.parametrize("op", ["CALL_ONCE", "UNPACK", "IF", "WHILE"])
    def test_an_op_that_makes_nothing_is_no_damage(self, op: str) -> None:
        # CALL_ONCE stands in every file with variables (READ_VARIABLE, ASSIGN_VARIABLE), and makes nothing.
        options_type, options = {
            "CALL_ONCE": (103, {0: Scalar("i", 1)}),
            "UNPACK": (64, {0: Scalar("i", 0)}),
            "IF": (92, {0: Scalar("i", 1), 1: Scalar("i", 1)}),
            "WHILE": (93, {0: Scalar("i", 1), 1: Scalar("i", 1)}),
        }[op]
        code = [row[0] for row in BUILTINS].index(op)
        calls = OperatorSpec(code, () if op == "CALL_ONCE" else (0,), (), options_type, options)
        data = tiny_models.model(
            [TensorSpec("x", (1,), "bool")], [calls], inputs=[0], outputs=[0], subgraphs=[tiny_models.EMPTY_SUBGRAPH]
        )
        assert check(data, LITERT).main.operators[0].op == op
        assert [one.op for one in summarize(data).ops] == [op]

    @pytest.mark.parametrize("given", range(5))
    @pytest.mark.parametrize("made", range(2))
    def test_any_number_of_tensors_of_any_op_is_answered(self, given: int, made: int) -> None:
        for code, shape, has_options in product(range(len(BUILTINS)), ((), (2,), (1, 2, 2, 2)), (False, True)):
            rule = RULES.get(BUILTINS[code][0])
            options = {place: Scalar("b", 1) for place in range(8)} if has_options and rule is not None else {}
            tensors = [TensorSpec(f"{place}", shape) for place in range(5)]
            one = OperatorSpec(
                code, tuple(range(given)), (4,) * made, rule.options_type if options and rule else 0, options
            )
            data = tiny_models.model(tensors, [one], inputs=[0, 1, 2, 3], outputs=[4 * made])
            with suppress(EdgeInferError):
                check(data, LITERT)
            with suppress(EdgeInferError):
                summarize(data)
            with suppress(EdgeInferError):
                read(parse(data))
