"""Object keypoint similarity of a pose model, and the average precision that COCO makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeinfer.annotations.classes import match_points
from edgeinfer.annotations.truth import Bodies, PoseData
from edgeinfer.evaluation.pictures import each
from edgeinfer.frozen import dataclass
from edgeinfer.metrics.average_precision import Found, Matches, Wanted, average_precision, match, pool
from edgeinfer.metrics.bootstrap import draws, interval, mean_of_present
from edgeinfer.metrics.keypoint_similarity import MOST_BODIES, keypoint_similarity
from edgeinfer.pipeline import Pipeline
from edgeinfer.progress import ProgressReport
from edgeinfer.results import Keypoints
from edgeinfer.timing import Timing


@dataclass(frozen=True, slots=True)
class PoseEvaluation:
    """How well bodies are found.

    Attributes:
        samples: How many pictures there were.
        oks: Mean, over the bodies with labelled points, of the similarity of the found body that fits best; 0 where
            none was found. 0..1.
        map50_95: Average precision, mean over the similarities 0.5, 0.55 ... 0.95: COCO's figure for key points. A
            body's confidence is the mean of its points'.
        oks_interval: 95 % interval of `oks` over 1000 seeded resamples of the pictures; see
            `edgeinfer.metrics.bootstrap.interval`.
        map50_95_interval: The same of `map50_95`.
        timing: Of every stage, the latest 1000 pictures.
    """

    samples: int
    oks: float
    map50_95: float
    oks_interval: tuple[float, float]
    map50_95_interval: tuple[float, float]
    timing: Timing

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer evaluate --json` prints."""
        return {
            "task": "pose",
            "samples": self.samples,
            "metrics": {"oks": self.oks, "map50_95": self.map50_95},
            "interval95": {"oks": list(self.oks_interval), "map50_95": list(self.map50_95_interval)},
            "timing_ms": self.timing.to_json(),
        }


def evaluate_pose(
    pipeline: Pipeline[Keypoints],
    data: PoseData,
    *,
    names: Sequence[str] | None = None,
    progress: ProgressReport | None = None,
) -> PoseEvaluation:
    """Run a pose model over pictures with bodies and measure.

    Args:
        pipeline: From `poser`.
        data: From `open_data`.
        names: Of the model's points; None takes those of its answers.
        progress: Called after every picture.

    Raises:
        InputError: Points that the model has not, no body with labelled points, or a picture that cannot be read.
        WrongTaskError: The model does not answer with key points.
    """
    matches: list[Matches] = []
    best: list[NDArray[np.float64]] = []
    order: list[int] | None = None
    answers = each(pipeline, data.sources, Keypoints, name=data.name, progress=progress)
    for found, truth in zip(answers, data.truth, strict=True):
        if order is None:
            found_names = found.names if names is None else names
            order = match_points(data.names, len(data.sigmas), found_names, found.xy.shape[1])
        similarity = compare_bodies(found.xy[:, order], truth, data.sigmas)
        confidence = found.confidence[:, order].mean(axis=1)
        matches.append(match_bodies(similarity, confidence, truth))
        best.append(similarity.max(axis=0, initial=0.0)[_wanted(truth)])
    return score_pose(matches, best, pipeline.timing)


def compare_bodies(xy: NDArray[np.float32], truth: Bodies, sigmas: Sequence[float]) -> NDArray[np.float64]:
    """Return (d, g) float64, 0..1, the similarity of every found body with every true one.

    Args:
        xy: (d, k, 2), pixels, the points in the data's order.
        truth: g bodies.
        sigmas: k.
    """
    return keypoint_similarity(xy, truth.xy, labelled=truth.labelled, area=truth.area, boxes=truth.xyxy, sigmas=sigmas)


def match_bodies(similarity: NDArray[np.float64], confidence: NDArray[np.float32], truth: Bodies) -> Matches:
    """Compare the bodies of one picture with the truth.

    Args:
        similarity: (d, g) from `compare_bodies`.
        confidence: (d,) 0..1.
        truth: g bodies; crowds and bodies without labelled points need not be found.
    """
    found = Found(np.zeros(len(confidence), dtype=np.int64), confidence)
    wanted = Wanted(np.zeros(len(truth.crowd), dtype=np.int64), truth.crowd, ~_wanted(truth))
    return match(similarity, found, wanted, most=MOST_BODIES)


def _wanted(truth: Bodies) -> NDArray[np.bool_]:
    wanted: NDArray[np.bool_] = truth.labelled.any(axis=1) & ~truth.crowd
    return wanted


def score_pose(matches: Sequence[Matches], best: Sequence[NDArray[np.float64]], timing: Timing) -> PoseEvaluation:
    """Sum up compared pictures.

    Args:
        matches: One a picture.
        best: One a picture: the best similarity of each body that had to be found.
        timing: Of the pipeline that answered.

    Raises:
        InputError: No body had to be found.
    """
    pooled = pool(matches)
    times = draws(len(matches))
    precision = float(average_precision(pooled).mean())
    resampled = average_precision(pooled, times)
    sums = np.array([one.sum() for one in best])
    counts = np.array([len(one) for one in best])
    oks = float(sums.sum() / counts.sum())
    weights = times.astype(np.float64)
    bodies = weights @ counts
    of_resample = np.divide(weights @ sums, bodies, out=np.full(len(times), np.nan), where=bodies > 0)
    return PoseEvaluation(
        samples=len(matches),
        oks=oks,
        map50_95=precision,
        oks_interval=interval(oks, of_resample),
        map50_95_interval=interval(precision, mean_of_present(resampled.mean(axis=2))),
        timing=timing,
    )
