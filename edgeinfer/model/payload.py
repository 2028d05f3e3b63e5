"""What Google's Edge TPU compiler put into a file: programs for the chip, and what they need.

A compiled file has an op `edgetpu-custom-op`, and its options hold a package: one program that sends the
parameters to the chip's memory, once, and one that runs with them there; or one that does both each time.

Source: `executable/executable.fbs` and `tflite/custom_op_data.cc` of google-coral/libedgetpu. Read from 176
different compiled files of public repositories (174 of them in the 178 pairs of `benchmarks/edgetpu_pairs.py`): of 487
inputs and outputs of their programs 485 bear the name of a tensor, and all of these have its elements, type, scale and
zero point.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from edgeinfer.errors import DamagedModelError
from edgeinfer.frozen import dataclass
from edgeinfer.model.flatbuffer import FlatBuffer, Table
from edgeinfer.model.flexbuffer import read_map
from edgeinfer.model.ops import EDGETPU_OP
from edgeinfer.model.schema import ModelFile

__all__ = ["Executable", "Layer", "Payload", "is_compiled", "min_runtime_version", "payloads"]


ExecutableKind = Literal["stand-alone", "parameter-caching", "execution-only"]

_PACKAGE_IDENTIFIER = b"DWN1"
# Keys of the options' map.
_PACKAGE, _MORE_PACKAGES = "4", "7"
_KINDS: tuple[ExecutableKind, ...] = get_args(ExecutableKind)
# Number of DataType: name, and what the stored zero point has to lose. The chip counts from the lowest value of a
# type, TFLite from 0: the same tensor of int8 has 128 more here.
_DTYPES = {
    0: ("uint8", 0),
    1: ("uint16", 0),
    2: ("int32", 0),
    3: ("bfloat16", 0),
    4: ("float16", 0),
    5: ("float32", 0),
    8: ("int8", 128),
    9: ("int16", 1 << 15),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """An input or output of a program.

    Attributes:
        name: Of the tensor.
        y: Height, 1 where there is none.
        x: Width, 1 where there is none.
        z: Depth.
        dtype: As NumPy calls it.
        scale: `real = scale * (stored - zero_point)`.
        zero_point: As TFLite counts it.
        size_bytes: What is sent, with padding.
    """

    name: str
    y: int
    x: int
    z: int
    dtype: str
    scale: float
    zero_point: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Executable:
    """One program for the chip.

    Attributes:
        kind: "parameter-caching" is sent once, "execution-only" for each inference; "stand-alone" does both each
            time.
        parameter_bytes: Weights as the chip wants them.
        instruction_bytes: The program itself.
        scratch_bytes: Memory of the host that it needs.
        caching_token: Programs with the same one keep their parameters on the chip side by side; 0 for none.
        inputs: What it takes.
        outputs: What it gives.
    """

    kind: ExecutableKind
    parameter_bytes: int
    instruction_bytes: int
    scratch_bytes: int
    caching_token: int
    inputs: tuple[Layer, ...]
    outputs: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Payload:
    """What one `edgetpu-custom-op` holds.

    Attributes:
        operator: Place of the op in the main subgraph.
        min_runtime_version: Lowest version of the Edge TPU runtime (libedgetpu) that accepts it, e.g. 12.
        executables: Its programs.
    """

    operator: int
    min_runtime_version: int
    executables: tuple[Executable, ...]

    @property
    def cached_bytes(self) -> int:
        """Parameters that stay on the chip between inferences.

        At least: a compiler's log says as much (66.00 KiB for 67,584 bytes) or more (106.50 KiB for 99.7 KiB).
        """
        return sum(one.parameter_bytes for one in self.executables if one.kind == "parameter-caching")

    @property
    def streamed_bytes(self) -> int:
        """Parameters that are sent again for each inference; the log's "off-chip memory", 3.00 KiB for 3,072 bytes."""
        return sum(one.parameter_bytes for one in self.executables if one.kind != "parameter-caching")

    @property
    def instruction_bytes(self) -> int:
        """Of all programs."""
        return sum(one.instruction_bytes for one in self.executables)

    @property
    def scratch_bytes(self) -> int:
        """Memory of the host that the largest program needs."""
        return max((one.scratch_bytes for one in self.executables), default=0)

    @property
    def caching_token(self) -> int:
        """The programs' common token, 0 where they have none; files that were compiled together share it."""
        return next((one.caching_token for one in self.executables if one.caching_token), 0)

    @property
    def inputs(self) -> tuple[Layer, ...]:
        """What is sent for an inference."""
        return tuple(layer for one in self.executables for layer in one.inputs)

    @property
    def outputs(self) -> tuple[Layer, ...]:
        """What comes back."""
        return tuple(layer for one in self.executables for layer in one.outputs)

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer inspect --json` prints of it; the token as text, for it has 64 bits."""
        from dataclasses import asdict

        return {
            "operator": self.operator,
            "min_runtime_version": self.min_runtime_version,
            "executables": [one.kind for one in self.executables],
            "cached_bytes": self.cached_bytes,
            "streamed_bytes": self.streamed_bytes,
            "instruction_bytes": self.instruction_bytes,
            "scratch_bytes": self.scratch_bytes,
            "caching_token": str(self.caching_token),
            "inputs": [asdict(one) for one in self.inputs],
            "outputs": [asdict(one) for one in self.outputs],
        }


def is_compiled(file: ModelFile) -> bool:
    """Return whether Google's compiler has put a program for the chip into the file."""
    return any(one.custom and one.op == EDGETPU_OP for graph in file.subgraphs for one in graph.operators)


def payloads(file: ModelFile) -> tuple[Payload, ...]:
    """Return what each compiled op of the main subgraph holds, in their order; empty for a file that is not compiled.

    Raises:
        DamagedModelError: An op's options are missing or damaged.
    """
    found, seen = [], 0
    for operator in file.main.operators:
        if not (operator.custom and operator.op == EDGETPU_OP):
            continue
        options = operator.custom_options
        seen += 0 if options is None else len(options)
        # Ops may share bytes only in a file that was made to keep a reader busy.
        if options is None or seen > len(file.data):
            raise _damaged(operator.index, "it holds no program" if options is None else "its ops share their programs")
        found.append(_payload(operator.index, options))
    return tuple(found)


def min_runtime_version(file: ModelFile) -> int | None:
    """Return the lowest version of the Edge TPU runtime that runs the file, None for one that is not compiled.

    Raises:
        DamagedModelError: As `payloads`.
    """
    return max((one.min_runtime_version for one in payloads(file)), default=None)


def _damaged(operator: int, why: str, received: str = "") -> DamagedModelError:
    return DamagedModelError(
        f"The compiled op {operator} is damaged: {why}.",
        received=received,
        next_step="Compile the model again: `edgetpu_compiler -s MODEL.tflite`.",
    )


def _payload(operator: int, options: memoryview) -> Payload:
    what = f"The compiled op {operator}"
    held = read_map(options, f"The options of the compiled op {operator}")
    first, more = held.get(_PACKAGE), held.get(_MORE_PACKAGES)
    # Further packages are the same model for other kinds of chip; the runtime takes the first that fits.
    packages = [first, *(more if isinstance(more, tuple) else ())]
    sizes = [len(one) for one in packages if isinstance(one, memoryview)]
    if not isinstance(first, memoryview) or sum(sizes) > len(options):
        raise _damaged(operator, "it holds no program", f"keys {', '.join(held) or 'none'}")
    root = FlatBuffer(bytes(first), what).root(_PACKAGE_IDENTIFIER)
    version, serialized = root.integer(0, "i"), root.blob(1)
    if version < 0 or serialized is None:
        raise _damaged(operator, "it holds no program", f"runtime version {version}")
    programs = FlatBuffer(bytes(serialized), what).root().blobs(0)
    if not programs or sum(map(len, programs)) > len(serialized):
        raise _damaged(operator, "its programs do not fit", f"{len(programs)} programs in {len(serialized)} bytes")
    return Payload(operator, version, tuple(_executable(operator, one) for one in programs))


def _executable(operator: int, program: memoryview) -> Executable:
    table = FlatBuffer(bytes(program), f"The compiled op {operator}").root()
    kind, scratch = table.integer(13, "h"), table.integer(4, "i")
    if not 0 <= kind < len(_KINDS) or scratch < 0:
        raise _damaged(operator, "a program is impossible", f"kind {kind}, {scratch} bytes of scratch memory")
    chunks = [one.blob(0) for one in table.tables(5)]
    return Executable(
        kind=_KINDS[kind],
        parameter_bytes=len(table.blob(6) or b""),
        instruction_bytes=sum(len(one) for one in chunks if one is not None),
        scratch_bytes=scratch,
        caching_token=table.integer(14, "Q"),
        inputs=tuple(_layer(operator, one) for one in table.tables(8)),
        outputs=tuple(_layer(operator, one) for one in table.tables(9)),
    )


def _layer(operator: int, table: Table) -> Layer:
    name, size, numerics = table.string(0), table.integer(1, "i"), table.table(5)
    y, x, z = (table.integer(slot, "i") for slot in (2, 3, 4))
    kind = table.integer(6, "h")
    if min(y, x, z, size) < 0 or kind not in _DTYPES:
        raise _damaged(operator, f"layer `{name}` is impossible", f"{y}x{x}x{z} of type {kind}, {size} bytes")
    dtype, surplus = _DTYPES[kind]
    zero_point, scale = (0, 0.0) if numerics is None else (numerics.integer(0, "i"), numerics.real(1))
    if not math.isfinite(scale):
        raise _damaged(operator, f"layer `{name}` has no finite scale")
    return Layer(name, y, x, z, dtype, scale, zero_point - surplus, size)
