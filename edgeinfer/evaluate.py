"""How often a model is right on labelled data, with an interval."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinfer.dataset import Dataset, match_classes, matches_by_name, sample_name
from edgeinfer.errors import InputError
from edgeinfer.intervals import drop_interval, share_interval
from edgeinfer.pipeline import Pipeline
from edgeinfer.postprocess.classify import class_count
from edgeinfer.progress import Progress, ProgressReport
from edgeinfer.results import Classifications
from edgeinfer.timing import Timing

# Below this, a good model may look like chance: of 19 samples of two classes, 13 right prove nothing.
FEWEST_SAMPLES = 20


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy of a classification model.

    Attributes:
        samples: How many there were.
        top1: Share of samples whose first answer was right, 0..1.
        top5: Share of samples with the right class among the first five; None where the model has five or fewer.
        top1_interval: Wilson's 95 % interval of `top1`.
        top5_interval: The same of `top5`, or None.
        timing: Of every stage.
    """

    samples: int
    top1: float
    top5: float | None
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float] | None
    timing: Timing

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer evaluate --json` prints."""
        metrics: dict[str, float] = {"top1": self.top1}
        intervals: dict[str, list[float]] = {"top1": list(self.top1_interval)}
        if self.top5 is not None and self.top5_interval is not None:
            metrics["top5"] = self.top5
            intervals["top5"] = list(self.top5_interval)
        return {
            "task": "classification",
            "samples": self.samples,
            "metrics": metrics,
            "interval95": intervals,
            "timing_ms": self.timing.to_json(),
        }


def answers(
    pipeline: Pipeline[Classifications],
    data: Dataset,
    *,
    step: str = "evaluate",
    progress: ProgressReport | None = None,
) -> NDArray[np.int64]:
    """Return the classes that the model answers, most confident first: (samples, k) int64.

    k is the smallest number of rows that any answer has (`top_k` of the classifier, or fewer where the model has
    fewer classes).

    Raises:
        InputError: There are no samples, or one cannot be read; the message names it.
    """
    if not len(data):
        raise InputError(f"`{data.name}` holds no samples.")
    rows = list(_answers(pipeline, data, step, progress))
    width = min(len(row) for row in rows)
    return np.stack([row[:width] for row in rows])


def _answers(
    pipeline: Pipeline[Classifications], data: Dataset, step: str, progress: ProgressReport | None
) -> Iterator[NDArray[np.int64]]:
    for number, source in enumerate(data, start=1):
        try:
            yield pipeline(source).class_id
        except InputError as error:
            raise error.named(f"`{sample_name(source, number - 1)}` of {data.name}") from error
        if progress:
            progress(Progress(step, number, len(data)))


def evaluate(
    pipeline: Pipeline[Classifications],
    data: Dataset,
    *,
    labels: Sequence[str] | None = None,
    class_offset: int | None = None,
    progress: ProgressReport | None = None,
) -> Evaluation:
    """Run a classifier over labelled data and count.

    What `label_doubt` says of 20 samples and more is logged as a warning.

    Args:
        pipeline: From `classifier`, with `top_k` of 5 for a top-5 share.
        data: From `open_dataset` or `from_arrays`, labelled.
        labels: Names of the model's classes; None takes the file's.
        class_offset: Added to classes that are matched by number; see `match_classes`.
        progress: Called after every sample.

    Raises:
        InputError: The data has no labels, classes that the model has not, or a sample that cannot be read.
    """
    spec = pipeline.runtime.outputs[0]
    names = spec.labels if labels is None else labels
    truth = match_classes(data, names, class_count(spec), class_offset=class_offset)
    found = answers(pipeline, data, progress=progress)
    offset = None if matches_by_name(data, names) else class_offset or 0
    doubt = label_doubt(found[:, 0], truth, class_count(spec), name=data.name, class_offset=offset)
    if doubt is not None and len(truth) >= FEWEST_SAMPLES:
        logging.getLogger(__name__).warning("%s", doubt)
    return score(found, truth, class_count(spec), pipeline.timing)


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


def score(found: NDArray[np.int64], truth: NDArray[np.int64], classes: int, timing: Timing) -> Evaluation:
    """Count answers against the truth.

    Args:
        found: (samples, k) classes, most confident first.
        truth: (samples,) classes.
        classes: How many the model tells apart; a top-5 share needs more than five.
        timing: Of the pipeline that answered.
    """
    hits = found == truth[:, None]
    first = int(hits[:, 0].sum())
    five = int(hits[:, :5].any(axis=1).sum()) if classes > 5 and found.shape[1] >= 5 else None
    samples = len(truth)
    return Evaluation(
        samples=samples,
        top1=first / samples,
        top5=None if five is None else five / samples,
        top1_interval=share_interval(first, samples),
        top5_interval=None if five is None else share_interval(five, samples),
        timing=timing,
    )
