"""What the GPU delegate wants of an op beyond its name, version and types, one function a condition.

Source: `CheckGpuDelegateCompatibility` in tensorflow/lite/tools/versioning/gpu_compatibility.cc of
tensorflow/tensorflow, as far as a converted Keras model can come near it; broadcasting as without its flag
`kEnhancedBroadcast`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgeinfer.model.schema import Operator, Subgraph, Tensor

__all__ = ["unmet"]

_FLOATS = ("float16", "float32")
_REFLECT = 0
_ONE_PER_RUN = [
    "AVERAGE_POOL_2D",
    "CAST",
    "DEPTH_TO_SPACE",
    "MAX_POOL_2D",
    "MEAN",
    "MIRROR_PAD",
    "PAD",
    "PADV2",
    "QUANTIZE",
    "REDUCE_MAX",
    "REDUCE_MIN",
    "REDUCE_PROD",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "SPACE_TO_DEPTH",
    "SUM",
    "TILE",
    "TRANSPOSE",
    "ABS",
    "CEIL",
    "COS",
    "ELU",
    "EXP",
    "FLOOR",
    "GELU",
    "HARD_SWISH",
    "LOG",
    "LOGISTIC",
    "NEG",
    "RSQRT",
    "SIGN",
    "SIN",
    "SQRT",
    "SQUARE",
    "TANH",
]


@dataclass(frozen=True, slots=True)
class _Op:
    """An operator with its tensors at hand; inputs that are left out are left out."""

    operator: Operator
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def computed(self) -> int:
        """How many inputs are computed while the model runs."""
        return sum(one.constant is None for one in self.inputs)

    def shape(self, place: int = 0) -> tuple[int, ...]:
        return self.inputs[place].shape if place < len(self.inputs) else ()


Condition = Callable[[_Op], str]


def unmet(graph: Subgraph, operator: Operator) -> str:
    """Return the first condition that an op does not meet, in words, "" where it meets all.

    Args:
        graph: That it stands in.
        operator: An op that the delegate has.
    """
    op = _Op(
        operator,
        tuple(graph.tensors[index] for index in operator.inputs if index >= 0),
        tuple(graph.tensors[index] for index in operator.outputs if index >= 0),
    )
    if not op.inputs or not op.outputs:
        return "without an input or an output"
    return next((words for words in (one(op) for one in _CONDITIONS.get(operator.op, ())) if words), "")


def _one_computed(op: _Op) -> str:
    return "" if op.computed == 1 else f"{op.computed} of its inputs are computed while the model runs; one may be"


def _two_inputs(op: _Op) -> str:
    return "" if len(op.inputs) == 2 and op.computed else "not two inputs, of which one at least is computed"


def _axes(op: _Op) -> str:
    axes = op.inputs[1] if len(op.inputs) > 1 else None
    if axes is None or axes.constant is None or axes.dtype != "int32":
        return "its axes are no int32 constant"
    return ""


def _three_or_four(op: _Op) -> str:
    rank = len(op.shape())
    return "" if rank in (3, 4) else f"a slice of a tensor with {rank} lengths; 3 or 4 are taken"


def _kept_axes(op: _Op) -> str:
    masks = ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    return "a slice that drops or adds an axis" if any(op.operator.options.get(mask) for mask in masks) else ""


def _paddings(op: _Op) -> str:
    shape = op.shape(1)
    return "" if shape in ((3, 2), (4, 2)) else f"paddings of {'x'.join(map(str, shape))}; 3x2 or 4x2 are taken"


def _reflects(op: _Op) -> str:
    return "" if op.operator.options.get("mode", _REFLECT) == _REFLECT else "a mirror padding that does not reflect"


def _depthwise(op: _Op) -> str:
    if any(len(shape) != 4 for shape in (op.shape(), op.shape(1), op.outputs[0].shape)):
        return "a tensor without four lengths"
    before, after = op.shape()[3], op.outputs[0].shape[3]
    if before > 1 and after != before:
        return f"a depth multiplier of {after / before:g} on {before} channels; more than 1 is taken on one channel"
    return ""


def _dense(op: _Op) -> str:
    if op.operator.options.get("weights_format"):
        return "its weights have another format than the default"
    if op.inputs[0].constant is not None or op.computed > 2:
        return "its input is a constant, or more than two inputs are computed"
    if op.operator.options.get("keep_dims") and len(op.shape()) != len(op.outputs[0].shape):
        return "it keeps lengths that its output does not have"
    return ""


def _softmax(op: _Op) -> str:
    return "" if op.operator.options.get("beta", 1.0) == 1.0 else "a softmax whose beta is not 1"


def _blocks(op: _Op) -> str:
    size = op.operator.options.get("block_size", 0)
    return "" if isinstance(size, int) and size > 1 else "a block size that is not above 1"


def _gather(op: _Op) -> str:
    if len(op.inputs) != 2 or op.inputs[0].dtype == "int32":
        return "it gathers from int32"
    indices = op.inputs[1]
    if indices.dtype != "int32" or len(indices.shape) != 1:
        return "its indices are no row of int32"
    return ""


def _cast(op: _Op) -> str:
    before, after = op.inputs[0].dtype, op.outputs[0].dtype
    numbers = ("float32", "int32")
    if {before, after} <= set(numbers) or (before == "bool" and after in _FLOATS):
        return ""
    return "" if before in _FLOATS and after == "bool" else f"a cast from {before} to {after}"


def _one_hot(op: _Op) -> str:
    if len(op.inputs) != 4 or op.inputs[0].dtype != "int32":
        return "its indices are no int32"
    shape, axis = op.shape(), op.operator.options.get("axis", 0)
    if axis != -1 and (not shape or axis != shape[-1]):
        return "its axis is not the last one"
    if any(length != 1 for place, length in enumerate(shape[:-1]) if not (len(shape) > 3 and place == 0)):
        return "a length besides batch and depth is not 1"
    on_off = op.inputs[2:]
    if any(one.dtype != "float32" or one.constant is None or one.elements > 1 for one in on_off):
        return "its values are no float32 constants"
    return ""


def _select(op: _Op) -> str:
    if len(op.inputs) != 3:
        return "not three inputs"
    wanted = (("bool", *_FLOATS), _FLOATS, _FLOATS)
    for tensor, dtypes in zip(op.inputs, wanted, strict=True):
        if tensor.dtype not in dtypes:
            return f"it selects by or from {tensor.dtype}; floats are taken"
    for tensor in op.inputs[1:]:
        if tensor.shape not in ((), (1,), op.outputs[0].shape):
            return "it selects from a tensor that is stretched"
    return ""


def _stretched(longer: Sequence[int], shorter: Sequence[int]) -> bool:
    """Whether the delegate stretches one tensor to another one with more lengths."""
    if len(longer) != 4:
        return False
    if len(shorter) == 3:
        return longer[0] == 1
    both_one = longer[0] == 1 and tuple(shorter) == (1, 1)
    return both_one or (longer[0], longer[3]) == tuple(shorter)


def _ranks(op: _Op) -> str:
    shorter, longer = sorted((op.shape(), op.shape(1)), key=len)
    if len(shorter) < 2 or len(shorter) == len(longer) or _stretched(longer, shorter):
        return ""
    return f"{'x'.join(map(str, shorter))} stretched to {'x'.join(map(str, longer))}"


def _one_larger(op: _Op) -> str:
    pairs = list(zip(op.shape(), op.shape(1), strict=False)) if len(op.shape()) == len(op.shape(1)) else []
    if any(one < other for one, other in pairs) and any(one > other for one, other in pairs):
        return "each of its inputs is smaller than the other one somewhere"
    return ""


def _resize(op: _Op) -> str:
    options = op.operator.options
    return (
        "corners and centres are both aligned"
        if options.get("align_corners") and options.get("half_pixel_centers")
        else ""
    )


def _not_int16(op: _Op) -> str:
    return "16-bit integers" if op.inputs[0].dtype == "int16" else ""


_ELEMENTWISE = [
    "DIV",
    "EQUAL",
    "FLOOR_DIV",
    "FLOOR_MOD",
    "GREATER",
    "GREATER_EQUAL",
    "LOGICAL_AND",
    "LESS",
    "LESS_EQUAL",
    "MAXIMUM",
    "MINIMUM",
    "NOT_EQUAL",
    "POW",
    "SQUARED_DIFFERENCE",
    "SUB",
]
_OWN: Mapping[str, tuple[Condition, ...]] = MappingProxyType(
    {
        "ADD": (_two_inputs, _ranks),
        "CAST": (_cast,),
        "DEPTHWISE_CONV_2D": (_depthwise,),
        "DEPTH_TO_SPACE": (_blocks,),
        "DEQUANTIZE": (_not_int16,),
        "FULLY_CONNECTED": (_dense,),
        "GATHER": (_gather,),
        "MEAN": (_axes,),
        "MIRROR_PAD": (_reflects, _paddings),
        "MUL": (_two_inputs, _one_larger, _ranks),
        "ONE_HOT": (_one_hot,),
        "PAD": (_paddings,),
        "PADV2": (_paddings,),
        "REDUCE_MAX": (_axes,),
        "REDUCE_MIN": (_axes,),
        "REDUCE_PROD": (_axes,),
        "RESIZE_BILINEAR": (_resize,),
        "SELECT": (_select,),
        "SELECT_V2": (_select,),
        "SLICE": (_three_or_four,),
        "SOFTMAX": (_softmax,),
        "SPACE_TO_DEPTH": (_blocks,),
        "STRIDED_SLICE": (_kept_axes, _three_or_four),
        "SUM": (_axes,),
        **dict.fromkeys(_ELEMENTWISE, (_two_inputs,)),
    }
)
# A shape, a size or a permutation that is computed is one input too many.
_CONDITIONS: Mapping[str, tuple[Condition, ...]] = MappingProxyType(
    {op: (*_OWN.get(op, ()), *((_one_computed,) if op in _ONE_PER_RUN else ())) for op in {*_OWN, *_ONE_PER_RUN}}
)
