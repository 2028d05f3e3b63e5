"""How well a model does its task on labelled data, with intervals: classification here, the rest in `evaluation`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from edgeinfer.annotations.formats import Data
from edgeinfer.annotations.truth import DetectionData, PoseData, SegmentationData
from edgeinfer.dataset import Dataset, match_classes, matches_by_name
from edgeinfer.errors import InputError
from edgeinfer.evaluation.detection import DetectionEvaluation, evaluate_detection
from edgeinfer.evaluation.doubt import FEWEST_SAMPLES, label_doubt
from edgeinfer.evaluation.pictures import each
from edgeinfer.evaluation.pose import PoseEvaluation, evaluate_pose
from edgeinfer.evaluation.segmentation import SegmentationEvaluation, evaluate_segmentation
from edgeinfer.frozen import dataclass
from edgeinfer.intervals import share_interval
from edgeinfer.pipeline import Pipeline
from edgeinfer.postprocess.classify import class_count
from edgeinfer.progress import ProgressReport
from edgeinfer.results import Classifications, Detections, Keypoints, Mask
from edgeinfer.timing import Timing

__all__ = [
    "FEWEST_SAMPLES",
    "AnyEvaluation",
    "Evaluation",
    "answers",
    "evaluate",
    "label_doubt",
    "score",
]

AnyEvaluation: TypeAlias = "Evaluation | DetectionEvaluation | SegmentationEvaluation | PoseEvaluation"


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
    found = each(pipeline, data.sources, Classifications, name=data.name, step=step, progress=progress)
    rows = [one.class_id for one in found]
    width = min(len(row) for row in rows)
    return np.stack([row[:width] for row in rows])


@overload
def evaluate(
    pipeline: Pipeline[Classifications],
    data: Dataset,
    *,
    labels: Sequence[str] | None = None,
    class_offset: int | None = None,
    progress: ProgressReport | None = None,
) -> Evaluation: ...
@overload
def evaluate(
    pipeline: Pipeline[Detections],
    data: DetectionData,
    *,
    labels: Sequence[str] | None = None,
    class_offset: int | None = None,
    progress: ProgressReport | None = None,
) -> DetectionEvaluation: ...
@overload
def evaluate(
    pipeline: Pipeline[Mask],
    data: SegmentationData,
    *,
    labels: Sequence[str] | None = None,
    progress: ProgressReport | None = None,
) -> SegmentationEvaluation: ...
@overload
def evaluate(
    pipeline: Pipeline[Keypoints],
    data: PoseData,
    *,
    labels: Sequence[str] | None = None,
    progress: ProgressReport | None = None,
) -> PoseEvaluation: ...
@overload
def evaluate(
    pipeline: Pipeline[Any],
    data: Data,
    *,
    labels: Sequence[str] | None = None,
    class_offset: int | None = None,
    progress: ProgressReport | None = None,
) -> AnyEvaluation: ...
def evaluate(
    pipeline: Pipeline[Any],
    data: Data,
    *,
    labels: Sequence[str] | None = None,
    class_offset: int | None = None,
    progress: ProgressReport | None = None,
) -> AnyEvaluation:
    """Run a model over labelled data and measure what its task is measured by.

    Args:
        pipeline: From the task's constructor; `classifier` with `top_k` of 5 for a top-5 share.
        data: From `open_data`; its kind says the task. Classes: from `open_dataset` or `from_arrays` too.
        labels: Names of the model's classes, or of its key points; None takes the file's.
        class_offset: Added to classes that are matched by number, see `match_classes` and `match_labels`; masks and
            key points have none.
        progress: Called after every sample.

    Returns:
        Top-1 and top-5 for classes, mAP by COCO's rules for boxes, mean IoU for masks, OKS for key points.

    Raises:
        InputError: The data has no labels, classes or points that the model has not, or a sample that cannot be read.
        WrongTaskError: The model answers with something else than the data holds.
    """
    if isinstance(data, DetectionData):
        return evaluate_detection(pipeline, data, labels=labels, class_offset=class_offset, progress=progress)
    if isinstance(data, Dataset):
        return _evaluate_classification(pipeline, data, labels, class_offset, progress)
    if class_offset is not None:
        raise InputError(
            "`class_offset` is for classes that are counted in boxes and labels.",
            received=f"{class_offset} for `{data.name}`",
            expected="none for masks and key points",
        )
    if isinstance(data, SegmentationData):
        return evaluate_segmentation(pipeline, data, labels=labels, progress=progress)
    return evaluate_pose(pipeline, data, names=labels, progress=progress)


def _evaluate_classification(
    pipeline: Pipeline[Classifications],
    data: Dataset,
    labels: Sequence[str] | None,
    class_offset: int | None,
    progress: ProgressReport | None,
) -> Evaluation:
    """Count right answers; what `label_doubt` says of 20 samples and more is logged as a warning."""
    spec = pipeline.runtime.outputs[0]
    names = spec.labels if labels is None else labels
    truth = match_classes(data, names, class_count(spec), class_offset=class_offset)
    found = answers(pipeline, data, progress=progress)
    offset = None if matches_by_name(data, names) else class_offset or 0
    doubt = label_doubt(found[:, 0], truth, class_count(spec), name=data.name, class_offset=offset)
    if doubt is not None and len(truth) >= FEWEST_SAMPLES:
        logging.getLogger(__name__).warning("%s", doubt)
    return score(found, truth, class_count(spec), pipeline.timing)


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
