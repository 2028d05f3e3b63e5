"""Errors of a model in a process of its own: those that are the device's, by kind, and those that are the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgeinfer.errors import DeviceError

Failure = Literal["crash", "hang", "refused", "gone", "wrong", "start"]


class FrameError(DeviceError):
    """A frame that the device did not answer, or not rightly.

    Attributes:
        kind: "crash" (the process ended), "hang" (no answer in time), "refused" (the library says no), "gone" (the
            device is not listed any more), "wrong" (another answer than the CPU's), "start" (nothing could be loaded).
    """

    kind: Failure = "refused"


class CallerError(DeviceError):
    """What the caller did, and no fault of the device: it is not to be counted, and a restart does not cure it.

    A model that is closed, that another thread is using, or that was opened before a fork.
    """


def failure(kind: Failure, message: str, *, received: str, next_step: str) -> FrameError:
    """Return a `FrameError` of a kind."""
    error = FrameError(message, received=received, next_step=next_step)
    error.kind = kind
    return error


def closed_error() -> CallerError:
    """Return what is said of a model that was closed, before a frame or during it."""
    return CallerError("The model is closed.", next_step="Open it again: `Runtime(...)`.")


def one_shape_error(index: int, size: Sequence[int]) -> DeviceError:
    """Return what is said to who asks a compiled model, or its twin, for another shape of an input."""
    return DeviceError(
        "A model that was compiled for an Edge TPU has one shape.",
        received=f"{tuple(size)} for tensor {index}",
        next_step="Run it once for each sample.",
    )


def delegate_words(said: str) -> str:
    """Return what a delegate says of a run that failed, without the engine's own sentence behind it."""
    import re

    return re.sub(r"Node number \d+ \([\w-]+\) failed to invoke\.?", "", " ".join(said.split())).strip() or "no reason"
