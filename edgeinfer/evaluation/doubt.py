"""Whether labels and answers count the classes alike: said before a figure is believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeinfer.errors import InputError
from edgeinfer.intervals import drop_interval, share_interval

# Below this, a good model may look like chance: of 19 samples of two classes, 13 right prove nothing.
FEWEST_SAMPLES = 20


def label_doubt(
    found: NDArray[np.int64], truth: NDArray[np.int64], classes: int, *, name: str, class_offset: int | None
) -> InputError | None:
    """Return an error that is ready to be raised where labels do not fit a model's answers, or None.

    They do not fit where every class one higher or one lower would make the model right twice as often, surely more
    often than now and than chance; or where the model is not surely right more often than chance, `1 / classes`. Sure
    is what a 95 % interval says, so that few samples prove little.

    Args:
        found: (samples,) the class that the model answers.
        truth: (samples,) the class of the data, in the model's counting.
        classes: How many the model tells apart.
        name: Of the data.
        class_offset: That is in `truth` already; None where classes were matched by name.
    """
    samples, right = len(truth), found == truth
    hits, chance = int(right.sum()), 1 / classes
    for shift, direction in ((1, "higher"), (-1, "lower")):
        if not 0 <= truth.min() + shift <= truth.max() + shift < classes:
            continue
        shifted = found == truth + shift
        low, _ = drop_interval(int((shifted & ~right).sum()), int((right & ~shifted).sum()), samples)
        sure = low > 0 and share_interval(int(shifted.sum()), samples)[0] > chance
        if sure and shifted.sum() >= 2 * hits:
            return InputError(
                f"The labels of `{name}` count the classes otherwise than the model.",
                received=f"{hits} of {samples} answers are right as the labels stand, {int(shifted.sum())} with every "
                f"class one {direction}",
                next_step="The model's labels stand one line off: a class in front is missing or too many."
                if class_offset is None
                else f"Say `--class-offset {class_offset + shift}` (`class_offset={class_offset + shift}`).",
            )
    low, high = share_interval(hits, samples)
    if low > chance:
        return None
    return InputError(
        f"The labels of `{name}` do not fit the model: it is not surely right more often than chance.",
        received=f"{hits} of {samples} answers right, {hits / samples:.2%} (95 % interval {low:.2%} to {high:.2%})",
        expected=f"an interval above {chance:.2%}, chance among {classes} classes",
        next_step="Check that the labels count the model's classes in the model's order, and that the normalization "
        "is that of the training. If both are right, the model has learnt nothing, or the samples are too few.",
    )
