"""Mean intersection over union of a segmentation model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.annotations.pictures import read_class_indices
from edgeinfer.annotations.truth import SegmentationData
from edgeinfer.errors import InputError
from edgeinfer.evaluation.pictures import each
from edgeinfer.frozen import dataclass
from edgeinfer.metrics.bootstrap import draws, interval, mean_of_present
from edgeinfer.metrics.mean_iou import IGNORED, confusion, iou, overlap
from edgeinfer.pipeline import Pipeline
from edgeinfer.progress import ProgressReport
from edgeinfer.results import Mask, name_of
from edgeinfer.timing import Timing


@dataclass(frozen=True, slots=True)
class SegmentationEvaluation:
    """How well the pixels of every class are found.

    Attributes:
        samples: How many pictures there were.
        miou: Mean, over the classes that are there or were found, of the IoU of all pictures' pixels; 0..1.
        miou_interval: 95 % interval of `miou` over 1000 seeded resamples of the pictures; see
            `edgeinfer.metrics.bootstrap.interval`.
        pixel_accuracy: Share of the judged pixels whose class is right, 0..1.
        class_iou: The IoU of each of these classes, by name.
        absent: How many of the model's classes are neither there nor found, and so left out of the mean; 0 where the
            model's labels do not say how many it has.
        timing: Of every stage, the latest 1000 pictures.
    """

    samples: int
    miou: float
    miou_interval: tuple[float, float]
    pixel_accuracy: float
    class_iou: dict[str, float]
    absent: int
    timing: Timing

    def to_json(self) -> dict[str, object]:
        """Return what `edgeinfer evaluate --json` prints."""
        return {
            "task": "segmentation",
            "samples": self.samples,
            "metrics": {"miou": self.miou},
            "interval95": {"miou": list(self.miou_interval)},
            "timing_ms": self.timing.to_json(),
        }


def evaluate_segmentation(
    pipeline: Pipeline[Mask],
    data: SegmentationData,
    *,
    labels: Sequence[str] | None = None,
    progress: ProgressReport | None = None,
) -> SegmentationEvaluation:
    """Run a segmenter over pictures with masks and measure.

    Args:
        pipeline: From `segmenter`.
        data: From `open_data`; its masks count as the model does.
        labels: Names of the model's classes; None takes those of its answers.
        progress: Called after every picture.

    Raises:
        InputError: A mask of another size than its picture, of a class that the model has not, or that cannot be
            read; or no pixel that counts.
        WrongTaskError: The model does not answer with masks.
    """
    pixels: list[NDArray[np.int64]] = []
    names: Sequence[str] = labels or ()
    answers = each(pipeline, data.sources, Mask, name=data.name, progress=progress)
    for number, (found, truth) in enumerate(zip(answers, data.truth, strict=True)):
        names = found.labels if labels is None else labels
        where = f"`{truth.name if isinstance(truth, Path) else f'mask {number}'}` of {data.name}"
        pixels.append(count_pixels(found, truth, names, where=where))
    return score_segmentation(pixels, names, pipeline.timing)


def count_pixels(
    found: Mask, truth: Path | NDArray[np.uint8] | NDArray[np.uint16], labels: Sequence[str], *, where: str
) -> NDArray[np.int64]:
    """Return (3, classes), pixels right, true and found of each class in one picture.

    Args:
        found: The answer.
        truth: The truth, or its file.
        labels: Of the model; where it has none, there are as many classes as this picture shows.
        where: What to call the truth in an error.

    Raises:
        InputError: It does not fit the answer.
    """
    true = read_class_indices(truth) if isinstance(truth, Path) else truth
    judged = true[true != IGNORED]
    highest = int(judged.max(initial=0))
    if labels and highest >= len(labels):
        raise InputError(
            f"{where} has a class that the model has not.",
            received=str(highest),
            expected=f"0 to {len(labels) - 1}, or {IGNORED} where a pixel does not count",
            next_step="The pixels of a mask are the model's class numbers.",
        )
    classes = len(labels) or max(highest, int(found.class_id.max(initial=0))) + 1
    try:
        return overlap(confusion(found.class_id, true, classes))
    except InputError as error:
        raise error.named(where) from error


def score_segmentation(
    pixels: Sequence[NDArray[np.int64]], labels: Sequence[str], timing: Timing
) -> SegmentationEvaluation:
    """Sum up counted pictures.

    Args:
        pixels: (3, classes) from `count_pixels`, one a picture; fewer classes mean that the higher ones are absent.
        labels: Names of the model's classes; may be empty.
        timing: Of the pipeline that answered.

    Raises:
        InputError: No pixel counts.
    """
    classes = max(one.shape[1] for one in pixels)
    # (pictures, 3 * classes), so that resampling is one product of matrices.
    flat = np.stack([np.pad(one, ((0, 0), (0, classes - one.shape[1]))).reshape(-1) for one in pixels])
    total = flat.sum(axis=0).reshape(3, classes)
    if not total[1].sum():
        raise InputError("No pixel of these masks counts.", expected=f"classes other than {IGNORED}")
    by_class = iou(total)
    miou = float(mean_of_present(by_class))
    resampled: NDArray[Any] = draws(len(pixels)).astype(np.float64) @ flat
    present = np.flatnonzero(~np.isnan(by_class)).tolist()
    return SegmentationEvaluation(
        samples=len(pixels),
        miou=miou,
        miou_interval=interval(miou, mean_of_present(iou(resampled.reshape(-1, 3, classes)))),
        pixel_accuracy=int(total[0].sum()) / int(total[1].sum()),
        class_iou={name_of(labels, class_id): float(by_class[class_id]) for class_id in present},
        absent=max(0, len(labels) - len(present)),
        timing=timing,
    )
