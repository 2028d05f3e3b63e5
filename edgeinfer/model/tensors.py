"""One tensor of a `.tflite` file: what it says, and whether that can be.

Source: `schema.fbs` version 3 of tensorflow/tensorflow; quantization as in "LiteRT 8-bit quantization
specification".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from edgeinfer.errors import DamagedModelError
from edgeinfer.frozen import dataclass, field
from edgeinfer.model.flatbuffer import Table

# No device that this library is for holds more; damage in a shape ends here and not in an allocation.
MOST_TENSOR_BYTES = 1 << 30

# Name and bits of an element, by the number of TensorType; 0 bits where an element has no fixed size.
DTYPES = (
    ("float32", 32),
    ("float16", 16),
    ("int32", 32),
    ("uint8", 8),
    ("int64", 64),
    ("string", 0),
    ("bool", 8),
    ("int16", 16),
    ("complex64", 64),
    ("int8", 8),
    ("float64", 64),
    ("complex128", 128),
    ("uint64", 64),
    ("resource", 0),
    ("variant", 0),
    ("uint32", 32),
    ("uint16", 16),
    ("int4", 4),
    ("bfloat16", 16),
    ("int2", 2),
    ("uint4", 4),
    ("float8_e4m3fn", 8),
    ("float8_e5m2", 8),
)
_BITS = dict(DTYPES)
_ZERO_POINTS = {
    "int2": (-2, 1),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "uint16": (0, (1 << 16) - 1),
}
_INT32 = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a subgraph.

    Attributes:
        index: Its place in the subgraph.
        name: As the file says it.
        shape: As the engine allocates it; 1 where `shape_signature` has -1.
        shape_signature: As the model was made, -1 where a length is open; empty where nothing is.
        dtype: NumPy's name where NumPy has the type, else TFLite's in lower case, e.g. "int4".
        scale: Quantization, `real = scale * (stored - zero_point)`: one, one per channel, or none.
        zero_point: As many as `scale`.
        quantized_dimension: The axis of the channels.
        constant: The bytes of a weight or another constant; None where the value is computed.
        is_variable: Keeps its value between runs.
        is_sparse: `constant` holds only the values that are not zero.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    quantized_dimension: int
    constant: memoryview | None = field(repr=False)
    is_variable: bool
    is_sparse: bool

    @property
    def constant_bytes(self) -> int:
        """Bytes in the file, 0 for a tensor that is computed."""
        return 0 if self.constant is None else len(self.constant)

    @property
    def is_open(self) -> bool:
        """True where the shape is not known before the model runs; `shape` is a stand-in then."""
        return self.constant is None and (-1 in self.shape_signature or not self.shape)

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes in memory; 0 where an element has no fixed size."""
        return (self.elements * _BITS[self.dtype] + 7) // 8


def impossible(what: str, received: str, expected: str = "") -> DamagedModelError:
    """Return the error to raise for a value that no model has; `what` says where it stands."""
    return DamagedModelError(f"The model file is damaged: {what} is impossible.", received=received, expected=expected)


