"""A model in a process of its own: the same tensors, and every way in which the process can end or stop.

The processes are real, and so are the signals that end and stop them. They run on the CPU; what a delegate does in them
is in `test_guard.py`.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from edgetpu_standin import edgetpu_pair
from tiny_flatbuffer import Scalar

from edgeinfer.errors import DeviceError, EdgeInferError, InputFileError, MissingDependencyError, UnsupportedOpError
from edgeinfer.runtime.edgetpu import handover, process
from edgeinfer.runtime.edgetpu.failure import CallerError, FrameError
from edgeinfer.runtime.edgetpu.process import IsolatedInterpreter
from edgeinfer.runtime.edgetpu.worker import Job, SharedTensor, places
from edgeinfer.runtime.engines import find_engine

pytestmark = pytest.mark.device


def job(**changes: object) -> Job:
    return Job(**{"model": "", "engine": find_engine().name, **changes})  # type: ignore[arg-type]


def open_dense(*, deadline_s: float = 60.0, first_deadline_s: float = 60.0) -> IsolatedInterpreter:
    """Six floats in; their sum and twice their sum out."""
    return IsolatedInterpreter(tiny_models.dense(), job(), deadline_s=deadline_s, first_deadline_s=first_deadline_s)


def answer(interpreter: IsolatedInterpreter, value: float = 1.0) -> list[float]:
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.tensor(given["index"])()[...] = value
    interpreter.invoke()
    found: list[float] = interpreter.get_tensor(made["index"])[0].tolist()
    return found


def is_there(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


def gone(pid: int) -> bool:
    """Wait until a process has ended, for a minute at most."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 60)[0])
    finally:
        os.close(descriptor)


@pytest.fixture
def dense() -> Iterator[IsolatedInterpreter]:
    with open_dense() as interpreter:
        yield interpreter


# --- what an interpreter offers -------------------------------------------------------------------


def test_what_is_written_into_the_input_is_answered(dense: IsolatedInterpreter) -> None:
    assert answer(dense) == [6.0, 12.0]
    assert answer(dense, 2.0) == [12.0, 24.0]


def test_the_tensors_are_those_of_the_file(dense: IsolatedInterpreter) -> None:
    (given,), (made,) = dense.get_input_details(), dense.get_output_details()
    assert (given["name"], given["shape"].tolist(), given["dtype"]) == ("features", [1, 6], np.float32)
    assert (made["name"], made["shape"].tolist(), made["dtype"]) == ("answer", [1, 2], np.float32)


def test_quantization_arrives() -> None:
    with IsolatedInterpreter(tiny_models.dense(dtype="int8"), job(), deadline_s=60, first_deadline_s=60) as interpreter:
        (given,) = interpreter.get_input_details()
    assert (given["dtype"], given["quantization"]) == (np.int8, (1 / 128, 0))


def test_a_view_may_be_held_over_a_run_and_shows_the_next_answer(dense: IsolatedInterpreter) -> None:
    view = dense.tensor(dense.get_output_details()[0]["index"])()
    answer(dense)
    assert view.tolist() == [[6.0, 12.0]]
    answer(dense, 2.0)
    assert view.tolist() == [[12.0, 24.0]]


def test_a_copy_belongs_to_the_caller(dense: IsolatedInterpreter) -> None:
    answer(dense)
    copied = dense.get_tensor(dense.get_output_details()[0]["index"])
    answer(dense, 2.0)
    assert copied.tolist() == [[6.0, 12.0]]


def test_several_inputs_and_an_output_that_is_an_input() -> None:
    tensors = [tiny_models.TensorSpec(name, (1, 3)) for name in ("left", "right", "sum")]
    add = tiny_models.OperatorSpec(tiny_models.ADD, (0, 1), (2,), 11, {0: Scalar("b", 0)})
    data = tiny_models.model(tensors, [add], inputs=[0, 1], outputs=[2, 1])
    with IsolatedInterpreter(data, job(), deadline_s=60, first_deadline_s=60) as interpreter:
        left, right = (interpreter.tensor(one["index"])() for one in interpreter.get_input_details())
        left[...], right[...] = [1, 2, 3], [10, 20, 30]
        interpreter.invoke()
        total, same = (interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details())
    assert total.tolist() == [[11.0, 22.0, 33.0]]
    assert same.tolist() == [[10.0, 20.0, 30.0]]


