"""What the Edge TPU's compiler wants of an op beyond its name and version, one function a condition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from converters.edgetpu.rules import (
    MAX_RESIZE,
    MAX_SOFTMAX,
    MEAN_POSITIONS,
    MEAN_THREAD,
    RESHAPE_ELEMENTS,
    ROW_ELEMENTS,
    TRANSPOSE_ELEMENTS,
    Fact,
    Source,
)
from edgeinfer.model.schema import Operator, Subgraph, Tensor

__all__ = ["beyond_seen", "broken_condition"]

_INT = np.dtype("<i4")


@dataclass(frozen=True, slots=True)
class _Op:
    """An operator with its tensors at hand."""

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    def integers(self, place: int) -> tuple[int, ...] | None:
        """Return a constant int32 input's values, None where it is no such constant."""
        tensor = self.inputs[place] if place < len(self.inputs) else None
        if tensor is None or tensor.constant is None or tensor.dtype != "int32" or tensor.is_sparse:
            return None
        return tuple(np.frombuffer(tensor.constant, _INT).tolist())

    def option(self, name: str) -> int:
        value = self.operator.options.get(name, 0)
        return value if isinstance(value, int) else 0

    def shape(self, place: int = 0) -> tuple[int, ...]:
        tensor = self.inputs[place] if place < len(self.inputs) else None
        return () if tensor is None else tensor.shape


Condition = Callable[[_Op], Fact | None]


def broken_condition(graph: Subgraph, operator: Operator) -> Fact | None:
    """Return the first condition that an op does not meet, in words, or None.

    Args:
        graph: Where it stands.
        operator: An op that the compiler knows, in a version that it knows.
    """
    op = _op(graph, operator)
    for condition in (_rank, _row, *_CONDITIONS.get(operator.op, ())):
        fact = condition(op)
        if fact is not None:
            return fact
    return None


def beyond_seen(graph: Subgraph, operator: Operator) -> Fact | None:
    """Return in what an op goes beyond all that was mapped in pairs, or None; it is expected to map all the same."""
    op = _op(graph, operator)
    for condition in (_beyond_row, *_BEYOND.get(operator.op, ())):
        fact = condition(op)
        if fact is not None:
            return fact
    return None


def _op(graph: Subgraph, operator: Operator) -> _Op:
    return _Op(
        operator,
        tuple(graph.tensors[index] if index >= 0 else None for index in operator.inputs),
        tuple(graph.tensors[index] for index in operator.outputs),
    )


def _rank(op: _Op) -> Fact | None:
    for tensor in (*op.inputs, *op.outputs):
        if tensor is not None and tensor.constant is None and any(length > 1 for length in tensor.shape[:-3]):
            shape = "x".join(map(str, tensor.shape))
            return Fact(f"a tensor of {shape} has more than its three innermost lengths above 1", "pair", "rank")
    return None


def _row_elements(op: _Op) -> int:
    """Return the elements of its largest tensor that has no height; 0 for none."""
    tensors = [tensor for tensor in (*op.inputs, *op.outputs) if tensor is not None and tensor.constant is None]
    return max((one.elements for one in tensors if len(one.shape) < 3 or one.shape[-3] == 1), default=0)


def _row(op: _Op) -> Fact | None:
    _, cut, lowest = ROW_ELEMENTS
    size = _row_elements(op)
    if size <= cut:
        return None
    return Fact(
        f"a tensor without a height has {size:,} elements", "pair" if size >= lowest else "estimate", "long row"
    )


def _beyond_row(op: _Op) -> Fact | None:
    highest, size = ROW_ELEMENTS[0], _row_elements(op)
    words = f"a tensor without a height has {size:,} elements; {highest:,} were seen, public compiler logs have more"
    return Fact(words, "log") if size > highest else None


def _moves(limits: tuple[int, int, int]) -> Condition:
    """Return a condition on the elements that an op moves: (highest mapped, cut, lowest left)."""

    def condition(op: _Op) -> Fact | None:
        _, cut, lowest = limits
        size = math.prod(op.shape())
        if size <= cut:
            return None
        return Fact(f"it moves {size:,} elements", "pair" if size >= lowest else "estimate")

    return condition


def _beyond_moves(limits: tuple[int, int, int]) -> Condition:
    def condition(op: _Op) -> Fact | None:
        highest, size = limits[0], math.prod(op.shape())
        words = f"it moves {size:,} elements; {highest:,} were the most that was seen"
        return Fact(words, "estimate") if size > highest else None

    return condition


