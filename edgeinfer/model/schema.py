"""What stands in a `.tflite` file, as frozen dataclasses, every offset and index checked.

`parse()` is a verifier as much as a reader: tflite-runtime follows whatever offset it finds, so what is
refused here would otherwise end the process. It says nothing about whether an op's tensors fit the op;
`check` does.

Source: `schema.fbs` version 3 of tensorflow/tensorflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeinfer.errors import DamagedModelError
from edgeinfer.frozen import dataclass, field
from edgeinfer.model.flatbuffer import FlatBuffer, Table
from edgeinfer.model.ops import CUSTOM_CODE, builtin_name
from edgeinfer.model.options import Value, read_options
from edgeinfer.model.tensors import Tensor, impossible, read_tensor

__all__ = ["ModelFile", "OpCode", "Operator", "Signature", "Subgraph", "Tensor", "parse"]

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

# The sum of all tensors that are computed; far above what an arena takes, which shares memory.
MOST_SUBGRAPH_BYTES = 4 << 30


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
        custom_options: What a custom op has instead, as its maker packed it; None where there is nothing.
    """

    index: int
    op: str
    version: int
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_type: int
    options: Mapping[str, Value]
    custom_options: memoryview | None = field(default=None, repr=False)


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
            raise impossible(f"metadata `{table.string(0)}`", f"buffer {place} of {len(constants)}")
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
            "a zip or a `.keras` file: convert it first, "
            "`edgeinfer-convert model.keras --calibration photos/ -o model.tflite`",
        ),
        (
            b"\x89HDF",
            "a Keras `.h5` file: convert it first, `edgeinfer-convert model.h5 --calibration photos/ -o model.tflite`",
        ),
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


def _version_text(view: memoryview | None) -> str | None:
    """The converter pads the text with zeros."""
    text = b"" if view is None else bytes(view[:32]).split(b"\0")[0]
    return text.decode("ascii", "replace") or None


def _op_code(table: Table, index: int) -> OpCode:
    # Two fields hold the code: the old one has a byte and stops at 127, the larger of both counts.
    code = max(table.integer(0, "b"), table.integer(3, "i"))
    version = table.integer(2, "i", 1)
    if code < 0 or version < 1:
        raise impossible(f"op code {index}", f"op {code} version {version}")
    custom = code == CUSTOM_CODE
    name = table.string(1)
    return OpCode(name if custom else builtin_name(code), version, custom)


def _constant(table: Table, data: bytes) -> memoryview | None:
    """Return a buffer's bytes; files above 2 GB keep them behind the tables, at an offset from the file's start."""
    offset, size = table.integer(1, "Q"), table.integer(2, "Q")
    if offset > 1:
        if offset + size > len(data):
            raise impossible("a buffer", f"bytes {offset} to {offset + size} of {len(data)}")
        return memoryview(data)[offset : offset + size] if size else None
    return table.blob(0) or None


def _subgraph(table: Table, index: int, op_codes: Sequence[OpCode], constants: Sequence[memoryview | None]) -> Subgraph:
    tensors = tuple(read_tensor(one, place, constants) for place, one in enumerate(table.tables(0)))
    total = sum(tensor.bytes for tensor in tensors if tensor.constant is None)
    if total > MOST_SUBGRAPH_BYTES:
        raise impossible(f"subgraph {index}", f"tensors of {total} bytes", f"at most {MOST_SUBGRAPH_BYTES}")
    inputs, outputs = table.integers(1), table.integers(2)
    for what, indices in (("inputs", inputs), ("outputs", outputs)):
        _in_range(indices, 0, len(tensors), f"subgraph {index}, {what}")
    operators = tuple(_operator(one, place, op_codes, len(tensors)) for place, one in enumerate(table.tables(3)))
    return Subgraph(index, table.string(4), tensors, inputs, outputs, operators)


def _in_range(indices: Sequence[int], lowest: int, count: int, what: str) -> None:
    if indices and (min(indices) < lowest or max(indices) >= count):
        raise impossible(what, f"tensor {min(indices)} to {max(indices)} of {count}")


def _operator(table: Table, index: int, op_codes: Sequence[OpCode], tensors: int) -> Operator:
    place = table.integer(0, "I")
    if place >= len(op_codes):
        raise impossible(f"operator {index}", f"op code {place} of {len(op_codes)}")
    code = op_codes[place]
    inputs, outputs = table.integers(1), table.integers(2)
    for what, indices, lowest in (
        ("inputs", inputs, -1),
        ("outputs", outputs, 0),
        ("intermediates", table.integers(8), -1),
    ):
        _in_range(indices, lowest, tensors, f"operator {index} ({code.op}), {what}")
    custom = table.blob(5)
    table.integers(7, "B")
    far, size = table.integer(9, "Q"), table.integer(10, "Q")
    if far + size > len(table.buffer.data):
        raise impossible(f"operator {index} ({code.op}), custom options", f"end at byte {far + size}")
    if far > 1:  # files above 2 GB keep them behind the tables
        custom = memoryview(table.buffer.data)[far : far + size]
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
        custom or None,
    )


def _signature(table: Table, subgraphs: Sequence[Subgraph]) -> Signature:
    key, place = table.string(2), table.integer(4, "I")
    if place >= len(subgraphs):
        raise impossible(f"signature `{key}`", f"subgraph {place} of {len(subgraphs)}")
    names = [{one.string(0): one.integer(1, "I") for one in table.tables(slot)} for slot in (0, 1)]
    for indices in names:
        _in_range(list(indices.values()), 0, len(subgraphs[place].tensors), f"signature `{key}`")
    return Signature(key, place, names[0], names[1])
