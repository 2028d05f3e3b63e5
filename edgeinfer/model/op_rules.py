"""What the kernels of the usual ops take for granted about their tensors and options.

An op that is not in the table is only checked for its place in the graph: the trial run answers for the rest.

Source: the op list of `schema.fbs` and the operator descriptions of tensorflow/tensorflow; measured against
tflite-runtime 2.14.0 with `benchmarks/mutations.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeinfer.errors import DamagedModelError
from edgeinfer.frozen import dataclass
from edgeinfer.model.schema import Operator, Subgraph
from edgeinfer.model.shapes import ShapeMismatch, output_shape
from edgeinfer.model.tensors import Tensor

_MANY = 1 << 30
_NOT_NUMBERS = frozenset({"string", "resource", "variant"})
# A missing bias, and the gates and projections that a recurrent layer may do without.
_OPTIONAL_INPUTS = frozenset(
    {
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
        "FULLY_CONNECTED",
        "LSTM",
        "SVDF",
        "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    }
)
# They hand tensors on and do not look inside.
_CARRIERS = frozenset({"IF", "WHILE", "CALL_ONCE", "SHAPE", "RANK", "RESHAPE", "GATHER", "EQUAL", "NOT_EQUAL"})
_QUANTIZED = frozenset({"int8", "uint8", "int16"})


@dataclass(frozen=True, slots=True)
class _Case:
    """One operator with its tensors; an absent optional input is None."""

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    def refuse(self, why: str, received: object = "", expected: str = "") -> DamagedModelError:
        """Return the error to raise."""
        return DamagedModelError(
            f"The model file is damaged: operator {self.operator.index} ({self.operator.op}) {why}.",
            received=str(received),
            expected=expected,
        )

    def input(self, place: int) -> Tensor:
        """Return an input that the arity rule has found present."""
        tensor = self.inputs[place]
        if tensor is None:
            raise self.refuse(f"has no input {place}")
        return tensor

    def option(self, name: str) -> int:
        """Return a whole-number option, 0 where the file has no options."""
        value = self.operator.options.get(name, 0)
        return value if isinstance(value, int) else 0


_Check = Callable[[_Case], None]


@dataclass(frozen=True, slots=True)
class _Rule:
    """Inputs that must be there, inputs and outputs that may be, the options' type, and what else must hold."""

    required: int
    most: int
    outputs: int = 1
    most_outputs: int = 1
    options_type: int = 0
    checks: tuple[_Check, ...] = ()


def check_operator(subgraph: Subgraph, operator: Operator) -> None:
    """Check one operator.

    Args:
        subgraph: Where it stands.
        operator: The operator.

    Raises:
        DamagedModelError: Its kernel could not live with it.
    """
    tensors = subgraph.tensors
    case = _Case(
        operator,
        tuple(tensors[index] if index >= 0 else None for index in operator.inputs),
        tuple(tensors[index] for index in operator.outputs),
    )
    if None in case.inputs and not operator.custom and operator.op not in _OPTIONAL_INPUTS:
        raise case.refuse("lacks an input that is not optional", operator.inputs)
    rule = CUSTOM_RULES.get(operator.op) if operator.custom else RULES.get(operator.op)
    if rule is None:
        return
    if not rule.required <= len(case.inputs) <= rule.most or None in case.inputs[: rule.required]:
        raise case.refuse("has not the inputs that it needs", operator.inputs, f"{rule.required} or more")
    if not rule.outputs <= len(case.outputs) <= rule.most_outputs:
        raise case.refuse("has not the outputs that it needs", operator.outputs, f"{rule.outputs} or more")
    if rule.options_type and operator.options_type not in (0, rule.options_type):
        raise case.refuse("has another op's options", f"type {operator.options_type}", f"type {rule.options_type}")
    for tensor in (*case.inputs, *case.outputs):
        if tensor is not None and operator.op not in _CARRIERS:
            _check_tensor(case, tensor)
    for one in rule.checks:
        one(case)
    _check_shape(case)


