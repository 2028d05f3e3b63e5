"""YOLO-format folders: `images/**`, `labels/**` with a text file a picture, and a yaml that names the classes.

Source: docs.ultralytics.com, "Object detection datasets overview", "Ultralytics YOLO format": a row is a class and
the box's centre, width and height as shares of the picture.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinfer.annotations.data_yaml import DataYaml, read_data_yaml
from edgeinfer.annotations.pictures import picture_size, pictures_below
from edgeinfer.annotations.truth import Boxes, DetectionData, check_boxes
from edgeinfer.errors import InputError, InputFileError
from edgeinfer.files import read_bytes

_LOG = logging.getLogger(__name__)
_LAYOUT = "a folder with `images/`, `labels/` and a yaml with `names:`, or a folder in its `images/`"
_ROW = "`class centre-x centre-y width height`, the last four as shares of the picture, 0..1"


def yolo_root(folder: Path) -> Path | None:
    """Return the folder that holds `images/` and `labels/`: this one, or the one whose `images/` this lies in; or None.

    Example:
        >>> yolo_root(Path("/nowhere/images/val")) is None
        True
    """
    place = folder.absolute()
    above = [one.parent for one in (place, *place.parents) if one.name == "images"]
    for root in (place, *above):
        if (root / "images").is_dir() and (root / "labels").is_dir():
            return root
    return None


def open_yolo(path: str | Path) -> DetectionData:
    """Open a YOLO-format folder.

    Args:
        path: The folder that holds `images/`, `labels/` and the yaml: all its pictures; or a folder in its `images/`:
            those below it, e.g. `coco/images/val2017`.

    Returns:
        Its pictures sorted by path; a picture without a label file has no boxes. Labels without a picture are logged.

    Raises:
        InputFileError: The folder, pictures or labels are not there.
        InputError: No yaml names the classes, or a class has no name; a row is none; a box lies outside; or the yaml
            tells a part for training from one for validation, both are there, and `path` does not say which.
    """
    place = Path(path).absolute()
    if not place.is_dir():
        raise InputFileError("There is no such folder.", received=f"`{path}`", expected=_LAYOUT)
    root = yolo_root(place)
    if root is None:
        raise InputError("This folder is not in YOLO format.", received=f"`{path}`", expected=_LAYOUT)
    said = _read_yaml(root)
    if place == root:
        _check_one_part(root, said)
    chosen = root / "images" if place == root else place
    labels = root / "labels" / chosen.relative_to(root / "images")
    texts = {picture: labels / picture.relative_to(chosen).with_suffix(".txt") for picture in pictures_below(chosen)}
    if not any(text.is_file() for text in texts.values()):
        raise InputFileError(
            f"No picture of `{root.name}` has labels." if texts else f"`{root.name}` holds no pictures.",
            received=f"{len(texts)} pictures in `{chosen}`",
            expected=f"labels of the same names in `{labels}`",
        )
    # Annotation tools leave a list of the classes beside the labels.
    strangers = sorted({text for text in labels.rglob("*.txt") if text.name != "classes.txt"} - set(texts.values()))
    if strangers:
        _LOG.warning("%d label files of `%s` have no picture, e.g. `%s`", len(strangers), root.name, strangers[0].name)
    truth = [_read_boxes(text, picture, len(said.names)) for picture, text in texts.items()]
    return DetectionData(root.name, list(texts), truth, said.names)


def _read_yaml(root: Path) -> DataYaml:
    found = {}
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        said = read_data_yaml(path)
        if said.names:
            found[path.name] = said
    if len({said.names for said in found.values()}) != 1:
        raise InputError(
            f"The yaml files of `{root.name}` disagree about the classes."
            if found
            else f"No yaml in `{root.name}` names its classes.",
            received=", ".join(found) or "no `names:`",
            expected="one yaml with `names:`, a list or a mapping from number to name",
        )
    return next(iter(found.values()))


def _check_one_part(root: Path, said: DataYaml) -> None:
    """Refuse to mix what was trained on with what was kept back."""
    parts = [root / said.path / one for one in (said.train, said.val) if one]
    if len(parts) == 2 and parts[0].resolve() != parts[1].resolve() and all(part.is_dir() for part in parts):
        raise InputError(
            f"`{root.name}` has pictures for training and others for validation.",
            received=f"`{root}`",
            expected=f"one of `{parts[0]}` and `{parts[1]}`",
        )


def _read_boxes(text: Path, picture: Path, classes: int) -> Boxes:
    rows = _read_rows(text) if text.exists() else np.zeros((0, 5))
    class_id = rows[:, 0].astype(np.int64)
    if (class_id != rows[:, 0]).any() or class_id.min(initial=0) < 0 or class_id.max(initial=0) >= classes:
        raise InputError(
            f"`{text.name}` has a class without a name.",
            received=", ".join(f"{one:g}" for one in np.unique(rows[:, 0])),
            expected=f"whole numbers, 0 to {classes - 1}",
        )
    size = picture_size(picture)
    half = rows[:, 3:] / 2
    xyxy = np.concatenate([rows[:, 1:3] - half, rows[:, 1:3] + half], axis=1) * (*size, *size)
    check_boxes(xyxy, size, f"`{text.name}`")
    return Boxes(xyxy, class_id, np.zeros(len(rows), dtype=np.bool_))


def _read_rows(text: Path) -> NDArray[np.float64]:
    if not text.stat().st_size:
        return np.zeros((0, 5))
    lines = read_bytes(text).decode("utf-8-sig", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if words and (len(row) != 5 or not np.isfinite(row).all()):
            raise InputError(f"Row {number} of `{text.name}` is no box.", received=line[:80], expected=_ROW)
        if row:
            rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(len(rows), 5)
