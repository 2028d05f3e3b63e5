"""`EdgeTpuOptions`: how a model on an Edge TPU is watched, and what is done when the device fails."""

from __future__ import annotations

from math import isfinite

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass


@dataclass(frozen=True, slots=True)
class EdgeTpuOptions:
    """How a model on an Edge TPU is watched.

    The defaults are choices and no measurements: no Edge TPU was at hand.

    Attributes:
        isolate: The model runs in a process of its own, so that a library that crashes or hangs costs a restart. False
            runs it in this process: a crash of the library then ends the caller, a hang lasts for ever, and there are
            no restarts. One process at a time has an Edge TPU: with True each model needs one of its own.
        deadline_s: Seconds that a frame may take, above 0. A process that needs more is ended and started again. It
            has room for a model of which a part stays on the CPU.
        first_deadline_s: The same for the first frame of a process: the parameters go to the device then.
        restarts: How many times in a row a failing process is started again, 0..100; a good answer begins the count
            anew. Each frame is tried again on the new process.
        check_every: A known input is run on the device after every so many frames and compared with the CPU twin, as
            it is when the model is loaded; it costs one more run each time. 0 does so when it is loaded only, and so
            does a model that keeps something from frame to frame (LSTM). Without a twin nothing is compared.
        library: Path or name of the Edge TPU's library; None is the system's `libedgetpu.so.1`.

    Raises:
        InputError: A value is out of range.

    Example:
        >>> EdgeTpuOptions(deadline_s=0.5).restarts
        3
    """

    isolate: bool = True
    deadline_s: float = 2.0
    first_deadline_s: float = 20.0
    restarts: int = 3
    check_every: int = 1000
    library: str | None = None

    def __post_init__(self) -> None:
        for name in ("deadline_s", "first_deadline_s"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise InputError(f"`{name}` is no time.", received=repr(value), expected="seconds above 0, e.g. 2.0")
        if not 0 <= self.restarts <= 100:
            raise InputError("`restarts` is out of range.", received=repr(self.restarts), expected="0 to 100")
        if self.check_every < 0:
            raise InputError(
                "`check_every` is out of range.",
                received=repr(self.check_every),
                expected="0 (when it is loaded only), or a number of frames",
            )
