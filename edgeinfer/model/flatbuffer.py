"""Read-only flatbuffer tables over bytes that nobody trusts.

Every access checks what flatbuffers' own verifier checks: offsets, vtables and vectors inside the bytes,
alignment, strings that end in a zero, and a bound on the work, because offsets may be shared and a small
file could otherwise describe a huge tree. What fails raises `DamagedModelError`; nothing is read outside
the bytes.

Source: "FlatBuffer Internals", https://flatbuffers.dev/internals
"""

from __future__ import annotations

import struct

from edgeinfer.errors import DamagedModelError

# A table takes at least eight bytes with the offset to it, so an honest file stays far below one step a byte.
# The cap bounds the time on large files: weights are sliced, not read, and cost nothing.
_STEPS_PER_BYTE = 4
_MOST_STEPS = 10_000_000

_VTABLE_HEAD = struct.Struct("<HH")
_OFFSET = struct.Struct("<I")
_BACK = struct.Struct("<i")
_SCALARS = {letter: struct.Struct("<" + letter) for letter in "?bBhHiIqQf"}


class FlatBuffer:
    """The bytes, the vtables already checked, and the steps still allowed.

    Args:
        data: The whole buffer.
        what: How errors call it, e.g. "The file".
    """

    __slots__ = ("_steps", "_vtables", "data", "what")

    def __init__(self, data: bytes, what: str = "The file") -> None:
        self.data = data
        self.what = what
        self._vtables: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._steps = min(_STEPS_PER_BYTE * len(data), _MOST_STEPS)

    def damaged(self, why: str, at: int) -> DamagedModelError:
        """Return the error to raise for something wrong at a byte."""
        return DamagedModelError(f"{self.what} is damaged: {why}.", received=f"at byte {at} of {len(self.data)}")

    def root(self, identifier: bytes = b"") -> Table:
        """Return the root table.

        Args:
            identifier: The four letters that must stand at byte 4; empty for a format that has none.

        Raises:
            DamagedModelError: The letters are others, or the table lies outside.
        """
        if len(self.data) < 8 or (identifier and self.data[4:8] != identifier):
            raise DamagedModelError(
                f"{self.what} is not what it should be.",
                received=f"{len(self.data)} bytes with {self.data[4:8]!r} at byte 4",
                expected=f"{identifier!r} at byte 4" if identifier else "a flatbuffer",
            )
        return Table(self, self.follow(0))

    def follow(self, at: int) -> int:
        """Return where the offset at byte `at` points to, checked for alignment and bounds."""
        target: int = at + _OFFSET.unpack_from(self.data, at)[0]
        if target == at or target % 4 or target + 4 > len(self.data):
            raise self.damaged("an offset points outside", at)
        return target

    def span(self, at: int, width: int) -> tuple[int, int]:
        """Return start and length of the vector whose length stands at byte `at`; elements take `width` bytes."""
        count: int = _OFFSET.unpack_from(self.data, at)[0]
        if at + 4 + count * width > len(self.data):
            raise self.damaged(f"a vector of {count} elements does not fit", at)
        return at + 4, count

    def spend(self, steps: int, at: int) -> None:
        """Count work; a file that asks for more than an honest one could is refused."""
        self._steps -= steps
        if self._steps < 0:
            raise self.damaged("its parts refer to one another too often", at)

    def vtable(self, position: int) -> tuple[int, ...]:
        """Return the field offsets of the table at `position`, 0 where a field is absent."""
        at = position - _BACK.unpack_from(self.data, position)[0]
        size, slots = self._vtables.get(at) or self._read_vtable(at)
        if position + size > len(self.data):
            raise self.damaged("a table does not fit", position)
        return slots

    def _read_vtable(self, at: int) -> tuple[int, tuple[int, ...]]:
        if at < 0 or at % 2 or at + 4 > len(self.data):
            raise self.damaged("a vtable lies outside", at)
        length, size = _VTABLE_HEAD.unpack_from(self.data, at)
        if length < 4 or length % 2 or at + length > len(self.data) or size < 4:
            raise self.damaged("a vtable has an impossible size", at)
        slots: tuple[int, ...] = struct.unpack_from(f"<{length // 2 - 2}H", self.data, at + 4)
        if any(slot and not 4 <= slot < size for slot in slots):
            raise self.damaged("a field lies outside its table", at)
        # The table's size goes in front: it says how far the fields of every table with this vtable reach.
        self._vtables[at] = size, slots
        self.spend(1 + len(slots), at)
        return size, slots


