"""Read-only flexbuffer maps over bytes that nobody trusts: the format without a schema that custom ops are packed in.

Only what such options are made of is read: whole numbers, byte strings, and vectors of both. Every offset and
every length is checked before it is followed, and bounds on both keep a small damaged buffer from being long work.

Source: "FlexBuffers" in "FlatBuffer Internals", https://flatbuffers.dev/internals
"""

from __future__ import annotations

import struct

from edgeinfer.errors import DamagedModelError
from edgeinfer.frozen import dataclass

FlexValue = int | memoryview | tuple[int | memoryview, ...] | None

_INTEGER, _UNSIGNED, _STRING, _MAP, _VECTOR, _BLOB, _BOOL = 1, 2, 5, 9, 10, 25, 26
_INDIRECT = {6: _INTEGER, 7: _UNSIGNED}
_SIGNED_LETTERS = {1: "b", 2: "h", 4: "i", 8: "q"}
# Compiled ops have up to six keys and a package per kind of chip. Vectors may be shared, so work grows with the square.
_MOST_ENTRIES = 64


@dataclass(frozen=True, slots=True)
class _Place:
    """A value that stands somewhere: where, in how many bytes, and of which packed type."""

    at: int
    width: int
    packed: int

    @property
    def kind(self) -> int:
        return self.packed >> 2

    @property
    def child_width(self) -> int:
        return 1 << (self.packed & 3)


def read_map(data: memoryview, what: str = "The options") -> dict[str, FlexValue]:
    """Return the map that the bytes hold, one level deep.

    Args:
        data: The whole buffer.
        what: How errors call it.

    Returns:
        Numbers as int, strings and blobs as views into `data`, vectors as tuples of these; None for a value of
        another kind.

    Raises:
        DamagedModelError: It is no map, or a length or an offset lies outside.

    Example:
        >>> read_map(memoryview(bytes([ord("a"), 0, 1, 3, 1, 1, 1, 7, 4, 2, 36, 1])))
        {'a': 7}
    """
    return _Reader(data, what).root()


class _Reader:
    def __init__(self, data: memoryview, what: str) -> None:
        self.data = data
        self.what = what

    def damaged(self, why: str) -> DamagedModelError:
        return DamagedModelError(f"{self.what} are damaged: {why}.", received=f"{len(self.data)} bytes")

    def number(self, at: int, width: int, *, signed: bool = False) -> int:
        if at < 0 or width not in _SIGNED_LETTERS or at + width > len(self.data):
            raise self.damaged("a number lies outside")
        letter = _SIGNED_LETTERS[width]
        return int(struct.unpack_from("<" + (letter if signed else letter.upper()), self.data, at)[0])

    def back(self, place: _Place) -> int:
        """Follow the offset that stands at a place; it points to an earlier byte."""
        distance = self.number(place.at, place.width)
        if not 0 < distance <= place.at:
            raise self.damaged("an offset points outside")
        return place.at - distance

    def length(self, at: int, width: int) -> int:
        """Return the length in front of what stands at byte `at`; so many bytes at least must follow."""
        count = self.number(at - width, width)
        if at + count > len(self.data):
            raise self.damaged(f"a vector of {count} does not fit")
        return count

    def root(self) -> dict[str, FlexValue]:
        size = len(self.data)
        if size < 3:
            raise self.damaged("it is too short")
        width = self.data[size - 1]
        place = _Place(size - 2 - width, width, self.data[size - 2])
        if place.kind != _MAP:
            raise self.damaged("it is no map")
        at, inner = self.back(place), place.child_width
        keys_at = self.back(_Place(at - 3 * inner, inner, 0))
        keys_width = self.number(at - 2 * inner, inner)
        values = self.vector(at, inner)
        if self.number(keys_at - keys_width, keys_width) != len(values):
            raise self.damaged("keys and values are not as many")
        names = [self.key(_Place(keys_at + index * keys_width, keys_width, 0)) for index in range(len(values))]
        return {name: self.value(one) for name, one in zip(names, values, strict=True)}

    def vector(self, at: int, width: int) -> list[_Place]:
        """Return where the elements of an untyped vector stand; their types stand behind them, a byte each."""
        count = self.length(at, width)
        types = at + count * width
        if count > _MOST_ENTRIES or types + count > len(self.data):
            raise self.damaged(f"a vector of {count} does not fit")
        return [_Place(at + index * width, width, self.data[types + index]) for index in range(count)]

    def key(self, place: _Place) -> str:
        at = self.back(place)
        # Keys of options are a few letters; the bound keeps one without an end from being searched for again and again.
        end = bytes(self.data[at : at + 256]).find(b"\0")
        if end < 0:
            raise self.damaged("a key has no end")
        return bytes(self.data[at : at + end]).decode("ascii", "replace")

    def value(self, place: _Place, *, inside: bool = False) -> FlexValue:
        if place.kind in (_INTEGER, _UNSIGNED, _BOOL):
            return self.number(place.at, place.width, signed=place.kind == _INTEGER)
        if place.kind in _INDIRECT:
            return self.number(self.back(place), place.child_width, signed=_INDIRECT[place.kind] == _INTEGER)
        if place.kind in (_STRING, _BLOB):
            at = self.back(place)
            return self.data[at : at + self.length(at, place.child_width)]
        if place.kind == _VECTOR and not inside:
            found = [self.value(one, inside=True) for one in self.vector(self.back(place), place.child_width)]
            return tuple(one for one in found if isinstance(one, int | memoryview))
        return None
