"""The parent's end of `worker.py`: an interpreter whose model runs in a process of its own.

It offers what `engines.Interpreter` offers. Its tensors are views of the memory that both processes see, so that pixels
are written where the process reads them. The memory belongs to this end and outlives a process: after a crash the
frame's input is still there, and a new process can try it.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from edgeinfer.errors import DeviceError
from edgeinfer.frozen import replace
from edgeinfer.runtime.edgetpu.failure import CallerError, closed_error, delegate_words, failure, one_shape_error
from edgeinfer.runtime.edgetpu.handover import check_unchanged, close_all, hold_model, map_shared, nameless
from edgeinfer.runtime.edgetpu.link import Link
from edgeinfer.runtime.edgetpu.worker import DONE, Job, SharedTensor, places, views

START_S = 60.0
# A thread that waits for an answer leaves within milliseconds once the line is shut.
_LEAVE_S = 5.0


class IsolatedInterpreter:
    """An interpreter in a process of its own.

    Args:
        model: Path of the file, or its bytes. The file is opened once: a process that is started again has the same,
            and does not start where that was written to.
        job: Engine, threads, the delegate's library and options; the model's path is filled in here.
        deadline_s: Seconds that a frame may take.
        first_deadline_s: The same for a process's first frame.

    Raises:
        DeviceError: No process can be started, or it ends or takes too long while it loads.
        EdgeInferError: What the engine or the delegate says of the file, as `engines.open_interpreter`.

    One thread at a time runs it; `close` may come from any. It belongs to the process that opened it: in a fork it is
    refused, and a view that was taken before the fork is still the memory of that process.

    Example:
        with IsolatedInterpreter(path, Job("", "litert"), deadline_s=1.0, first_deadline_s=10.0) as interpreter:
            interpreter.tensor(index)()[...] = pixels
            interpreter.invoke()
    """

    def __init__(self, model: Path | bytes, job: Job, *, deadline_s: float, first_deadline_s: float) -> None:
        self._job = job
        self._deadlines_s = (first_deadline_s, deadline_s)
        self._frame = 0
        self._answered = 0
        self._link: Link | None = None
        self._inputs: list[SharedTensor] = []
        self._outputs: list[SharedTensor] = []
        self._views: dict[int, NDArray[Any]] = {}
        self._owner = os.getpid()
        self._turn = threading.Lock()
        self._turn_of = 0  # the thread that had it last
        self._is_closed = False
        if not Path("/proc/self/fd").is_dir():
            raise DeviceError(
                "A process of its own is handed its files by /proc, which only Linux has.",
                next_step="Pass `edgetpu=EdgeTpuOptions(isolate=False)`.",
            )
        self._model = hold_model(model)
        try:
            self._memory_fd = nameless("edgeinfer tensors")
        except BaseException:
            os.close(self._model.descriptor)
            raise
        self._end = weakref.finalize(self, close_all, self._memory_fd, self._model.descriptor)
        try:
            self.start()
        except BaseException:
            self._end()  # now, and not when the error is let go, whose frames hold this object
            raise

    @property
    def pid(self) -> int | None:
        """The process's number; None while there is none."""
        return None if self._link is None else self._link.process.pid

    def start(self) -> None:
        """Start a process, in place of the one before; the tensors keep their memory and what lies in it.

        Raises:
            DeviceError: It cannot be started, ends, or takes longer than a minute; or the file was overwritten.
            CallerError: The model is closed, in use by another thread, or was opened by another process.
            EdgeInferError: What the engine or the delegate says of the file.
        """
        self._admit()
        with self._turn:
            self._turn_of = threading.get_ident()
            self._start()

    def _admit(self) -> None:
        """Refuse a caller for whom the line to the process is not, before the two can take each other's answers.

        Raises:
            CallerError: See `start`.
        """
        _refuse_fork(self._owner)
        if self._is_closed:
            raise closed_error()
        # Looked at and then taken by a `with`, which Ctrl-C cannot interrupt halfway. Two threads that pass together
        # run one after the other.
        if self._turn.locked():
            raise CallerError(
                "The model is used by two threads at once.",
                expected="one thread at a time",
                next_step="Open a `Runtime` for each thread, with an Edge TPU for each, or let one thread run all "
                "frames.",
            )

    def _start(self) -> None:
        if self._is_closed:  # while this thread waited for its turn: the descriptors are gone
            raise closed_error()
        self._stop()
        check_unchanged(self._model)
        self._link = link = Link(self._memory_fd, self._model.descriptor)
        try:
            if self._is_closed:  # meanwhile, by a thread that saw no link to shut
                raise closed_error()
            job = replace(self._job, model=f"/proc/self/fd/{self._model.descriptor}")
            answer = link.ask(job.to_json().encode(), START_S, "while it loaded the model")
            said = json.loads(answer[1:])
            if answer[:1] != DONE:
                from edgeinfer.runtime.edgetpu.diagnosis import rebuilt

                raise rebuilt(said)
            self._take(said)
        except BaseException:
            self._stop()
            raise
        self._answered = 0

    def _take(self, said: dict[str, Any]) -> None:
        """Take over the tensors that a new process has, or check that they are those of the one before."""
        inputs, outputs = ([_tensor(one) for one in said[name]] for name in ("inputs", "outputs"))
        if self._views:
            if (inputs, outputs) != (self._inputs, self._outputs):
                raise DeviceError(
                    "The model has other tensors after a restart: its file was overwritten.",
                    next_step="Load it again; write models elsewhere and move them into place.",
                )
            return
        _, size = places([*inputs, *outputs])
        self._views = views(map_shared(self._memory_fd, size), [*inputs, *outputs])
        self._inputs, self._outputs = inputs, outputs

    def stop(self) -> None:
        """End the process, if there is one: in good order where it listens, else by force.

        Raises:
            CallerError: As `start`.
        """
        self._admit()
        with self._turn:
            self._turn_of = threading.get_ident()
            self._stop()

    def _stop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.end()

    def close(self) -> None:
        """End the process and give the memory back; what was read from the tensors' views stays valid.

        May be called from another thread or a signal handler: a frame on its way ends with a `CallerError`. In a fork
        it gives this process's copies back, and leaves the model to the process that opened it.
        """
        self._is_closed = True
        if os.getpid() == self._owner:
            link = self._link
            if link is not None:
                link.shut()
            is_inside = self._turn.locked() and self._turn_of == threading.get_ident()  # called by a signal handler
            has_turn = not is_inside and self._turn.acquire(timeout=_LEAVE_S)
            try:
                self._stop()
            finally:
                if has_turn:
                    self._turn.release()
        self._end()

    def __enter__(self) -> IsolatedInterpreter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def invoke(self) -> None:
        """Run the model on what lies in its input tensors.

        Raises:
            FrameError: The process has ended, does not answer in time, or says that the model cannot run. It is
                ended then; `start` or the next frame begins anew.
            CallerError: As `start`, or the model was closed meanwhile.
            EdgeInferError: As `start`, where there was no process.
        """
        self._admit()
        with self._turn:
            self._turn_of = threading.get_ident()
            self._invoke()

    def _invoke(self) -> None:
        if self._link is None:
            self._start()  # after a failure that nobody has cured yet
        link = cast(Link, self._link)
        self._frame = (self._frame + 1) % (1 << 32)
        number = self._frame.to_bytes(4, "little")
        try:
            answer = link.ask(number, self._deadlines_s[min(self._answered, 1)], "while it ran the model", mark=number)
        except DeviceError:
            self._stop()
            raise
        if answer[:1] != DONE:
            self._stop()
            raise failure(
                "refused",
                "The Edge TPU's library did not run the model.",
                received=delegate_words(answer[1:].decode(errors="replace")),
                next_step="Take the device out and put it back in, and look at its cable and power supply; "
                "`edgeinfer doctor` says what is there.",
            )
        self._answered = 1

    def allocate_tensors(self) -> None:
        """Do nothing: the process has given memory to its tensors when it loaded the model."""

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int]) -> None:
        """Refuse: a compiled model has one shape.

        Raises:
            DeviceError: Always.
        """
        raise one_shape_error(input_index, tensor_size)

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an input: name, index, shape, dtype and quantization."""
        return [one.detail() for one in self._inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an output, as `get_input_details`."""
        return [one.detail() for one in self._outputs]

    def get_tensor(self, index: int) -> NDArray[Any]:
        """Return a copy of an input or output.

        Raises:
            CallerError: In a fork.
        """
        copied: NDArray[Any] = self.tensor(index)().copy()
        return copied

    def tensor(self, index: int) -> Callable[[], NDArray[Any]]:
        """Return a function that gives a view of an input's or output's memory; it may be held over a run.

        In a fork the function raises a `CallerError`: the memory is that of the process that opened the model.
        """
        view, owner = self._views[index], self._owner

        def checked() -> NDArray[Any]:
            _refuse_fork(owner)
            return view

        return checked


def _refuse_fork(owner: int) -> None:
    """Refuse another process than the one that opened the model.

    Raises:
        CallerError: This one was forked from it.
    """
    if os.getpid() != owner:
        raise CallerError(
            "The model was opened before this process was forked, and belongs to the process that opened it.",
            received=f"process {os.getpid()}, a fork of {owner}",
            next_step="Open it anew in the process that uses it: `Runtime(...)` in the function that the child runs. "
            '`multiprocessing.get_context("spawn")` makes children that inherit nothing.',
        )


def _tensor(said: dict[str, Any]) -> SharedTensor:
    scale, zero_point = said["quantization"]
    return SharedTensor(said["index"], said["name"], tuple(said["shape"]), said["dtype"], (scale, zero_point))
