"""What every step of a recipe cost: each state of the model as a file, on the same samples, in one run."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

from converters.verify import Comparison, compare
from edgeinfer.dataset import Dataset
from edgeinfer.model.summary import summarize
from edgeinfer.progress import Progress, ProgressReport
from edgeinfer.runtime.runtime import Runtime
from edgeinfer.runtime.trial import fill
from edgeinfer.timing import Latency, latency

__all__ = ["Entry", "State", "account", "gzip_size", "interleaved"]

_ROUNDS = 300
_SECONDS = 10.0
_WARMUP = 10


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The model after a step, as two files.

    Attributes:
        step: What was done, "original" before the first step.
        plain: The float32 file, metadata included.
        quantized: The same weights as the recipe quantizes them.
        seconds: That the step took.
        notes: What is to be said of it.
    """

    step: str
    plain: bytes
    quantized: bytes
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the account.

    Attributes:
        step: What was done.
        parameters: Numbers that the quantized file stores.
        macs: Multiply-accumulate operations of one invoke.
        size_bytes: Of the quantized file, metadata included.
        gzip_bytes: What it takes when it is sent compressed.
        plain: The original float model against this state's float model.
        quantized: The original float model against this state's quantized file.
        latency: Of one invoke of the quantized file, milliseconds, one thread, all states in turns.
        latency_ratio: Median against that of the original's quantized file, in the same run.
        seconds: That the step took.
        notes: What is to be said of it.
    """

    step: str
    parameters: int
    macs: int
    size_bytes: int
    gzip_bytes: int
    plain: Comparison
    quantized: Comparison
    latency: Latency
    latency_ratio: float
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return one row of `account`."""
        accuracy = {
            name: None
            if one is None
            else {"metric": "top1", "value": one.top1, "interval95": list(one.top1_interval), "samples": one.samples}
            for name, one in (("float", self.plain.quantized), ("quantized", self.quantized.quantized))
        }
        return {
            "step": self.step,
            "parameters": self.parameters,
            "macs": self.macs,
            "bytes": self.size_bytes,
            "gzip_bytes": self.gzip_bytes,
            **accuracy,
            "drop": self.quantized.drop,
            "drop_interval95": self.quantized.drop_interval,
            "agreement": self.quantized.agreement,
            "output_error": self.quantized.error,
            "latency_ms": {"p50": self.latency.p50, "p95": self.latency.p95},
            "latency_ratio": self.latency_ratio,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def account(
    states: Sequence[State], data: Dataset, *, class_offset: int | None = None, progress: ProgressReport | None = None
) -> tuple[Entry, ...]:
    """Measure every state of a model against the first.

    Args:
        states: The original first.
        data: Samples that no step has seen, labelled or not.
        class_offset: See `edgeinfer.dataset.match_classes`.
        progress: Called as the work goes on.

    Raises:
        InputError: There are no samples, or one does not fit the model.
    """
    # A step that only quantizes leaves the float model as it was: equal files have equal answers.
    measured: dict[bytes, Comparison] = {}

    def against_original(file: bytes) -> Comparison:
        if file not in measured:
            measured[file] = compare(states[0].plain, file, data, class_offset=class_offset, progress=progress)
        return measured[file]

    times = interleaved([state.quantized for state in states], progress=progress)
    usual = times[0].p50
    rows = []
    for state, taken in zip(states, times, strict=True):
        summary = summarize(state.quantized)
        rows.append(
            Entry(
                step=state.step,
                parameters=summary.parameters,
                macs=summary.macs,
                size_bytes=len(state.quantized),
                gzip_bytes=gzip_size(state.quantized),
                plain=against_original(state.plain),
                quantized=against_original(state.quantized),
                latency=taken,
                latency_ratio=taken.p50 / usual,
                seconds=state.seconds,
                notes=state.notes,
            )
        )
    return tuple(rows)


def interleaved(
    files: Sequence[bytes], *, rounds: int = _ROUNDS, progress: ProgressReport | None = None
) -> list[Latency]:
    """Return the latency of each file, all measured in turns, so that a busy moment hits all of them.

    Args:
        files: TFLite files; inputs are seeded random numbers.
        rounds: Invokes of each, fewer where they would take more than ten seconds.
        progress: Called after every round.
    """
    runtimes = [Runtime(file, threads=1) for file in files]
    for runtime in runtimes:
        random = np.random.default_rng(0)
        for index in range(len(runtime.inputs)):
            fill(runtime.input_view(index), random)
        for _ in range(_WARMUP):
            runtime.invoke()
    times: list[list[int]] = [[] for _ in runtimes]
    begin = perf_counter_ns()
    for number in range(1, rounds + 1):
        for runtime, own in zip(runtimes, times, strict=True):
            start = perf_counter_ns()
            runtime.invoke()
            own.append(perf_counter_ns() - start)
        if progress:
            progress(Progress("latency", number, rounds))
        if perf_counter_ns() - begin > _SECONDS * 1e9:
            if progress:
                progress(Progress("latency", rounds, rounds))
            break
    return [latency(own) for own in times]


def gzip_size(data: bytes) -> int:
    """Return the size of these bytes as a gzip file at level 9 (18 bytes of frame around a deflate stream)."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, 31)
    return len(squeezed.compress(data)) + len(squeezed.flush())