def _check_tensor(case: _Case, tensor: Tensor) -> None:
    if tensor.dtype in _NOT_NUMBERS:
        raise case.refuse(f"takes numbers, but `{tensor.name}` is {tensor.dtype}")
    if tensor.constant is None and tensor.dtype in _QUANTIZED and tensor.scale and min(tensor.scale) == 0:
        # Kernels divide by it.
        raise case.refuse(f"has `{tensor.name}` with scale 0", expected="a scale above 0")


def _check_shape(case: _Case) -> None:
    """The stated shape is the one that the op makes; an empty or open statement says nothing."""
    if not case.outputs:  # CALL_ONCE, and what is done for its side effects
        return
    stated = case.outputs[0]
    try:
        made = output_shape(case.operator, case.inputs)
    except ShapeMismatch as error:
        raise case.refuse("has inputs that do not fit each other", error) from error
    if made is not None and not stated.is_open and made != stated.shape:
        raise case.refuse(f"does not make the shape of `{stated.name}`", f"{stated.shape} in the file", f"{made}")


def _strides(case: _Case) -> None:
    for name in ("stride_w", "stride_h"):
        if case.option(name) < 1:
            raise case.refuse(f"has an impossible {name}", case.option(name), "1 or more")
    for name in ("dilation_w", "dilation_h"):
        if name in case.operator.options and case.option(name) < 1:
            raise case.refuse(f"has an impossible {name}", case.option(name), "1 or more")
    if not 0 <= case.option("padding") <= 1:
        raise case.refuse("has a padding that is not known", case.option("padding"), "0 or 1")


def _activation(case: _Case) -> None:
    if not 0 <= case.option("activation") <= 5:
        raise case.refuse("has an activation that is not known", case.option("activation"), "0..5")


def _window(case: _Case) -> None:
    for name in ("filter_w", "filter_h"):
        if case.option(name) < 1:
            raise case.refuse(f"has an impossible {name}", case.option(name), "1 or more")
    _rank(case, case.input(0), 4)


def _rank(case: _Case, tensor: Tensor, rank: int) -> None:
    if len(tensor.shape) != rank and not tensor.is_open:
        raise case.refuse(f"needs {rank} axes in `{tensor.name}`", tensor.shape)


def _convolution(case: _Case, axis: int = 0) -> None:
    """Weights (out, height, width, in), for depthwise (1, height, width, out); one scale per output channel."""
    weights = case.input(1)
    _rank(case, weights, 4)
    if weights.is_open:
        return
    if not weights.elements:
        raise case.refuse("has weights without elements", weights.shape)
    _per_channel(case, weights, axis)
    if case.operator.op != "TRANSPOSE_CONV":
        _rank(case, case.input(0), 4)
        _bias(case, case.input(2), weights.shape[axis])


def _conv_2d(case: _Case) -> None:
    _convolution(case)
    image, weights = case.input(0), case.input(1)
    if image.is_open or weights.is_open:
        return
    # More channels than the weights have mean groups, and the outputs are dealt out to these.
    groups, rest = divmod(image.shape[3], weights.shape[3])
    if rest or not groups or weights.shape[0] % groups:
        raise case.refuse("has weights for other channels", f"{weights.shape} on {image.shape}")


def _depthwise(case: _Case) -> None:
    _convolution(case, axis=3)
    image, weights, multiplier = case.input(0), case.input(1), case.option("depth_multiplier")
    if image.is_open or weights.is_open:
        return
    if multiplier < 0 or not image.shape[3] or weights.shape[3] % image.shape[3]:
        raise case.refuse("has weights for other channels", f"{weights.shape} on {image.shape}")


def _transpose_conv(case: _Case) -> None:
    _convolution(case)
    _rank(case, case.input(2), 4)


def _fully_connected(case: _Case) -> None:
    weights, values = case.input(1), case.input(0)
    _rank(case, weights, 2)
    if weights.is_open or values.is_open:
        return
    if not weights.elements or values.elements % weights.shape[1]:
        raise case.refuse("has weights of another length", f"{weights.shape} on {values.shape}")
    _per_channel(case, weights, 0)
    if case.option("weights_format") not in (0, 1):
        raise case.refuse("has a weights format that is not known", case.option("weights_format"), "0 or 1")
    if case.option("weights_format") == 0:
        _bias(case, case.inputs[2] if len(case.inputs) > 2 else None, weights.shape[0])