def test_one_shape_is_all_there_is(dense: IsolatedInterpreter) -> None:
    dense.allocate_tensors()
    with pytest.raises(DeviceError, match="one shape"):
        dense.resize_tensor_input(0, (4, 6))


def test_tensors_lie_apart_and_at_whole_cache_lines() -> None:
    tensors = [SharedTensor(index, "", (1, length), "|i1", (0.0, 0)) for index, length in ((3, 5), (7, 64), (3, 5))]
    assert places(tensors) == ({3: 0, 7: 64}, 128)


# --- a process that fails -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_process_that_ends_is_named_with_its_signal(dense: IsolatedInterpreter, number: signal.Signals) -> None:
    answer(dense)
    os.kill(dense.pid, number)  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="ended while it ran the model") as caught:
        dense.invoke()
    assert (caught.value.kind, caught.value.received) == ("crash", f"ended by {number.name}")
    assert dense.pid is None


def test_a_process_that_stands_still_is_ended_after_the_deadline() -> None:
    with open_dense(deadline_s=0.2) as interpreter:
        answer(interpreter)
        pid = interpreter.pid
        os.kill(pid, signal.SIGSTOP)  # type: ignore[arg-type]
        with pytest.raises(FrameError, match="gave no answer") as caught:
            interpreter.invoke()
        assert caught.value.kind == "hang"
        assert "0.2 s" in caught.value.received
        assert not is_there(pid)


def test_the_first_frame_has_a_deadline_of_its_own() -> None:
    with open_dense(first_deadline_s=0.2) as interpreter:
        os.kill(interpreter.pid, signal.SIGSTOP)  # type: ignore[arg-type]
        with pytest.raises(FrameError) as caught:
            interpreter.invoke()
    assert "0.2 s" in caught.value.received


def test_a_new_process_answers_the_frame_that_killed_the_one_before(dense: IsolatedInterpreter) -> None:
    (given,), (made,) = dense.get_input_details(), dense.get_output_details()
    view = dense.tensor(given["index"])()
    view[...] = 3.0
    before = dense.pid
    os.kill(before, signal.SIGKILL)  # type: ignore[arg-type]
    with pytest.raises(FrameError):
        dense.invoke()
    dense.start()
    dense.invoke()
    assert dense.get_tensor(made["index"]).tolist() == [[18.0, 36.0]]
    assert dense.pid != before
    view[...] = 1.0  # the same memory
    dense.invoke()
    assert dense.get_tensor(made["index"]).tolist() == [[6.0, 12.0]]


def test_the_next_frame_starts_a_process_where_none_is(dense: IsolatedInterpreter) -> None:
    dense.stop()
    assert answer(dense) == [6.0, 12.0]


def test_a_file_that_is_replaced_later_stays_the_one_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_models.dense())
    with IsolatedInterpreter(path, job(), deadline_s=60, first_deadline_s=60) as interpreter:
        (tmp_path / "other").write_bytes(tiny_models.dense(outputs=4))
        (tmp_path / "other").replace(path)
        interpreter.start()
        assert answer(interpreter) == [6.0, 12.0]


def test_a_file_that_is_overwritten_with_other_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_models.dense())
    with IsolatedInterpreter(path, job(), deadline_s=60, first_deadline_s=60) as interpreter:
        path.write_bytes(tiny_models.dense(outputs=4))
        with pytest.raises(DeviceError, match="overwritten"):
            interpreter.start()


def test_a_file_that_is_overwritten_with_other_weights_is_not_run_unchecked(tmp_path: Path) -> None:
    path, data = tmp_path / "m.tflite", tiny_models.dense()
    path.write_bytes(data)
    with IsolatedInterpreter(path, job(), deadline_s=60, first_deadline_s=60) as interpreter:
        interpreter.start()  # as it was
        one, two = np.float32(1).tobytes(), np.float32(2).tobytes()
        path.write_bytes(data.replace(one, two))  # of the same size, with the same tensors
        with pytest.raises(DeviceError, match="overwritten") as caught:
            interpreter.start()
    assert str(path) in caught.value.received


def test_a_frame_whose_caller_was_interrupted_does_not_answer_the_next(dense: IsolatedInterpreter) -> None:
    answer(dense)
    os.kill(dense.pid, signal.SIGSTOP)  # type: ignore[arg-type]
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            dense.invoke()
    finally:
        signal.signal(signal.SIGALRM, previous)
    os.kill(dense.pid, signal.SIGCONT)  # type: ignore[arg-type]
    assert answer(dense, 2.0) == [12.0, 24.0]


