"""A worker process and this end of the line to it: started, asked, ended.

However this program ends or forks, a worker is held by the one process that started it: a fork lets go of its copies of
the socket and of the pipe at once, so that the worker still sees when the process that uses it is gone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import weakref
from contextlib import ExitStack, suppress

from edgeinfer.errors import DeviceError
from edgeinfer.runtime.child import child_environment
from edgeinfer.runtime.edgetpu.failure import closed_error, failure
from edgeinfer.runtime.edgetpu.handover import cure
from edgeinfer.runtime.edgetpu.worker import MESSAGE_BYTES

# An idle process ends at once in good order: the library says goodbye to its device. One that owes an answer most
# likely hangs, and is not waited for.
_IDLE_END_S, _BUSY_END_S = 1.0, 0.5
# After SIGKILL, or once its socket is closed; one that hangs in the kernel is left to itself.
_DEAD_END_S = 1.0


class Link:
    """A worker process and what one needs to talk to it.

    Args:
        memory_fd: Descriptor of the memory of the tensors.
        model_fd: Of the model's file.

    Raises:
        DeviceError: It cannot be started.
    """

    def __init__(self, memory_fd: int, model_fd: int) -> None:
        self._connection, self._life, self.process = _started(memory_fd, model_fd)
        self._unanswered: set[bytes] = set()
        self._is_shut = False
        # Called when nobody holds the link any more and when Python ends, too.
        self.end = weakref.finalize(
            self, _end, self.process, self._connection, self._life, self._unanswered, os.getpid()
        )
        _links.add(self)

    def ask(self, message: bytes, deadline_s: float, when: str, *, mark: bytes = b"") -> bytes:
        """Send a message and wait for its answer.

        Args:
            message: At most `MESSAGE_BYTES`.
            deadline_s: Seconds that the answer may take.
            when: For messages, e.g. "while it ran the model".
            mark: What the answer begins with; others are of callers that were interrupted by Ctrl-C.

        Returns:
            The answer behind its mark.

        Raises:
            FrameError: It does not come in time, or the process has ended.
            CallerError: Another thread, or a signal handler, has closed the model meanwhile.
        """
        self._unanswered.add(message)
        answer = b""
        try:
            self._connection.settimeout(deadline_s)
            with suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
                self._connection.send(message)  # a process that has ended is noticed when its answer is read
            while (answer := self._connection.recv(MESSAGE_BYTES)) and not answer.startswith(mark):
                pass
        except TimeoutError as error:
            self.process.kill()
            raise failure(
                "hang",
                f"The Edge TPU's process gave no answer {when}.",
                received=f"nothing within {deadline_s:g} s; it was ended",
                next_step="If the model may take longer: `edgetpu=EdgeTpuOptions(deadline_s=...)`. Otherwise take the "
                "device out and put it back in.",
            ) from error
        except OSError:  # reset by a process that has ended, or closed by another thread
            answer = b""
        if self._is_shut:
            raise closed_error()
        if not answer:
            raise failure(
                "crash",
                f"The Edge TPU's process ended {when}.",
                received=_ending(self.process),
                next_step="Most often the Edge TPU's library and the engine do not fit each other: `edgeinfer doctor` "
                "shows both versions.",
            )
        self._unanswered.clear()
        return answer[len(mark) :]

    def shut(self) -> None:
        """Let a thread that waits for an answer go, and the process end; to be followed by `end`."""
        self._is_shut = True
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """Close this process's copies of socket and pipe, in a fork; the worker and its line stay as they are."""
        if self.end.detach() is not None:
            _close_copies(self.process, self._connection, self._life)


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _let_go_of_all() -> None:
    for one in list(_links):
        one.let_go()


if hasattr(os, "register_at_fork"):  # Unix
    os.register_at_fork(after_in_child=_let_go_of_all)


def _started(memory_fd: int, model_fd: int) -> tuple[socket.socket, int, subprocess.Popen[bytes]]:
    """Start a worker; returns this end of its socket, the pipe that tells it that this process lives, and itself."""
    with ExitStack() as if_it_fails, ExitStack() as theirs:
        try:
            ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if_it_fails.callback(ours.close)
            theirs.callback(other.close)
            listened, life = os.pipe()
            if_it_fails.callback(os.close, life)
            theirs.callback(os.close, listened)
            process = subprocess.Popen(
                [sys.executable, "-m", "edgeinfer.runtime.edgetpu.worker"]
                + [str(one) for one in (other.fileno(), memory_fd, listened)],
                env=child_environment(),
                cwd="/",  # only root writes there: `-m` puts the current folder in front of the search for modules
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # the caller's own answers go there
                pass_fds=(other.fileno(), memory_fd, model_fd, listened),
                start_new_session=True,  # Ctrl-C in a terminal reaches the caller only, which ends this one in order
            )
        except OSError as error:
            raise DeviceError(
                "The model's own process cannot be started.", received=str(error), next_step=cure(error)
            ) from error
        if_it_fails.pop_all()
    return ours, life, process


def _end(
    process: subprocess.Popen[bytes], connection: socket.socket, life: int, unanswered: set[bytes], owner: int
) -> None:
    """End a process in good order: the library lets go of its device then. Else by force."""
    if os.getpid() != owner:  # a fork that Python was not told of
        _close_copies(process, connection, life)
        return
    with suppress(OSError):
        # Not only closed: a fork made by a library holds a copy, with which the line would stay open.
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    try:
        process.wait(_BUSY_END_S if unanswered else _IDLE_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DEAD_END_S)
    finally:
        os.close(life)


def _close_copies(process: subprocess.Popen[bytes], connection: socket.socket, life: int) -> None:
    connection.close()
    os.close(life)
    process.returncode = 0  # it is no child of a fork, which can neither wait for it nor should end it


def _ending(process: subprocess.Popen[bytes]) -> str:
    """Return how a process that has closed its socket came to its end."""
    import signal

    try:
        code = process.wait(_DEAD_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return "it closed its connection and did not end"
    if code == 0 and signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        return "how is not known, since this program ignores SIGCHLD"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"ended by signal {-code}"
