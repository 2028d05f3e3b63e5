"""A pretended Edge TPU: `standin.c` built as a library, and pairs of tiny models for it.

There is no Edge TPU where tests run. The library is loaded by the engines' real `load_delegate`, so call order,
options, errors, crashes and lifetimes are real; numerics, speed and USB are not. `edgetpu_pair()` makes a "compiled"
file and its CPU twin that give the same answers: what the pretended op computes stands in its payload, which has the
layout of a real one (`tiny_compiled`).

What the library does is chosen by the variables in the head of `standin.c`: set them in the environment of the child.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import tiny_compiled
import tiny_models
from tiny_flatbuffer import Scalar, Vector
from tiny_models import ADD, CUSTOM, MAX_POOL_2D, RESHAPE, OperatorSpec, TensorSpec

SOURCE = Path(__file__).parent / "standin.c"
_POOL_OPTIONS, _ADD_OPTIONS, _RESHAPE_OPTIONS = 5, 11, 17


class Pair(NamedTuple):
    """Two files with one answer."""

    compiled: Path
    twin: Path


def build(folder: Path, *defines: str, name: str = "libedgetpu.so.1") -> Path:
    """Compile the library; the test is skipped where there is no C compiler.

    Args:
        folder: Where to.
        *defines: "NOT_A_DELEGATE" or "NOT_EDGETPU".
        name: Of the file.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here: the pretended Edge TPU library cannot be built")
    library = folder / name
    command = [compiler, "-O1", "-shared", "-fPIC", *(f"-D{one}" for one in defines), "-o", library, SOURCE]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return library


def edgetpu_pair(
    folder: Path,
    *,
    what: str = "peak",
    shape: tuple[int, ...] = (1, 8, 8, 3),
    dtype: str = "int8",
    min_runtime: int = 13,
    tail: bool = False,
    labels: Sequence[str] = (),
) -> Pair:
    """Write `<what>_edgetpu.tflite` and its CPU twin `<what>.tflite`, which give the same answers.

    Args:
        folder: Where to.
        what: "peak": the greatest value of each channel, (1, C), so a picture's class is its brightest channel;
            "copy": the input; "add:3": three stored units more, saturated. The file's name leaves the ":" out.
        shape: Of the input; "peak" takes (1, height, width, channels).
        dtype: "int8" or "uint8". Both ends have the scale 1/255, and the dtype's lowest number is the real 0.
        min_runtime: The lowest runtime version that the payload asks for.
        tail: Leave a RESHAPE behind the compiled op, for the CPU: a file that is mapped in part.
        labels: One a channel; makes "peak" a classifier of pictures, with normalization (0, 255).
    """
    scale, zero = 1 / 255, -128 if dtype == "int8" else 0
    last = (1, shape[-1]) if what == "peak" else shape
    middle = (1, 1, 1, shape[-1]) if what == "peak" else shape
    version = 2 if dtype == "int8" else 1
    image = TensorSpec("image", shape, dtype, scale, zero)
    answer = TensorSpec("answer", last, dtype, scale, zero)
    between = TensorSpec("between", middle, dtype, scale, zero)
    sizes = TensorSpec("sizes", (len(last),), "int32", values=list(last))
    addend = int(what.partition(":")[2] or 0)
    centre = 0 if dtype == "int8" else 128
    number = TensorSpec("number", (1,), dtype, scale, centre, values=[centre + addend])
    tensors = [image, between, sizes, answer, number]
    reshape = OperatorSpec(RESHAPE, (1, 2), (3,), _RESHAPE_OPTIONS, {0: Vector("i", last)})
    first = {
        "peak": OperatorSpec(
            MAX_POOL_2D,
            (0,),
            (1,),
            _POOL_OPTIONS,
            {
                0: Scalar("b", 1),
                1: Scalar("i", 1),
                2: Scalar("i", 1),
                3: Scalar("i", shape[-2] if len(shape) > 1 else 1),
                4: Scalar("i", shape[1] if len(shape) > 2 else 1),
            },
            version,
        ),
        "add": OperatorSpec(ADD, (0, 4), (1,), _ADD_OPTIONS, {0: Scalar("b", 0)}, version),
        "copy": OperatorSpec(RESHAPE, (0, 2), (1,), _RESHAPE_OPTIONS, {0: Vector("i", last)}),
    }[what.partition(":")[0]]
    custom = OperatorSpec(
        CUSTOM,
        (0,),
        (1,) if tail else (3,),
        custom_code="edgetpu-custom-op",
        custom_options=payload(what, min_runtime=min_runtime, given=shape, made=middle if tail else last, dtype=dtype),
    )
    compiled = folder / f"{what.replace(':', '')}_edgetpu.tflite"
    twin = folder / f"{what.replace(':', '')}.tflite"
    for path, operators in ((compiled, [custom, reshape] if tail else [custom]), (twin, [first, reshape])):
        path.write_bytes(
            tiny_models.model(
                tensors,
                operators,
                inputs=[0],
                outputs=[3],
                metadata={
                    "TFLITE_METADATA": tiny_models.tflite_metadata(
                        normalization=([0.0], [255.0]), colour=1, labels_file="labels.txt"
                    )
                }
                if labels
                else None,
                files={"labels.txt": "\n".join(labels).encode() + b"\n"} if labels else None,
            )
        )
    return Pair(compiled, twin)


def payload(
    what: str,
    *,
    min_runtime: int = 13,
    given: tuple[int, ...] = (1, 8, 8, 3),
    made: tuple[int, ...] = (1, 3),
    dtype: str = "int8",
) -> bytes:
    """Return custom options as the Edge TPU compiler lays them out, with one program that stands alone.

    Args:
        what: What `standin.c` computes; it looks for "standin[WHAT]", which lies under a key of its own.
        min_runtime: The lowest runtime version.
        given: Shape of the input.
        made: Shape of the output.
        dtype: "int8" or "uint8", of both.
    """
    kind = tiny_compiled.SIGNED_8 if dtype == "int8" else 0
    ends = [
        tiny_compiled.layer(name, (1, 1, 1, *shape)[-3:], scale=1 / 255, stored_zero_point=0, kind=kind)
        for name, shape in (("image", given), ("answer", made))
    ]
    program = tiny_compiled.program(tiny_compiled.STAND_ALONE, instructions=(64,), inputs=ends[:1], outputs=ends[1:])
    held = tiny_compiled.package([program], runtime=min_runtime)
    return tiny_compiled.flex_map({"1": 0, "4": held, "5": 0, "8": f"standin[{what}]".encode()})