# --- a process that cannot start ------------------------------------------------------------------


def test_what_the_engine_says_of_a_file_arrives_as_it_was_raised() -> None:
    tensors = [tiny_models.TensorSpec(name, (1, 2)) for name in ("a", "b")]
    unknown = tiny_models.OperatorSpec(tiny_models.CUSTOM, (0,), (1,), custom_code="unheard-of")
    data = tiny_models.model(tensors, [unknown], inputs=[0], outputs=[1])
    with pytest.raises(UnsupportedOpError, match="does not know the custom op `unheard-of`"):
        IsolatedInterpreter(data, job(), deadline_s=60, first_deadline_s=60)


def test_a_library_that_is_not_there_is_a_missing_dependency() -> None:
    with pytest.raises(MissingDependencyError, match="libnone"):
        IsolatedInterpreter(tiny_models.dense(), job(library="libnone.so.1"), deadline_s=60, first_deadline_s=60)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"none\.tflite"):
        IsolatedInterpreter(tmp_path / "none.tflite", job(), deadline_s=60, first_deadline_s=60)


def test_a_module_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    with open_dense() as interpreter:
        assert answer(interpreter) == [6.0, 12.0]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def settled() -> None:
    """Let go of what the tests before have left, so that nothing of it goes while descriptors are counted."""
    gc.collect()


@pytest.mark.usefixtures("settled")
def test_loads_that_fail_give_their_descriptors_back_at_once(tmp_path: Path) -> None:
    broken = tmp_path / "m.tflite"
    broken.write_bytes(b"no model")
    kept = []  # as a program does that collects its errors: their frames hold the interpreter
    before = None
    for source in (broken, b"no model") * 3:
        with pytest.raises(EdgeInferError) as caught:
            IsolatedInterpreter(source, job(), deadline_s=60, first_deadline_s=60)
        kept.append(caught.value)
        before = before or descriptors()  # what Python itself opens once is open now
    assert descriptors() == before


@pytest.mark.usefixtures("settled")
def test_where_there_is_no_memory_the_file_is_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_models.dense())

    def refuse(name: str) -> int:
        raise DeviceError("There is no memory.")

    monkeypatch.setattr(process, "nameless", refuse)
    before = descriptors()
    with pytest.raises(DeviceError):
        IsolatedInterpreter(path, job(), deadline_s=60, first_deadline_s=60)
    assert descriptors() == before


