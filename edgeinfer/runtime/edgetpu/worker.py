"""The process that runs a model on an accelerator: started by `process.py`, and ended with it.

It holds the only interpreter that has the delegate. Input and output tensors lie in memory that both processes see; per
frame one message of a few bytes goes each way. So a library that crashes ends this process and not the caller's, and
one that hangs can be ended from outside.

Messages, each one datagram of a `SOCK_SEQPACKET` socket:

1. from the parent: JSON, the `Job`;
2. answer: "R" and JSON, the tensors as the interpreter has them; or "E" and JSON, an error's parts;
3. per frame: four bytes, the frame's number;
4. answer: the number, and "R", or "E" and the text of what the engine or the delegate says.

The end of the socket is the end of the process. A second descriptor, the read end of a pipe, is for the case that this
process hangs and the parent is gone: the kernel then sends SIGIO, which needs no line of Python to end a process.

Source: fcntl(2), F_SETOWN and O_ASYNC; memfd_create(2).
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import DeviceError, EdgeInferError
from edgeinfer.frozen import dataclass, field
from edgeinfer.runtime.edgetpu.library import ask_version, runtime_version
from edgeinfer.runtime.engines import (
    Interpreter,
    find_engine,
    load_delegate,
    load_library,
    old_runtime_error,
    open_interpreter,
)
from edgeinfer.runtime.trial import limit_child

MESSAGE_BYTES = 1 << 16
DONE, FAILED = b"R", b"E"
# Kernels of the engine's read whole cache lines; 64 bytes is that of every ARM and x86 that TFLite runs on.
_ALIGNMENT = 64
_SAID = 2000


@dataclass(frozen=True, slots=True)
class Job:
    """What the process shall load.

    Attributes:
        model: Path of the file, as the process sees it.
        engine: Name of the engine.
        threads: Of the engine.
        library: The delegate's library; None loads none, and the model runs on the CPU.
        options: The delegate's own, text to text.
        min_runtime: Lowest version of the library's runtime that the file asks for; 0 where it is not known.
    """

    model: str
    engine: str
    threads: int = 1
    library: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    min_runtime: int = 0

    def to_json(self) -> str:
        """Return the job as it travels."""
        from dataclasses import asdict

        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class SharedTensor:
    """Where an input or output lies in the shared memory.

    Attributes:
        index: The interpreter's number of it.
        name: As the interpreter says.
        shape: As the interpreter has allocated it.
        dtype: NumPy's code of it, e.g. "|i1".
        quantization: Scale and zero point; (0.0, 0) where it has none.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: tuple[float, int]

    @property
    def size_bytes(self) -> int:
        """Return how many bytes it takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def detail(self) -> dict[str, Any]:
        """Return what an engine's `get_input_details` says of it."""
        return {
            "name": self.name,
            "index": self.index,
            "shape": np.array(self.shape, np.int32),
            "dtype": np.dtype(self.dtype).type,
            "quantization": self.quantization,
        }


def shared_tensor(detail: dict[str, Any]) -> SharedTensor:
    """Return an input or output of an engine as a plain value.

    Raises:
        DeviceError: It has no fixed size: a string tensor.
    """
    dtype = np.dtype(detail["dtype"])
    if dtype.itemsize == 0 or dtype.kind not in "biufc":
        raise DeviceError(
            "A model with text in a tensor cannot run in a process of its own.",
            received=f"tensor `{detail['name']}` of type {dtype}",
            next_step='Run it with `device="cpu"`.',
        )
    scale, zero_point = detail["quantization"]
    shape = tuple(int(length) for length in detail["shape"])
    return SharedTensor(int(detail["index"]), str(detail["name"]), shape, dtype.str, (float(scale), int(zero_point)))


