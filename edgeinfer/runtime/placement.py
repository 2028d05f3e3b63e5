"""Where a model runs: what `device=` and its variable mean, and the way of a file onto the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgeinfer.errors import DeviceError, EdgeInferError, InputError, close_name
from edgeinfer.runtime.engines import Engine, Interpreter, engine_error, open_interpreter

if TYPE_CHECKING:
    from edgeinfer.runtime.edgetpu.address import EdgeTpuAddress

EXPECTED = '"cpu", or "edgetpu", "edgetpu:usb", "edgetpu:pci:0", ...'
# Hardware that people name and that is no slip of the pen.
_OTHERS = ("gpu", "npu")


def chosen_device(device: str | None) -> EdgeTpuAddress | None:
    """Return which Edge TPU is meant; None is the CPU.

    Args:
        device: "cpu" or an Edge TPU's address, see `edgetpu.address`. None reads `EDGEINFER_DEVICE`, else "cpu".

    Raises:
        InputError: There is no device of this name.
        DeviceError: It is one that no model runs on here.
    """
    chosen = device or os.environ.get("EDGEINFER_DEVICE") or "cpu"
    if chosen == "cpu":
        return None
    received = f'device="{chosen}"' if device else f'EDGEINFER_DEVICE="{chosen}"'
    kind = chosen.partition(":")[0]
    if kind == "edgetpu":
        from edgeinfer.runtime.edgetpu.address import parse_address

        return parse_address(chosen, received=received)
    if kind in _OTHERS:
        raise DeviceError("Models run on the CPU or on an Edge TPU.", received=received, expected=EXPECTED)
    raise InputError(
        "This device is not known.",
        received=received,
        expected=EXPECTED,
        next_step="Did you mean `edgetpu`?" if kind in ("tpu", "coral") else close_name(chosen, ["cpu", "edgetpu"]),
    )


def chosen_threads(threads: int | None) -> int:
    """Return how many threads an engine gets: as said, else `EDGEINFER_THREADS`, else all cores that may be used.

    Raises:
        InputError: It is no number from 1 to 256.
    """
    name = "threads"
    if threads is None:
        text = os.environ.get("EDGEINFER_THREADS")
        if not text:
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            threads = int(text)
        except ValueError as error:
            raise InputError(
                "`EDGEINFER_THREADS` is no whole number.", received=repr(text), expected="1 to 256"
            ) from error
        name = "EDGEINFER_THREADS"
    if not 1 <= threads <= 256:
        raise InputError(f"`{name}` is out of range.", received=str(threads), expected="1 to 256")
    return threads


def open_on_cpu(source: Path | bytes, engine: Engine, *, threads: int) -> Interpreter:
    """Load a model that was checked; without XNNPACK where that refuses it.

    Raises:
        EdgeInferError: As `engines.open_interpreter`.
    """
    try:
        return open_interpreter(engine, source, threads=threads)
    except EdgeInferError as first:
        if "delegate" not in first.received.lower() and "xnnpack" not in first.received.lower():
            raise
        # XNNPACK refuses some int8 graphs that the engine's own kernels run.
        try:
            interpreter = open_interpreter(engine, source, threads=threads, default_delegates=False)
        except EdgeInferError:
            raise engine_error(first.received, engine) from first
        import logging  # 2 ms that only this rare case needs

        logging.getLogger(__name__).warning(
            "XNNPACK refuses this model; it runs on the engine's slower built-in kernels."
        )
        return interpreter
