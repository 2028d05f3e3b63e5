"""The parent's end of `worker.py`: an interpreter whose model runs in a process of its own.

It offers what `engines.Interpreter` offers. Its tensors are views of the memory that both processes see, so that pixels
are written where the process reads them. The memory belongs to this end and outlives a process: after a crash the
frame's input is still there, and a new process can try it.

The memory has no name (memfd_create), so nothing is left in a file system, however the two end.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

from numpy.typing import NDArray

from edgeinfer.errors import DeviceError, InputFileError
from edgeinfer.frozen import replace
from edgeinfer.runtime.child import child_environment
from edgeinfer.runtime.edgetpu.worker import DONE, MESSAGE_BYTES, Job, SharedTensor, places, views

Failure = Literal["crash", "hang", "refused", "gone", "wrong", "start"]

START_S = 60.0
# A device's library writes its last words to the bus and closes it; then there is no reason to wait.
_END_S = 5.0


class FrameError(DeviceError):
    """A frame that the device did not answer, or not rightly.

    Attributes:
        kind: "crash" (the process ended), "hang" (no answer in time), "refused" (the library says no), "gone" (the
            device is not listed any more), "wrong" (another answer than the CPU's), "start" (nothing could be loaded).
    """

    kind: Failure = "refused"


def failure(kind: Failure, message: str, *, received: str, next_step: str) -> FrameError:
    """Return a `FrameError` of a kind."""
    error = FrameError(message, received=received, next_step=next_step)
    error.kind = kind
    return error


def delegate_words(said: str) -> str:
    """Return what a delegate says of a run that failed, without the engine's own sentence behind it."""
    import re

    return re.sub(r"Node number \d+ \([\w-]+\) failed to invoke\.?", "", " ".join(said.split())).strip() or "no reason"


class IsolatedInterpreter:
    """An interpreter in a process of its own.

    Args:
        model: Path of the file, or its bytes. The file is opened once: a process that is started again has the same.
        job: Engine, threads, the delegate's library and options; the model's path is filled in here.
        deadline_s: Seconds that a frame may take.
        first_deadline_s: The same for a process's first frame.

    Raises:
        DeviceError: No process can be started, or it ends or takes too long while it loads.
        EdgeInferError: What the engine or the delegate says of the file, as `engines.open_interpreter`.

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
        self._child: _Child | None = None
        self._inputs: list[SharedTensor] = []
        self._outputs: list[SharedTensor] = []
        self._model_fd = self._memory_fd = -1
        self._views: dict[int, NDArray[Any]] = {}
        try:
            self._model_fd = _open_model(model)
            self._memory_fd = os.memfd_create("edgeinfer tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except AttributeError as error:  # not a Linux system
            raise DeviceError(
                "A process of its own needs memory without a name, which only Linux has.",
                received=sys.platform,
                next_step="Pass `edgetpu=EdgeTpuOptions(isolate=False)`.",
            ) from error
        self._end = weakref.finalize(self, _close_all, self._memory_fd, self._model_fd)
        self.start()

    @property
    def pid(self) -> int | None:
        """The process's number; None while there is none."""
        return None if self._child is None else self._child.process.pid

    def start(self) -> None:
        """Start a process, in place of the one before; the tensors keep their memory and what lies in it.

        Raises:
            DeviceError: It cannot be started, ends, or takes longer than a minute.
            EdgeInferError: What the engine or the delegate says of the file.
        """
        self.stop()
        if not self._end.alive:
            raise DeviceError("The model is closed.", next_step="Open it again: `Runtime(...)`.")
        # Started from a folder that only root writes: `-m` puts the current one in front of the search for modules.
        self._child = child = _Child(self._memory_fd, self._model_fd)
        try:
            job = replace(self._job, model=f"/proc/self/fd/{self._model_fd}")
            child.connection.send(job.to_json().encode())
            answer = child.answer(START_S, "while it loaded the model")
            said = json.loads(answer[1:])
            if answer[:1] != DONE:
                from edgeinfer.runtime.edgetpu.diagnosis import rebuilt

                raise rebuilt(said)
            self._take(said)
        except BaseException:
            self.stop()
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
        import fcntl

        _, size = places([*inputs, *outputs])
        # A size that can change no more: otherwise a touch of memory that is gone would end this process, too.
        fcntl.fcntl(self._memory_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self._views = views(mmap.mmap(self._memory_fd, size), [*inputs, *outputs])
        self._inputs, self._outputs = inputs, outputs

    def stop(self) -> None:
        """End the process, if there is one: in good order where it listens, else by force."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def close(self) -> None:
        """End the process and give the memory back; what was read from the tensors' views stays valid."""
        self.stop()
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
            EdgeInferError: As `start`, where there was no process.
        """
        if self._child is None:
            self.start()  # after a failure that nobody has cured yet
        child = cast(_Child, self._child)
        self._frame = (self._frame + 1) % (1 << 32)
        number = self._frame.to_bytes(4, "little")
        try:
            child.send(number)
            while True:
                answer = child.answer(self._deadlines_s[min(self._answered, 1)], "while it ran the model")
                if answer[:4] == number:  # else of a frame whose caller was interrupted by Ctrl-C
                    break
        except FrameError:
            self.stop()
            raise
        if answer[4:5] != DONE:
            self.stop()
            raise failure(
                "refused",
                "The Edge TPU's library did not run the model.",
                received=delegate_words(answer[5:].decode(errors="replace")),
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
        raise DeviceError(
            "A model that was compiled for an Edge TPU has one shape.",
            received=f"{tuple(tensor_size)} for tensor {input_index}",
            next_step="Run it once for each sample.",
        )

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an input: name, index, shape, dtype and quantization."""
        return [one.detail() for one in self._inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an output, as `get_input_details`."""
        return [one.detail() for one in self._outputs]

    def get_tensor(self, index: int) -> NDArray[Any]:
        """Return a copy of an input or output."""
        copied: NDArray[Any] = self._views[index].copy()
        return copied

    def tensor(self, index: int) -> Callable[[], NDArray[Any]]:
        """Return a function that gives a view of an input's or output's memory; it may be held over a run."""
        view = self._views[index]
        return lambda: view


class _Child:
    """A process and what one needs to talk to it."""

    def __init__(self, memory_fd: int, model_fd: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listened, life = os.pipe()
        self.connection = ours
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edgeinfer.runtime.edgetpu.worker"]
                + [str(one) for one in (theirs.fileno(), memory_fd, listened)],
                env=child_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # the caller's own answers go there
                pass_fds=(theirs.fileno(), memory_fd, model_fd, listened),
                start_new_session=True,  # Ctrl-C in a terminal reaches the caller only, which ends this one in order
            )
        except OSError as error:
            ours.close()
            os.close(life)
            raise DeviceError(
                "The model's own process cannot be started.",
                received=str(error),
                next_step="Free some memory, or pass `edgetpu=EdgeTpuOptions(isolate=False)`.",
            ) from error
        finally:
            theirs.close()
            os.close(listened)
        # Called when nobody holds the child any more and when Python ends, too.
        self.end = weakref.finalize(self, _end, self.process, ours, life)

    def send(self, message: bytes) -> None:
        """Send a message; a process that has ended or stopped is noticed when its answer is read."""
        with suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            self.connection.send(message)

    def answer(self, deadline_s: float, when: str) -> bytes:
        """Wait for a message.

        Raises:
            FrameError: It does not come in time, or the process has ended.
        """
        self.connection.settimeout(deadline_s)
        try:
            message = self.connection.recv(MESSAGE_BYTES)
        except TimeoutError as error:
            self.process.kill()
            raise failure(
                "hang",
                f"The Edge TPU's process gave no answer {when}.",
                received=f"nothing within {deadline_s:g} s; it was ended",
                next_step="If the model may take longer: `edgetpu=EdgeTpuOptions(deadline_s=...)`. Otherwise take the "
                "device out and put it back in.",
            ) from error
        except ConnectionResetError:
            message = b""
        if message:
            return message
        raise failure(
            "crash",
            f"The Edge TPU's process ended {when}.",
            received=_ending(self.process),
            next_step="Most often the Edge TPU's library and the engine do not fit each other: `edgeinfer doctor` "
            "shows both versions.",
        )


def _end(process: subprocess.Popen[bytes], connection: socket.socket, life: int) -> None:
    """End a process in good order: the library lets go of its device then. Else by force."""
    connection.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel is left to itself
            process.wait(_END_S)
    finally:
        os.close(life)


def _close_all(*descriptors: int) -> None:
    for one in descriptors:
        os.close(one)


def _ending(process: subprocess.Popen[bytes]) -> str:
    """Return how a process that has closed its socket came to its end."""
    import signal

    try:
        code = process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return "it closed its connection and did not end"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"ended by signal {-code}"


def _open_model(model: Path | bytes) -> int:
    """Return a descriptor of the file, which is the same file whatever is moved into its place later."""
    if not isinstance(model, bytes):
        try:
            return os.open(model, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputFileError(f"`{model}` cannot be read.", received=error.strerror or str(error)) from error
    descriptor = os.memfd_create("edgeinfer model", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(model)
    return descriptor


def _tensor(said: dict[str, Any]) -> SharedTensor:
    scale, zero_point = said["quantization"]
    return SharedTensor(said["index"], said["name"], tuple(said["shape"]), said["dtype"], (scale, zero_point))
