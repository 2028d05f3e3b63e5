"""What layers without weights, and Keras operations, do to the channels of their inputs: pass, merge, reorder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from converters.graph.channel_call import Call, Rule, channels_last, elementwise
from converters.graph.channel_ids import ChannelIds, Ids
from converters.graph.network import Slot

__all__ = ["MOVES", "OPERATIONS"]


def _pass(call: Call, _: ChannelIds) -> Ids | str:
    """Every channel for itself: activations, dropout, noise, pooling, padding, cropping, resizing."""
    if len(call.inputs) != 1:
        return "is called on several tensors"
    if not channels_last(call.layer):
        return "has its channels first"
    noise = getattr(call.layer, "noise_shape", None)
    if noise is not None and noise[-1] not in (None, 1):
        return "has a `noise_shape` for its channels"
    return call.inputs[0]


def _activation(call: Call, channels: ChannelIds) -> Ids | str:
    activation = call.layer.activation
    if not elementwise(activation):
        return f"applies `{getattr(activation, '__name__', type(activation).__name__)}`"
    return _pass(call, channels)


def _axes(axis: Any, rank: int) -> list[int]:
    """Return axes counted from 0; None stands for all."""
    if axis is None:
        return list(range(rank))
    return [int(one) % rank for one in (axis if isinstance(axis, (list, tuple)) else (axis,))]


def _along_axes(call: Call, channels: ChannelIds) -> Ids | str:
    """Softmax and reductions: they may run along any axis but the channels' and the batch."""
    rank = len(call.shapes[0])
    if not {0, rank - 1}.isdisjoint(_axes(call.layer.axis, rank)):
        return "computes across the channels"
    return _pass(call, channels)


def _scalar(call: Call, channels: ChannelIds) -> Ids | str:
    """Rescaling and Normalization: one factor for all channels."""
    values = [getattr(call.layer, name, None) for name in ("scale", "offset", "mean", "variance")]
    if any(np.size(one) != 1 for one in values if one is not None):
        return "has a value for each channel"
    return _pass(call, channels)


def _merge(call: Call, channels: ChannelIds) -> Ids | str:
    """Value by value: channels that meet are one. Keras lines lower ranks up at the last axis."""
    if any(not _spreads(one) for one in _constants(call)):
        return "computes with a constant for each channel"
    count = call.channels
    wide = [ids for ids in call.inputs if len(ids) == count]
    for ids in call.inputs:
        if len(ids) != count:
            channels.freeze(ids, f"layer `{call.node.name}` spreads its one channel over {count}")
    for ids in wide[1:]:
        channels.unite(wide[0], ids)
    return wide[0] if wide else "computes with a constant for each channel"


def _constants(call: Call) -> list[Any]:
    import keras

    flat = keras.tree.flatten((call.node.args, dict(call.node.kwargs or {})))
    return [one for one in flat if one is not None and not isinstance(one, (Slot, str, bool))]


def _spreads(constant: Any) -> bool:
    """Whether a constant has one value for all channels."""
    shape = np.shape(constant)
    return not shape or shape[-1] == 1


def _clip(call: Call, channels: ChannelIds) -> Ids | str:
    if not (_spreads(call.layer.x_min) and _spreads(call.layer.x_max)):
        return "has limits for each channel"
    return _pass(call, channels)


def _concatenate(call: Call, channels: ChannelIds) -> Ids | str:
    if _constants(call):
        return "appends a constant"
    rank = len(call.output)
    if call.layer.axis % rank == rank - 1:
        return np.concatenate(call.inputs)
    for ids in call.inputs[1:]:
        channels.unite(call.inputs[0], ids)
    return call.inputs[0]


def _element_ids(call: Call, channels: ChannelIds) -> Ids:
    """Return the channel of every value of one sample: (*shape of a sample). All its sizes must be known."""
    shape = [int(one or 0) for one in call.shapes[0][1:]]
    return np.broadcast_to(channels.roots(call.inputs[0]), shape)


def _last_axis_only(ids: Ids) -> Ids | str:
    rows = ids.reshape(-1, ids.shape[-1])
    return rows[0] if (rows == rows[0]).all() else "moves channels to another axis"


def _reorder(call: Call, channels: ChannelIds) -> Ids | str:
    """Flatten, Reshape and the like: the values keep their order."""
    if len(call.inputs) != 1 or not channels_last(call.layer):
        return "reorders its channels"
    before, after = call.shapes[0][1:], call.output[1:]
    made: Ids | str = call.inputs[0]
    if before[-1] != after[-1]:
        # With sizes that are only known when the model runs, or a batch that grows, nothing can be told.
        known = None not in before and None not in after
        if not known or math.prod(map(int, map(_known, before))) != math.prod(map(int, map(_known, after))):
            return "changes a shape that is not known"
        rows = _element_ids(call, channels).reshape(-1, _known(after[-1]))
        if rows.shape[1] == 1 and len(set(rows.flat)) > 1:
            return "moves channels to another axis"
        # What comes to stand in one column becomes one: a Dense layer whose output is folded to a map makes a pixel
        # of each row. A Flatten, a tiled tensor folded back, and an axis of size 1 change nothing here.
        for row in rows[1:]:
            if (row != rows[0]).any():
                channels.unite(rows[0], row)
        made = rows[0]
    return made


