"""Mean average precision of a detection model, by COCO's rules."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeinfer.annotations.classes import match_labels
from edgeinfer.annotations.truth import Boxes, DetectionData
from edgeinfer.evaluation.doubt import FEWEST_SAMPLES, label_doubt
from edgeinfer.evaluation.pictures import each
from edgeinfer.frozen import dataclass
from edgeinfer.metrics.average_precision import Found, Matches, Wanted, average_precision, box_iou, match, pool
from edgeinfer.metrics.bootstrap import draws, interval, mean_of_present
from edgeinfer.pipeline import Pipeline
from edgeinfer.progress import ProgressReport
from edgeinfer.results import Detections, name_of
from edgeinfer.timing import Timing

_LOG = logging.getLogger(__name__)
# What comes out of a network goes far below this; what is shown to people begins above it.
_SUSPICIOUS_CONFIDENCE = 0.15
_UPON = 0.5  # the IoU from which a box is meant for a thing, right or wrong about what it is


@dataclass(frozen=True, slots=True)
class DetectionEvaluation:
    """How well boxes are found.

    Attributes:
        samples: How many pictures there were.
        map50: Mean, over the classes that are there, of the average precision at an IoU of 0.5; 0..1.
        map50_95: The same, also over the ten thresholds 0.5, 0.55 ... 0.95.
        map50_interval: 95 % interval of `map50` over 1000 seeded resamples of the pictures; see
            `edgeinfer.metrics.bootstrap.interval`.
        map50_95_interval: The same of `map50_95`.
        class_map50_95: The mean over thresholds of each class that is there, by name.
        timing: Of every stage, the latest 1000 pictures.
    """

    samples: int
    map50: float
    map50_95: float
    map50_interval: tuple[float, float]
    map50_95_interval: tuple[float, float]
    class_map50_95: dict[str, float]
    timing: Timing

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer evaluate --json` prints."""
        return {
            "task": "detection",
            "samples": self.samples,
            "metrics": {"map50": self.map50, "map50_95": self.map50_95},
            "interval95": {"map50": list(self.map50_interval), "map50_95": list(self.map50_95_interval)},
            "timing_ms": self.timing.to_json(),
        }


def evaluate_detection(
    pipeline: Pipeline[Detections],
    data: DetectionData,
    *,
    labels: Sequence[str] | None = None,
    class_offset: int | None = None,
    progress: ProgressReport | None = None,
) -> DetectionEvaluation:
    """Run a detector over pictures with boxes and measure.

    The detector's own threshold counts: boxes below it are not found, and the mean average precision is lower than the
    model's. So build it with `DetectionOptions(confidence=0.001)`; a threshold that is seen in the answers is logged
    as a warning, and so are labels that count otherwise than the data.

    Args:
        pipeline: From `detector`.
        data: From `open_data`.
        labels: Names of the model's classes; None takes those of its answers.
        class_offset: Added to classes that are matched by number; see `match_labels`.
        progress: Called after every picture.

    Raises:
        InputError: Classes that the model has not, no box at all, or a picture that cannot be read.
        WrongTaskError: The model does not answer with boxes.
    """
    matches: list[Matches] = []
    pairs: list[NDArray[np.int64]] = []
    numbers: NDArray[np.int64] | None = None
    names: Sequence[str] = labels or ()
    answers = each(pipeline, data.sources, Detections, name=data.name, progress=progress)
    for found, truth in zip(answers, data.truth, strict=True):
        if numbers is None:  # only an answer says which labels are in use
            names = found.labels if labels is None else labels
            numbers = match_labels(data, names, class_offset=class_offset)
        similarity = box_iou(found.xyxy, truth.xyxy, truth.crowd)
        matches.append(match_boxes(similarity, found, truth, numbers))
        pairs.append(class_pairs(similarity, found, truth, numbers))
    by_name = bool(data.classes) and bool(names) and class_offset is None
    _warn_of_labels(np.concatenate(pairs), len(names), data.name, None if by_name else class_offset or 0)
    least = min((float(one.confidence.min()) for one in matches if len(one.confidence)), default=0.0)
    if least > _SUSPICIOUS_CONFIDENCE and len(matches) >= FEWEST_SAMPLES:
        _LOG.warning(
            "the least confident box has %.3f: a detector with a threshold is measured too low; build it with "
            "`DetectionOptions(confidence=0.001)`",
            least,
        )
    return score_detection(matches, names, pipeline.timing)


def match_boxes(
    similarity: NDArray[np.float64], found: Detections, truth: Boxes, numbers: NDArray[np.int64]
) -> Matches:
    """Compare the boxes of one picture with the truth.

    Args:
        similarity: (d, g) their IoU, from `box_iou`.
        found: The answer.
        truth: The truth, in the data's classes.
        numbers: (classes,) the model's number of each class of the data.
    """
    wanted = Wanted(numbers[truth.class_id], truth.crowd, truth.crowd)
    return match(similarity, Found(found.class_id, found.confidence), wanted)


def class_pairs(
    similarity: NDArray[np.float64], found: Detections, truth: Boxes, numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (m, 2): what the most confident box upon each true one says that it is, and what it is.

    Args:
        similarity: As in `match_boxes`.
        found: As in `match_boxes`.
        truth: As in `match_boxes`.
        numbers: As in `match_boxes`.
    """
    upon = similarity >= _UPON
    there = np.flatnonzero(upon.any(axis=0) & ~truth.crowd)
    confidence = np.where(upon[:, there], found.confidence[:, None], -1.0)
    best = confidence.argmax(axis=0) if len(there) else there
    return np.stack([found.class_id[best], numbers[truth.class_id[there]]], axis=1)


def _warn_of_labels(pairs: NDArray[np.int64], classes: int, name: str, class_offset: int | None) -> None:
    if classes > 1 and len(pairs) >= FEWEST_SAMPLES:
        doubt = label_doubt(pairs[:, 0], pairs[:, 1], classes, name=name, class_offset=class_offset)
        if doubt is not None:
            _LOG.warning("%s", doubt)


def score_detection(matches: Sequence[Matches], labels: Sequence[str], timing: Timing) -> DetectionEvaluation:
    """Sum up compared pictures.

    Args:
        matches: One a picture.
        labels: Names of the model's classes; may be empty.
        timing: Of the pipeline that answered.

    Raises:
        InputError: Nothing had to be found.
    """
    pooled = pool(matches)
    precision = average_precision(pooled)[0]
    resampled = average_precision(pooled, draws(len(matches)))
    map50, map50_95 = float(precision[:, 0].mean()), float(precision.mean())
    return DetectionEvaluation(
        samples=len(matches),
        map50=map50,
        map50_95=map50_95,
        map50_interval=interval(map50, mean_of_present(resampled[..., 0])),
        map50_95_interval=interval(map50_95, mean_of_present(resampled.mean(axis=2))),
        class_map50_95={
            name_of(labels, class_id): float(value)
            for class_id, value in zip(pooled.classes.tolist(), precision.mean(axis=1), strict=True)
        },
        timing=timing,
    )