def places(tensors: Sequence[SharedTensor]) -> tuple[dict[int, int], int]:
    """Return where each tensor begins in the shared memory, by its index, and the memory's size in bytes.

    Both ends call this, so that no place travels; a tensor that is input and output has one.
    """
    offsets: dict[int, int] = {}
    end = 0
    for tensor in tensors:
        if tensor.index not in offsets:
            offsets[tensor.index] = end
            end += -(-tensor.size_bytes // _ALIGNMENT) * _ALIGNMENT
    return offsets, max(end, _ALIGNMENT)


def views(memory: mmap.mmap, tensors: Sequence[SharedTensor]) -> dict[int, NDArray[Any]]:
    """Return an array over each tensor's place in the memory, by the tensor's index."""
    offsets, _ = places(tensors)
    return {
        one.index: np.ndarray(one.shape, np.dtype(one.dtype), buffer=memory, offset=offsets[one.index])
        for one in tensors
    }


def main(arguments: list[str]) -> int:
    """Serve until the parent goes: the process's whole life.

    Args:
        arguments: The descriptors of the socket, the shared memory and the pipe whose other end is the parent's life.
    """
    from dataclasses import asdict

    talk, memory_fd, life_fd = (int(one) for one in arguments)
    # Ctrl-C and a service's stop reach every process of a group; this one ends when the parent is done with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end_with_parent(life_fd)
    limit_child()
    with socket.socket(fileno=talk) as connection:
        job = connection.recv(MESSAGE_BYTES)
        if not job:
            return 0
        try:
            interpreter = _open(Job(**json.loads(job)))
            inputs = [shared_tensor(one) for one in interpreter.get_input_details()]
            outputs = [shared_tensor(one) for one in interpreter.get_output_details()]
            _, size = places([*inputs, *outputs])
            os.ftruncate(memory_fd, size)  # the same size again after a restart: no more than a check then
            memory = mmap.mmap(memory_fd, size)
        except EdgeInferError as error:
            _say(connection, FAILED + json.dumps(error.to_json()).encode()[: MESSAGE_BYTES - 1])
            return 0
        except (OSError, ValueError, RuntimeError) as error:
            parts = DeviceError("The model's own process cannot load it.", received=str(error)[:_SAID]).to_json()
            _say(connection, FAILED + json.dumps(parts).encode())
            return 0
        tensors = {"inputs": [asdict(one) for one in inputs], "outputs": [asdict(one) for one in outputs]}
        arrays = views(memory, [*inputs, *outputs])
        into = [(interpreter.tensor(one.index), arrays[one.index]) for one in inputs]
        out = [(interpreter.tensor(one.index), arrays[one.index]) for one in outputs]
        _say(connection, DONE + json.dumps(tensors).encode())
        _serve(connection, interpreter, into, out)
    return 0


def _serve(
    connection: socket.socket,
    interpreter: Interpreter,
    into: list[tuple[Callable[[], NDArray[Any]], NDArray[Any]]],
    out: list[tuple[Callable[[], NDArray[Any]], NDArray[Any]]],
) -> None:
    """Run the model once for every message, until there will be none."""
    while True:
        try:
            frame = connection.recv(MESSAGE_BYTES)
        except ConnectionResetError:  # the parent is gone with an answer unread
            return
        if not frame:
            return
        for tensor, shared in into:
            tensor()[...] = shared
        try:
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            answer = FAILED + " ".join(str(error).split()).encode()[:_SAID]
        else:
            for tensor, shared in out:
                shared[...] = tensor()
            answer = DONE
        _say(connection, frame + answer)


def _say(connection: socket.socket, message: bytes) -> None:
    """Send a message; that the parent is gone is noticed at the next one that is read."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.send(message)


def _open(job: Job) -> Interpreter:
    engine = find_engine(job.engine)
    if job.library is None:
        return open_interpreter(engine, Path(job.model), threads=job.threads)
    if job.min_runtime:
        # An older runtime may run a newer file and answer with anything.
        said = ask_version(load_library(job.library))
        version = runtime_version(said)
        if version is not None and version < job.min_runtime:
            raise old_runtime_error(job.min_runtime, version, said)
    delegate = load_delegate(engine, job.library, job.options)
    return open_interpreter(engine, Path(job.model), threads=job.threads, delegate=delegate)


def _end_with_parent(life_fd: int) -> None:
    """Let the kernel end this process when the other end of the pipe is closed, whatever this process does then."""
    import fcntl
    import select

    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(life_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life_fd, fcntl.F_SETFL, fcntl.fcntl(life_fd, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([life_fd], [], [], 0)[0]:  # it was closed before anybody listened
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