def _known(size: int | None) -> int:
    return int(size or 0)


def _reshape(call: Call, channels: ChannelIds) -> Ids | str:
    made = _reorder(call, channels)
    if isinstance(made, str):
        return made
    setting = "target_shape" if hasattr(call.layer, "target_shape") else "newshape"
    shape = getattr(call.layer, setting)
    if isinstance(shape, int) or len(shape) != len(call.output) - (setting == "target_shape"):
        return "has a shape that cannot be adapted"
    if shape[-1] != -1 and channels.tie_calls(call.layer, made):
        channels.size(call.layer, setting, made)
    return made


def _transpose(call: Call, channels: ChannelIds) -> Ids | str:
    """Permute counts the axes of a sample from 1, the operation counts all from 0."""
    rank = len(call.output)
    order = (0, *call.layer.dims) if hasattr(call.layer, "dims") else (call.layer.axes or range(rank)[::-1])
    order = [one % rank for one in order]
    if order[0] != 0:
        return "moves the batch"
    if order[-1] == rank - 1:
        return call.inputs[0]
    if None in call.shapes[0][1:]:
        return "moves channels to another axis"
    return _last_axis_only(_element_ids(call, channels).transpose([one - 1 for one in order[1:]]))


def _pad(call: Call, channels: ChannelIds) -> Ids | str:
    width = call.layer.pad_width
    if any(np.ravel(width[-1])):
        return "adds channels"
    return _pass(call, channels)


def _get_item(call: Call, channels: ChannelIds) -> Ids | str:
    """`x[:, None, :]`, `x[:, 0]`, `x[:, 1:-1]`: anything but a part of the channels or of the batch."""
    key = call.node.args[1] if len(call.node.args) == 2 else None
    key = key if isinstance(key, tuple) else (key,)
    if len(call.inputs) != 1 or not all(_is_plain_index(one) for one in key) or not _is_whole(key[0]):
        return "takes out a part"
    taken = sum(one is not None for one in key)
    if not _is_whole(key[-1]) and (any(one is Ellipsis for one in key) or taken == len(call.shapes[0])):
        return "takes out a part of the channels"
    return _pass(call, channels)


def _is_plain_index(index: Any) -> bool:
    return index is None or index is Ellipsis or (isinstance(index, (int, slice)) and not isinstance(index, bool))


def _is_whole(index: Any) -> bool:
    return index is Ellipsis or index == slice(None)


_POOLS = [f"{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3)]

MOVES: dict[str, Rule] = {
    **dict.fromkeys(("ELU", "Identity", "LeakyReLU", "ReLU", "ActivityRegularization"), _pass),
    **dict.fromkeys(("AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "StochasticDepth"), _pass),
    **dict.fromkeys((f"{kind}{name}" for kind in ("", "Global", "Adaptive") for name in _POOLS), _pass),
    **{
        f"{name}{rank}D": _pass
        for name in ("Cropping", "SpatialDropout", "UpSampling", "ZeroPadding")
        for rank in (1, 2, 3)
    },
    **dict.fromkeys(("CenterCrop", "RepeatVector", "Resizing"), _pass),
    **dict.fromkeys(("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"), _merge),
    "Activation": _activation,
    "Concatenate": _concatenate,
    "Flatten": _reorder,
    "Normalization": _scalar,
    "Permute": _transpose,
    "Rescaling": _scalar,
    "Reshape": _reshape,
    "Softmax": _along_axes,
}

OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "Abs",
            "Absolute",
            "Cast",
            "Celu",
            "Ceil",
            "Copy",
            "Cos",
            "Elu",
            "Erf",
            "Exp",
            "Expm1",
            "Floor",
            "Gelu",
            "HardShrink",
            "HardSigmoid",
            "HardSilu",
            "HardTanh",
            "LeakyRelu",
            "Log",
            "Log1p",
            "LogSigmoid",
            "Negative",
            "Reciprocal",
            "Relu",
            "Relu6",
            "Round",
            "Rsqrt",
            "SaturateCast",
            "Selu",
            "Sigmoid",
            "Sign",
            "Silu",
            "Sin",
            "SoftShrink",
            "Softplus",
            "Softsign",
            "SparsePlus",
            "SparseSigmoid",
            "Sqrt",
            "Square",
            "Squareplus",
            "StopGradient",
            "Tanh",
            "TanhShrink",
            "Threshold",
            "AveragePool",
            "MaxPool",
            "Resize",
        ),
        _pass,
    ),
    **dict.fromkeys(
        ("Add", "Divide", "DivideNoNan", "Maximum", "Minimum", "Multiply", "Power", "Subtract", "TrueDivide"),
        _merge,
    ),
    **dict.fromkeys(("Amax", "Amin", "Max", "Mean", "Min", "Prod", "Softmax", "Std", "Sum", "Var"), _along_axes),
    **dict.fromkeys(("ExpandDims", "Squeeze"), _reorder),
    "Clip": _clip,
    "GetItem": _get_item,
    "Concatenate": _concatenate,
    "Pad": _pad,
    "Reshape": _reshape,
    "Transpose": _transpose,
}
