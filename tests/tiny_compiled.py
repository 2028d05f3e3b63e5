"""A `.tflite` file with an op `edgetpu-custom-op`, packed by hand as the Edge TPU compiler packs it.

The programs inside are no programs: these files are for readers of the payload, and for stand-ins of the chip.

Source: `executable/executable.fbs` of google-coral/libedgetpu; https://flatbuffers.dev/internals for flexbuffers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from tiny_flatbuffer import Field, Scalar, Table, Vector, flatbuffer
from tiny_models import CUSTOM, OperatorSpec, TensorSpec, model

STAND_ALONE, PARAMETER_CACHING, EXECUTION_ONLY = 0, 1, 2
SIGNED_8 = 8


def flex_map(values: Mapping[str, int | bytes | Sequence[int | bytes]]) -> bytes:
    """A flexbuffer map with keys in their order; every number and offset takes 4 bytes."""
    out = bytearray()

    def pad() -> None:
        out.extend(bytes(-len(out) % 4))

    def text(value: bytes) -> int:
        pad()
        out.extend(struct.pack("<I", len(value)))
        at = len(out)
        out.extend(value + b"\0")
        return at

    def entry(value: int | bytes | Sequence[int | bytes]) -> tuple[int, int, bool]:
        """Return number or place, packed type, and whether it is a place."""
        if isinstance(value, int):
            return value, 1 << 2 | 2, False
        if isinstance(value, bytes):
            return text(value), 5 << 2 | 2, True
        return vector([entry(one) for one in value]), 10 << 2 | 2, True

    def vector(entries: Sequence[tuple[int, int, bool]], keys: int | None = None) -> int:
        pad()
        if keys is not None:
            out.extend(struct.pack("<II", len(out) - keys, 4))
        out.extend(struct.pack("<I", len(entries)))
        start = len(out)
        for number, _, is_place in entries:
            out.extend(struct.pack("<i", len(out) - number if is_place else number))
        out.extend(bytes(packed for _, packed, _ in entries))
        return start

    entries = [entry(one) for one in values.values()]
    places = []
    for key in values:
        places.append(len(out))
        out += key.encode() + b"\0"
    pad()
    out += struct.pack("<I", len(places))
    keys = len(out)
    for place in places:
        out += struct.pack("<I", len(out) - place)
    start = vector(entries, keys)
    pad()
    out += struct.pack("<I", len(out) - start) + bytes([9 << 2 | 2, 4])
    return bytes(out)


def layer(
    name: str, shape: tuple[int, int, int], *, scale: float, stored_zero_point: int, kind: int = SIGNED_8
) -> Table:
    """An input or output of a program; `shape` is (y, x, z), `kind` the number of its data type."""
    y, x, z = shape
    return Table(
        {
            0: name,
            1: Scalar("i", y * x * z),
            2: Scalar("i", y),
            3: Scalar("i", x),
            4: Scalar("i", z),
            5: Table({0: Scalar("i", stored_zero_point), 1: Scalar("f", scale)}),
            6: Scalar("h", kind),
        }
    )


def program(
    kind: int,
    *,
    parameters: int = 0,
    instructions: Sequence[int] = (),
    scratch: int = 0,
    token: int = 0,
    inputs: Sequence[Table] = (),
    outputs: Sequence[Table] = (),
) -> bytes:
    """One executable; `parameters` and `instructions` are lengths in bytes."""
    fields: dict[int, Field] = {
        4: Scalar("i", scratch),
        5: [Table({0: Vector("B", bytes(size))}) for size in instructions],
        6: Vector("B", bytes(parameters), align=16),
        8: list(inputs),
        9: list(outputs),
        13: Scalar("h", kind),
        14: Scalar("Q", token),
    }
    return flatbuffer(Table(fields), b"")


def package(programs: Sequence[bytes], *, runtime: int = 13) -> bytes:
    """The programs with the lowest runtime version that takes them."""
    # Root offset, vtable of one field, table with that field, then the vector of offsets to the programs.
    head = struct.pack("<IHHHHiI", 12, 6, 8, 4, 0, 8, 4) + struct.pack("<I", len(programs))
    at = len(head) + 4 * len(programs)
    offsets, bodies = b"", b""
    for place, one in enumerate(programs):
        bodies += bytes(-len(bodies) % 16)
        offsets += struct.pack("<I", at + len(bodies) - (len(head) + 4 * place))
        bodies += struct.pack("<I", len(one)) + one + b"\0"
    multi = head + offsets + bodies
    return flatbuffer(Table({0: Scalar("i", runtime), 1: Vector("B", multi, align=16)}), b"DWN1")


def options(held: bytes) -> bytes:
    """The op's options around a package."""
    return flex_map({"1": 0, "4": held, "5": 0})


TINY_PROGRAMS = (
    program(
        EXECUTION_ONLY,
        parameters=64,
        instructions=(1000, 24),
        scratch=32,
        token=2**63 + 1,
        inputs=[layer("x", (4, 4, 3), scale=0.5, stored_zero_point=128 - 3)],
        outputs=[layer("y", (1, 1, 10), scale=0.25, stored_zero_point=0)],
    ),
    program(PARAMETER_CACHING, parameters=4096, instructions=(512,), token=2**63 + 1),
)


def compiled(custom_options: bytes | None = None) -> bytes:
    """A whole file: int8 `x` (1, 4, 4, 3) to int8 `y` (1, 10), all of it one compiled op.

    Args:
        custom_options: What the op holds; two tiny programs for runtime version 13 by default.
    """
    held = options(package(TINY_PROGRAMS)) if custom_options is None else custom_options
    tensors = [TensorSpec("x", (1, 4, 4, 3), "int8", 0.5, -3), TensorSpec("y", (1, 10), "int8", 0.25, -128)]
    operator = OperatorSpec(CUSTOM, (0,), (1,), custom_code="edgetpu-custom-op", custom_options=held)
    return model(tensors, [operator], inputs=[0], outputs=[1])
