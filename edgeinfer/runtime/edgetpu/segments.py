"""A model in segments, each on an Edge TPU of its own, with several frames on the way at once.

Google's compiler cuts a model (`edgetpu_compiler --num_segments=2 m.tflite` writes `m_segment_0_of_2_edgetpu.tflite`,
...): no program of ours does. A model that is too large for one chip's memory then stays in those of several, and each
chip works on a frame of its own: a frame takes as long as before or longer, and frames come out more often.

Source: Google's documentation, "Pipeline a model with multiple Edge TPUs".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError, MetadataError
from edgeinfer.quantization import dequantize
from edgeinfer.runtime.edgetpu.open import stored_as
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
from edgeinfer.runtime.own_input import stored_input
from edgeinfer.runtime.runtime import Runtime

_Frame = dict[str, NDArray[Any]]


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
        """
        return next(iter(self.run([values])))

    def run(self, frames: Iterable[Sequence[NDArray[Any]] | NDArray[Any]]) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Answer for frames, several at once, in their order.

        Args:
            frames: Each an array for the only input of the first segment, or a sequence with one for each input: the
                model's own input, as in a call of `Runtime`.

        Yields:
            Output name to float32 array, as a call of `Runtime`; names are those of the last segment.

        Raises:
            InputError: An array does not fit.
            DeviceError: A device fails for good. Frames on the way behind it are lost.
        """
        stages = len(self.runtimes)
        lanes: list[Queue[_Frame | BaseException | None]] = [Queue() for _ in range(stages + 1)]
        threads = [
            Thread(
                target=self._work, args=(place, lanes[place], lanes[place + 1]), name=f"segment {place}", daemon=True
            )
            for place in range(stages)
        ]
        for thread in threads:
            thread.start()
        waiting: deque[None] = deque()
        try:
            for frame in frames:
                lanes[0].put(self._entered(frame))
                waiting.append(None)
                if len(waiting) == self._in_flight:
                    waiting.popleft()
                    yield self._left(lanes[-1].get())
            while waiting:
                waiting.popleft()
                yield self._left(lanes[-1].get())
        finally:
            lanes[0].put(None)
            for thread in threads:
                thread.join()

    def close(self) -> None:
        """Let go of all devices; may be called more than once."""
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

    def _work(
        self, place: int, before: Queue[_Frame | BaseException | None], after: Queue[_Frame | BaseException | None]
    ) -> None:
        """Run one segment on every frame that comes, and hand it on; an error goes the same way."""
        runtime, names = self.runtimes[place], self._wiring[place]
        while (frame := before.get()) is not None:
            if not isinstance(frame, BaseException):
                try:
                    for index, spec in enumerate(runtime.inputs):
                        runtime.input_view(index)[...] = frame[names[spec.name]]
                    runtime.invoke()
                    frame = {**frame, **{spec.name: runtime.raw_output(at) for at, spec in enumerate(runtime.outputs)}}
                except Exception as error:  # raised again where the answers are received
                    frame = error
            after.put(frame)
        after.put(None)


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
