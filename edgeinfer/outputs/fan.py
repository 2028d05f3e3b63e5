"""`Fan`: one answered frame to several outputs, of which one may fail without the others."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from edgeinfer.errors import DeviceError, EdgeInferError, OutputError
from edgeinfer.live.shown import Shown
from edgeinfer.outputs.output import Output


class Fan:
    """All outputs of a loop as one.

    An output that cannot go on (`OutputError`, `DeviceError`: the disk is full, the screen has gone) is closed and left
    out from then on, with a warning in the log; the others go on. When the last has failed, its error is raised.

    Args:
        outputs: In the order in which they get each frame. They belong to the fan from now on: it closes them.
    """

    def __init__(self, outputs: Iterable[Output]) -> None:
        self._open = list(outputs)
        self._errors: list[EdgeInferError] = []

    @property
    def errors(self) -> tuple[EdgeInferError, ...]:
        """Why outputs are gone, in the order in which they went: for the exit code at the end."""
        return tuple(self._errors)

    @property
    def trouble(self) -> str:
        """What is wrong at the moment, of the outputs that are gone and of those that say so; "" when all is well."""
        own = [error.message for error in self._errors]
        said = [str(getattr(output, "trouble", "")) for output in self._open]
        return " ".join(sentence for sentence in (*own, *said) if sentence)

    def write(self, shown: Shown) -> bool:
        """Hand one frame to each output; False where one of them asks for the end.

        Raises:
            OutputError: The last output has failed.
            DeviceError: The last output has failed.
        """
        go_on = True
        for output in tuple(self._open):
            try:
                go_on = output.write(shown) and go_on
            except (OutputError, DeviceError) as error:
                self._leave_out(output, error)
                if not self._open:
                    raise
        return go_on

    def close(self) -> None:
        """Close all outputs, those too that come after one that fails.

        Raises:
            EdgeInferError: One could not be closed; the first such error.
        """
        first: BaseException | None = None
        while self._open:
            output = self._open.pop(0)
            try:
                output.close()
            except BaseException as error:  # a Ctrl-C here must not cost the other outputs their end
                first = first or error
        if first is not None:
            raise first

    def _leave_out(self, output: Output, error: EdgeInferError) -> None:
        self._errors.append(error)
        self._open.remove(output)
        log = logging.getLogger(__name__)
        log.warning("One output has ended%s: %s", ", the others go on" if self._open else "", error)
        try:
            output.close()
        except EdgeInferError as another:
            self._errors.append(another)
            log.warning("It could not be closed: %s", another)

    def __enter__(self) -> Fan:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