def _per_channel(case: _Case, weights: Tensor, axis: int) -> None:
    if len(weights.scale) > 1 and weights.quantized_dimension != axis:
        raise case.refuse("has weights with scales along another axis", weights.quantized_dimension, f"axis {axis}")


def _bias(case: _Case, bias: Tensor | None, channels: int) -> None:
    if bias is not None and not bias.is_open and bias.elements != channels:
        raise case.refuse("has a bias of another length", bias.shape, f"{channels}")


def _reshape(case: _Case) -> None:
    """The new shape is a tensor or an option, and holds as many elements."""
    if len(case.inputs) == 1 and not case.operator.options:
        raise case.refuse("does not say the new shape")
    values, made = case.input(0), case.outputs[0]
    if values.elements != made.elements and not values.is_open and not made.is_open:
        raise case.refuse("changes the number of elements", f"{values.shape} to {made.shape}")


def _sum_scales(case: _Case) -> None:
    """The kernel brings both inputs to one scale, shifted left by 20 bits (15 for int16), and must fit the output."""
    first, second, output = case.input(0), case.input(1), case.outputs[0]
    if output.dtype not in _QUANTIZED:
        return
    if not (first.scale and second.scale and output.scale):
        if output.dtype != "int16":
            raise case.refuse(f"adds {output.dtype} without a scale")
        return
    largest = 2 * max(first.scale[0], second.scale[0])
    if min(first.scale[0], second.scale[0]) == 0 or largest >= output.scale[0] * (1 << 15):
        raise case.refuse("has scales that cannot be added", (first.scale[0], second.scale[0], output.scale[0]))


def _axes(case: _Case) -> None:
    """Axes that are constants lie in the input's rank."""
    values, axes = case.input(0), case.input(1)
    rank = len(values.shape)
    if axes.constant is not None and axes.dtype == "int32" and rank:
        for axis in axes.constant.cast("i") if len(axes.constant) % 4 == 0 else ():
            if not -rank <= axis < rank:
                raise case.refuse("has an axis outside its input", axis, f"{-rank}..{rank - 1}")


def _options_present(case: _Case) -> None:
    if not case.operator.options:
        raise case.refuse("does not say which subgraph")


def _block(case: _Case) -> None:
    if case.option("block_size") < 1:
        raise case.refuse("has an impossible block size", case.option("block_size"), "1 or more")


_LSTM_DTYPES = frozenset({"float32", "int8", "uint8", "int16", "int32"})
_LSTM_REQUIRED = frozenset({0, 2, 3, 4, 6, 7, 8, 13, 14, 15, 18, 19})


def _lstm(case: _Case) -> None:
    missing = [place for place in sorted(_LSTM_REQUIRED) if case.inputs[place : place + 1] in ((), (None,))]
    if missing:
        raise case.refuse("has not the inputs that it needs", case.operator.inputs, f"input {missing[0]}")
    for tensor in (*case.inputs, *case.outputs):
        if tensor is not None and tensor.dtype not in _LSTM_DTYPES:
            raise case.refuse(f"cannot work with `{tensor.name}`", tensor.dtype, ", ".join(sorted(_LSTM_DTYPES)))


_CONVOLUTION = (_strides, _activation)

