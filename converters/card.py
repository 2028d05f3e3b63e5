"""What the user says of a model and of its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from edgeinfer.dataset import Dataset
from edgeinfer.errors import MetadataError
from edgeinfer.model.choice import one_of
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.metadata import Filter, Normalization, Resize, ResizeMode, Role, Task


@dataclass(frozen=True, slots=True)
class Card:
    """What will be written into the model file, where the model does not say it itself.

    Attributes:
        task: "classification", "detection", "segmentation", "pose", "embedding" or "tensors". None is a detection where
            there is a `head`, what the file's end shows where the converter folds one into it
            (`Quantize(ending=...)`), a classification where the model ends in softmax or sigmoid, where `labels` are
            given, or where labelled validation data judges one row of numbers; else "tensors".
        labels: Names of the classes, index by index, or of a pose's points; any sequence of strings.
        normalization: (mean, std) in pixel units: what the model was trained on is `(pixel - mean) / std`. None takes
            it from a Rescaling or Normalization at the model's front. With such a layer, leave it away or say (0, 1).
        resize: "stretch", "letterbox" or "crop".
        filter: See `edgeinfer.model.metadata.Resize`.
        pad: Grey level of a letterbox's bars.
        name: A person's name for the model.
        description: A sentence.
        version: The author's.
        author: Whoever made it.
        license: Name or text.
        head: How a detection's outputs become boxes.
        roles: What each output is to its task, in the order of the model, e.g. ("boxes", "scores"); () lets names and
            shapes decide, see `converters.roles`.

    Raises:
        MetadataError: A value that is not known, a std of 0, a normalization that is no pair of numbers, labels in one
            text, or a head for another task than a detection.

    Example:
        >>> card = Card(head=DetectionHead("yolo", box="cxcywh", channels="first"), labels=["cat", "dog"])
        >>> card.task
        'detection'
    """

    task: Task | None = None
    labels: Sequence[str] = ()
    normalization: tuple[float, float] | None = None
    resize: ResizeMode = "stretch"
    filter: Filter = "bilinear"
    pad: int = 0
    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    head: DetectionHead | None = None
    roles: Sequence[Role] = ()

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            # A text is a sequence of texts too: every letter would become a class.
            raise MetadataError(
                "`labels` is one text.",
                received=repr(self.labels)[:80],
                expected='a sequence of names, e.g. ("cat", "dog")',
                next_step="For a label file: `edgeinfer.model.metadata.read_labels(path)`.",
            )
        object.__setattr__(self, "labels", tuple(str(label) for label in self.labels))
        object.__setattr__(self, "roles", (self.roles,) if isinstance(self.roles, str) else tuple(self.roles))
        for role in self.roles:
            one_of("role", role, get_args(Role))
        if self.task is None and self.head is not None:
            object.__setattr__(self, "task", "detection")
        if self.task is not None:
            one_of("task", self.task, get_args(Task))
        if self.head is not None and self.task != "detection":
            raise MetadataError(
                "Only a detection has a head.",
                received=f'task="{self.task}", head of kind "{self.head.kind}"',
                expected='task="detection"',
            )
        if self.normalization is not None:
            object.__setattr__(self, "normalization", _pair(self.normalization))
        # Both check their values when they are made.
        self.resizing()
        self.normalizing()

    def resizing(self) -> Resize:
        """Return the three resize fields as the contract's value."""
        return Resize(self.resize, self.filter, self.pad)

    def normalizing(self) -> Normalization | None:
        """Return the normalization as the contract's value."""
        return None if self.normalization is None else Normalization(*self.normalization)


def _pair(normalization: Any) -> tuple[float, float]:
    try:
        mean, std = normalization
        return float(mean), float(std)
    except (TypeError, ValueError) as error:
        raise MetadataError(
            "A `normalization` is a pair of numbers.",
            received=repr(normalization)[:200],
            expected="(mean, std) in pixel units, e.g. (127.5, 127.5)",
            next_step="Values per channel belong into the model, as a Normalization layer.",
        ) from error


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """Data of a run, beside the calibration, and who teaches.

    Paths are in any format of `edgeinfer.dataset`; uint8 arrays and pictures are pixels, float arrays the model's own
    input, as for the calibration.

    Attributes:
        train: What steps train on: a path, a `Dataset`, a pair of arrays (x, y), or batches (x, y) of the model's own
            input as Keras' `fit` takes them (a `tf.data.Dataset`, a `PyDataset`).
        validation: Labelled samples that judge the result at the gates: a path or a `Dataset`. None compares on
            calibration samples that were held out.
        test: Labelled samples that no step and no gate has seen; the report's figures are measured on them. None takes
            the validation data, and the report says so.
        teacher: Whom `Distill` asks: a Keras model, or the path of a `.keras`, `.h5` or `.tflite` file. None is the
            model as it was before the first `Prune`.
        class_offset: Added to classes that the data gives as numbers: 1 where the model counts a background class in
            front. None matches names where there are some, and counts by number only where nothing speaks against it;
            0 counts by number in any case.
    """

    train: Any = None
    validation: str | Path | Dataset | None = None
    test: str | Path | Dataset | None = None
    teacher: Any = None
    class_offset: int | None = None
