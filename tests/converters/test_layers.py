from __future__ import annotations

import pytest
import tiny_models
from tiny_models import OperatorSpec, TensorSpec

from converters.layers import layer_of, operator_layer
from edgeinfer.model.schema import parse


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("functional/stem/Relu;functional/stem/convolution", "stem"),
        ("functional/block/conv/BiasAdd", "block/conv"),
        ("stem/Relu", "stem"),
        ("StatefulPartitionedCall_1:0", ""),
        ("", ""),
    ],
)
def test_a_tensors_name_tells_its_layer(tensor: str, layer: str) -> None:
    assert layer_of(tensor) == layer


def test_an_op_is_of_the_layer_that_its_first_telling_output_names() -> None:
    tensors = [
        TensorSpec("x", (1, 2)),
        TensorSpec("StatefulPartitionedCall:0", (1, 2)),
        TensorSpec("n/gate/mul", (1, 2)),
    ]
    graph = parse(tiny_models.model(tensors, [OperatorSpec(14, (0,), (1, 2))], inputs=[0], outputs=[1, 2])).main
    assert operator_layer(graph, graph.operators[0]) == "gate"
