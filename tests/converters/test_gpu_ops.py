"""Which ops Android's GPU delegate takes, by its documentation."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
from tiny_flatbuffer import Scalar
from tiny_models import OperatorSpec, TensorSpec

from converters.gpu_ops import gpu_reason
from edgeinfer.model.schema import parse

HARD_SWISH, ARG_MAX, STRIDED_SLICE = 117, 56, 45


def reason(operator: OperatorSpec, dtype: str = "int8") -> str:
    scale = 0.5 if dtype != "int32" else None
    tensors = [TensorSpec("x", (1, 4), dtype, scale), TensorSpec("y", (1, 4), dtype, scale)]
    graph = parse(tiny_models.model(tensors, [operator], inputs=[0], outputs=[1])).main
    return gpu_reason(graph, graph.operators[0])


def op(code: int, version: int = 1, options_type: int = 0, **fields: Any) -> OperatorSpec:
    return OperatorSpec(code, (0,), (1,), options_type, {int(key[1:]): one for key, one in fields.items()}, version)


@pytest.mark.parametrize("code", [tiny_models.LOGISTIC, tiny_models.RESHAPE, HARD_SWISH])
def test_what_the_documentation_or_the_source_names_is_taken(code: int) -> None:
    assert reason(op(code)) == ""


def test_what_neither_names_is_not() -> None:
    assert "not among" in reason(op(ARG_MAX))
    assert "not among" in reason(OperatorSpec(tiny_models.CUSTOM, (0,), (1,), custom_code="Own"))


def test_a_version_above_the_delegates_is_not() -> None:
    # model_builder.cc: CONV_2D and DEPTHWISE_CONV_2D up to 6, FULLY_CONNECTED up to 9.
    assert reason(op(tiny_models.FULLY_CONNECTED, 9)) == ""
    assert reason(op(tiny_models.FULLY_CONNECTED, 10)).startswith("version 10; the GPU delegate takes 9")


def test_16_bit_integers_are_not() -> None:
    assert "16-bit" in reason(op(tiny_models.LOGISTIC), "int16")


def test_a_slice_that_drops_an_axis_is_not() -> None:
    assert reason(op(STRIDED_SLICE, 1, 32, f0=Scalar("i", 1))) == ""
    assert "axis" in reason(op(STRIDED_SLICE, 1, 32, f4=Scalar("i", 1)))


def test_a_softmax_with_a_beta_is_not() -> None:
    assert reason(op(tiny_models.SOFTMAX, 1, 9, f0=Scalar("f", 1.0))) == ""
    assert "beta" in reason(op(tiny_models.SOFTMAX, 1, 9, f0=Scalar("f", 2.0)))
