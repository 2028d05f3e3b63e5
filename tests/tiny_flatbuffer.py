"""A small flatbuffer writer for `tiny_models`: it checks nothing, so that tests can write wrong files.

Source: https://flatbuffers.dev/internals
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True)
class Scalar:
    """One number; `format` is a struct letter such as "i", "b", "I"."""

    format: str
    value: float


@dataclass(frozen=True)
class Vector:
    """Numbers of one kind; `align` is where the first one must lie."""

    format: str
    values: Sequence[float] | bytes
    align: int = 4


@dataclass(frozen=True)
class Table:
    """Fields by slot number; a field that is absent has its default."""

    fields: Mapping[int, Field] = field(default_factory=dict)


Field = Union[Scalar, Vector, Table, str, "list[Table]"]


class _Writer:
    """Write parents before their children, so that all offsets point forward; fill them in later."""

    def __init__(self) -> None:
        self.out = bytearray()

    def pad(self, align: int, ahead: int = 0) -> None:
        while (len(self.out) + ahead) % align:
            self.out.append(0)

    def patch(self, at: int, target: int) -> None:
        struct.pack_into("<I", self.out, at, target - at)

    def table(self, table: Table) -> int:
        slots = max(table.fields, default=-1) + 1
        places: dict[int, int] = {}
        size = 4
        for slot, value in sorted(table.fields.items()):
            width = struct.calcsize("<" + value.format) if isinstance(value, Scalar) else 4
            size += -size % width
            places[slot] = size
            size += width
        self.pad(2)
        vtable_bytes = 4 + 2 * slots
        self.pad(8, ahead=vtable_bytes)
        vtable = len(self.out)
        self.out += struct.pack("<HH", vtable_bytes, size)
        self.out += b"".join(struct.pack("<H", places.get(slot, 0)) for slot in range(slots))
        start = len(self.out)
        self.out += struct.pack("<i", start - vtable) + bytes(size - 4)
        for slot, value in sorted(table.fields.items()):
            if isinstance(value, Scalar):
                struct.pack_into("<" + value.format, self.out, start + places[slot], value.value)
        for slot, value in sorted(table.fields.items()):
            if not isinstance(value, Scalar):
                self.patch(start + places[slot], self.child(value))
        return start

    def child(self, value: Field) -> int:
        if isinstance(value, Table):
            return self.table(value)
        if isinstance(value, str):
            text = value.encode()
            self.pad(4)
            start = len(self.out)
            self.out += struct.pack("<I", len(text)) + text + b"\0"
            return start
        if isinstance(value, Vector):
            self.pad(max(4, value.align), ahead=4)
            start = len(self.out)
            self.out += struct.pack("<I", len(value.values))
            if isinstance(value.values, bytes):
                self.out += value.values
            else:
                self.out += struct.pack(f"<{len(value.values)}{value.format}", *value.values)
            return start
        if isinstance(value, list):
            self.pad(4)
            start = len(self.out)
            self.out += struct.pack("<I", len(value)) + bytes(4 * len(value))
            for index, one in enumerate(value):
                self.patch(start + 4 + 4 * index, self.table(one))
            return start
        raise TypeError(f"not a field: {value!r}")


def flatbuffer(root: Table, identifier: bytes) -> bytes:
    """A finished flatbuffer with a four-letter file identifier."""
    writer = _Writer()
    writer.out += bytes(4) + identifier
    writer.patch(0, writer.table(root))
    writer.pad(16)
    return bytes(writer.out)
