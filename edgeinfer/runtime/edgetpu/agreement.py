"""Does a device answer as the CPU does? With room for what honest kernels differ by, and none for a broken device.

An Edge TPU rounds otherwise than a CPU's kernels do, so equal answers cannot be asked for. What is known of honest
differences, in steps of an 8-bit output:

* two engines on one x86 machine, and one engine on x86 and ARM, differ by up to 12 steps on whole networks (measured:
  tflite-runtime 2.14 and LiteRT 2.3, five models, eight random inputs each);
* the published answers of MoveNet, from an Edge TPU and from a CPU, differ by about 9 steps of the heat maps at the
  worst of 17 points (google-coral/test_data, `movenet_single_pose_lightning_ptq*_reference.csv`).

So of a quantized output 95 % of the values must lie within 16 steps, and none may lie more than 64 away, a quarter of
the range: a class that wins by far on the one and loses on the other is no rounding. No Edge TPU was at hand to measure
closer limits.

What the file computes out of the device's numbers on the CPU (floats, the class of a pixel, which boxes are kept) can
change altogether by one step, above all on a picture of noise; there only numbers that are no numbers are an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.model.metadata import OutputSpec

NEAR_STEPS, NEAR_SHARE, FAR_STEPS = 16, 0.95, 64
_RANGE = 256


def disagreement(answers: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]], specs: Sequence[OutputSpec]) -> str:
    """Return what of a device's answers cannot be, one sentence; "" where they could be right.

    Args:
        answers: The device's outputs, stored numbers.
        expected: The CPU's on the same input.
        specs: Of the outputs, in the same order.
    """
    for answer, wanted, spec in zip(answers, expected, specs, strict=True):
        if answer.shape != wanted.shape or answer.dtype != wanted.dtype:
            return f"output `{spec.name}` is {answer.dtype}{answer.shape}, on the CPU {wanted.dtype}{wanted.shape}"
        if answer.dtype.kind == "f":
            if not np.isfinite(answer).all() and np.isfinite(wanted).all():
                return f"output `{spec.name}` holds values that are no numbers"
        elif spec.scale and answer.size:
            wrong = _quantized(answer, wanted)
            if wrong:
                return f"output `{spec.name}`: {wrong}"
    return ""


def _quantized(answer: NDArray[Any], wanted: NDArray[Any]) -> str:
    unit = max((int(np.iinfo(answer.dtype).max) - int(np.iinfo(answer.dtype).min) + 1) // _RANGE, 1)
    steps = np.abs(answer.astype(np.int64) - wanted.astype(np.int64)) / unit
    near = float((steps <= NEAR_STEPS).mean())
    farthest = float(steps.max())
    if near >= NEAR_SHARE and farthest <= FAR_STEPS:
        return ""
    return (
        f"{near:.0%} of the values lie within {NEAR_STEPS} of {_RANGE} steps of the CPU's, the farthest "
        f"{farthest:.0f} away"
    )