@pytest.mark.usefixtures("settled")
def test_a_program_without_descriptors_left_is_told_so() -> None:
    import resource

    open_dense().close()  # what is imported once
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(one.name) for one in Path("/proc/self/fd").iterdir())
    held = [os.dup(2) for _ in range(highest + 1 - descriptors())]  # no gaps below the limit
    said = []
    try:
        for room in range(10):
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + room, hard))
            try:
                open_dense().close()
            except DeviceError as error:
                said.append(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in held:
            os.close(one)
    assert said
    assert all("ulimit -n" in one.next_step for one in said)
    assert descriptors() <= highest + 1


def no_such_call(*_: object) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.mark.parametrize("folder", ["/dev/shm", "/no/such/folder"])
@pytest.mark.parametrize("lacks", ["the system", "Python"])
def test_without_memfd_create_a_file_without_a_name_takes_its_place(
    lacks: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacks == "Python":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", no_such_call)
    monkeypatch.setattr(handover, "_SHARED_MEMORY", folder)
    with open_dense() as interpreter:
        assert answer(interpreter) == [6.0, 12.0]
        interpreter.start()
        assert answer(interpreter, 2.0) == [12.0, 24.0]


# --- its end --------------------------------------------------------------------------------------


def test_close_ends_the_process_and_may_come_twice() -> None:
    interpreter = open_dense()
    pid = interpreter.pid
    interpreter.close()
    interpreter.close()
    assert not is_there(pid)
    with pytest.raises(DeviceError, match="closed"):
        interpreter.invoke()


def test_what_was_read_stays_valid_after_close(dense: IsolatedInterpreter) -> None:
    answer(dense)
    view = dense.tensor(dense.get_output_details()[0]["index"])()
    dense.close()
    assert view.tolist() == [[6.0, 12.0]]


def test_the_process_ends_when_nobody_holds_the_interpreter() -> None:
    gc.disable()  # without a collection: a device is held until then
    try:
        interpreter = open_dense()
        pid = interpreter.pid
        del interpreter
        assert not is_there(pid)
    finally:
        gc.enable()


@pytest.mark.usefixtures("settled")
def test_descriptors_are_given_back() -> None:
    open_dense().close()  # what Python itself opens once
    before = descriptors()
    for _ in range(3):
        open_dense().close()
    assert descriptors() == before


def seconds(step: Callable[[], object]) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began


def test_a_process_that_stands_still_is_not_waited_for_at_the_end() -> None:
    interpreter = open_dense()
    pid = interpreter.pid
    os.kill(pid, signal.SIGSTOP)  # type: ignore[arg-type]
    assert seconds(interpreter.close) < 4  # 1 s, and what a busy machine adds
    assert not is_there(pid)


def test_a_load_that_is_interrupted_is_not_waited_for(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_CREATE", "hang")
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)

    def load() -> None:
        with pytest.raises(KeyboardInterrupt):
            IsolatedInterpreter(tiny_models.dense(), job(library=str(standin)), deadline_s=60, first_deadline_s=60)

    try:
        assert seconds(load) < 4  # 0.3 s and 0.5 s, and what a busy machine adds
    finally:
        signal.signal(signal.SIGALRM, previous)


# --- two threads ----------------------------------------------------------------------------------


class Hanging:
    """A model whose frame hangs in its library, run by a thread."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.interpreter = IsolatedInterpreter(
            edgetpu_pair(folder).compiled, job(library=str(library)), deadline_s=60, first_deadline_s=60
        )
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        while "invoke 1" not in (folder / "log").read_text():
            select.select([], [], [], 0.01)

    def _run(self) -> None:
        try:
            self.interpreter.invoke()
        except BaseException as error:
            self.error = error


@pytest.fixture
def hanging(standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setenv("STANDIN_INVOKE", "hang@1")
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    made = Hanging(standin, tmp_path)
    yield made
    made.interpreter.close()
    made.thread.join(60)


def test_a_second_thread_is_refused_at_once(hanging: Hanging) -> None:
    pid = hanging.interpreter.pid
    for step in (hanging.interpreter.invoke, hanging.interpreter.start, hanging.interpreter.stop):
        with pytest.raises(CallerError, match="two threads"):
            step()
    assert (hanging.interpreter.pid, hanging.thread.is_alive()) == (pid, True)


def test_close_ends_a_frame_that_hangs_in_another_thread(hanging: Hanging) -> None:
    pid = hanging.interpreter.pid
    assert seconds(hanging.interpreter.close) < 4  # 0.5 s, and what a busy machine adds
    hanging.thread.join(60)
    assert not is_there(pid)
    assert isinstance(hanging.error, CallerError)
    assert "closed" in str(hanging.error)


def test_a_signal_handler_may_close_the_model_whose_frame_it_interrupts() -> None:
    interpreter = open_dense()
    answer(interpreter)
    os.kill(interpreter.pid, signal.SIGSTOP)  # type: ignore[arg-type]
    previous = signal.signal(signal.SIGALRM, lambda *_: interpreter.close())
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(CallerError, match="closed"):
            interpreter.invoke()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert interpreter.pid is None


# --- its parent's end, and its forks --------------------------------------------------------------


PARENT = """
import ctypes, os, signal, sys
sys.path[:0] = {path!r}
import tiny_models
from edgeinfer.runtime.edgetpu.process import IsolatedInterpreter
from edgeinfer.runtime.edgetpu.worker import Job
job = Job("", {engine!r}, library={library!r})
interpreter = IsolatedInterpreter({model!r} or tiny_models.dense(), job, deadline_s=600, first_deadline_s=600)
print(interpreter.pid, flush=True)
{then}
"""


def parent(then: str, *, model: Path | None = None, library: Path | None = None) -> tuple[subprocess.Popen[str], int]:
    """A process that has a model in a process, and the number of that one."""
    code = PARENT.format(
        path=sys.path,
        engine=find_engine().name,
        model=None if model is None else str(model),
        library=None if library is None else str(library),
        then=then,
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()  # type: ignore[union-attr]
    return process, int(line)


@pytest.mark.parametrize(
    "then",
    ["", "sys.exit(3)", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"],
    ids=["end", "exit", "_exit", "SIGKILL"],
)
def test_the_process_ends_with_its_parent(then: str) -> None:
    process, pid = parent(then)
    process.communicate(timeout=60)
    assert gone(pid)


def test_a_process_that_hangs_in_its_library_ends_with_a_parent_that_was_killed(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It reads no socket then and runs no line of Python: the kernel has to end it.
    monkeypatch.setenv("STANDIN_INVOKE", "hang@1")
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    compiled = edgetpu_pair(tmp_path).compiled
    process, pid = parent("interpreter.invoke()", model=compiled, library=standin)
    while "invoke 1" not in (tmp_path / "log").read_text():
        assert process.poll() is None
        select.select([], [], [], 0.01)
    process.kill()
    process.communicate(timeout=60)
    assert gone(pid)


def test_ctrl_c_and_a_services_stop_leave_the_process_to_its_parent(dense: IsolatedInterpreter) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(dense.pid, number)  # type: ignore[arg-type]
    assert answer(dense) == [6.0, 12.0]
    assert os.getsid(dense.pid) == dense.pid  # type: ignore[arg-type]  # a terminal's Ctrl-C does not even reach it


def test_nothing_is_left_in_shared_memory(dense: IsolatedInterpreter) -> None:
    before = set(Path("/dev/shm").iterdir())
    os.kill(dense.pid, signal.SIGKILL)  # type: ignore[arg-type]
    with pytest.raises(FrameError):
        dense.invoke()
    dense.close()
    assert set(Path("/dev/shm").iterdir()) <= before


def rest(child: subprocess.Popen[str]) -> list[str]:
    """The lines that a parent still prints. Not `communicate`: it leaves out what was read ahead."""
    lines = child.stdout.read().splitlines()  # type: ignore[union-attr]
    child.communicate(timeout=60)
    assert child.returncode == 0
    return lines


def test_a_fork_is_told_to_open_the_model_anew() -> None:
    child, pid = parent(
        """
index = interpreter.get_input_details()[0]["index"]
view = interpreter.tensor(index)
fork = os.fork()
if fork == 0:
    runs = [interpreter.invoke, interpreter.start, interpreter.stop]
    for step in [*runs, lambda: interpreter.get_tensor(index), interpreter.tensor(index), view]:
        try:
            step()
        except RuntimeError as error:
            print(type(error).__name__, error.message, error.next_step, flush=True)
    os._exit(0)
os.waitpid(fork, 0)
interpreter.invoke()
print(interpreter.pid)
"""
    )
    *said, after = rest(child)
    assert len(said) == 6
    (line,) = set(said)
    assert line.startswith("CallerError The model was opened before this process was forked")
    assert "Open it anew in the process that uses it" in line
    assert after == str(pid)


@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.PyDLL(None).fork()"], ids=["Python", "a library"])
def test_a_fork_that_closes_or_ends_leaves_the_model_to_its_parent(fork: str) -> None:
    child, pid = parent(
        f"""
def forget():
    global interpreter
    del interpreter
for then in (interpreter.close, sys.exit, forget):
    fork = {fork}
    if fork == 0:
        then()
        os._exit(0)
    os.waitpid(fork, 0)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.tensor(index)()[...] = 1.0
    interpreter.invoke()
    print(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tolist(), interpreter.pid)
    sys.stdout.flush()
"""
    )
    assert rest(child) == [f"[[6.0, 12.0]] {pid}"] * 3


@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.PyDLL(None).fork()"], ids=["Python", "a library"])
def test_close_is_in_good_order_while_a_fork_lives(
    fork: str, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    child, _ = parent(
        f"""
fork = {fork}
if fork == 0:
    ctypes.PyDLL(None).pause()
interpreter.close()
os.kill(fork, signal.SIGKILL)
""",
        model=edgetpu_pair(tmp_path).compiled,
        library=standin,
    )
    rest(child)
    assert "destroy" in (tmp_path / "log").read_text()  # SIGKILL leaves no time for it


def test_the_process_ends_with_its_parent_while_a_fork_lives() -> None:
    child, pid = parent(
        """
fork = os.fork()
if fork == 0:
    ctypes.PyDLL(None).pause()
print(fork, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    fork = int(child.stdout.readline())  # type: ignore[union-attr]
    try:
        assert gone(pid)
        assert is_there(fork)
    finally:
        os.kill(fork, signal.SIGKILL)
        child.communicate(timeout=60)


def test_a_program_that_ignores_sigchld_does_not_learn_how_the_process_ended() -> None:
    child, _ = parent(
        """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.kill(interpreter.pid, signal.SIGSEGV)
try:
    interpreter.invoke()
except RuntimeError as error:
    print(error.kind, error.received)
interpreter.invoke()
interpreter.close()
"""
    )
    assert rest(child) == ["crash how is not known, since this program ignores SIGCHLD"]
