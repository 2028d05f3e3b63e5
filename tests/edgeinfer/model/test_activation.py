"""What a compiled op has left in an output is seen by its quantization: its last step is hidden."""

from __future__ import annotations

import pytest
import tiny_models
from tiny_models import CUSTOM, OperatorSpec, TensorSpec

from edgeinfer.model.activation import output_activation
from edgeinfer.model.schema import parse

pytestmark = pytest.mark.device


def compiled(*, shape: tuple[int, ...] = (1, 10), dtype: str = "uint8", scale: float = 1 / 256, zero: int = 0) -> bytes:
    tensors = [TensorSpec("image", (1, 8, 8, 3), dtype, 1 / 255, zero), TensorSpec("answer", shape, dtype, scale, zero)]
    operator = OperatorSpec(CUSTOM, (0,), (1,), custom_code="edgetpu-custom-op", custom_options=b"\0" * 16)
    return tiny_models.model(tensors, [operator], inputs=[0], outputs=[1])


@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({}, "softmax"),
        ({"dtype": "int8", "zero": -128}, "softmax"),
        ({"shape": (1, 1)}, "sigmoid"),
        ({"dtype": "int8", "zero": 0}, "none"),
        ({"scale": 0.01}, "none"),
    ],
    ids=["uint8", "int8", "one-number", "another-zero-point", "another-scale"],
)
def test_probabilities_have_the_scale_of_a_quantized_softmax(changes: dict[str, object], activation: str) -> None:
    graph = parse(compiled(**changes)).main  # type: ignore[arg-type]
    assert output_activation(graph, 1) == activation