class Table:
    """One table: fields by slot number, defaults where the file has none.

    Args:
        buffer: Where it lies.
        position: Byte of the table's start, 4-byte aligned.

    Raises:
        DamagedModelError: The table or its vtable lies outside; so does every method.
    """

    __slots__ = ("_slots", "buffer", "position")

    def __init__(self, buffer: FlatBuffer, position: int) -> None:
        self.buffer = buffer
        self.position = position
        self._slots = buffer.vtable(position)
        buffer.spend(1, position)

    def _at(self, slot: int, width: int) -> int:
        """Return the byte of a field, 0 where it is absent."""
        if slot >= len(self._slots) or not self._slots[slot]:
            return 0
        at = self.position + self._slots[slot]
        if at % width or at + width > len(self.buffer.data):
            raise self.buffer.damaged("a field lies outside or is not aligned", at)
        return at

    def _target(self, slot: int) -> int:
        """Return the byte that an offset field points to, 0 where it is absent."""
        at = self._at(slot, 4)
        return self.buffer.follow(at) if at else 0

    def integer(self, slot: int, letter: str, default: int = 0) -> int:
        """Return a whole number; `letter` is its struct format."""
        kind = _SCALARS[letter]
        at = self._at(slot, kind.size)
        return int(kind.unpack_from(self.buffer.data, at)[0]) if at else default

    def real(self, slot: int, default: float = 0.0) -> float:
        """Return a float32."""
        at = self._at(slot, 4)
        return float(_SCALARS["f"].unpack_from(self.buffer.data, at)[0]) if at else default

    def table(self, slot: int) -> Table | None:
        """Return a table, or None where the field is absent."""
        target = self._target(slot)
        return Table(self.buffer, target) if target else None

    def tables(self, slot: int) -> list[Table]:
        """Return a vector of tables, empty where the field is absent."""
        target = self._target(slot)
        if not target:
            return []
        start, count = self.buffer.span(target, 4)
        self.buffer.spend(count, target)
        return [Table(self.buffer, self.buffer.follow(start + 4 * index)) for index in range(count)]

    def integers(self, slot: int, letter: str = "i") -> tuple[int, ...]:
        """Return a vector of whole numbers, empty where the field is absent."""
        values: tuple[int, ...] = self._numbers(slot, letter)
        return values

    def reals(self, slot: int) -> tuple[float, ...]:
        """Return a vector of float32, empty where the field is absent."""
        values: tuple[float, ...] = self._numbers(slot, "f")
        return values

    def _numbers(self, slot: int, letter: str) -> tuple[int, ...]:
        target = self._target(slot)
        if not target:
            return ()
        start, count = self.buffer.span(target, _SCALARS[letter].size)
        self.buffer.spend(count, target)
        return struct.unpack_from(f"<{count}{letter}", self.buffer.data, start)

    def blob(self, slot: int) -> memoryview | None:
        """Return a vector of bytes as a view, without a copy; None where the field is absent."""
        target = self._target(slot)
        if not target:
            return None
        start, count = self.buffer.span(target, 1)
        return memoryview(self.buffer.data)[start : start + count]

    def blobs(self, slot: int) -> list[memoryview]:
        """Return a vector of byte vectors (or of strings that are no text) as views; empty where it is absent."""
        target = self._target(slot)
        if not target:
            return []
        start, count = self.buffer.span(target, 4)
        self.buffer.spend(count, target)
        whole = memoryview(self.buffer.data)
        spans = [self.buffer.span(self.buffer.follow(start + 4 * index), 1) for index in range(count)]
        return [whole[first : first + length] for first, length in spans]

    def string(self, slot: int) -> str:
        """Return a string, empty where the field is absent."""
        target = self._target(slot)
        if not target:
            return ""
        start, count = self.buffer.span(target, 1)
        end = start + count
        self.buffer.spend(1 + count // 8, target)
        if end >= len(self.buffer.data) or self.buffer.data[end]:
            raise self.buffer.damaged("a string does not end in a zero", target)
        try:
            return self.buffer.data[start:end].decode()
        except UnicodeDecodeError as error:
            raise self.buffer.damaged("a string is not UTF-8", target) from error
