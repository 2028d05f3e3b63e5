from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models

from converters.edgetpu.check import predict
from converters.edgetpu.sram import Memory, estimate_memory
from edgeinfer.model.payload import payloads
from edgeinfer.model.schema import parse

MIB = 2**20


def test_only_parameters_of_mapped_ops_count() -> None:
    # 4 x 3 weights and 4 biases of 4 bytes; the axes of MEAN are no parameter.
    graph = parse(tiny_models.classifier()).main
    whole = estimate_memory(graph, [0, 1, 2])
    assert (whole.constant_bytes, whole.low_bytes) == (12 + 16, 12)
    assert estimate_memory(graph, [0, 2]).constant_bytes == 0
    assert estimate_memory(graph, []) == Memory(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("low", "high", "fits"),
    [(5 * MIB, 7 * MIB, True), (7 * MIB, 9 * MIB, None), (8 * MIB, 11 * MIB, False)],
    ids=["fits", "unsure", "too large"],
)
def test_whether_it_fits_is_said_only_where_it_is_sure(low: int, high: int, fits: bool | None) -> None:
    memory = Memory(low, low, low, high)
    assert memory.fits is fits
    assert ("may not all fit" in memory.words) == (fits is None)
    assert memory.to_json()["fits"] is fits


@pytest.mark.parametrize(
    "name",
    [
        "deeplabv3_mnv2_dm05_pascal_quant",
        "keras_lstm_mnist_ptq",
        "mobilenet_v1_0.25_128_quant",
        "movenet_single_pose_lightning_ptq",
    ],
)
def test_what_the_compiler_made_lies_in_the_estimate(test_data: Path, name: str) -> None:
    memory = predict(parse((test_data / "coral" / f"{name}.tflite").read_bytes())).memory
    (held,) = payloads(parse((test_data / "coral" / f"{name}_edgetpu.tflite").read_bytes()))
    assert memory.low_bytes <= held.cached_bytes + held.streamed_bytes <= memory.high_bytes
