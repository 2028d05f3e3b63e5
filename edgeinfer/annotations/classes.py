"""The data's classes and points in the model's counting: by name where there are names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeinfer.annotations.truth import DetectionData
from edgeinfer.dataset import plain_name
from edgeinfer.errors import InputError


def match_labels(data: DetectionData, labels: Sequence[str], *, class_offset: int | None = None) -> NDArray[np.int64]:
    """Return the model's number of each class of the data.

    Names beat numbers, as in `edgeinfer.dataset.match_classes`: case, spaces, `_` and `-` do not count. Classes that
    no box has need not be the model's. Numbers count where the data has no names, and where `class_offset` is given
    and no name is the model's.

    Args:
        data: Boxes and their classes.
        labels: The model's, index by index; may be empty.
        class_offset: Added to numbers; None is 0, but refuses named classes for a model without labels: nobody has
            said that both count alike.

    Returns:
        (classes,) int64; -1 for a class that no box has and the model does not know.

    Raises:
        InputError: Boxes of a class that is none of the model's, or that may be another there.
    """
    used = np.unique(np.concatenate([one.class_id for one in data.truth])).tolist()
    count = len(data.classes) or max(used, default=-1) + 1
    known = {plain_name(label): number for number, label in reversed(list(enumerate(labels)))}
    numbers = np.array([known.get(plain_name(name), -1) for name in data.classes], dtype=np.int64)
    unknown = [data.classes[one] for one in used if data.classes and numbers[one] < 0]
    by_number = not data.classes or (class_offset is not None and bool((numbers < 0).all()))
    if by_number:
        shifted = np.arange(count, dtype=np.int64) + (class_offset or 0)
        beyond = [int(shifted[one]) for one in used if shifted[one] < 0 or (labels and shifted[one] >= len(labels))]
        if beyond:
            raise InputError(
                f"`{data.name}` has classes that the model has not.",
                received=f"class {beyond[0]}",
                expected=f"0 to {len(labels) - 1}" if labels else "0 and more",
                next_step="Check --labels and --class-offset.",
            )
        return shifted
    if not labels:
        raise InputError(
            f"The classes of `{data.name}` have names, and the model's have none.",
            received=", ".join(data.classes[:5]),
            expected="labels of the model",
            next_step="Give them with --labels; or say --class-offset 0 if both count alike.",
        )
    if unknown:
        raise InputError(
            f"Some classes of `{data.name}` are none of the model's labels.",
            received=", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""),
            expected=f"names out of the model's {len(labels)} labels: {', '.join(labels[:5])} ...",
            next_step="Rename these classes, or give the labels in use with --labels.",
        )
    return numbers


def match_points(names: Sequence[str], points: int, found_names: Sequence[str], found_points: int) -> list[int]:
    """Return which of the model's points each of the data's is.

    Args:
        names: Of the data's points; may be empty.
        points: How many there are.
        found_names: Of the model's; may be empty.
        found_points: How many it answers with.

    Returns:
        `points` indices of the model's points.

    Raises:
        InputError: A name that the model has not, or, where one side has no names, another number of points.
    """
    if names and found_names:
        known = {plain_name(name): number for number, name in reversed(list(enumerate(found_names)))}
        unknown = [name for name in names if plain_name(name) not in known]
        if unknown:
            raise InputError(
                "The model does not answer with some points of the data.",
                received=", ".join(unknown[:5]),
                expected=f"names out of the model's: {', '.join(found_names[:5])} ...",
            )
        return [known[plain_name(name)] for name in names]
    if points != found_points:
        raise InputError(
            "The data's bodies have other points than the model's.",
            received=f"{points} points in the data, {found_points} in the answer",
            expected="as many, or names on both sides",
        )
    return list(range(points))
