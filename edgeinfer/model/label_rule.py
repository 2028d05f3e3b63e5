"""Which output the names of a model belong to, and how many it takes: one rule for reader, writer and converter.

Names are labels of classes, or of key points. They either name the places along an axis (one score a class), or the
values themselves (a map of class numbers, the classes of finished boxes): TFLite Metadata calls that
TENSOR_AXIS_LABELS and TENSOR_VALUE_LABELS, and other readers look for the right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgeinfer.errors import MetadataError
from edgeinfer.frozen import dataclass
from edgeinfer.model.heads import DetectionHead
from edgeinfer.model.specs import OutputSpec, Role, Task

# What stands where nothing is, at the front of a list of classes.
BACKGROUND_NAMES = frozenset({"background", "__background__", "unlabeled", "???", "bg"})


@dataclass(frozen=True, slots=True)
class Labelling:
    """How one output takes names.

    Attributes:
        kind: "axis": one name a place of an axis. "values": the stored numbers are indices of names.
        counts: How many names fit; empty where the output does not show it, and any number does.
    """

    kind: Literal["axis", "values"]
    counts: tuple[int, ...] = ()

    def takes(self, count: int) -> bool:
        """Whether so many names fit."""
        return count > 0 and (not self.counts or count in self.counts)


def class_count(spec: OutputSpec) -> int:
    """Return how many classes a row or map of scores tells apart: its last dimension; two where it has one number."""
    last = spec.shape[-1] if spec.shape else 1
    return 2 if last == 1 else last


def labellings(
    task: Task, outputs: Sequence[OutputSpec], head: DetectionHead | None = None
) -> tuple[Labelling | None, ...]:
    """Return how each output takes names; None for one that takes none.

    Args:
        task: What the model does.
        outputs: With their roles, where those are known.
        head: How a detection's outputs become boxes; None leaves every way open that fits the shapes.
    """
    named = {one.role: place for place, one in enumerate(outputs) if one.role}
    for role in ("classes", "classmap", "keypoints", "heatmap"):
        if role in named and task != "embedding":
            # There is one list of names in a model, and this output is what it is for.
            place = named[role]
            rule = _by_role(role, outputs[place])
            return tuple(rule if index == place else None for index in range(len(outputs)))
    return tuple(_by_task(task, one, head, alone=len(outputs) == 1) for one in outputs)


def fitting_outputs(
    task: Task, outputs: Sequence[OutputSpec], head: DetectionHead | None, count: int
) -> tuple[int, ...]:
    """Return which outputs take so many names; those that take exactly as many before those that take any number."""
    rules = labellings(task, outputs, head)
    fitting = [place for place, rule in enumerate(rules) if rule is not None and rule.takes(count)]
    sure = [place for place in fitting if (rule := rules[place]) is not None and rule.counts]
    return tuple(sure or fitting)


def labelled_output(
    task: Task, outputs: Sequence[OutputSpec], head: DetectionHead | None, count: int, *, what: str = "labels"
) -> int:
    """Return which output so many names are for.

    Raises:
        MetadataError: They fit none, or more than one.
    """
    fitting = fitting_outputs(task, outputs, head, count)
    if len(fitting) == 1:
        return fitting[0]
    rules = labellings(task, outputs, head)
    expected = [" or ".join(str(one) for one in rule.counts) or "any number" for rule in rules if rule is not None]
    raise MetadataError(
        f"The {what} fit no output of the model." if not fitting else f"The {what} fit more than one output.",
        received=f"{count} {what}",
        expected=" or ".join(dict.fromkeys(expected)) or f"none: the task is {task}",
        next_step="Give one label a class, in the order of the model's output, a background class included."
        if expected
        else "",
    )


def check_labelling(task: Task, outputs: Sequence[OutputSpec], head: DetectionHead | None = None) -> None:
    """Refuse labels that stand at an output that takes others, or none.

    Raises:
        MetadataError: As said.
    """
    for spec, rule in zip(outputs, labellings(task, outputs, head), strict=True):
        if spec.labels and (rule is None or not rule.takes(len(spec.labels))):
            counts = " or ".join(str(one) for one in rule.counts) if rule is not None else "no labels"
            raise MetadataError(
                f"The labels do not fit output `{spec.name}`.",
                received=f"{len(spec.labels)} labels",
                expected=f"{counts}, one a class" if rule is not None else f"{counts} here: the task is {task}",
                next_step="Write the right ones: `edgeinfer-convert annotate m.tflite --labels labels.txt`.",
            )


def without_background(labels: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the names without a background in front, where they are one more than the classes and begin with it.

    Args:
        labels: Of all classes.
        count: How many classes the model tells apart, without a background.

    Example:
        >>> without_background(("background", "cat", "dog"), 2)
        ('cat', 'dog')
    """
    names = tuple(labels)
    extra = len(names) == count + 1 and names[0].strip().casefold() in BACKGROUND_NAMES
    return names[1:] if extra else names


def _by_role(role: Role, spec: OutputSpec) -> Labelling:
    if role in ("classes", "classmap"):
        return Labelling("values")
    if role == "keypoints":
        return Labelling("axis", _points(spec.shape))
    return Labelling("axis", (class_count(spec),) if spec.shape else ())


def _points(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many key points a body has: (..., points, 2 or 3), or rows of three a point and five for the box."""
    if len(shape) >= 2 and shape[-1] in (2, 3):
        return (shape[-2],)
    if len(shape) >= 2 and shape[-1] > 5 and (shape[-1] - 5) % 3 == 0:
        return ((shape[-1] - 5) // 3,)
    return ()


def _by_task(task: Task, spec: OutputSpec, head: DetectionHead | None, *, alone: bool) -> Labelling | None:
    if task == "embedding":
        return None
    if task == "detection":
        return _of_detection(spec, head, alone=alone)
    if task == "pose":
        return Labelling("axis", () if alone or not spec.shape else (class_count(spec),))
    if task == "segmentation" and len(spec.shape) == 3 and spec.dtype != "float32":
        return Labelling("values")  # (1, height, width): the class numbers themselves
    return Labelling("axis", (class_count(spec),))


def _of_detection(spec: OutputSpec, head: DetectionHead | None, *, alone: bool) -> Labelling | None:
    if spec.role == "scores" and spec.shape:
        background = head is not None and head.background
        return Labelling("axis", (class_count(spec) - background,))
    if spec.role not in ("", "predictions") or not (alone or spec.role):
        return None
    yolo = head is None or head.kind == "yolo"
    if not yolo or len(spec.shape) < 2 or (head is None and spec.shape[-1] in (6, 7)):
        return Labelling("values")  # finished rows hold the class as a number
    # Where nothing says so, either axis may hold the numbers of a box, with or without one for "is there anything".
    channels, objectness = (None, None) if head is None else (head.channels, head.objectness)
    sides = {"first": spec.shape[1:2], "last": spec.shape[-1:], None: spec.shape[1:]}[channels]
    others = (4, 5) if objectness is None else (4 + objectness,)
    counts = {side - other for side in sides for other in others if side > other}
    return Labelling("axis", tuple(sorted(counts)))
