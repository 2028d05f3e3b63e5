from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_flatbuffer import Scalar, Vector, flatbuffer
from tiny_flatbuffer import Table as Written

from edgeinfer.errors import DamagedModelError
from edgeinfer.model.flatbuffer import FlatBuffer, Table

NAME = b"TEST"


def opened(data: bytes) -> Table:
    return FlatBuffer(data).root(NAME)


def written(fields: dict[int, object]) -> bytes:
    return flatbuffer(Written(fields), NAME)  # type: ignore[arg-type]


def root_of(data: bytes) -> int:
    return int(struct.unpack_from("<I", data)[0])


def vtable_of(data: bytes) -> int:
    root = root_of(data)
    return root - int(struct.unpack_from("<i", data, root)[0])


def patched(data: bytes, at: int, layout: str, *values: int) -> bytes:
    copy = bytearray(data)
    struct.pack_into(layout, copy, at, *values)
    return bytes(copy)


@pytest.mark.parametrize(
    ("letter", "value"),
    [("b", -5), ("B", 200), ("h", -300), ("H", 60000), ("i", -7), ("I", 1 << 31), ("q", -(1 << 40))],
)
def test_a_number_comes_back(letter: str, value: int) -> None:
    assert opened(written({3: Scalar(letter, value)})).integer(3, letter) == value


def test_a_real_number_comes_back() -> None:
    assert opened(written({0: Scalar("f", 0.5)})).real(0) == 0.5


def test_absent_fields_have_their_defaults() -> None:
    table = opened(written({1: Scalar("i", 1)}))
    assert table.integer(0, "i", 7) == 7
    assert table.integer(9, "i") == 0
    assert table.real(9, 1.5) == 1.5
    assert table.string(9) == ""
    assert table.integers(9) == ()
    assert table.tables(9) == []
    assert table.table(9) is None
    assert table.blob(9) is None


def test_vectors_strings_and_tables_come_back() -> None:
    table = opened(
        written(
            {
                0: Vector("i", [1, -2, 3]),
                1: "größer",
                2: [Written({0: Scalar("i", 10)}), Written({0: Scalar("i", 11)})],
                3: Written({0: "inner"}),
                4: Vector("f", [0.25]),
                5: Vector("B", b"bytes"),
                6: Vector("q", [1 << 40]),
            }
        )
    )
    inner = table.table(3)
    blob = table.blob(5)
    assert table.integers(0) == (1, -2, 3)
    assert table.string(1) == "größer"
    assert [one.integer(0, "i") for one in table.tables(2)] == [10, 11]
    assert inner is not None
    assert inner.string(0) == "inner"
    assert table.reals(4) == (0.25,)
    assert blob is not None
    assert bytes(blob) == b"bytes"
    assert table.integers(6, "q") == (1 << 40,)


def test_a_blob_is_a_view_and_no_copy() -> None:
    data = written({0: Vector("B", b"weights")})
    blob = opened(data).blob(0)
    assert blob is not None
    assert blob.obj is data


def test_another_identifier_is_refused() -> None:
    with pytest.raises(DamagedModelError, match="not what it should be"):
        FlatBuffer(written({})).root(b"ELSE")


@pytest.mark.parametrize("size", range(8))
def test_fewer_bytes_than_a_head_are_refused(size: int) -> None:
    with pytest.raises(DamagedModelError):
        opened(written({})[:size])


@pytest.mark.parametrize("target", [0, 6, 9, 1 << 31, (1 << 32) - 4])
def test_a_root_outside_or_unaligned_is_refused(target: int) -> None:
    with pytest.raises(DamagedModelError):
        opened(patched(written({0: Scalar("i", 1)}), 0, "<I", target))


@pytest.mark.parametrize("back", [1 << 20, -(1 << 20), 3, -(1 << 31)])
def test_a_vtable_outside_or_unaligned_is_refused(back: int) -> None:
    data = written({0: Scalar("i", 1)})
    with pytest.raises(DamagedModelError):
        opened(patched(data, root_of(data), "<i", back))


@pytest.mark.parametrize(
    ("length", "size"), [(2, 8), (7, 8), (0xFFFE, 8), (6, 0), (6, 3), (6, 0xFFFF)], ids=lambda value: str(value)
)
def test_a_vtable_of_impossible_size_is_refused(length: int, size: int) -> None:
    data = written({0: Scalar("i", 1)})
    with pytest.raises(DamagedModelError):
        opened(patched(data, vtable_of(data), "<HH", length, size)).integer(0, "i")


@pytest.mark.parametrize("slot", [1, 3, 8, 0xFFFF])
def test_a_field_outside_its_table_is_refused(slot: int) -> None:
    data = written({0: Scalar("i", 1)})
    with pytest.raises(DamagedModelError):
        opened(patched(data, vtable_of(data) + 4, "<H", slot)).integer(0, "i")


def test_a_field_that_is_not_aligned_is_refused() -> None:
    data = written({0: Scalar("i", 1), 1: Scalar("i", 2)})
    with pytest.raises(DamagedModelError, match="aligned"):
        opened(patched(data, vtable_of(data) + 4, "<H", 6)).integer(0, "i")


@pytest.mark.parametrize("count", [4, 1 << 30, (1 << 32) - 1])
def test_a_vector_longer_than_the_bytes_is_refused(count: int) -> None:
    data = written({0: Vector("i", [1, 2])})
    at = data.index(struct.pack("<Iii", 2, 1, 2))
    with pytest.raises(DamagedModelError, match="does not fit"):
        opened(patched(data, at, "<I", max(count, 1 << 6))).integers(0)


def test_a_string_without_a_zero_at_its_end_is_refused() -> None:
    data = written({0: "abc"})
    with pytest.raises(DamagedModelError, match="zero"):
        opened(patched(data, data.index(b"abc") + 3, "<B", 1)).string(0)


def test_a_string_that_is_not_utf8_is_refused() -> None:
    data = written({0: "abc"})
    with pytest.raises(DamagedModelError, match="UTF-8"):
        opened(patched(data, data.index(b"abc"), "<B", 0xFF)).string(0)


def test_a_small_file_cannot_describe_a_huge_tree() -> None:
    # A vector may be referred to from many places; each visit is counted.
    table = opened(written({0: [Written({0: Scalar("i", 1)})] * 100}))

    def walk() -> None:
        for _ in range(1000):
            table.tables(0)

    with pytest.raises(DamagedModelError, match="too often"):
        walk()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    data = b"\x0c\x00\x00\x00TEST" + noise
    try:
        table = opened(data)
        for slot in range(4):
            table.integer(slot, "q")
            table.real(slot)
            table.string(slot)
            table.integers(slot)
            table.tables(slot)
            table.blob(slot)
    except DamagedModelError:
        pass
