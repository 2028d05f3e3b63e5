from __future__ import annotations

from importlib.util import find_spec

import pytest
import tiny_compiled
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer.errors import DamagedModelError
from edgeinfer.model.flexbuffer import read_map

# {"a": 7}, from the format's description: the key, its vector, the map, its type, the root.
ONE = bytes([ord("a"), 0, 1, 3, 1, 1, 1, 7, 1 << 2, 2, 9 << 2, 1])


def plain(data: bytes) -> dict[str, object]:
    def one(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(one(inner) for inner in value)
        return bytes(value) if isinstance(value, memoryview) else value

    return {key: one(value) for key, value in read_map(memoryview(data)).items()}


def test_a_map_is_read_as_the_format_describes_it() -> None:
    assert plain(ONE) == {"a": 7}


def test_numbers_bytes_and_vectors_come_back() -> None:
    held = {"1": -5, "4": b"DWN1\0\xff", "6": (18, 3), "7": (b"one", b""), "8": ()}
    assert plain(tiny_compiled.flex_map(held)) == held


@pytest.mark.skipif(find_spec("flatbuffers") is None, reason="the reference writer is not installed here")
@pytest.mark.parametrize("size", [10, 300, 70_000])
def test_what_the_reference_writer_packs_is_read(size: int) -> None:
    from flatbuffers import flexbuffers

    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("1")
        builder.Int(-1)
        builder.Key("4")
        builder.Blob(b"x" * size)
        builder.Key("6")
        builder.VectorFromElements([1, size])
        builder.Key("7")
        builder.IndirectInt(-size)
        builder.Key("8")
        builder.Float(0.5)
    found = plain(bytes(builder.Finish()))
    # Typed vectors and floats are no part of the options that this reader is for.
    assert found == {"1": -1, "4": b"x" * size, "6": found["6"], "7": -size, "8": None}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "too short"),
        (b"\1\4\1", "no map"),
        (bytes([2, 9 << 2, 1]), "an offset points outside"),
        (ONE[:6] + bytes([200]) + ONE[7:], "does not fit"),
        (bytes([65, 65, 1, 3, 1, 1, 1, 7, 4, 2, 36, 1]).replace(b"\1\3", b"\5\3"), "not as many"),
    ],
    ids=["nothing", "a number", "offset", "length", "keys"],
)
def test_what_is_wrong_is_said(data: bytes, says: str) -> None:
    with pytest.raises(DamagedModelError, match=says):
        read_map(memoryview(data), "The options")


@given(st.binary(max_size=64))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        read_map(memoryview(data))
    except DamagedModelError:
        return


@given(st.data())
def test_damaged_maps_are_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(tiny_compiled.flex_map({"1": 0, "4": b"x" * 40, "6": (18, 3), "7": (b"one", b"two")}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_map(memoryview(bytes(whole)))
    except DamagedModelError:
        return
