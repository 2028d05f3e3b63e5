"""`Reader`: one opened source, whatever is behind it; `Wanted`: what was asked of it."""

from __future__ import annotations

from math import isfinite
from typing import Protocol

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass
from edgeinfer.preprocess.image import Image


class Reader(Protocol):
    """One opened source. One thread uses it at a time, and nothing is asked of it after `close`.

    Taking a frame and making pixels of it are two steps: so the moment of the first is known exactly, and a frame that
    nobody has time for costs no conversion.
    """

    @property
    def name(self) -> str:
        """The file behind the frame that was advanced to; "" where there is none."""
        ...

    def advance(self) -> int | None:
        """Wait for the next frame; None where there is none any more.

        Returns:
            Of a live source, when the frame was taken, ns of `time.monotonic_ns()`; of a file, when it is due, ns since
            its beginning.

        Raises:
            EdgeInferError: There should be one, and it cannot be had.
        """
        ...

    def picture(self) -> Image | None:
        """Return this frame as RGB, in memory of its own; None where the frame is damaged and the next may not be.

        Raises:
            EdgeInferError: The next will be no better, or this one must not be left out in silence.
        """
        ...

    def close(self) -> None:
        """Let go of it; may be called more than once."""
        ...


class FileReader(Reader, Protocol):
    """A source that waits for whoever reads it."""

    @property
    def interval_ns(self) -> int:
        """From one frame to the next, as far as it is the same for all."""
        ...

    @property
    def damaged(self) -> int:
        """How many frames `advance` has passed over because they cannot be decoded."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks of a source.

    Attributes:
        size: Width and height; None is the source's own, of a camera 640 x 480.
        fps: Frames a second; None is the source's own.
        patience_s: How long the first frame may take.

    Raises:
        InputError: A value that no source could have.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    patience_s: float = 10.0

    def __post_init__(self) -> None:
        if self.size is not None and not _is_size(self.size):
            raise InputError(
                "`size` is no size of a picture.",
                received=repr(self.size),
                expected="width and height, e.g. (640, 480), or None",
            )
        if self.fps is not None:
            check_positive("fps", self.fps, "30")
        check_positive("first_frame_s", self.patience_s, "10")


def check_positive(name: str, value: object, example: str) -> None:
    """Refuse what is no positive, finite number.

    Raises:
        InputError: It is none.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not isfinite(float(value)) or value <= 0:  # type: ignore[arg-type, operator]
        raise InputError(f"`{name}` is no positive number.", received=repr(value), expected=f"e.g. {example}")


def _is_size(value: object) -> bool:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return False
    return all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= 65_535 for side in value)