def _no_activation(op: _Op) -> Fact | None:
    if not op.option("activation"):
        return None
    cure = "; put the activation before the pooling" if "POOL" in op.operator.op else ""
    return Fact(f"an activation is fused into it{cure}", "table")


def _concatenated_constant(op: _Op) -> Fact | None:
    constants = [tensor for tensor in op.inputs if tensor is not None and tensor.constant is not None]
    if not constants:
        return None
    values = np.frombuffer(constants[0].constant or b"", np.uint8)
    # The table allows zeros only; one value all over is the same to the hardware (an estimate, never seen to fail).
    if len(op.inputs) == 2 and len(constants) == 1 and (values.size == 0 or bool((values == values[0]).all())):
        return None
    return Fact("it joins a constant that is not one of two inputs, all of one value", "table")


def _constant_weights(op: _Op) -> Fact | None:
    weights = op.inputs[1] if len(op.inputs) > 1 else None
    return Fact("its weights are computed", "pair") if weights is None or weights.constant is None else None


def _dilation(op: _Op) -> Fact | None:
    kernel = op.shape(1)
    pairs = [(op.option("dilation_h"), kernel[1]), (op.option("dilation_w"), kernel[2])] if len(kernel) == 4 else []
    # Along an axis where the kernel has one element, dilation does nothing; a temporal network with 3x1 is mapped.
    used = {dilation for dilation, length in pairs if length > 1}
    return Fact(f"its dilations differ, {sorted(used)}", "table") if len(used) > 1 else None


def _dense(op: _Op) -> Fact | None:
    if op.option("weights_format"):
        return Fact("its weights have another format than the default", "table")
    shape = op.outputs[0].shape if op.outputs else ()
    if sum(length > 1 for length in shape) > 1:
        shown = "x".join(map(str, shape))
        return Fact(f"its output of {shown} has more than one length above 1; a 1x1 convolution does the same", "table")
    return None


def _softmax(op: _Op) -> Fact | None:
    # By the table the input is one row. Compiler 16 mapped a map of rows (YOLOv8), so only the row's length counts.
    length = op.shape()[-1] if op.shape() else 0
    return Fact(f"{length:,} classes; the longest seen was {MAX_SOFTMAX:,}", "table") if length > MAX_SOFTMAX else None


def _axes(op: _Op, place: int = 1) -> tuple[int, ...] | None:
    axes, rank = op.integers(place), len(op.shape())
    return None if axes is None else tuple(axis % rank if rank else axis for axis in axes)


def _reduction(op: _Op) -> Fact | None:
    axes = _axes(op)
    if axes is None:
        return Fact("its axes are computed", "table")
    # Without a length of its own, the batch is no axis that anything is reduced over.
    if 0 in axes and len(op.shape()) == 4 and op.shape()[0] != 1:
        return Fact("it reduces over the batch", "table")
    return None


def _mean(op: _Op) -> Fact | None:
    fact, shape = _reduction(op), op.shape()
    axes = _axes(op) or ()
    if fact is not None or not shape:
        return fact
    if len(shape) - 1 in axes and len(shape) == 4 and shape[-1] % 4:
        return Fact(f"a mean over the depth wants a depth that 4 divides, not {shape[-1]}", "table")
    positions = math.prod(shape[axis] for axis in axes if axis < len(shape) - 1)
    if positions >= MEAN_POSITIONS:
        return Fact(
            f"a mean over {positions:,} positions; one over {MEAN_POSITIONS:,} was not mapped ({MEAN_THREAD})", "issue"
        )
    return None


def _padding(op: _Op) -> Fact | None:
    padding = op.integers(1)
    return Fact("it pads the batch", "table") if padding and len(op.shape()) == 4 and any(padding[:2]) else None


def _axis_of(name: str, place: int | None) -> Condition:
    """Return a condition on an axis that is an option, or a constant input at a place."""

    def condition(op: _Op) -> Fact | None:
        # One part is a copy, and a pair has it mapped (a YAMNet whose SPLIT makes one tensor of one).
        if (len(op.inputs) if op.operator.op == "PACK" else len(op.outputs)) == 1:
            return None
        found = op.integers(place) if place is not None else None
        axis = found[0] if found else op.option(name)
        rank = len(op.outputs[0].shape) if op.outputs else 0
        return Fact("it works along the batch", "table") if rank > 1 and axis % rank == 0 else None

    return condition


