"""`EdgeTpuOptions`: how a model on an Edge TPU is watched, and what is done when the device fails."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass

# A day. A socket counts its time limit in an int of milliseconds, and 25 days wrap around.
_LONGEST_S = 86400


@dataclass(frozen=True, slots=True)
class EdgeTpuOptions:
    """How a model on an Edge TPU is watched.

    The defaults are choices and no measurements: no Edge TPU was at hand.

    Attributes:
        isolate: The model runs in a process of its own, so that a library that crashes or hangs costs a restart. False
            runs it in this process: a crash of the library then ends the caller, a hang lasts for ever, and there are
            no restarts. One process at a time has an Edge TPU: with True each model needs one of its own.
        deadline_s: Seconds that a frame may take, above 0 and up to a day. A process that needs more is ended and
            started again. It has room for a model of which a part stays on the CPU.
        first_deadline_s: The same for the first frame of a process: the parameters go to the device then.
        restarts: How many times in a row a failing process is started again, 0..100; a good answer begins the count
            anew. Each frame is tried again on the new process.
            What a model keeps from frame to frame is lost with its process; the log says so.
        check_every: A known input is run on the device when the model is loaded, on each new process, and after every
            so many frames, and compared with the CPU twin; it costs one more run each time. 0 leaves out the last.
            Nothing is compared without a twin, for a model that keeps something from frame to frame (LSTM), and where
            no input shows a broken device (a warning says so).
        library: Path or name of the Edge TPU's library; None is the system's `libedgetpu.so.1`.

    Raises:
        InputError: A value is out of range, or of another type.

    Example:
        >>> EdgeTpuOptions(deadline_s=0.5).restarts
        3
    """

    isolate: bool = True
    deadline_s: float = 2.0
    first_deadline_s: float = 20.0
    restarts: int = 3
    check_every: int = 1000
    library: str | Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.isolate, bool):
            raise InputError("`isolate` is no truth value.", received=repr(self.isolate), expected="True or False")
        for name in ("deadline_s", "first_deadline_s"):
            seconds = _seconds(getattr(self, name))
            if seconds is None:
                raise InputError(
                    f"`{name}` is no time.",
                    received=repr(getattr(self, name)),
                    expected=f"seconds above 0 and up to {_LONGEST_S}, e.g. 2.0",
                )
            object.__setattr__(self, name, seconds)  # a socket takes no number of NumPy's
        if not (_is_whole(self.restarts) and 0 <= self.restarts <= 100):
            raise InputError(
                "`restarts` is out of range.", received=repr(self.restarts), expected="a whole number, 0 to 100"
            )
        if not (_is_whole(self.check_every) and self.check_every >= 0):
            raise InputError(
                "`check_every` is out of range.",
                received=repr(self.check_every),
                expected="0 (when it is loaded only), or a whole number of frames",
            )
        if isinstance(self.library, Path):
            object.__setattr__(self, "library", str(self.library))
        elif not isinstance(self.library, str | None):
            raise InputError(
                "`library` is no name of a file.",
                received=repr(self.library),
                expected='a path or name, e.g. "libedgetpu.so.1"; None is the system\'s',
            )


def _is_whole(value: object) -> bool:
    """Return whether a value counts something; True and False do not, though Python takes them for 1 and 0."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def _seconds(value: object) -> float | None:
    """Return a time limit as a float; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        seconds = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return None
    return seconds if 0 < seconds <= _LONGEST_S else None