RULES: dict[str, _Rule] = {
    "ADD": _Rule(2, 2, options_type=11, checks=(_activation, _sum_scales)),
    "SUB": _Rule(2, 2, options_type=28, checks=(_activation, _sum_scales)),
    "MUL": _Rule(2, 2, options_type=21, checks=(_activation,)),
    "DIV": _Rule(2, 2, options_type=29, checks=(_activation,)),
    "AVERAGE_POOL_2D": _Rule(1, 1, options_type=5, checks=(*_CONVOLUTION, _window)),
    "MAX_POOL_2D": _Rule(1, 1, options_type=5, checks=(*_CONVOLUTION, _window)),
    "L2_POOL_2D": _Rule(1, 1, options_type=5, checks=(*_CONVOLUTION, _window)),
    "CONCATENATION": _Rule(1, _MANY, options_type=10, checks=(_activation,)),
    "CONV_2D": _Rule(3, 3, options_type=1, checks=(*_CONVOLUTION, _conv_2d)),
    "DEPTHWISE_CONV_2D": _Rule(3, 3, options_type=2, checks=(*_CONVOLUTION, _depthwise)),
    "TRANSPOSE_CONV": _Rule(3, 4, options_type=49, checks=(_strides, _transpose_conv)),
    "FULLY_CONNECTED": _Rule(2, 3, 1, 2, options_type=8, checks=(_activation, _fully_connected)),
    "BATCH_MATMUL": _Rule(2, 2, options_type=101),
    "RESHAPE": _Rule(1, 2, options_type=17, checks=(_reshape,)),
    "SQUEEZE": _Rule(1, 1, options_type=30),
    "SOFTMAX": _Rule(1, 1, options_type=9),
    "SPACE_TO_DEPTH": _Rule(1, 1, options_type=19, checks=(_block,)),
    "DEPTH_TO_SPACE": _Rule(1, 1, options_type=94, checks=(_block,)),
    "RESIZE_BILINEAR": _Rule(2, 2, options_type=15),
    "RESIZE_NEAREST_NEIGHBOR": _Rule(2, 2, options_type=74),
    "GATHER": _Rule(2, 2, options_type=23),
    "SPLIT": _Rule(2, 2, 1, _MANY, options_type=35),
    "SPLIT_V": _Rule(3, 3, 1, _MANY, options_type=79),
    "PACK": _Rule(1, _MANY, options_type=59),
    "UNPACK": _Rule(1, 1, 0, _MANY, options_type=64),
    "STRIDED_SLICE": _Rule(4, 4, options_type=32),
    "TOPK_V2": _Rule(2, 2, 2, 2),
    "ARG_MAX": _Rule(2, 2, options_type=40, checks=(_axes,)),
    "ARG_MIN": _Rule(2, 2, options_type=57, checks=(_axes,)),
    "CAST": _Rule(1, 1, options_type=37),
    "LEAKY_RELU": _Rule(1, 1, options_type=75),
    "MIRROR_PAD": _Rule(2, 2, options_type=77),
    "ONE_HOT": _Rule(4, 4, options_type=61),
    "IF": _Rule(1, _MANY, 0, _MANY, options_type=92, checks=(_options_present,)),
    "WHILE": _Rule(1, _MANY, 0, _MANY, options_type=93, checks=(_options_present,)),
    "CALL_ONCE": _Rule(0, 0, 0, 0, options_type=103, checks=(_options_present,)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _Rule(1, 24, options_type=71, checks=(_lstm,)),
}
_SAME_RULE: tuple[tuple[_Rule, str], ...] = (
    (
        _Rule(2, 2, options_type=27, checks=(_axes,)),
        "MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL",
    ),
    (
        _Rule(1, 1),
        "ABS CEIL COS DEQUANTIZE ELU EXP FLOOR GELU HARD_SWISH L2_NORMALIZATION LOG LOGICAL_NOT LOGISTIC LOG_SOFTMAX "
        "NEG QUANTIZE RANK RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SHAPE SIGN SIN SQRT SQUARE TANH WHERE "
        "ZEROS_LIKE",
    ),
    (
        _Rule(2, 2),
        "BROADCAST_TO CUMSUM EQUAL EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD GATHER_ND GREATER GREATER_EQUAL LESS "
        "LESS_EQUAL LOGICAL_AND LOGICAL_OR MAXIMUM MINIMUM NOT_EQUAL PAD POW PRELU REVERSE_V2 SQUARED_DIFFERENCE "
        "TILE TRANSPOSE",
    ),
    (_Rule(3, 3), "BATCH_TO_SPACE_ND PADV2 RANGE SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND"),
)
for _rule, _names in _SAME_RULE:
    RULES.update(dict.fromkeys(_names.split(), _rule))
CUSTOM_RULES: dict[str, _Rule] = {"TFLite_Detection_PostProcess": _Rule(3, 3, 4, 4)}