def read_tensor(table: Table, index: int, constants: Sequence[memoryview | None]) -> Tensor:
    """Read one tensor.

    Args:
        table: Where it stands.
        index: Its place in the subgraph.
        constants: The file's buffers, None for an empty one.

    Raises:
        DamagedModelError: Shape, dtype, buffer and quantization do not fit together.
    """
    name = table.string(3)
    what = f"tensor {index} (`{name}`)"
    number = table.integer(1, "b")
    if not 0 <= number < len(DTYPES):
        raise impossible(what, f"dtype {number}", f"0..{len(DTYPES) - 1}")
    dtype, bits = DTYPES[number]
    shape = table.integers(0)
    size = _checked_bytes(shape, bits, what)
    place = table.integer(2, "I")
    if place >= len(constants) or table.integer(10, "I"):
        raise impossible(what, f"buffer {place} of {len(constants)}", "weights inside this file")
    constant, is_sparse = constants[place], _walk_sparsity(table)
    if constant is not None:
        if dtype == "string":
            _check_strings(constant, math.prod(shape), what)
        elif bits and not is_sparse and len(constant) != size:
            raise impossible(what, f"{len(constant)} bytes for {shape} of {dtype}", f"{size} bytes")
    for variant in table.tables(9):
        variant.integers(0)
    scale, zero_point, axis = _quantization(table, shape, dtype, what)
    is_variable = bool(table.integer(5, "B"))
    if is_variable and constant is not None:
        raise impossible(what, "a variable with a constant value")
    return Tensor(
        index,
        name,
        shape,
        table.integers(7),
        dtype,
        scale,
        zero_point,
        axis,
        constant,
        is_variable,
        is_sparse,
    )


def _checked_bytes(shape: tuple[int, ...], bits: int, what: str) -> int:
    if shape and min(shape) < 0:
        raise impossible(what, f"shape {shape}", "lengths of 0 or more")
    size = (math.prod(shape) * (bits or 8) + 7) // 8
    if size > MOST_TENSOR_BYTES or len(shape) > 8:
        raise impossible(what, f"shape {shape}", f"at most 8 axes and {MOST_TENSOR_BYTES} bytes")
    return size


def _quantization(
    tensor: Table, shape: tuple[int, ...], dtype: str, what: str
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    """Return scales, zero points and the axis that they run along."""
    table = tensor.table(4)
    if table is None:
        return (), (), 0
    table.reals(0), table.reals(1)
    table.table(5)
    scale, zero_point, axis = table.reals(2), table.integers(3, "q"), table.integer(6, "i")
    if not scale:
        return (), (), 0
    if len(zero_point) != len(scale):
        raise impossible(what, f"{len(scale)} scales and {len(zero_point)} zero points", "as many of both")
    # The sum of float32 numbers in float64 is finite exactly when all of them are.
    if not math.isfinite(sum(scale)) or min(scale) < 0:
        raise impossible(what, "a scale that is negative or not finite")
    low, high = _ZERO_POINTS.get(dtype, _INT32)
    if min(zero_point) < low or max(zero_point) > high:
        raise impossible(what, f"zero points {min(zero_point)} to {max(zero_point)}", f"{low} to {high} for {dtype}")
    if axis < 0 or (axis >= len(shape) and (shape or len(scale) > 1)):
        raise impossible(what, f"quantization along axis {axis} of {len(shape)}")
    if len(scale) > 1 and len(scale) != shape[axis]:
        raise impossible(what, f"{len(scale)} scales along an axis of {shape[axis]}")
    return scale, zero_point, axis


def _walk_sparsity(tensor: Table) -> bool:
    """Check that the sparse format's vectors lie inside the bytes; return whether there are any."""
    table = tensor.table(6)
    if table is None:
        return False
    table.integers(0), table.integers(1)
    letters = {1: "i", 2: "H", 3: "B"}
    for dimension in table.tables(2):
        for slot in (2, 4):
            kind, values = dimension.integer(slot, "B"), dimension.table(slot + 1)
            if values is not None and kind in letters:
                values.integers(0, letters[kind])
    return True


def _check_strings(constant: memoryview, elements: int, what: str) -> None:
    """Check a constant of strings: a count, then count + 1 offsets into these same bytes, all int32."""
    if len(constant) >= 4:
        (count,) = struct.unpack_from("<i", constant)
        if count == elements and 8 + 4 * count <= len(constant):
            offsets = struct.unpack_from(f"<{count + 1}i", constant, 4)
            if offsets[0] >= 8 + 4 * count and offsets[-1] <= len(constant) and list(offsets) == sorted(offsets):
                return
    raise impossible(what, f"{len(constant)} bytes for {elements} strings", "a count, offsets, and the letters")
