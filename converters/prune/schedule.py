"""How the sparsity gets to its final value while a model trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from converters.settings import check_one_of, check_whole

__all__ = ["SparsitySchedule"]

_UPDATES = 100


@dataclass(frozen=True, slots=True)
class SparsitySchedule:
    """Which part of the final sparsity is due after how many steps of the optimizer.

    "polynomial" begins with the first step, for the model is trained already, and ends after 75 % of them. What goes
    last is what the model misses most, and the weights that stay can only make up for it in steps that follow and that
    are large enough. A cubic curve that ends at 75 % has 96 % of its way behind it at half-time, when a learning rate
    on half a cosine is at one half; at its end that rate is at 15 %, and the quarter that is left settles what stays.
    A curve that ends with the training would take weights to the last step, at a rate of 0.

    Attributes:
        kind: "polynomial" rises fast while there is much that nobody misses, and slowly towards the end. "constant" is
            there before the first step.
        steps_total: Steps that the optimizer will make, at least 1.

    Source: Zhu and Gupta 2017, arXiv:1710.01878, section 2: s_t = s_f + (s_i - s_f) * (1 - (t - t_0) / (n dt))^3, here
    with s_i = 0 and t_0 = 0.
    """

    kind: Literal["polynomial", "constant"]
    steps_total: int

    def __post_init__(self) -> None:
        check_one_of("kind", self.kind, ("polynomial", "constant"))
        check_whole("steps_total", self.steps_total, 1, 1 << 53)

    @property
    def end(self) -> int:
        """The step after which the sparsity is final."""
        return 0 if self.kind == "constant" else max(1, 3 * self.steps_total // 4)

    @property
    def interval(self) -> int:
        """Steps between two updates of the masks.

        A hundred updates: the first, which is the largest, takes 3 % of what is to go, and ranking 3 million weights a
        hundred times costs seconds.
        """
        return max(1, self.end // _UPDATES)

    def progress(self, step: int) -> float:
        """Return which part of the final sparsity is due after so many steps, 0..1."""
        return 1.0 if step >= self.end else 1.0 - (1.0 - step / self.end) ** 3

    def due(self, step: int, last: int) -> bool:
        """Return whether the masks are to be made anew.

        Args:
            step: Steps made so far. It may jump: Keras can make several steps in one call.
            last: The step of the last update; -1 before the first.
        """
        if last >= self.end:
            return False
        return last < 0 or step >= self.end or step - last >= self.interval
