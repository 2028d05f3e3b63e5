"""An interpreter that watches its device: failed frames tried again, a known input checked, a twin that takes over.

The caller's views are of the device's tensors all along, whoever answers: the twin is handed copies of the inputs, and
its outputs are copied back. So a view that is held over a take-over shows what it did before.

What a model keeps from frame to frame (LSTM, variables) is lost with its process, and the twin does not have it either:
both are said in the log. A known input would change it, so such a model is not checked at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from edgeinfer.errors import DeviceError, EdgeInferError
from edgeinfer.frozen import dataclass, field
from edgeinfer.runtime.edgetpu.failure import (
    CallerError,
    Failure,
    FrameError,
    closed_error,
    delegate_words,
    failure,
    one_shape_error,
)
from edgeinfer.runtime.edgetpu.known_input import KnownInput
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
from edgeinfer.runtime.edgetpu.twin import Twin
from edgeinfer.runtime.engines import Interpreter

# Before each start in a row. A USB device that was reset has to be found by the system again; how long that takes on
# real hardware was not measured.
PAUSES_S = (0.0, 0.5, 2.0)
_STATE_IS_LOST = "what the model kept from earlier frames is lost, and it begins anew"


@dataclass(frozen=True, slots=True)
class Faults:
    """What went wrong with a model's device since it was loaded.

    Attributes:
        failures: Runs that the device failed, each try counted.
        kinds: The same by kind: "crash", "hang", "refused", "gone" (pulled out), "wrong" (failed the check against the
            twin), "start" (the device could not be opened).
        restarts: How many times the model's process was started again.
        checks: Runs of the known input, when the model was loaded, on each new process and every so many frames. 0
            where nothing is checked: without a twin, for a model that keeps something from frame to frame, and where
            no input was found by which a broken device would be found out (a warning says so).
        fallback_frames: Frames that the CPU twin answered.
        on_fallback: True where the twin has taken over.
        latest: The latest failure in words, "" where there was none.
    """

    failures: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    restarts: int = 0
    checks: int = 0
    fallback_frames: int = 0
    on_fallback: bool = False
    latest: str = ""

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        from dataclasses import asdict

        return asdict(self)


class Restartable(Interpreter, Protocol):
    """An interpreter in a process that can be started again."""

    def start(self) -> None:
        """Start the process anew; the tensors keep their memory."""

    def close(self) -> None:
        """End the process."""


class Guard:
    """A device's interpreter, watched; offers what `engines.Interpreter` offers.

    Args:
        device: In a process of its own, or in this one, which is never started again; None where it could not be opened
            and the twin answers from the start.
        twin: The model on the CPU; None where none was declared.
        options: Limits.
        device_name: For messages, e.g. "edgetpu:usb:0".
        is_there: Says whether the device is still listed by the system; asked after a failure only.
        cause: Why there is no device.
        keeps_state: Whether the model keeps something from frame to frame.

    Raises:
        DeviceError: The twin does not run.
    """

    def __init__(
        self,
        device: Interpreter | None,
        twin: Twin | None,
        *,
        options: EdgeTpuOptions,
        device_name: str,
        is_there: Callable[[], bool],
        cause: EdgeInferError | None = None,
        keeps_state: bool = False,
    ) -> None:
        self._device, self._twin = device, twin
        self._options = options
        self._name = device_name
        self._is_there = is_there
        self._keeps_state = keeps_state
        self._in_a_row = self._frames = self._restarts = self._checks = self._fallback_frames = 0
        self._kinds: dict[str, int] = {}
        self._latest = ""
        self._closed = self._is_taken_over = False
        self._known: KnownInput | None = None
        self._is_due = True  # a process is checked before its first frame
        self._inputs: list[dict[str, Any]]
        self._outputs: list[dict[str, Any]]
        self._memory: dict[int, Callable[[], NDArray[Any]]] = {}
        try:
            self._take_memory()
            self._begin(cause)
        except BaseException:
            device = None  # an error holds on to this call as long as somebody holds the error
            self.close()
            raise

    def _take_memory(self) -> None:
        if self._device is not None:
            holder = self._device
            self._inputs, self._outputs = holder.get_input_details(), holder.get_output_details()
        else:
            twin = cast(Twin, self._twin)
            holder = twin.interpreter
            self._inputs, self._outputs = twin.input_details(), twin.output_details()
        self._memory = {int(one["index"]): holder.tensor(one["index"]) for one in (*self._inputs, *self._outputs)}

    def _begin(self, cause: EdgeInferError | None) -> None:
        if self._device is None:
            self._note(cause or DeviceError("The device could not be opened."), "start")
            self._take_over()
        elif self._twin is not None and not self._keeps_state:
            self._known = self._twin.known_input()
            if not self._known.sees:
                self._warn(
                    "`%s`: no input was found on which a broken device would answer otherwise than the CPU twin does. "
                    "Only its failures are noticed, and not its wrong answers.",
                    self._name,
                )
            self._on_device(self._check_if_due)

    @property
    def faults(self) -> Faults:
        """What went wrong so far."""
        return Faults(
            failures=sum(self._kinds.values()),
            kinds=dict(self._kinds),
            restarts=self._restarts,
            checks=self._checks,
            fallback_frames=self._fallback_frames,
            on_fallback=self._is_taken_over,
            latest=self._latest,
        )

    def invoke(self) -> None:
        """Run the model on what lies in the input tensors: on the device, or on the twin once that has taken over.

        Raises:
            DeviceError: The device has failed for good, and no twin was declared.
        """
        if self._closed:
            raise closed_error()
        if not self._is_taken_over:
            self._frames += 1
            every = self._options.check_every
            if every and self._frames % every == 0:
                self._is_due = True
            if self._on_device(self._frame):
                return
        self._fallback_frames += 1
        self._answer_by_twin(cast(Twin, self._twin))

    def close(self) -> None:
        """Let go of the device and end its process, if it has one; may be called more than once.

        The latest inputs and outputs can still be read, from views that are taken anew; a frame is an error. In this
        process a view that the caller holds is the device's own memory and keeps it open.
        """
        self._closed = True
        self._end_device()
        for index, view in self._memory.items():
            with suppress(CallerError):  # in a fork: the memory is the parent's
                self._memory[index] = _Kept(view().copy())
        self._device = self._twin = None

    def _end_device(self) -> None:
        if self._device is not None and hasattr(self._device, "close"):
            cast(Restartable, self._device).close()

    # --- what an interpreter offers -----------------------------------------------------------------------------------

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an input, in the order of the device's file."""
        return self._inputs

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an output, in the order of the device's file."""
        return self._outputs

    def allocate_tensors(self) -> None:
        """Do nothing: the tensors have their memory."""

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int]) -> None:
        """Refuse, with a `DeviceError`: a compiled model has one shape, and its twin keeps to it."""
        raise one_shape_error(input_index, tensor_size)

    def get_tensor(self, index: int) -> NDArray[Any]:
        """Return a copy of an input or output.

        Raises:
            DeviceError: It is neither.
        """
        copied: NDArray[Any] = self.tensor(index)().copy()
        return copied

    def tensor(self, index: int) -> Callable[[], NDArray[Any]]:
        """Return a function that gives a view of an input's or output's memory, the same one whoever answers.

        Raises:
            DeviceError: It is neither.
        """
        if index not in self._memory:
            raise DeviceError("Only inputs and outputs can be read from a device.", received=f"tensor {index}")
        memory = self._memory  # and not the guard: the process ends as soon as nobody holds that
        return lambda: memory[index]()

    # --- the device ---------------------------------------------------------------------------------------------------

    def _on_device(self, step: Callable[[], None]) -> bool:
        """Do something on the device, again after each restart; False where the twin has taken over instead."""
        while True:
            try:
                step()
            except CallerError:
                raise
            except EdgeInferError as error:
                kind: Failure = error.kind if isinstance(error, FrameError) else "start"
                came_back = self._start_again()
                # Asked now and not before: it takes a process of its own, and a device that came back is there.
                if not came_back and kind != "wrong" and not self._is_there():
                    kind = "gone"
                self._note(error, kind)
                if not came_back:
                    self._give_up(error, kind)
                    return False
            else:
                self._in_a_row = 0
                return True

    def _frame(self) -> None:
        self._check_if_due()
        self._run()

    def _run(self) -> None:
        device = cast(Interpreter, self._device)
        try:
            device.invoke()
        except EdgeInferError:
            raise
        except (ValueError, RuntimeError) as error:  # an interpreter in this process
            if "reference" in str(error):  # a view that the caller still holds: not the device's fault
                raise
            raise failure(
                "refused",
                "The Edge TPU's library did not run the model.",
                received=delegate_words(str(error)),
                next_step="`edgeinfer doctor` says what is there.",
            ) from error

    def _check_if_due(self) -> None:
        if self._is_due and self._known is not None:
            self._check(self._known)
        self._is_due = False

    def _check(self, known: KnownInput) -> None:
        """Run the known input on the device and compare; what lies in its inputs is the same afterwards."""
        self._checks += known.sees
        inputs = [self._memory[one["index"]] for one in self._inputs]
        kept = [view().copy() for view in inputs]
        try:
            for view, values in zip(inputs, known.inputs, strict=True):
                view()[...] = values
            self._run()
            answers = [self.get_tensor(one["index"]) for one in self._outputs]
        finally:
            for view, values in zip(inputs, kept, strict=True):
                view()[...] = values
        wrong = known.disagreement(answers)
        if wrong:
            raise failure(
                "wrong",
                "The Edge TPU answers a known input otherwise than the CPU does.",
                received=wrong,
                next_step="Check that the twin is the file that was compiled. If it is: take the device out and put it "
                "back in, and let it cool down.",
            )

    def _start_again(self) -> bool:
        """Start the device's process again, as often in a row as is allowed; False where it does not come back."""
        if not hasattr(self._device, "start"):
            return False
        while self._in_a_row < self._options.restarts:
            from time import sleep

            sleep(PAUSES_S[min(self._in_a_row, len(PAUSES_S) - 1)])
            self._in_a_row += 1
            self._restarts += 1
            self._is_due = True  # before the start, which Ctrl-C may interrupt; the next frame would begin it anew
            try:
                cast(Restartable, self._device).start()
            except CallerError:
                raise
            except EdgeInferError as error:
                self._note(error, "start")
            else:
                if self._has_state:
                    self._warn("`%s` was started again: %s", self._name, _STATE_IS_LOST)
                return True
        return False

    def _note(self, error: EdgeInferError, kind: Failure) -> None:
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        self._latest = f"{error.message.rstrip('.')}: {error.received}" if error.received else error.message
        if kind == "gone":
            self._latest = f"`{self._name}` is not there any more: {self._latest}"

    def _give_up(self, error: EdgeInferError, kind: Failure) -> None:
        """Let the twin take over.

        Raises:
            DeviceError: There is none.
        """
        count = self._in_a_row
        tried = f"; started again {count} time{'s' * (count > 1)}" if count else ""
        gone = kind == "gone"
        self._in_a_row = 0
        if self._twin is None:
            if self._has_state and hasattr(self._device, "start"):
                self._warn("`%s` has failed: %s", self._name, _STATE_IS_LOST)
            raise DeviceError(
                f"`{self._name}` is not there any more." if gone else error.message,
                received=f"{error.message} {error.received}{tried}" if gone else f"{error.received}{tried}",
                next_step="Put it back in, and look at its cable and power; `edgeinfer doctor` says what is there."
                if gone
                else error.next_step,
            ) from error
        self._end_device()
        self._take_over()

    # --- the twin -----------------------------------------------------------------------------------------------------

    @property
    def _has_state(self) -> bool:
        """Whether something of earlier frames can be lost now."""
        return self._keeps_state and self._frames > 1

    def _take_over(self) -> None:
        self._is_taken_over = True
        said = f"{self._latest}; {_STATE_IS_LOST}" if self._has_state else self._latest
        self._warn("`%s` has failed and its CPU twin answers from now on: %s", self._name, said)

    def _answer_by_twin(self, twin: Twin) -> None:
        if self._device is None:  # there was none from the start, and the caller's views are the twin's
            twin.interpreter.invoke()
            return
        answers = twin.run([self._memory[one["index"]]() for one in self._inputs])
        for one, values in zip(self._outputs, answers, strict=True):
            self._memory[one["index"]]()[...] = values

    def _warn(self, message: str, *values: object) -> None:
        import logging

        logging.getLogger(__name__).warning(message, *values)


class _Kept:
    """A tensor's numbers after the model was closed."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def __call__(self) -> NDArray[Any]:
        return self._values
