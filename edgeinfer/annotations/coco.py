"""COCO JSON: boxes and key points of pictures that lie in a folder.

Source: cocodataset.org, "Data format", sections 1, 2 and 4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeinfer.annotations.pictures import picture_size
from edgeinfer.annotations.truth import Bodies, Boxes, DetectionData, PoseData, check_boxes
from edgeinfer.errors import InputError, InputFileError
from edgeinfer.files import read_bytes
from edgeinfer.frozen import dataclass
from edgeinfer.metrics.keypoint_similarity import COCO_SIGMAS

_LAYOUT = '{"images": [...], "annotations": [...], "categories": [...]}'


Rows: TypeAlias = "list[Mapping[str, Any]]"


@dataclass(frozen=True, slots=True)
class _Picture:
    """One picture of the file and its annotations; `where` is what an error calls it."""

    source: Path
    size: tuple[int, int]
    rows: Rows
    where: str


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    pictures: list[_Picture]
    categories: Rows


def open_coco_boxes(path: str | Path, images: str | Path | None = None) -> DetectionData:
    """Open the boxes of a COCO JSON.

    Args:
        path: The JSON.
        images: The folder that its `file_name`s lie in; None is the JSON's own.

    Returns:
        All its pictures, those without a box too. Classes are its categories by rising id.

    Raises:
        InputFileError: The JSON or a picture is not there.
        InputError: It is damaged, contradicts itself, or belongs to pictures of another size.
    """
    file = _read(path, images)
    place = {category["id"]: index for index, category in enumerate(file.categories)}
    truth = []
    for picture in file.pictures:
        ids = [row.get("category_id") for row in picture.rows]
        unknown = [one for one in ids if not isinstance(one, int) or one not in place]
        if unknown:
            raise InputError(
                f"An annotation of {picture.where} has a category that is not there.",
                received=f"category_id {unknown[0]!r}",
                expected=f"an id of `categories`, of which there are {len(place)}",
            )
        class_id = np.array([place[row["category_id"]] for row in picture.rows], dtype=np.int64)
        truth.append(Boxes(_boxes(picture.rows, picture), class_id, _crowd(picture.rows)))
    names = tuple(category["name"] for category in file.categories)
    return DetectionData(file.name, [picture.source for picture in file.pictures], truth, names)


def open_coco_keypoints(
    path: str | Path, images: str | Path | None = None, *, sigmas: Sequence[float] | None = None
) -> PoseData:
    """Open the key points of a COCO JSON.

    Args:
        path: The JSON; one of its categories has `keypoints`.
        images: As in `open_coco_boxes`.
        sigmas: How exactly each point can be set, as a share of the body's size; None takes COCO's, by the points'
            names.

    Raises:
        InputFileError: As in `open_coco_boxes`.
        InputError: As there; or no category or several ones have key points, or points other than a person's come
            without sigmas.
    """
    file = _read(path, images)
    posed = [category for category in file.categories if category.get("keypoints")]
    if len(posed) != 1 or not isinstance(posed[0]["keypoints"], list):
        raise InputError(
            f"`{file.name}` does not say which points a body has.",
            received=f"{len(posed)} categories with `keypoints`",
            expected="one, with a list of the names of its points",
        )
    names = tuple(str(name) for name in posed[0]["keypoints"])
    truth = []
    for picture in file.pictures:
        rows = [row for row in picture.rows if row.get("category_id") == posed[0]["id"]]
        boxes = _boxes(rows, picture)
        points = _numbers(rows, "keypoints", 3 * len(names), picture).reshape(len(rows), len(names), 3)
        truth.append(Bodies(points[..., :2], points[..., 2] > 0, boxes, _areas(rows, boxes, picture), _crowd(rows)))
    return PoseData(
        file.name,
        [picture.source for picture in file.pictures],
        truth,
        _coco_sigmas(names, file.name) if sigmas is None else tuple(sigmas),
        names,
    )


def _coco_sigmas(names: tuple[str, ...], where: str) -> tuple[float, ...]:
    unknown = [name for name in names if name not in COCO_SIGMAS]
    if unknown:
        raise InputError(
            f"How exactly the points of `{where}` can be set is not known.",
            received=", ".join(unknown[:5]),
            expected="the names of COCO's 17 points",
            next_step="Say `sigmas=`, one number a point: how far apart two people set it, divided by the root of the "
            "body's area.",
        )
    return tuple(COCO_SIGMAS[name] for name in names)


def _read(path: str | Path, images: str | Path | None) -> _File:
    place = Path(path)
    try:
        # Outlines are most of such a file, and are dropped while it is read: a small device has no room for them.
        said = json.loads(read_bytes(place, expected=_LAYOUT), object_hook=_without_outline)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"`{place.name}` is damaged JSON.", received=str(error), expected=_LAYOUT) from error
    lists = [said.get(key) if isinstance(said, dict) else None for key in ("images", "annotations", "categories")]
    if not all(isinstance(one, list) and all(isinstance(row, dict) for row in one) for one in lists):
        raise InputError(
            f"`{place.name}` is no COCO JSON of annotated pictures.",
            received=", ".join(said)[:80] if isinstance(said, dict) else type(said).__name__,
            expected=_LAYOUT,
        )
    listed, annotations, categories = (one or [] for one in lists)
    _check_rows(place.name, "images", listed, {"id": int, "file_name": str, "width": int, "height": int})
    _check_rows(place.name, "categories", categories, {"id": int, "name": str})
    rows_of: dict[object, Rows] = {image["id"]: [] for image in listed}
    for row in annotations:
        if type(row.get("image_id")) is not int or row["image_id"] not in rows_of:
            raise InputError(
                f"An annotation of `{place.name}` belongs to no picture.",
                received=f"image_id {row.get('image_id')!r}",
                expected="an id of `images`",
            )
        rows_of[row["image_id"]].append(row)
    folder = place.parent if images is None else Path(images)
    pictures = [
        _Picture(
            folder / image["file_name"],
            (image["width"], image["height"]),
            rows_of[image["id"]],
            f"`{image['file_name']}` in `{place.name}`",
        )
        for image in listed
    ]
    _check_pictures(pictures, place.name, folder)
    return _File(place.name, pictures, sorted(categories, key=_id))


def _id(row: Mapping[str, Any]) -> int:
    number: int = row["id"]
    return number


def _without_outline(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("segmentation", None)
    return row


def _check_rows(name: str, key: str, rows: Rows, needed: Mapping[str, type]) -> None:
    for row in rows:
        wrong = [one for one, kind in needed.items() if type(row.get(one)) is not kind]
        if wrong:
            raise InputError(
                f"An entry of `{key}` in `{name}` is incomplete.",
                received=f"{wrong[0]}: {row.get(wrong[0])!r}",
                expected=", ".join(f"`{one}` ({kind.__name__})" for one, kind in needed.items()),
            )
    if len({row["id"] for row in rows}) != len(rows):
        raise InputError(f"Two entries of `{key}` in `{name}` have the same id.", expected="one id an entry")


def _check_pictures(pictures: list[_Picture], name: str, folder: Path) -> None:
    """Look at each picture: it is there, and of the size that the annotations were made for."""
    missing = [picture.source.name for picture in pictures if not picture.source.is_file()]
    if missing:
        raise InputFileError(
            f"`{name}` names {len(missing)} of {len(pictures)} pictures that are not there.",
            received=f"`{folder}` without {', '.join(missing[:5])}",
            expected="the folder of its pictures",
            next_step="Name the folder: `--images DIR` (`images=`).",
        )
    for picture in pictures:
        size = picture_size(picture.source)
        if size != picture.size:
            raise InputError(
                f"The picture {picture.where} is not of the size that was annotated.",
                received=f"{size[0]} x {size[1]} pixels",
                expected=f"{picture.size[0]} x {picture.size[1]}",
                next_step="Use the pictures as they were annotated: coordinates count their pixels.",
            )


def _boxes(rows: Rows, picture: _Picture) -> NDArray[np.float64]:
    boxes = _numbers(rows, "bbox", 4, picture)
    boxes[:, 2:] += boxes[:, :2]
    check_boxes(boxes, picture.size, picture.where)
    return boxes


def _numbers(rows: Rows, key: str, count: int, picture: _Picture) -> NDArray[np.float64]:
    """Return (rows, count) float64: the same list of every annotation."""
    try:
        numbers = np.array([row[key] for row in rows], dtype=np.float64).reshape(len(rows), count)
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(key, f"{count} numbers", picture) from error
    if not np.isfinite(numbers).all():
        raise _wrong(key, f"{count} numbers", picture)
    return numbers


def _areas(rows: Rows, boxes: NDArray[np.float64], picture: _Picture) -> NDArray[np.float64]:
    """Return what each body takes; where the file does not say it, its box is the next best."""
    sides = boxes[:, 2:] - boxes[:, :2]
    said = [row.get("area", float(sides[index].prod())) for index, row in enumerate(rows)]
    try:
        area = np.array(said, dtype=np.float64).reshape(len(rows))
    except (TypeError, ValueError) as error:
        raise _wrong("area", "a number", picture) from error
    if not (area >= 0).all():
        raise _wrong("area", "a number, 0 or more", picture)
    return area


def _wrong(key: str, expected: str, picture: _Picture) -> InputError:
    return InputError(f"An annotation of {picture.where} has no right `{key}`.", expected=f"`{key}`: {expected}")


def _crowd(rows: Rows) -> NDArray[np.bool_]:
    return np.array([bool(row.get("iscrowd", 0)) for row in rows], dtype=np.bool_)
