"""The converter's messages, as TensorFlow 2.21 wrote them, become an op, a layer and a cure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from converters.errors import ConversionError
from converters.quantize.refusal import explain_refusal
from edgeinfer.errors import UnsupportedOpError

SELECT = """Could not translate MLIR to FlatBuffer.script.py:1:1: error: 'tf.MatrixDeterminant' op is neither a \
custom op nor a flex op
<unknown>:0: error: failed while converting: 'main':
Some ops are not supported by the native TFLite runtime, you can enable TF kernels fallback using TF Select.
TF Select ops: MatrixDeterminant
Details:
\ttf.MatrixDeterminant(tensor<1x2x2xf32>) -> (tensor<1xf32>) : {device = ""}
"""


def graph(**nodes: str) -> Any:
    """A graph of nodes: name with "/" for "__" to op."""
    made = [SimpleNamespace(name=name.replace("__", "/"), op=op) for name, op in nodes.items()]
    return SimpleNamespace(node=made, library=SimpleNamespace(function=[]))


def test_an_op_that_tensorflow_lite_lacks_is_named_with_its_layer() -> None:
    nodes = graph(model_1__stem_1__Conv2D="Conv2D", model_1__area_1__MatrixDeterminant="MatrixDeterminant")
    error = explain_refusal(SELECT, "int8", nodes, ["stem", "area"])
    assert isinstance(error, UnsupportedOpError)
    assert error.received == "`MatrixDeterminant` in layer `area`"


def test_a_layer_of_a_nested_model_is_named_with_its_model() -> None:
    nodes = graph(model_1__base_1__area_1__MatrixDeterminant="MatrixDeterminant")
    error = explain_refusal(SELECT, "int8", nodes, ["base/area"])
    assert error.received == "`MatrixDeterminant` in layer `base/area`"


def test_an_op_without_a_kernel_in_the_scheme_is_named_with_the_cure() -> None:
    text = "Quantization to 16x8-bit not yet supported for op: 'CONV_3D'.\n"
    error = explain_refusal(text, "int16x8", graph(m__volume__Conv3D="Conv3D"), ["volume"])
    assert isinstance(error, UnsupportedOpError)
    assert error.received == "`CONV_3D` in layer `volume`"
    assert 'scheme "int8"' in error.next_step


def test_a_recurrent_loop_is_cured_by_unrolling() -> None:
    text = "<string>:6:1: error: 'tf.TensorListReserve' op requires element_shape to be static during TF Lite"
    error = explain_refusal(text, "int8", graph(m__loop__TensorListReserve="TensorListReserve"), ["loop"])
    assert "unroll=True" in error.next_step


def test_anything_else_is_a_conversion_error_that_quotes_the_message() -> None:
    error = explain_refusal("reshape.cc:94 3 != 4", "int8", graph(), [])
    assert isinstance(error, ConversionError)
    assert "reshape.cc:94 3 != 4" in error.received
