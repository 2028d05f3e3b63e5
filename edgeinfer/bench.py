"""How long a model takes on this machine: warm-up and first run apart, percentiles, and the machine beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from edgeinfer.errors import DeviceError, InputError
from edgeinfer.frozen import dataclass
from edgeinfer.machine import machine, resident_bytes
from edgeinfer.progress import Progress, ProgressReport
from edgeinfer.runtime.runtime import Runtime
from edgeinfer.runtime.trial import fill
from edgeinfer.timing import Latency, latency


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured, and where.

    Attributes:
        model: File name.
        sha256: Of the file.
        device: Where it ran, e.g. "cpu" or "edgetpu:usb:0".
        engine: Name and version.
        threads: Of the engine.
        runs: Measured invokes.
        warmup: Invokes before them, the first one included.
        latency: Of one invoke, milliseconds.
        first_ms: The very first invoke, where engines still prepare weights.
        load_ms: Reading, checking, loading and allocating.
        rss_bytes: Memory of the whole process afterwards; None where the system does not say.
        machine: See `edgeinfer.machine`.
    """

    model: str
    sha256: str
    device: str
    engine: str
    threads: int
    runs: int
    warmup: int
    latency: Latency
    first_ms: float
    load_ms: float
    rss_bytes: int | None
    machine: dict[str, object]

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer bench --json` prints."""
        from dataclasses import asdict

        return {
            "model": self.model,
            "sha256": self.sha256,
            "device": self.device,
            "engine": self.engine,
            "threads": self.threads,
            "runs": self.runs,
            "warmup": self.warmup,
            "latency_ms": {**asdict(self.latency), "first": self.first_ms},
            "load_ms": self.load_ms,
            "rss_bytes": self.rss_bytes,
            "machine": self.machine,
        }


def bench(
    runtime: Runtime,
    *,
    runs: int = 200,
    warmup: int = 10,
    twin: str | Path | None = None,
    progress: ProgressReport | None = None,
) -> Benchmark:
    """Measure `invoke` alone, on seeded random input.

    Args:
        runtime: The loaded model.
        runs: Measured invokes, 1 or more.
        warmup: Invokes before them, 1 or more; the first is reported apart.
        twin: The runtime's `fallback`, for the words of an error.
        progress: Called now and then.

    Raises:
        InputError: `runs` or `warmup` is below 1.
        DeviceError: The device has failed and its CPU twin answers: that one's latency is not the device's.
    """
    if runs < 1 or warmup < 1:
        raise InputError("Nothing would be measured.", received=f"runs={runs}, warmup={warmup}", expected="1 or more")
    _refuse_twin(runtime, twin)
    _fill(runtime)
    first = _time(runtime.invoke)
    for _ in range(warmup - 1):
        runtime.invoke()
        _refuse_twin(runtime, twin)
    times: list[int] = []
    for number in range(1, runs + 1):
        times.append(_time(runtime.invoke))
        _refuse_twin(runtime, twin)
        if progress and (number % 10 == 0 or number == runs):
            progress(Progress("bench", number, runs))
    return Benchmark(
        model=runtime.path.name if runtime.path else "(bytes)",
        sha256=runtime.sha256,
        device=runtime.device,
        engine=f"{runtime.engine.name} {runtime.engine.version}",
        threads=runtime.threads,
        runs=runs,
        warmup=warmup,
        latency=latency(times),
        first_ms=first / 1e6,
        load_ms=runtime.load_ms,
        rss_bytes=resident_bytes(),
        machine=machine(),
    )


def _refuse_twin(runtime: Runtime, twin: str | Path | None) -> None:
    """Refuse to go on where the CPU twin answers."""
    if not runtime.on_fallback:
        return
    name = runtime.path.name if runtime.path else "The model"
    raise DeviceError(
        f"`{name}` was not measured on {runtime.device}: the device has failed, and its CPU twin answers.",
        received=runtime.faults.latest,
        next_step="`edgeinfer doctor` says what is there. To measure the twin: "
        f"`edgeinfer bench {'MODEL.tflite' if twin is None else twin}`",
    )


def _time(call: Callable[[], None]) -> int:
    start = perf_counter_ns()
    call()
    return perf_counter_ns() - start


def _fill(runtime: Runtime) -> None:
    random = np.random.default_rng(0)
    for index in range(len(runtime.inputs)):
        fill(runtime.input_view(index), random)
