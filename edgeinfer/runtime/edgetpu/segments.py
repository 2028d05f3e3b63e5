"""A model in segments, each on an Edge TPU of its own, with several frames on the way at once.

Google's compiler cuts a model (`edgetpu_compiler --num_segments=2 m.tflite` writes `m_segment_0_of_2_edgetpu.tflite`,
...): no program of ours does. A model that is too large for one chip's memory then stays in those of several, and each
chip works on a frame of its own: a frame takes as long as before or longer, and frames come out more often.

Source: Google's documentation, "Pipeline a model with multiple Edge TPUs".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from queue import Queue
from threading import Lock, Thread
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import DeviceError, EdgeInferError, InputError, MetadataError
from edgeinfer.quantization import dequantize
from edgeinfer.runtime.edgetpu.open import stored_as
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
from edgeinfer.runtime.own_input import stored_input
from edgeinfer.runtime.runtime import Runtime

_Frame = dict[str, NDArray[Any]]
# What a frame that is with a device may hold up the end of a run that was broken off: a device may hang.
_END_S = 1.0


class Segments:
    """The segments of one model, one after the other, each in a thread of its own.

    Args:
        paths: The segments' files in their order, two or more.
        devices: One for each, e.g. ("edgetpu:0", "edgetpu:1"); "cpu" for a segment that was not compiled.
        engine: As in `Runtime`.
        edgetpu: As in `Runtime`, for each of them.
        in_flight: Frames on the way at once; None is one for each segment and one that waits before each.

    Raises:
        InputError: Fewer than two files, or not one device for each.
        MetadataError: A segment's inputs are not the outputs of those before it.
        EdgeInferError: As `Runtime`.

    A tensor goes to the next segment whose input has its name; where names differ, all outputs of one segment are the
    inputs of the next, by position. What a later segment needs is handed past those between.

    One run at a time: the segments hold one frame each.

    Example:
        with Segments(("m_segment_0_of_2_edgetpu.tflite", "m_segment_1_of_2_edgetpu.tflite"),
                      devices=("edgetpu:0", "edgetpu:1")) as segments:
            for answer in segments.run(frames):
                print(answer["probability"].argmax())
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        devices: Sequence[str],
        engine: str | None = None,
        edgetpu: EdgeTpuOptions | None = None,
        in_flight: int | None = None,
    ) -> None:
        if len(paths) < 2 or len(devices) != len(paths):
            raise InputError(
                "Segments need two files or more, and a device for each.",
                received=f"{len(paths)} files, {len(devices)} devices",
                expected='e.g. two files and devices=("edgetpu:0", "edgetpu:1")',
            )
        self._in_flight = 2 * len(paths) if in_flight is None else in_flight
        if self._in_flight < 1:
            raise InputError("`in_flight` counts frames.", received=repr(in_flight), expected="1 or more")
        self._stack = ExitStack()
        self._running = Lock()
        self._latest: _Run | None = None
        self.runtimes: list[Runtime] = []
        try:
            for path, device in zip(paths, devices, strict=True):
                options = None if device == "cpu" else edgetpu
                runtime = Runtime(path, device=device, engine=engine, edgetpu=options)
                self._stack.enter_context(runtime)
                self.runtimes.append(runtime)
            self._wiring = _wire(self.runtimes)
        except BaseException:
            self._stack.close()
            raise

    def __call__(self, *values: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Answer for one frame; as a call of `Runtime`, and as slow as all segments together.

        Args:
            *values: One array for each input of the first segment.

        Raises:
            EdgeInferError: As `run`.
        """
        (answer,) = self.run([values])
        return answer

    def run(self, frames: Iterable[Sequence[NDArray[Any]] | NDArray[Any]]) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Answer for frames, several at once, in their order.

        Args:
            frames: Each an array for the only input of the first segment, or a sequence with one for each input: the
                model's own input, as in a call of `Runtime`.

        Yields:
            Output name to float32 array, as a call of `Runtime`; names are those of the last segment.

        Raises:
            InputError: An array does not fit; or another run has begun and not ended.
            DeviceError: A device fails for good. Frames on the way behind it are lost, and are not tried.
        """
        if not self._running.acquire(blocking=False):
            raise InputError(
                "These segments are at work already: one run at a time.",
                received="a second run, or a call, before the first has ended",
                next_step="Take all its answers first, or end it: `answers = segments.run(frames)`, `answers.close()`.",
            )
        try:
            if self._latest is not None:
                self._latest.end(None)  # a frame of one that was broken off may still be with its device
            self._latest = run = _Run(self.runtimes, self._wiring)
            on_the_way, is_cut_short = 0, False
            try:
                for frame in frames:
                    is_cut_short = run.has_failed
                    if is_cut_short:
                        break
                    run.lanes[0].put(self._entered(frame))
                    on_the_way += 1
                    if on_the_way == self._in_flight:
                        on_the_way -= 1
                        yield self._left(run.lanes[-1].get())
                while on_the_way:
                    on_the_way -= 1
                    yield self._left(run.lanes[-1].get())
                if is_cut_short:  # and no frame on the way has said why
                    raise DeviceError("The segments were closed in the midst of a run.")
            finally:
                run.end(_END_S)
        finally:
            self._running.release()

    def close(self) -> None:
        """Let go of all devices; may be called more than once. A run that has not ended is broken off."""
        if self._latest is not None:
            self._latest.stop()
        self._stack.close()

    def __enter__(self) -> Segments:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _entered(self, frame: Sequence[NDArray[Any]] | NDArray[Any]) -> _Frame:
        """Return the first segment's inputs as stored numbers, by name."""
        specs = self.runtimes[0].inputs
        values = [frame] if isinstance(frame, np.ndarray) else list(frame)
        if len(values) != len(specs):
            raise InputError(
                "The model takes one array per input.",
                received=f"{len(values)} arrays",
                expected=", ".join(f"`{spec.name}` {spec.shape}" for spec in specs),
            )
        # A copy: the caller may write the next frame into the same array while this one waits.
        return {
            spec.name: np.array(stored_input(value, spec)).reshape(spec.shape)
            for spec, value in zip(specs, values, strict=True)
        }

    def _left(self, frame: _Frame | BaseException | None) -> dict[str, NDArray[np.float32]]:
        if isinstance(frame, BaseException):
            raise frame
        held = {} if frame is None else frame
        return {
            spec.name: dequantize(held[spec.name], scale=spec.scale, zero_point=spec.zero_point)
            for spec in self.runtimes[-1].outputs
        }


class _Run:
    """The threads of one run, a stage for each segment, and what lies between them.

    Args:
        runtimes: The segments.
        wiring: As `_wire` returns it.

    Attributes:
        lanes: Into each stage, and out of the last.
    """

    def __init__(self, runtimes: Sequence[Runtime], wiring: Sequence[Mapping[str, str]]) -> None:
        self._runtimes, self._wiring = runtimes, wiring
        self.lanes: list[Queue[_Frame | BaseException | None]] = [Queue() for _ in range(len(runtimes) + 1)]
        # Stages below this number run nothing more. What is behind a frame that failed would be lost anyhow, and to
        # try it on a device that is gone takes all its restarts; what is in front of it is still answered.
        self._ended_below = 0
        self._lock = Lock()
        self._threads = [
            Thread(target=self._work, args=(place,), name=f"segment {place}", daemon=True)
            for place in range(len(runtimes))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def has_failed(self) -> bool:
        """Whether a frame has failed, or the run was stopped."""
        return self._ended_below > 0

    def stop(self) -> None:
        """Let no stage run anything more."""
        self._end_below(len(self._runtimes))

    def end(self, timeout_s: float | None) -> None:
        """Stop, and wait for the stages; no longer than so many seconds for all of them, where it is a number."""
        self.stop()
        self.lanes[0].put(None)
        ends = None if timeout_s is None else monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if ends is None else max(0.0, ends - monotonic()))

    def _end_below(self, place: int) -> None:
        with self._lock:
            self._ended_below = max(self._ended_below, place)

    def _work(self, place: int) -> None:
        """Run one segment on every frame that comes, and hand it on; an error goes the same way."""
        before, after = self.lanes[place : place + 2]
        while (frame := before.get()) is not None:
            if not isinstance(frame, BaseException):
                if place < self._ended_below:
                    frame = DeviceError("The run was ended before this frame was answered.")
                else:
                    try:
                        frame = self._answered(place, frame)
                    except Exception as error:  # raised again where the answers are received
                        self._end_below(place + 1)
                        frame = _ours(error)
            after.put(frame)
        after.put(None)

    def _answered(self, place: int, frame: _Frame) -> _Frame:
        runtime, names = self._runtimes[place], self._wiring[place]
        for index, spec in enumerate(runtime.inputs):
            runtime.input_view(index)[...] = frame[names[spec.name]]
        runtime.invoke()
        return {**frame, **{spec.name: runtime.raw_output(at) for at, spec in enumerate(runtime.outputs)}}


def _ours(error: Exception) -> Exception:
    """Return an error of the system as one of ours: a device that is closed in the midst of a frame is no file."""
    if isinstance(error, EdgeInferError) or not isinstance(error, OSError):
        return error
    said = DeviceError("The device's process cannot be talked to.", received=str(error))
    said.__cause__ = error
    return said


def _wire(runtimes: Sequence[Runtime]) -> list[Mapping[str, str]]:
    """Return for each segment which tensor made before becomes which of its inputs.

    Raises:
        MetadataError: One is made by none of the segments before, or is stored in another way.
    """
    made = {spec.name: stored_as(spec) for spec in runtimes[0].inputs}
    wiring: list[Mapping[str, str]] = [{spec.name: spec.name for spec in runtimes[0].inputs}]
    for before, after in pairwise(runtimes):
        made.update({spec.name: stored_as(spec) for spec in before.outputs})
        names = {spec.name: spec.name for spec in after.inputs}
        if not all(name in made for name in names) and len(after.inputs) == len(before.outputs):
            names = {ours.name: theirs.name for ours, theirs in zip(after.inputs, before.outputs, strict=True)}
        for spec in after.inputs:
            if made.get(names[spec.name]) != stored_as(spec):
                raise MetadataError(
                    "The segments do not fit one another.",
                    received=f"input `{spec.name}` {stored_as(spec)}; made before it: "
                    + ", ".join(f"`{name}` {stored}" for name, stored in made.items()),
                    next_step="Hand over all segments of one model in their order: ..._segment_0_of_N_edgetpu.tflite "
                    "first.",
                )
        wiring.append(names)
    return wiring
