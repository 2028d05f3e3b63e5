"""The file that a compiled one was made from, on the CPU of this process: what it answers, in the device's order.

It is declared by the caller and never looked for: whether a slower answer is better than none is not for a library to
say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import DeviceError
from edgeinfer.frozen import dataclass
from edgeinfer.model.metadata import OutputSpec
from edgeinfer.runtime.edgetpu.known_input import KnownInput, choose
from edgeinfer.runtime.engines import Interpreter


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

    def input_details(self) -> list[dict[str, Any]]:
        """Return what the engine says of its inputs, in the order of the device's file."""
        found = self.interpreter.get_input_details()
        return [found[position] for position in self.inputs_of]

    def output_details(self) -> list[dict[str, Any]]:
        """Return what the engine says of its outputs, in the order of the device's file."""
        found = self.interpreter.get_output_details()
        return [found[position] for position in self.outputs_of]

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return copies of the outputs for these inputs, both in the order of the device's file.

        Raises:
            DeviceError: The engine fails while it runs it.
        """
        for detail, values in zip(self.input_details(), inputs, strict=True):
            self.interpreter.tensor(detail["index"])()[...] = values
        try:
            self.interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise DeviceError(
                "The CPU twin does not run.", received=" ".join(str(error).split()), next_step="Convert it again."
            ) from error
        return [self.interpreter.get_tensor(detail["index"]) for detail in self.output_details()]

    def known_input(self) -> KnownInput:
        """Return an input by which the device can be checked, and what the twin answers to it.

        Raises:
            DeviceError: The engine fails while it runs it.
        """
        empty = [np.zeros(tuple(detail["shape"]), detail["dtype"]) for detail in self.input_details()]
        return choose(self.run, empty, [self.outputs[position] for position in self.outputs_of])