def _squeeze(op: _Op) -> Fact | None:
    # Older tables allow leading lengths of 1 only. One behind a longer axis moves nothing either, but is not named.
    dims = op.operator.options.get("squeeze_dims") or ()
    shape = op.shape()
    if not isinstance(dims, tuple) or not shape:
        return None
    first = next((axis for axis, length in enumerate(shape) if length > 1), len(shape))
    behind = [axis for axis in dims if axis % len(shape) > first]
    return Fact("it removes an axis behind one that is longer than 1", "table") if behind else None


def _factor(op: _Op) -> float:
    """Return how many times a resize enlarges, the larger of both axes; 0 where its shapes do not say."""
    before, after = op.shape(), op.outputs[0].shape if op.outputs else ()
    if len(before) != 4 or len(after) != 4 or not all(before):
        return 0.0
    return max(after[axis] / before[axis] for axis in (1, 2))


def _resize(op: _Op) -> Fact | None:
    factor = _factor(op)
    if factor <= MAX_RESIZE:
        return None
    # 15.5 and more were left on the processor in pairs; the border at 8 lies between that and what was mapped.
    source: Source = "pair" if factor > 15 else "estimate"
    return Fact(f"it enlarges {factor:.1f} times, which would lose precision", source)


def _strided(op: _Op) -> Fact | None:
    if op.option("ellipsis_mask") or op.option("new_axis_mask"):
        return Fact("it has an ellipsis or a new axis", "table")
    strides = op.integers(3)
    return Fact("it has a stride other than 1", "table") if strides and any(one != 1 for one in strides) else None


def _prelu(op: _Op) -> Fact | None:
    slope = op.shape(1)
    if any(length > 1 for length in slope[:-1]):
        return Fact("its slope is not one per channel; use `PReLU(shared_axes=[1, 2])`", "table")
    return None


def _beyond_resize(op: _Op) -> Fact | None:
    factor = _factor(op)
    return Fact(f"it enlarges {factor:.1f} times; twice is the most that was seen", "estimate") if factor > 2 else None


def _beyond_softmax(op: _Op) -> Fact | None:
    rows = math.prod(op.shape()[:-1])
    return (
        Fact(f"a softmax over {rows} rows; one row was seen, and more in a public compiler log only", "log")
        if rows > 1
        else None
    )


def _beyond_mean(op: _Op) -> Fact | None:
    axes, rank = _axes(op) or (), len(op.shape())
    return Fact("a mean over the depth; over height and width was seen", "table") if rank - 1 in axes else None


def _beyond_concatenation(op: _Op) -> Fact | None:
    constant = any(tensor is not None and tensor.constant is not None for tensor in op.inputs)
    return Fact("it joins a constant, which was not seen", "table") if constant else None


_BEYOND: Mapping[str, tuple[Condition, ...]] = MappingProxyType(
    {
        "CONCATENATION": (_beyond_concatenation,),
        "MEAN": (_beyond_mean,),
        "RESIZE_BILINEAR": (_beyond_resize,),
        "RESIZE_NEAREST_NEIGHBOR": (_beyond_resize,),
        "SOFTMAX": (_beyond_softmax,),
        "RESHAPE": (_beyond_moves(RESHAPE_ELEMENTS),),
        "TRANSPOSE": (_beyond_moves(TRANSPOSE_ELEMENTS),),
    }
)
_POOL = (_no_activation,)
_CONDITIONS: Mapping[str, tuple[Condition, ...]] = MappingProxyType(
    {
        "AVERAGE_POOL_2D": _POOL,
        "MAX_POOL_2D": _POOL,
        "CONCATENATION": (_no_activation, _concatenated_constant),
        "CONV_2D": (_constant_weights, _dilation),
        "DEPTHWISE_CONV_2D": (_constant_weights, _dilation),
        "TRANSPOSE_CONV": (_constant_weights,),
        "FULLY_CONNECTED": (_constant_weights, _dense),
        "SOFTMAX": (_softmax,),
        "MEAN": (_mean,),
        "SUM": (_reduction,),
        "REDUCE_MAX": (_reduction,),
        "REDUCE_MIN": (_reduction,),
        "PAD": (_padding,),
        "PADV2": (_padding,),
        "PACK": (_axis_of("axis", None),),
        "SPLIT": (_axis_of("axis", 0),),
        "SPLIT_V": (_axis_of("axis", 2),),
        "SQUEEZE": (_squeeze,),
        "RESIZE_BILINEAR": (_resize,),
        "STRIDED_SLICE": (_strided,),
        "RESHAPE": (_moves(RESHAPE_ELEMENTS),),
        "TRANSPOSE": (_moves(TRANSPOSE_ELEMENTS),),
        "PRELU": (_prelu,),
    }
)
