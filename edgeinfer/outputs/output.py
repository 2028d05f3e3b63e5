"""`Output`: what takes answered frames."""

from __future__ import annotations

from typing import Protocol

from edgeinfer.live.shown import Shown


class Output(Protocol):
    """A window, a page, a file, a broker."""

    def write(self, shown: Shown) -> bool:
        """Take one answered frame; False asks for the end (a window was closed).

        Raises:
            EdgeInferError: It cannot go on.
        """
        ...

    def close(self) -> None:
        """Finish what was begun; may be called more than once."""
        ...
