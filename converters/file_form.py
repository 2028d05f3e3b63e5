"""What a file was quantized to, and what stands at its ends, held against what a target takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from converters.targets import Io, Scheme, Target
from edgeinfer.model.schema import ModelFile, Subgraph

__all__ = ["ends_notes", "scheme_of", "wrong_form"]

_BYTES = ("int8", "uint8")
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def scheme_of(file: ModelFile) -> Scheme | None:
    """Return the scheme that a file is in, by the types of what it computes and of its weights; None for none.

    Args:
        file: A `.tflite` file that was read. One that is int8 with some float layers is int8.
    """
    graph = file.main
    used = {index for one in graph.operators for index in (*one.inputs, *one.outputs) if index >= 0}
    tensors = [graph.tensors[index] for index in sorted(used)]
    computed = [one for one in tensors if one.constant is None]
    if any(one.dtype in _BYTES and one.scale for one in computed):
        return "int8"
    if any(one.dtype == "int16" and one.scale for one in computed):
        return "int16x8"
    if not any(one.dtype in _FLOATS for one in computed):
        return None
    weights = [one for one in tensors if one.constant is not None]
    if any(one.dtype in (*_BYTES, "int4") and one.scale for one in weights):
        return "dynamic"
    return "float16" if any(one.dtype == "float16" for one in weights) else "float32"


def wrong_form(file: ModelFile, target: Target) -> str:
    """Return why a target takes no such file whatever its ops, "" where it does.

    Ends that an Edge TPU does not take are no reason: the ops that make them run on the processor, see `ends_notes`.

    Args:
        file: A `.tflite` file that was read.
        target: What it is for.
    """
    scheme = scheme_of(file)
    # Small layers stay float32 in "dynamic", in a small model all of them.
    taken = {*target.schemes, "float32"} if "dynamic" in target.schemes else {*target.schemes}
    if scheme is not None and scheme not in taken:
        runs = " or ".join(target.schemes)
        return f"The file is {scheme}, and {target.name} runs {runs}: convert with --scheme {target.schemes[0]}."
    if target.accelerator == "edgetpu":
        return ""
    for said, _ in _other_ends(file, target):
        return f"{said}, and {target.name} takes {' or '.join(target.ios)} there: convert with --io {target.io}."
    return ""


def ends_notes(file: ModelFile, target: Target) -> Iterator[str]:
    """Yield what an Edge TPU's processor does at the ends, where these have a type that the chip does not take."""
    for said, op in _other_ends(file, target):
        words = f"{said}: {op} on the processor" if op else said
        yield f"{words}; convert with --io {target.io}." if op in ("QUANTIZE", "DEQUANTIZE") else f"{words}."


def _other_ends(file: ModelFile, target: Target) -> Iterator[tuple[str, str]]:
    """Yield ends of an int8 file whose type the target does not take, and the op beside them."""
    if scheme_of(file) != "int8":
        return
    graph = file.main
    found: dict[tuple[str, str, str], list[str]] = {}
    for kind, indices in (("input", graph.inputs), ("output", graph.outputs)):
        for index in indices:
            tensor = graph.tensors[index]
            if tensor.dtype in get_args(Io) and tensor.dtype not in target.ios:
                found.setdefault((kind, tensor.dtype, _beside(graph, index, kind)), []).append(f"`{tensor.name}`")
    for (kind, dtype, op), names in found.items():
        one = len(names) == 1
        yield f"The {kind}{'' if one else 's'} {', '.join(names)} {'is' if one else 'are'} {dtype}", op


def _beside(graph: Subgraph, index: int, kind: str) -> str:
    """Return the op that takes an input or makes an output, "" for none."""
    ends = (one.op for one in graph.operators if index in (one.inputs if kind == "input" else one.outputs))
    return next(ends, "")
