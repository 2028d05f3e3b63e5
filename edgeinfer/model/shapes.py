"""The shapes that ops make of their inputs, as far as that can be told from the file.

An engine computes every shape again and trusts the result. So where a file states another shape than its ops
make, weights and tensors no longer fit, and a kernel that does not look reads outside its memory.

Source: the operator descriptions of tensorflow/tensorflow; padding as in "Convolution" of the TensorFlow API
documentation: SAME is ceil(size / stride), VALID is ceil((size - window + 1) / stride).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from edgeinfer.model.schema import Operator
from edgeinfer.model.tensors import Tensor

Shape = tuple[int, ...]

_SAME = 0
_SAME_SHAPE = frozenset(
    {
        "ABS",
        "CAST",
        "CEIL",
        "COS",
        "CUMSUM",
        "DEQUANTIZE",
        "ELU",
        "EXP",
        "FLOOR",
        "GELU",
        "HARD_SWISH",
        "L2_NORMALIZATION",
        "LEAKY_RELU",
        "LOG",
        "LOGICAL_NOT",
        "LOGISTIC",
        "LOG_SOFTMAX",
        "NEG",
        "QUANTIZE",
        "RELU",
        "RELU6",
        "RELU_0_TO_1",
        "RELU_N1_TO_1",
        "REVERSE_V2",
        "ROUND",
        "RSQRT",
        "SIGN",
        "SIN",
        "SOFTMAX",
        "SQRT",
        "SQUARE",
        "TANH",
        "ZEROS_LIKE",
    }
)
_BROADCAST = frozenset(
    {
        "ADD",
        "DIV",
        "EQUAL",
        "FLOOR_DIV",
        "FLOOR_MOD",
        "GREATER",
        "GREATER_EQUAL",
        "LESS",
        "LESS_EQUAL",
        "LOGICAL_AND",
        "LOGICAL_OR",
        "MAXIMUM",
        "MINIMUM",
        "MUL",
        "NOT_EQUAL",
        "POW",
        "PRELU",
        "SQUARED_DIFFERENCE",
        "SUB",
    }
)
_REDUCERS = frozenset({"MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL"})
_POOLS = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"})


class ShapeMismatch(ValueError):  # noqa: N818  (it never leaves this package: `op_rules` says it in its own words)
    """The inputs cannot be combined."""


def output_shape(operator: Operator, inputs: Sequence[Tensor | None]) -> Shape | None:
    """Return the shape that an op makes, or None where the file does not tell it.

    Args:
        operator: The op; strides, windows and block sizes are 1 or more.
        inputs: Its tensors, None where one is absent.

    Raises:
        ShapeMismatch: The inputs cannot be combined.
    """
    first = inputs[0] if inputs else None
    if first is None or any(tensor is not None and tensor.is_open for tensor in inputs):
        return None
    op, shape = operator.op, first.shape
    others = [tensor for tensor in inputs[1:] if tensor is not None]
    if op in _SAME_SHAPE:
        return shape
    if op in _BROADCAST and others:
        return _broadcast(shape, others[0].shape)
    if op in _POOLS:
        window = _number(operator, "filter_h"), _number(operator, "filter_w")
        return (shape[0], *_slide(operator, shape, window), shape[3])
    if op == "CONV_2D":
        weights = others[0].shape
        return (shape[0], *_slide(operator, shape, weights[1:3]), weights[0])
    if op == "DEPTHWISE_CONV_2D":
        weights = others[0].shape
        return (shape[0], *_slide(operator, shape, weights[1:3]), weights[3])
    if op == "CONCATENATION":
        return _concatenate([first.shape, *(tensor.shape for tensor in others)], _number(operator, "axis"))
    if op == "STRIDED_SLICE" and len(others) == 3:
        return _strided_slice(operator, shape, [_constant(tensor) for tensor in others])
    values = _constant(others[0]) if others else None
    if values is None:
        return None
    if op in _REDUCERS:
        return _reduce(shape, values, keep=bool(_number(operator, "keep_dims")))
    if op == "RESHAPE":
        return _reshape(first.elements, values)
    if op in ("PAD", "PADV2", "MIRROR_PAD"):
        return _pad(shape, values)
    if op == "TRANSPOSE":
        if sorted(values) != list(range(len(shape))):
            raise ShapeMismatch(f"order {values} of {len(shape)} axes")
        return tuple(shape[axis] for axis in values)
    if op == "TILE" and len(values) == len(shape):
        return tuple(length * times for length, times in zip(shape, values, strict=True))
    return None


def _number(operator: Operator, name: str, default: int = 0) -> int:
    value = operator.options.get(name, default)
    return value if isinstance(value, int) else default


def _constant(tensor: Tensor) -> Shape | None:
    """Return the values of a small integer constant, None where the value is computed."""
    letter = {"int32": "i", "int64": "q"}.get(tensor.dtype)
    if tensor.constant is None or tensor.is_sparse or letter is None:
        return () if not tensor.elements else None
    return struct.unpack(f"<{tensor.elements}{letter}", tensor.constant) if tensor.elements <= 64 else None


def _slide(operator: Operator, shape: Shape, window: Sequence[int]) -> tuple[int, int]:
    """Return height and width of what a window that slides over a picture makes."""
    lengths = []
    for axis, name in enumerate(("h", "w")):
        stride, dilation = _number(operator, f"stride_{name}"), _number(operator, f"dilation_{name}", 1)
        reach = (window[axis] - 1) * dilation + 1
        length = shape[axis + 1]
        lengths.append(-(-(length if _number(operator, "padding") == _SAME else length - reach + 1) // stride))
    if min(lengths) < 1:
        raise ShapeMismatch(f"a window of {tuple(window)} over {shape}")
    return lengths[0], lengths[1]


def _broadcast(first: Shape, second: Shape) -> Shape:
    rank = max(len(first), len(second))
    pairs = zip((1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second, strict=True)
    made = []
    for one, other in pairs:
        if one != other and 1 not in (one, other):
            raise ShapeMismatch(f"{first} with {second}")
        made.append(other if one == 1 else one)
    return tuple(made)


def _concatenate(shapes: Sequence[Shape], axis: int) -> Shape:
    rank = len(shapes[0])
    if not -rank <= axis < rank:
        raise ShapeMismatch(f"axis {axis} of {rank}")
    axis %= rank
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes if len(shape) == rank}
    if len(rests) != 1 or any(len(shape) != rank for shape in shapes):
        raise ShapeMismatch(" with ".join(map(str, shapes)))
    return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])


def _reduce(shape: Shape, axes: Shape, *, keep: bool) -> Shape:
    rank = len(shape)
    gone = {axis % rank for axis in axes if -rank <= axis < rank}
    if any(not -rank <= axis < rank for axis in axes):
        raise ShapeMismatch(f"axes {axes} of {rank}")
    lengths = [1 if axis in gone else length for axis, length in enumerate(shape)]
    return tuple(length for axis, length in enumerate(lengths) if keep or axis not in gone)


def _pad(shape: Shape, values: Shape) -> Shape:
    if len(values) != 2 * len(shape) or min(values, default=0) < 0:
        raise ShapeMismatch(f"paddings {values} around {shape}")
    return tuple(length + values[2 * axis] + values[2 * axis + 1] for axis, length in enumerate(shape))


def _reshape(elements: int, values: Shape) -> Shape:
    known = math.prod(length for length in values if length != -1)
    if values.count(-1) > 1 or min(values, default=0) < -1 or (-1 in values and (not known or elements % known)):
        raise ShapeMismatch(f"{elements} elements as {values}")
    return tuple(elements // known if length == -1 else length for length in values)


def _strided_slice(operator: Operator, shape: Shape, limits: Sequence[Shape | None]) -> Shape | None:
    begin, end, strides = limits
    masks = [_number(operator, f"{name}_mask") for name in ("begin", "end", "shrink_axis")]
    unusual = _number(operator, "ellipsis_mask") or _number(operator, "new_axis_mask") or _number(operator, "offset")
    if begin is None or end is None or strides is None or unusual:
        return None
    if not len(begin) == len(end) == len(strides) <= len(shape) or 0 in strides:
        raise ShapeMismatch(f"{begin}, {end}, {strides} of {shape}")
    made = []
    for axis, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        if masks[2] >> axis & 1:
            if not -shape[axis] <= first < shape[axis]:
                raise ShapeMismatch(f"element {first} of {shape[axis]}")
            continue
        start = None if masks[0] >> axis & 1 else first
        stop = None if masks[1] >> axis & 1 else last
        made.append(len(range(*slice(start, stop, step).indices(shape[axis]))))
    return (*made, *shape[len(begin) :])
