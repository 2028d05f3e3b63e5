"""Does a device answer as the CPU does? With room for what honest kernels differ by, and none for a broken device.

An Edge TPU rounds otherwise than a CPU's kernels do, so equal answers cannot be asked for. What is known of honest
differences, in steps of an 8-bit output:

* two engines on one x86 machine, and one engine on x86 and ARM, differ by up to 12 steps on whole networks (measured:
  tflite-runtime 2.14 and LiteRT 2.3, five models, eight random inputs each);
* the published answers of MoveNet, from an Edge TPU and from a CPU, differ by about 9 steps of the heat maps at the
  worst of 17 points (google-coral/test_data, `movenet_single_pose_lightning_ptq*_reference.csv`).

So of an output 95 % of the values must lie within 16 steps, and none may lie more than 64 away, a quarter of the range:
a class that wins by far on the one and loses on the other is no rounding. One value may always lie between the two,
however few there are. A step is a 256th: of the dtype's range where the output is quantized, of the spread of the CPU's
own answer where it is a float. Whole numbers without a scale are classes or places, and 90 % of them must be equal. No
Edge TPU was at hand to measure closer limits.

What the file computes out of the device's numbers on the CPU (which boxes are kept, where a heat map has its peak) can
change altogether by one step. `known_input` finds out which outputs do, and those are not compared at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.model.metadata import OutputSpec

NEAR_STEPS, NEAR_SHARE, FAR_STEPS = 16, 0.95, 64
EQUAL_SHARE = 0.9
_RANGE = 256


def disagreement(
    answers: Sequence[NDArray[Any]],
    expected: Sequence[NDArray[Any]],
    specs: Sequence[OutputSpec],
    compared: Sequence[bool] | None = None,
) -> str:
    """Return what of a device's answers cannot be, one sentence; "" where they could be right.

    Args:
        answers: The device's outputs, stored numbers.
        expected: The CPU's on the same input.
        specs: Of the outputs, in the same order.
        compared: For each output, whether its values are compared; else it is only asked for its shape and for being
            numbers. None compares all.
    """
    chosen = compared or (True,) * len(specs)
    for answer, wanted, spec, is_compared in zip(answers, expected, specs, chosen, strict=True):
        wrong = _impossible(answer, wanted, spec) or (difference(answer, wanted, spec) if is_compared else "")
        if wrong:
            return wrong
    return ""


def difference(answer: NDArray[Any], wanted: NDArray[Any], spec: OutputSpec, *, room: float = 1.0) -> str:
    """Return by how much an output differs from the CPU's, where that is more than rounding; else "".

    Args:
        answer: The device's, stored numbers, of the same shape and dtype as `wanted`.
        wanted: The CPU's on the same input.
        spec: Of the output.
        room: How much of the allowed difference may be used, 0..1.
    """
    if not answer.size or answer.dtype.kind not in "biuf":
        return ""
    if answer.dtype.kind != "f" and not spec.scale:
        equal = float((answer == wanted).mean())
        if equal >= 1 - (1 - EQUAL_SHARE) * room:
            return ""
        return f"output `{spec.name}`: {equal:.0%} of the values are those of the CPU"
    steps = _float_steps(answer, wanted) if answer.dtype.kind == "f" else _stored_steps(answer, wanted)
    if not steps.size:
        return ""
    distant = int((steps > NEAR_STEPS * room).sum())
    farthest = float(steps.max())
    # Counted and not as a share: of fewer than 20 values one is more than a twentieth.
    if distant <= max(1, int(steps.size * (1 - NEAR_SHARE) + 1e-9)) and farthest <= FAR_STEPS * room:
        return ""
    return (
        f"output `{spec.name}`: {1 - distant / steps.size:.0%} of the values lie within {NEAR_STEPS} of {_RANGE} steps "
        f"of the CPU's, the farthest {farthest:.0f} away"
    )


def _impossible(answer: NDArray[Any], wanted: NDArray[Any], spec: OutputSpec) -> str:
    """Return what of an output cannot be, however much honest kernels differ; "" where there is nothing.

    Args:
        answer: The device's, stored numbers.
        wanted: The CPU's on the same input.
        spec: Of the output.
    """
    if answer.shape != wanted.shape or answer.dtype != wanted.dtype:
        return f"output `{spec.name}` is {answer.dtype}{answer.shape}, on the CPU {wanted.dtype}{wanted.shape}"
    if answer.dtype.kind == "f" and not np.isfinite(answer[np.isfinite(wanted)]).all():
        return f"output `{spec.name}` holds values that are no numbers"
    return ""


def _stored_steps(answer: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float64]:
    unit = max((int(np.iinfo(answer.dtype).max) - int(np.iinfo(answer.dtype).min) + 1) // _RANGE, 1)
    steps: NDArray[np.float64] = np.abs(answer.astype(np.float64) - wanted.astype(np.float64)) / unit
    return steps


def _float_steps(answer: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float64]:
    """Return distances in steps of the CPU's own spread, of the values that are finite there."""
    finite = np.isfinite(wanted)
    ours, theirs = answer[finite].astype(np.float64), wanted[finite].astype(np.float64)
    if not theirs.size:
        return np.zeros(0)
    # One number, or equal ones, have no spread: how far they lie from 0 stands for it.
    spread = float(theirs.max() - theirs.min()) or float(np.abs(theirs).max()) or 1.0
    steps: NDArray[np.float64] = np.abs(ours - theirs) / (spread / _RANGE)
    return steps
