"""`Frame`: one picture of a source, with its number and the moment it was taken; `FrameSource`: what gives them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeinfer.frozen import dataclass
from edgeinfer.preprocess.image import Image


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source. A pipeline and `draw` take it as they take an array.

    Attributes:
        pixels: (height, width, 3) uint8 RGB, this frame's own memory: the source does not write into it again.
        number: Counted by the source from 0.
        time_ns: When it was taken, on the clock of `time.monotonic_ns()`: the driver's own stamp where it gives one,
            else the moment at which the driver handed it over, before it was decoded and converted.
        name: What people call it: a file's name where a file is behind it, else "".
    """

    pixels: Image
    number: int
    time_ns: int
    name: str = ""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the pixels, without a copy where none is asked for."""
        if copy:
            return np.array(self.pixels, dtype=dtype)
        return np.asarray(self.pixels, dtype=dtype)


class FrameSource(Protocol):
    """What `Live` needs of a source; `Camera` is one, a test may have its own."""

    @property
    def live(self) -> bool:
        """True where frames go by whether or not somebody takes them: then the latest wins, and the others are lost."""
        ...

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong at the moment, one sentence, e.g. that the camera is gone; "" when all is well."""
        ...

    @property
    def dropped(self) -> int:
        """How many frames went by before they were read; 0 where all of them are read."""
        ...

    def read(self) -> Frame | None:
        """Wait for the next frame and return it; None after the last.

        Raises:
            EdgeInferError: There will be no more frames, and that is a failure.
        """
        ...

    def close(self) -> None:
        """Let go of the camera or file. May be called more than once, and while another thread waits in `read`."""
        ...
