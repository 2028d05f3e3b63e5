"""An interpreter that watches its device: failed frames tried again, a known input checked, a twin that takes over.

The twin is the file that the compiled one was made from, on the CPU of this process. It is declared by the caller and
never looked for: whether a slower answer is better than none is not for a library to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import DeviceError, EdgeInferError
from edgeinfer.frozen import dataclass, field
from edgeinfer.model.metadata import OutputSpec
from edgeinfer.runtime.edgetpu.agreement import disagreement
from edgeinfer.runtime.edgetpu.process import Failure, FrameError, delegate_words, failure
from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
from edgeinfer.runtime.engines import Interpreter
from edgeinfer.runtime.trial import fill

# Before each start in a row. A USB device that was reset has to be found by the system again; how long that takes on
# real hardware was not measured.
PAUSES_S = (0.0, 0.5, 2.0)


@dataclass(frozen=True, slots=True)
class Faults:
    """What went wrong with a model's device since it was loaded.

    Attributes:
        failures: Runs that the device failed, each try counted.
        kinds: The same by kind: "crash", "hang", "refused", "gone" (pulled out), "wrong" (failed the check against the
            twin), "start" (the device could not be opened).
        restarts: How many times the model's process was started again.
        checks: Runs of the known input.
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


@dataclass(frozen=True, slots=True)
class Twin:
    """The same model on the CPU.

    Attributes:
        interpreter: Holds it.
        outputs: What its outputs are.
        inputs_of, outputs_of: For each of the device's inputs and outputs, by position, the twin's position.
    """

    interpreter: Interpreter
    outputs: tuple[OutputSpec, ...]
    inputs_of: tuple[int, ...]
    outputs_of: tuple[int, ...]


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

    Raises:
        DeviceError: The device fails its first check, and there is no twin to take over.
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
    ) -> None:
        self._device, self._twin = device, twin
        self._options = options
        self._name = device_name
        self._is_there = is_there
        self._in_a_row = self._frames = self._restarts = self._checks = self._fallback_frames = 0
        self._kinds: dict[str, int] = {}
        self._latest = ""
        self._closed = False
        self._taken_over: list[str] = []  # why the twin answers, once it does
        self._views: dict[int, Callable[[], NDArray[Any]]] = {}
        self._reference: tuple[list[NDArray[Any]], list[NDArray[Any]]] | None = None
        if device is None:
            self._note(cause or DeviceError("The device could not be opened."), "start")
            self._take_over()
        elif twin is not None:
            self._reference = self._ask_twin(twin)
            self._on_device(self._check)

    @property
    def faults(self) -> Faults:
        """What went wrong so far."""
        return Faults(
            failures=sum(self._kinds.values()),
            kinds=dict(self._kinds),
            restarts=self._restarts,
            checks=self._checks,
            fallback_frames=self._fallback_frames,
            on_fallback=bool(self._taken_over),
            latest=self._latest,
        )

    def invoke(self) -> None:
        """Run the model on what lies in the input tensors: on the device, or on the twin once that has taken over.

        Raises:
            DeviceError: The device has failed for good, and no twin was declared.
        """
        if self._closed:
            raise DeviceError("The model is closed.", next_step="Open it again: `Runtime(...)`.")
        if not self._taken_over:
            self._frames += 1
            every = self._options.check_every
            is_due = self._reference is not None and every and self._frames % every == 0
            if (not is_due or self._on_device(self._check)) and self._on_device(self._run):
                return
        if self._twin is not None:
            self._fallback_frames += 1
            self._twin.interpreter.invoke()

    def close(self) -> None:
        """End the device's process, if it has one; a frame after it is an error."""
        self._closed = True
        self._end_device()

    def _end_device(self) -> None:
        if self._device is not None and hasattr(self._device, "close"):
            cast(Restartable, self._device).close()

    # --- what an interpreter offers -----------------------------------------------------------------------------------

    def get_input_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an input, in the order of the device's file."""
        if self._device is not None:
            return self._device.get_input_details()
        twin = cast(Twin, self._twin)
        found = twin.interpreter.get_input_details()
        return [found[position] for position in twin.inputs_of]

    def get_output_details(self) -> list[dict[str, Any]]:
        """Return one dictionary an output, in the order of the device's file."""
        if self._device is not None:
            return self._device.get_output_details()
        twin = cast(Twin, self._twin)
        found = twin.interpreter.get_output_details()
        return [found[position] for position in twin.outputs_of]

    def allocate_tensors(self) -> None:
        """Do nothing: the tensors have their memory."""

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int]) -> None:
        """Refuse: a compiled model has one shape, and its twin keeps to it.

        Raises:
            DeviceError: Always.
        """
        raise DeviceError(
            "A model that was compiled for an Edge TPU has one shape.",
            received=f"{tuple(tensor_size)} for tensor {input_index}",
            next_step="Run it once for each sample.",
        )

    def get_tensor(self, index: int) -> NDArray[Any]:
        """Return a copy of a tensor, from where the latest frame was answered."""
        copied: NDArray[Any] = self.tensor(index)().copy()
        return copied

    def tensor(self, index: int) -> Callable[[], NDArray[Any]]:
        """Return a function that gives a view of a tensor's memory, at the place where frames are answered then."""
        if index not in self._views:
            self._views[index] = self._find_view(index)
        return self._views[index]

    def _find_view(self, index: int) -> Callable[[], NDArray[Any]]:
        if self._device is None:
            return cast(Twin, self._twin).interpreter.tensor(index)
        on_device = self._device.tensor(index)
        if self._twin is None:
            return on_device
        on_twin = self._twin.interpreter.tensor(self._twin_index(index))
        # It holds on to this list and not to the guard: the process ends as soon as nobody holds the guard.
        taken_over = self._taken_over
        return lambda: (on_twin if taken_over else on_device)()

    # --- the device ---------------------------------------------------------------------------------------------------

    def _on_device(self, step: Callable[[], None]) -> bool:
        """Do something on the device, again after each restart; False where the twin has taken over instead."""
        while True:
            try:
                step()
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

    def _check(self) -> None:
        """Run the known input on the device and compare; what lies in its inputs is the same afterwards."""
        if self._reference is None or self._twin is None:
            return
        self._checks += 1
        device = cast(Interpreter, self._device)
        known, expected = self._reference
        inputs = [device.tensor(detail["index"]) for detail in device.get_input_details()]
        outputs = [device.tensor(detail["index"]) for detail in device.get_output_details()]
        kept = [view().copy() for view in inputs]
        try:
            for view, values in zip(inputs, known, strict=True):
                view()[...] = values
            self._run()
            answers = [view().copy() for view in outputs]
        finally:
            for view, values in zip(inputs, kept, strict=True):
                view()[...] = values
        wrong = disagreement(answers, expected, [self._twin.outputs[one] for one in self._twin.outputs_of])
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
            try:
                cast(Restartable, self._device).start()
            except EdgeInferError as error:
                self._note(error, "start")
            else:
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
            raise DeviceError(
                f"`{self._name}` is not there any more." if gone else error.message,
                received=f"{error.message} {error.received}{tried}" if gone else f"{error.received}{tried}",
                next_step="Put it back in, and look at its cable and power; `edgeinfer doctor` says what is there."
                if gone
                else error.next_step,
            ) from error
        device = cast(Interpreter, self._device)
        inputs = [device.tensor(detail["index"]) for detail in device.get_input_details()]
        targets = self._twin.interpreter.get_input_details()
        for view, position in zip(inputs, self._twin.inputs_of, strict=True):
            self._twin.interpreter.tensor(targets[position]["index"])()[...] = view()
        self._end_device()
        self._take_over()

    # --- the twin -----------------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        import logging

        self._taken_over.append(self._latest)
        logging.getLogger(__name__).warning(
            "`%s` has failed and its CPU twin answers from now on: %s", self._name, self._latest
        )

    def _ask_twin(self, twin: Twin) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Return the known input and what the CPU answers to it, in the order of the device's file."""
        interpreter, random = twin.interpreter, np.random.default_rng(0)
        inputs = [interpreter.tensor(detail["index"]) for detail in interpreter.get_input_details()]
        outputs = [detail["index"] for detail in interpreter.get_output_details()]
        for view in inputs:
            fill(view(), random)
        known = [inputs[position]().copy() for position in twin.inputs_of]
        try:
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise DeviceError(
                "The CPU twin does not run.", received=" ".join(str(error).split()), next_step="Convert it again."
            ) from error
        return known, [interpreter.get_tensor(outputs[position]) for position in twin.outputs_of]

    def _twin_index(self, index: int) -> int:
        """Return the number that a tensor of the device's file has in the twin's."""
        device, twin = cast(Interpreter, self._device), cast(Twin, self._twin)
        for ours, theirs, order in (
            (device.get_input_details(), twin.interpreter.get_input_details(), twin.inputs_of),
            (device.get_output_details(), twin.interpreter.get_output_details(), twin.outputs_of),
        ):
            for position, detail in enumerate(ours):
                if detail["index"] == index:
                    return int(theirs[order[position]]["index"])
        raise DeviceError("Only inputs and outputs can be read from a device.", received=f"tensor {index}")
