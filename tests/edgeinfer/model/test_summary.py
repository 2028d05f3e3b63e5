from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import pytest
import tiny_compiled
import tiny_models
from tiny_flatbuffer import Scalar
from tiny_models import OperatorSpec, TensorSpec

from edgeinfer.model.summary import OpCount, summarize

CLASSIFIER = tiny_models.classifier(classes=4, channels=3)


def one_op(operator: OperatorSpec, tensors: list[TensorSpec]) -> bytes:
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=list(operator.outputs))


def test_the_classifier_is_counted_by_hand() -> None:
    # Weights 4 x 3 and biases 4; the axes of MEAN are no parameters. The dense layer multiplies 3 inputs 4 times.
    found = summarize(CLASSIFIER)
    assert (found.parameters, found.macs, found.size_bytes) == (16, 12, len(CLASSIFIER))
    assert found.min_runtime_version == "1.14.0"
    assert found.ops == (
        OpCount(0, "FULLY_CONNECTED", 4, 1),
        OpCount(1, "SOFTMAX", 2, 1),
        OpCount(2, "MEAN", 2, 1),
    )


def test_the_runtime_version_is_said_to_be_the_converters_claim() -> None:
    lines = str(summarize(CLASSIFIER)).splitlines()
    assert "runtime   minimum TFLite runtime 1.14.0 (as the converter wrote it)" in lines
    bare = dataclasses.replace(summarize(CLASSIFIER), min_runtime_version=None)
    assert "runtime   minimum TFLite runtime not stated" in str(bare).splitlines()


@pytest.mark.parametrize(
    ("op", "options_type", "options", "shapes", "macs"),
    [
        # Output 4x4x2, each of 3x3x4 products.
        (3, 1, {1: Scalar("i", 2), 2: Scalar("i", 2)}, [(1, 8, 8, 4), (2, 3, 3, 4), (2,), (1, 4, 4, 2)], 1152),
        # Output 8x8x4, each of 3x3 products.
        (4, 2, {}, [(1, 8, 8, 4), (1, 3, 3, 4), (4,), (1, 8, 8, 4)], 8 * 8 * 4 * 9),
        # 5 rows of 7 inputs to 3 outputs.
        (9, 8, {}, [(5, 7), (3, 7), (3,), (5, 3)], 5 * 7 * 3),
    ],
    ids=["convolution", "depthwise", "dense"],
)  # fmt: skip
def test_multiply_accumulates_follow_from_the_shapes(
    op: int, options_type: int, options: dict[int, Scalar], shapes: list[tuple[int, ...]], macs: int
) -> None:
    tensors = [TensorSpec("x", shapes[0])]
    count = 0
    for name, shape in zip(("weights", "bias"), shapes[1:3], strict=True):
        size = 1
        for length in shape:
            size *= length
        count += size
        tensors.append(TensorSpec(name, shape, values=[0.0] * size))
    tensors.append(TensorSpec("y", shapes[3]))
    found = summarize(one_op(OperatorSpec(op, (0, 1, 2), (3,), options_type, options), tensors))
    assert (found.macs, found.parameters) == (macs, count)


def test_a_transposed_convolution_counts_from_its_input() -> None:
    # 4x4x6 inputs, each spread over 2x2 places of 3 outputs.
    tensors = [
        TensorSpec("size", (4,), "int32", values=[1, 8, 8, 3]),
        TensorSpec("weights", (3, 2, 2, 6), values=[0.0] * 72),
        TensorSpec("x", (1, 4, 4, 6)),
        TensorSpec("y", (1, 8, 8, 3)),
    ]
    operator = OperatorSpec(67, (0, 1, 2), (3,), 49, {1: Scalar("i", 2), 2: Scalar("i", 2)})
    found = summarize(tiny_models.model(tensors, [operator], inputs=[2], outputs=[3]))
    assert (found.macs, found.parameters) == (4 * 4 * 6 * 2 * 2 * 3, 72)


def test_a_matrix_product_counts_rows_columns_and_depth() -> None:
    tensors = [TensorSpec("a", (2, 3, 4)), TensorSpec("b", (2, 4, 5)), TensorSpec("y", (2, 3, 5))]
    data = tiny_models.model(tensors, [OperatorSpec(126, (0, 1), (2,), 101)], inputs=[0, 1], outputs=[2])
    assert summarize(data).macs == 2 * 3 * 4 * 5


