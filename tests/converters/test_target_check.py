"""A file held against targets: op versions, forbidden patterns, a GPU's and an Edge TPU's ops, and what is refused."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from tiny_compiled import compiled
from tiny_flatbuffer import Scalar
from tiny_models import OperatorSpec, TensorSpec

from converters.facts import ModelFacts
from converters.target_check import check_file, judged
from converters.targets import TARGETS, Target, target
from edgeinfer.errors import DamagedModelError, EdgeInferError, InputError, UnsupportedOpError
from edgeinfer.model.schema import parse
from edgeinfer.runtime.engines import installed_engines

HARD_SWISH, ROUND = 117, 116
GOOD = tiny_models.classifier(dtype="int8")
KERAS = ModelFacts("m", "keras", (), ())
SAVED = ModelFacts("m", "savedmodel", (), ())

with_litert = pytest.mark.skipif(
    all(engine.name != "litert" for engine in installed_engines()), reason="LiteRT is not installed"
)


def chain(*ops: int | OperatorSpec, dtype: str = "int8") -> bytes:
    """Ops that each turn one row of four numbers into the next."""
    scale = None if dtype == "float32" else 1 / 256
    tensors = [TensorSpec(f"net/layer_{n}/out", (1, 4), dtype, scale) for n in range(len(ops) + 1)]
    operators = [
        op if isinstance(op, OperatorSpec) else OperatorSpec(op, (n,), (n + 1,), version=1) for n, op in enumerate(ops)
    ]
    return tiny_models.model(tensors, operators, inputs=[0], outputs=[len(ops)])


def dense(version: int, *, channels: int = 1, dtype: str = "float32") -> bytes:
    weights = TensorSpec(
        "w", (2, 4), "int8", [0.1] * channels if channels > 1 else 0.1, values=[1] * 8, quantized_dimension=0
    )
    tensors = [TensorSpec("x", (1, 4), dtype), weights, TensorSpec("net/hidden/MatMul", (1, 2), dtype)]
    operator = OperatorSpec(tiny_models.FULLY_CONNECTED, (0, 1, -1), (2,), 8, version=version)
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=[2])


def places(data: bytes, machine: str | Target) -> Sequence[str]:
    return [one.runs_on for one in check_file(data, target(machine), run=False).verdicts]


# --- what every check says --------------------------------------------------------------------------


@pytest.mark.parametrize("machine", TARGETS, ids=lambda one: one.name)
def test_there_is_one_row_for_every_op(machine: Target) -> None:
    found = check_file(GOOD, machine, run=False)
    operators = parse(GOOD).main.operators
    assert [(one.index, one.op, one.version) for one in found.verdicts] == [
        (one.index, one.op, one.version) for one in operators
    ]
    assert sum(found.counts.values()) == len(operators)


@with_litert
def test_an_engine_that_is_here_runs_the_file_and_one_that_is_not_is_said() -> None:
    found = check_file(GOOD, target("edgetpu"))
    assert any(note.startswith("Run here: litert") for note in found.notes)
    if all(engine.name != "tflite-runtime" for engine in installed_engines()):
        assert any(note.startswith("Not run in tflite-runtime") for note in found.notes)


def test_rows_of_a_tried_engine_say_so_and_those_of_a_telephone_do_not() -> None:
    assert {one.evidence for one in check_file(GOOD, target("cpu"), run=False).verdicts} == {"tried"}
    assert {one.evidence for one in check_file(GOOD, target("android"), run=False).verdicts} == {"documented"}


# --- processors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "good"), [("cpu", True), ("raspberrypi", True), ("raspberrypi32", False)])
def test_a_version_above_an_engines_ceiling_is_refused_with_layer_and_cure(name: str, good: bool) -> None:
    # tflite-runtime 2.14 says of it: "Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'".
    found = check_file(dense(12, channels=2), target(name), run=False)
    assert (found.good, found.exit_code) == ((True, 0) if good else (False, 5))
    if not good:
        (row,) = found.refused
        assert (row.layer, row.op, row.version, found.loads) == ("hidden", "FULLY_CONNECTED", 12, False)
        assert "version 10" in row.reason
        assert row.reason.endswith("convert with --target raspberrypi32")


def test_no_conversion_is_offered_where_none_lowers_the_version() -> None:
    # What convert lowers is FULLY_CONNECTED with float activations, from 12 to 9.
    (row,) = check_file(chain(OperatorSpec(tiny_models.LOGISTIC, (0,), (1,), version=99)), target("cpu")).refused
    assert "--target" not in row.reason
    assert row.reason.endswith("replace the layer, or use a runtime that takes version 99")
    (row,) = check_file(dense(12, dtype="int8"), target("raspberrypi32"), run=False).refused
    assert "--target" not in row.reason


def test_a_target_of_ones_own_is_called_by_its_file() -> None:
    own = Target("board", ("tflite-runtime",), forbidden=("dense-scale-per-channel",))
    for word, said in (("my boards/b.json", "--target 'my boards/b.json'"), ("", "--target board.json")):
        (row,) = check_file(dense(12, channels=2), own, word=word, run=False).refused
        assert row.reason.endswith(said)


def test_dense_weights_with_a_scale_per_channel_are_refused_in_any_version() -> None:
    assert places(dense(5, channels=2), "raspberrypi-tflite") == ["refused"]
    assert places(dense(5), "raspberrypi-tflite") == ["cpu"]
    assert places(dense(5, channels=2), "raspberrypi") == ["cpu"]


def test_an_op_that_ones_own_target_lacks_is_refused() -> None:
    own = Target("board", ("litert",), op_versions=(("LOGISTIC", 0),))
    found = check_file(chain(tiny_models.LOGISTIC), own, run=False)
    assert found.refused[0].reason == "board has no such op: replace the layer"


def test_floats_are_refused_where_a_target_of_ones_own_has_none() -> None:
    own = Target("board", ("litert",), floats=False)
    assert places(chain(tiny_models.LOGISTIC, dtype="float32"), own) == ["refused"]
    assert places(chain(tiny_models.LOGISTIC), own) == ["cpu"]


@pytest.mark.parametrize(
    ("settings", "data", "said"),
    [
        ({"schemes": ("int8",)}, dense(9), "is dynamic, and board runs int8: convert with --scheme int8."),
        ({"schemes": ("int8",)}, tiny_models.classifier(dtype="float32"), "is float32"),
        ({"schemes": ("int8", "float16")}, chain(tiny_models.LOGISTIC, dtype="int16"), "is int16x8"),
        ({"ios": ("uint8",)}, GOOD, "int8, and board takes uint8 there: convert with --io uint8."),
    ],
)
def test_a_form_that_a_target_does_not_take_is_refused(settings: Any, data: bytes, said: str) -> None:
    found = check_file(data, Target("board", ("litert",), **settings))
    assert (found.exit_code, found.loads) == (5, False)
    assert said in found.wrong
    assert check_file(data, Target("board", ("litert",)), run=False).good


@pytest.mark.parametrize("scheme", ["int8", "float16", "dynamic", "float32", "int16x8"])
def test_a_form_that_a_target_takes_is_not(scheme: Any) -> None:
    half = TensorSpec("w", (2, 4), "float16", values=[1.0] * 8)
    turned = OperatorSpec(tiny_models.DEQUANTIZE, (1,), (2,))
    used = OperatorSpec(tiny_models.FULLY_CONNECTED, (0, 2, -1), (3,), 8)
    tensors = [TensorSpec("x", (1, 4)), half, TensorSpec("v", (2, 4)), TensorSpec("y", (1, 2))]
    data = {
        "int8": GOOD,
        "float16": tiny_models.model(tensors, [turned, used], inputs=[0], outputs=[3]),
        "dynamic": dense(9),
        "float32": tiny_models.classifier(dtype="float32"),
        "int16x8": chain(tiny_models.LOGISTIC, dtype="int16"),
    }
    own = Target("board", ("litert",), schemes=(scheme,))
    good = [name for name, file in data.items() if not check_file(file, own, run=False).wrong]
    # Small layers stay float32 in "dynamic".
    assert good == (["dynamic", "float32"] if scheme == "dynamic" else [scheme])


@pytest.mark.parametrize(
    ("code", "said"), [("FlexErf", "TensorFlow itself"), ("MyOp", "custom op"), ("edgetpu-custom-op", "compiled for")]
)
def test_a_custom_op_is_refused(code: str, said: str) -> None:
    data = chain(OperatorSpec(tiny_models.CUSTOM, (0,), (1,), custom_code=code))
    found = check_file(data, target("cpu"))
    assert said in found.refused[0].reason
    assert not found.loads


def test_the_custom_op_that_every_engine_has_is_not() -> None:
    data = chain(OperatorSpec(tiny_models.CUSTOM, (0,), (1,), custom_code="NumericVerify"))
    assert places(data, "raspberrypi-tflite") == ["cpu"]


# --- Android ----------------------------------------------------------------------------------------


def test_the_gpu_takes_what_its_documentation_names() -> None:
    found = check_file(chain(tiny_models.LOGISTIC, ROUND, tiny_models.LOGISTIC), target("android-gpu"), run=False)
    # Two groups of one: the delegate takes one of them.
    assert [one.runs_on for one in found.verdicts] == ["gpu", "cpu", "cpu"]
    assert {one.evidence for one in found.verdicts} == {"documented"}
    assert "upper bound" in found.notes[0]
    assert found.good


def test_a_file_of_which_the_gpu_gets_nothing_is_not_for_it() -> None:
    assert check_file(chain(ROUND), target("android-gpu"), run=False).exit_code == 5


@pytest.mark.parametrize("name", ["android", "android-gpu"])
def test_an_app_is_told_of_metadata_of_int8_and_of_memory_pages(name: str) -> None:
    notes = " ".join(check_file(GOOD, target(name), path=Path("b.tflite"), run=False).notes)
    assert "`edgeinfer-convert annotate b.tflite " in notes
    assert "--io uint8" in notes
    assert "LiteRT 1.4.0" in notes
    good = tiny_models.classifier(dtype="uint8", labels=("a", "b", "c", "d"), normalization=(0.0, 255.0))
    notes = " ".join(check_file(good, target(name), run=False).notes)
    assert "carries TFLite Metadata" in notes
    assert "--io uint8" not in notes


def test_the_line_that_writes_metadata_can_be_copied() -> None:
    path = Path("my models") / ("a_long_name_" * 9 + ".tflite")
    text = str(check_file(GOOD, target("android"), path=path, run=False))
    (line,) = [line for line in text.splitlines() if "edgeinfer-convert annotate" in line]
    command = shlex.split(line.split("`")[1])
    # The file ends in a softmax over one row.
    expected = ["--task", "classification", "--labels", "labels.txt", "--normalization", "MEAN", "STD"]
    assert command == ["edgeinfer-convert", "annotate", str(path), *expected]


def test_a_task_that_the_file_does_not_tell_is_left_to_the_reader() -> None:
    notes = " ".join(check_file(chain(HARD_SWISH), target("android"), run=False).notes)
    assert "annotate model.tflite --task TASK --normalization MEAN STD`" in notes


def test_nothing_is_to_be_written_into_a_file_that_is_refused() -> None:
    notes = " ".join(check_file(chain(OperatorSpec(ROUND, (0,), (1,), version=99)), target("android")).notes)
    assert "no TFLite Metadata" in notes
    assert "annotate" not in notes


# --- Edge TPU ---------------------------------------------------------------------------------------


def test_a_float_end_of_an_edge_tpu_file_is_a_note_and_no_refusal() -> None:
    # As the output of a public MoveNet.
    tensors = [TensorSpec("x", (1, 4), "int8", 0.1), TensorSpec("t", (1, 4), "int8", 1 / 256), TensorSpec("y", (1, 4))]
    operators = [OperatorSpec(tiny_models.LOGISTIC, (0,), (1,)), OperatorSpec(tiny_models.DEQUANTIZE, (1,), (2,))]
    found = check_file(tiny_models.model(tensors, operators, inputs=[0], outputs=[2]), target("edgetpu"), run=False)
    assert found.good
    assert "The output `y` is float32: DEQUANTIZE on the processor; convert with --io int8." in found.notes
    notes = check_file(chain(tiny_models.LOGISTIC), target("edgetpu"), run=False).notes
    assert not any("The output" in note for note in notes)


def test_a_float_file_is_not_for_an_edge_tpu() -> None:
    assert "--scheme int8" in check_file(dense(9), target("edgetpu"), run=False).wrong


def test_an_edge_tpu_gets_its_ops_and_the_line_to_compile_them() -> None:
    found = check_file(chain(tiny_models.LOGISTIC, HARD_SWISH), target("edgetpu"), path=Path("b.tflite"), run=False)
    assert [one.runs_on for one in found.verdicts] == ["edgetpu", "cpu"]
    assert found.good
    # With the runtime version of the latest public libedgetpu.
    assert found.command == "edgetpu_compiler -s -m 14 b.tflite"
    assert str(found).endswith("Next:\n  edgetpu_compiler -s -m 14 b.tflite")


def test_nothing_on_the_chip_is_no_success() -> None:
    found = check_file(chain(HARD_SWISH), target("edgetpu"), run=False)
    assert found.exit_code == 5
    assert found.summary.startswith("1 op: none on the Edge TPU")
    assert found.command == ""


def test_what_stops_the_compiler_is_refused() -> None:
    # google-coral/edgetpu#631: a convolution with groups is CONV_2D version 6.
    tensors = [
        TensorSpec("x", (1, 4, 4, 4), "int8", 0.1),
        TensorSpec("w", (4, 1, 1, 2), "int8", 0.1, values=[1] * 8),
        TensorSpec("b", (4,), "int32", 0.01, values=[0] * 4),
        TensorSpec("net/grouped/conv", (1, 4, 4, 4), "int8", 0.1),
    ]
    strides = {1: Scalar("i", 1), 2: Scalar("i", 1)}
    operator = OperatorSpec(tiny_models.CONV_2D, (0, 1, 2), (3,), 1, strides, version=6)
    found = check_file(tiny_models.model(tensors, [operator], inputs=[0], outputs=[3]), target("edgetpu"), run=False)
    assert (found.exit_code, [one.runs_on for one in found.verdicts]) == (5, ["refused"])
    assert "`grouped`" in found.reasons()


def test_an_op_that_no_engine_runs_is_refused_for_the_chip_too() -> None:
    # The file must run where there is no chip.
    data = chain(tiny_models.LOGISTIC, OperatorSpec(ROUND, (1,), (2,), version=99))
    assert places(data, "edgetpu")[1] == "refused"


def test_a_compiled_file_is_not_predicted() -> None:
    with pytest.raises(InputError, match="compiled for an Edge TPU already") as caught:
        check_file(compiled(), target("edgetpu"), path=Path("b_edgetpu.tflite"))
    assert caught.value.next_step == "edgeinfer inspect b_edgetpu.tflite"
    assert caught.value.exit_code == 2


# --- the last gate of a conversion --------------------------------------------------------------------


@pytest.mark.parametrize("facts", [KERAS, SAVED], ids=["keras", "savedmodel"])
def test_a_file_that_its_target_takes_is_handed_on(facts: ModelFacts) -> None:
    assert judged(GOOD, facts, target("cpu")).good
    assert judged(chain(tiny_models.LOGISTIC), facts, target("edgetpu")).good


def test_a_file_that_its_target_refuses_is_not() -> None:
    with pytest.raises(UnsupportedOpError, match="`raspberrypi32` refuses") as caught:
        judged(dense(12, channels=2), KERAS, target("raspberrypi32"))
    assert "FULLY_CONNECTED v12 in `hidden`" in caught.value.received
    with pytest.raises(UnsupportedOpError, match="`edgetpu` refuses") as caught:
        judged(chain(HARD_SWISH), KERAS, target("edgetpu"))
    assert "none on the Edge TPU" in caught.value.received


def test_a_saved_model_whose_layers_would_be_replaced_is_refused_with_the_cure() -> None:
    data = chain(tiny_models.LOGISTIC, HARD_SWISH)
    assert judged(data, KERAS, target("edgetpu")).good
    with pytest.raises(UnsupportedOpError, match="SavedModel") as caught:
        judged(data, SAVED, target("edgetpu"))
    assert "HARD_SWISH version 1 in `layer_2`" in caught.value.received
    assert "`.keras`" in caught.value.next_step
    assert judged(data, SAVED, target("cpu")).good


# --- bad files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", TARGETS, ids=lambda one: one.name)
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip", GOOD[:200]], ids=["empty", "zip", "cut off"])
def test_what_is_no_model_is_refused(machine: Target, data: bytes) -> None:
    with pytest.raises(DamagedModelError):
        check_file(data, machine)


@given(st.data())
def test_a_damaged_file_is_answered_or_refused_and_nothing_else(data: Any) -> None:
    broken = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    machine = data.draw(st.sampled_from(TARGETS))
    try:
        found = check_file(bytes(broken), machine, run=False)
    except EdgeInferError:
        return
    assert found.to_json()["target"] == machine.name
    assert str(found)
