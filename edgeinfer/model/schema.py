"""What stands in a `.tflite` file, as frozen dataclasses, every offset and index checked.

`parse()` is a verifier as much as a reader: tflite-runtime follows whatever offset it finds, so what is refused here
would otherwise end the process. It says nothing about whether an op's tensors fit the op; `check` does.

Source: `schema.fbs` version 3 of tensorflow/tensorflow; `docs/` of flatbuffers for the format.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeinfer.errors import DamagedModelError
from edgeinfer.model.flatbuffer import FlatBuffer, Table
from edgeinfer.model.ops import CUSTOM_CODE, builtin_name
from edgeinfer.model.options import Value, read_options

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

# No device that this library is for holds more; damage in a shape ends here and not in an allocation.
MOST_TENSOR_BYTES = 1 << 30
MOST_SUBGRAPH_BYTES = 4 << 30

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
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes in memory; 0 where an element has no fixed size."""
        return (self.elements * _BITS[self.dtype] + 7) // 8


@dataclass(frozen=True, slots=True)
class OpCode:
    """An op that the file uses: its name, its version, and whether it is a custom op."""

    op: str
    version: int
    custom: bool


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of a subgraph.

    Attributes:
        index: Its place in the subgraph, which is the order of running.
        op: Name of the builtin op, e.g. "CONV_2D", or a custom op's own code.
        version: Of the op.
        custom: True for a custom op.
        inputs: Tensor indices; -1 for an optional input that is absent.
        outputs: Tensor indices.
        options_type: Which options the file has for it, by the number of `options.FIELDS`; 0 for none.
        options: Their fields by name.
    """

    index: int
    op: str
    version: int
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_type: int
    options: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Subgraph:
    """One graph; the first one is the model, others are bodies of loops and branches."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """A name for a subgraph, with names for its inputs and outputs (name to tensor index)."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that was read.

    Attributes:
        data: The whole file, with whatever is appended to it.
        description: The converter's.
        op_codes: The ops that the file declares, used or not.
        subgraphs: At least one.
        metadata: Named buffers, as views into `data`.
        signatures: Empty in files of older converters.
        min_runtime_version: TFLite version that the converter says is needed, or None.
    """

    data: bytes = field(repr=False)
    description: str
    op_codes: tuple[OpCode, ...]
    subgraphs: tuple[Subgraph, ...]
    metadata: Mapping[str, memoryview]
    signatures: tuple[Signature, ...]
    min_runtime_version: str | None

    @property
    def main(self) -> Subgraph:
        """The subgraph that an interpreter runs."""
        return self.subgraphs[0]


def parse(data: bytes) -> ModelFile:
    """Read a `.tflite` file; whatever follows the model (a zip with labels) is left alone.

    Args:
        data: The whole file.

    Raises:
        DamagedModelError: It is not a TFLite model, or an offset, an index, a size or a quantization is impossible.
    """
    _refuse_other_formats(data)
    buffer = FlatBuffer(data, "The model file")
    root = buffer.root(IDENTIFIER)
    version = root.integer(0, "I")
    if version != SCHEMA_VERSION:
        raise DamagedModelError(
            "The model file has a schema version that is not known.", received=str(version), expected="3"
        )
    root.integers(5)
    op_codes = tuple(_op_code(table, index) for index, table in enumerate(root.tables(1)))
    constants = [_constant(table, data) for table in root.tables(4)]
    subgraphs = tuple(_subgraph(table, index, op_codes, constants) for index, table in enumerate(root.tables(2)))
    if not subgraphs:
        raise DamagedModelError("The model file has no graph.", expected="at least one subgraph")
    metadata: dict[str, memoryview] = {}
    for table in root.tables(6):
        place = table.integer(1, "I")
        if place >= len(constants):
            raise _wrong(f"metadata `{table.string(0)}`", f"buffer {place} of {len(constants)}")
        metadata.setdefault(table.string(0), constants[place] or memoryview(b""))
    return ModelFile(
        data=data,
        description=root.string(3),
        op_codes=op_codes,
        subgraphs=subgraphs,
        metadata=metadata,
        signatures=tuple(_signature(table, subgraphs) for table in root.tables(7)),
        min_runtime_version=_version_text(metadata.get("min_runtime_version")),
    )


def _refuse_other_formats(data: bytes) -> None:
    """Name the common mix-ups, which the identifier alone would only call damaged."""
    if len(data) >= 8 and data[4:8] == IDENTIFIER:
        return
    known = (
        (
            b"PK\x03\x04",
            "a zip or a `.keras` file: convert it first, `edgeinfer-convert model.keras -o model.tflite`",
        ),
        (b"\x89HDF", "a Keras `.h5` file: convert it first, `edgeinfer-convert model.h5 -o model.tflite`"),
        (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself, `git lfs pull`"),
        (b"<", "a web page: the download went wrong, fetch the raw file"),
    )
    looks = next((what for start, what in known if data.lstrip()[: len(start)] == start), "")
    raise DamagedModelError(
        "This is not a TFLite model.",
        received=f"{len(data)} bytes that begin with {data[:8]!r}",
        expected="`TFL3` at byte 4",
        next_step=f"It looks like {looks}." if looks else "",
    )


def _wrong(what: str, received: str, expected: str = "") -> DamagedModelError:
    return DamagedModelError(f"The model file is damaged: {what} is impossible.", received=received, expected=expected)


def _version_text(view: memoryview | None) -> str | None:
    """The converter pads the text with zeros."""
    text = b"" if view is None else bytes(view[:32]).split(b"\0")[0]
    return text.decode("ascii", "replace") or None


def _op_code(table: Table, index: int) -> OpCode:
    # Two fields hold the code: the old one has a byte and stops at 127, the larger of both counts.
    code = max(table.integer(0, "b"), table.integer(3, "i"))
    version = table.integer(2, "i", 1)
    if code < 0 or version < 1:
        raise _wrong(f"op code {index}", f"op {code} version {version}")
    custom = code == CUSTOM_CODE
    name = table.string(1)
    return OpCode(name if custom else builtin_name(code), version, custom)


def _constant(table: Table, data: bytes) -> memoryview | None:
    """Return a buffer's bytes; files above 2 GB keep them behind the tables, at an offset from the file's start."""
    offset, size = table.integer(1, "Q"), table.integer(2, "Q")
    if offset > 1:
        if offset + size > len(data):
            raise _wrong("a buffer", f"bytes {offset} to {offset + size} of {len(data)}")
        return memoryview(data)[offset : offset + size] if size else None
    return table.blob(0) or None


def _subgraph(table: Table, index: int, op_codes: Sequence[OpCode], constants: Sequence[memoryview | None]) -> Subgraph:
    tensors = tuple(_tensor(one, place, constants) for place, one in enumerate(table.tables(0)))
    total = sum(tensor.bytes for tensor in tensors if tensor.constant is None)
    if total > MOST_SUBGRAPH_BYTES:
        raise _wrong(f"subgraph {index}", f"tensors of {total} bytes", f"at most {MOST_SUBGRAPH_BYTES}")
    inputs, outputs = table.integers(1), table.integers(2)
    for what, indices in (("inputs", inputs), ("outputs", outputs)):
        _in_range(indices, 0, len(tensors), f"subgraph {index}, {what}")
    operators = tuple(_operator(one, place, op_codes, len(tensors)) for place, one in enumerate(table.tables(3)))
    return Subgraph(index, table.string(4), tensors, inputs, outputs, operators)


def _in_range(indices: Sequence[int], lowest: int, count: int, what: str) -> None:
    if indices and (min(indices) < lowest or max(indices) >= count):
        raise _wrong(what, f"tensor {min(indices)} to {max(indices)} of {count}")


def _operator(table: Table, index: int, op_codes: Sequence[OpCode], tensors: int) -> Operator:
    place = table.integer(0, "I")
    if place >= len(op_codes):
        raise _wrong(f"operator {index}", f"op code {place} of {len(op_codes)}")
    code = op_codes[place]
    inputs, outputs = table.integers(1), table.integers(2)
    for what, indices, lowest in (
        ("inputs", inputs, -1),
        ("outputs", outputs, 0),
        ("intermediates", table.integers(8), -1),
    ):
        _in_range(indices, lowest, tensors, f"operator {index} ({code.op}), {what}")
    table.blob(5)
    table.integers(7, "B")
    custom_end = table.integer(9, "Q") + table.integer(10, "Q")
    if custom_end > len(table.buffer.data):
        raise _wrong(f"operator {index} ({code.op}), custom options", f"end at byte {custom_end}")
    options_type = table.integer(3, "B")
    options_table = table.table(4)
    options = {} if options_table is None else read_options(options_table, options_type)
    table.table(12)
    return Operator(
        index,
        code.op,
        code.version,
        code.custom,
        inputs,
        outputs,
        options_type if options_table else 0,
        options,
    )


def _tensor(table: Table, index: int, constants: Sequence[memoryview | None]) -> Tensor:
    name = table.string(3)
    what = f"tensor {index} (`{name}`)"
    number = table.integer(1, "b")
    if not 0 <= number < len(DTYPES):
        raise _wrong(what, f"dtype {number}", f"0..{len(DTYPES) - 1}")
    dtype, bits = DTYPES[number]
    shape = table.integers(0)
    size = _checked_bytes(shape, bits, what)
    place = table.integer(2, "I")
    if place >= len(constants) or table.integer(10, "I"):
        raise _wrong(what, f"buffer {place} of {len(constants)}", "weights inside this file")
    constant, is_sparse = constants[place], _walk_sparsity(table)
    if constant is not None:
        if dtype == "string":
            _check_strings(constant, math.prod(shape), what)
        elif bits and not is_sparse and len(constant) != size:
            raise _wrong(what, f"{len(constant)} bytes for {shape} of {dtype}", f"{size} bytes")
    for variant in table.tables(9):
        variant.integers(0)
    scale, zero_point, axis = _quantization(table, shape, dtype, what)
    is_variable = bool(table.integer(5, "B"))
    if is_variable and constant is not None:
        raise _wrong(what, "a variable with a constant value")
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
        raise _wrong(what, f"shape {shape}", "lengths of 0 or more")
    size = (math.prod(shape) * (bits or 8) + 7) // 8
    if size > MOST_TENSOR_BYTES or len(shape) > 8:
        raise _wrong(what, f"shape {shape}", f"at most 8 axes and {MOST_TENSOR_BYTES} bytes")
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
        raise _wrong(what, f"{len(scale)} scales and {len(zero_point)} zero points", "as many of both")
    # The sum of float32 numbers in float64 is finite exactly when all of them are.
    if not math.isfinite(sum(scale)) or min(scale) < 0:
        raise _wrong(what, "a scale that is negative or not finite")
    low, high = _ZERO_POINTS.get(dtype, _INT32)
    if min(zero_point) < low or max(zero_point) > high:
        raise _wrong(what, f"zero points {min(zero_point)} to {max(zero_point)}", f"{low} to {high} for {dtype}")
    if axis < 0 or (axis >= len(shape) and (shape or len(scale) > 1)):
        raise _wrong(what, f"quantization along axis {axis} of {len(shape)}")
    if len(scale) > 1 and len(scale) != shape[axis]:
        raise _wrong(what, f"{len(scale)} scales along an axis of {shape[axis]}")
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
    raise _wrong(what, f"{len(constant)} bytes for {elements} strings", "a count, offsets, and the letters")


def _signature(table: Table, subgraphs: Sequence[Subgraph]) -> Signature:
    key, place = table.string(2), table.integer(4, "I")
    if place >= len(subgraphs):
        raise _wrong(f"signature `{key}`", f"subgraph {place} of {len(subgraphs)}")
    names = [{one.string(0): one.integer(1, "I") for one in table.tables(slot)} for slot in (0, 1)]
    for indices in names:
        _in_range(list(indices.values()), 0, len(subgraphs[place].tensors), f"signature `{key}`")
    return Signature(key, place, names[0], names[1])