def test_a_constant_that_two_operators_share_counts_once() -> None:
    tensors = [
        TensorSpec("x", (1, 2)),
        TensorSpec("w", (2, 2), values=[1, 0, 0, 1]),
        TensorSpec("y", (1, 2)),
        TensorSpec("z", (1, 2)),
    ]
    operators = [OperatorSpec(9, (0, 1, -1), (2,), 8), OperatorSpec(9, (2, 1, -1), (3,), 8)]
    found = summarize(tiny_models.model(tensors, operators, inputs=[0], outputs=[3]))
    assert (found.parameters, found.macs) == (4, 8)


def test_gzip_bytes_are_those_of_gzip() -> None:
    found = summarize(CLASSIFIER)
    assert found.gzip_bytes == len(gzip.compress(CLASSIFIER, 9, mtime=0))
    assert found.gzip_bytes < found.size_bytes


def test_json_has_the_documented_keys_and_nothing_that_json_does_not_know() -> None:
    record = {"schema": 1, "made": {"recipe": "int8"}}
    found = summarize(tiny_models.classifier(labels=["a", "b", "c", "d"], normalization=(0, 255), record=record))
    said = json.loads(json.dumps(found.to_json()))
    assert set(said) == {
        "inputs", "outputs", "ops", "parameters", "macs", "bytes", "metadata", "min_runtime_version", "edgetpu",
    }  # fmt: skip
    assert said["edgetpu"] is None
    assert said["ops"][0] == {"index": 0, "op": "FULLY_CONNECTED", "version": 4, "count": 1}
    assert said["inputs"][0]["normalization"] == {"mean": 0.0, "std": 255.0}
    assert said["outputs"][0]["labels"] == ["a", "b", "c", "d"]
    assert said["metadata"]["made"] == {"recipe": "int8"}


def test_the_text_shows_ends_ops_and_costs() -> None:
    text = str(summarize(CLASSIFIER))
    for words in ("`image` 1x8x8x3 int8", "softmax", "16 parameters", "12 MACs", "1 x MEAN v2", "1.14.0"):
        assert words in text


def test_resnet_8_agrees_with_the_published_counts(test_data: Path) -> None:
    # MLPerf Tiny: 78,666 Keras parameters, of which 4 x 240 of batch normalization are folded away; 12.50 M MACs,
    # which is 9 convolutions counted by hand: 442,368 + 2 x 2,359,296 + (1,179,648 + 2,359,296 + 131,072) x 2 + 640.
    found = summarize((test_data / "mlperf_tiny" / "ic" / "pretrainedResnet_quant.tflite").read_bytes())
    assert found.parameters == 78_666 - 4 * 240
    assert found.macs == 442_368 + 2 * 2_359_296 + 2 * (1_179_648 + 2_359_296 + 131_072) + 640


def test_mobilenet_v2_has_about_300_million(test_data: Path) -> None:
    # Table 4 of the MobileNetV2 paper (arXiv:1801.04381): 300 M multiply-adds, 3.4 M parameters.
    found = summarize((test_data / "coral" / "mobilenet_v2_1.0_224_quant.tflite").read_bytes())
    assert found.macs == pytest.approx(300e6, rel=0.01)
    assert found.parameters == pytest.approx(3.4e6, rel=0.05)


def test_a_file_that_is_not_compiled_says_nothing_of_the_edge_tpu() -> None:
    found = summarize(CLASSIFIER)
    assert found.to_json()["edgetpu"] is None
    assert "edgetpu" not in str(found)


def test_a_compiled_file_says_what_the_chip_gets() -> None:
    found = summarize(tiny_compiled.compiled())
    lines = [line for line in str(found).splitlines() if line.startswith("edgetpu")]
    # 4096 bytes are cached and 64 streamed; 1000 + 24 + 512 bytes of instructions.
    assert lines == [
        "edgetpu   op 0 is compiled, for runtime version 13 or later (libedgetpu)",
        "edgetpu   parameters: at least 4.0 KiB kept on the chip, 0.1 KiB sent with each inference; "
        "instructions 1.5 KiB, scratch memory 0.0 KiB",
        "edgetpu   takes `x` 4x4x3 int8, scale 0.5, zero point -3",
        "edgetpu   gives `y` 1x1x10 int8, scale 0.25, zero point -128",
    ]
    said = json.loads(json.dumps(found.to_json()))["edgetpu"]
    assert {key: said[key] for key in said if key != "ops"} == {
        "min_runtime_version": 13,
        "cached_bytes": 4096,
        "streamed_bytes": 64,
        "instruction_bytes": 1536,
    }
    (op,) = said["ops"]
    assert (op["operator"], op["caching_token"], op["executables"]) == (
        0,
        str(2**63 + 1),
        ["execution-only", "parameter-caching"],
    )
