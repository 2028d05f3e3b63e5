"""`draw`: what a model found, as pixels in the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeinfer.drawing.overlay import classes_seen, overlay
from edgeinfer.drawing.palette import Colour, class_colour
from edgeinfer.drawing.shapes import frame, line_width, lines, paste, points
from edgeinfer.drawing.text import strip, strip_height
from edgeinfer.errors import InputError
from edgeinfer.preprocess.geometry import Box
from edgeinfer.preprocess.image import Image, Source, read_image
from edgeinfer.results import Classifications, Detections, Embedding, Keypoints, Mask, name_of

_DARK: Colour = (32, 32, 32)
# Left, right and middle of a body: the sky blue, orange and yellow of Okabe and Ito.
_LEFT, _RIGHT, _MIDDLE = class_colour(1), class_colour(0), class_colour(3)
# Pairs of points that a line joins, by name: a model with other points gets the lines whose ends it has.
# Source: the skeleton of the COCO key point task (cocodataset.org, person_keypoints annotations).
_LEAST = 0.005
_LIMBS = (
    ("left ankle", "left knee"),
    ("left knee", "left hip"),
    ("right ankle", "right knee"),
    ("right knee", "right hip"),
    ("left hip", "right hip"),
    ("left shoulder", "left hip"),
    ("right shoulder", "right hip"),
    ("left shoulder", "right shoulder"),
    ("left shoulder", "left elbow"),
    ("right shoulder", "right elbow"),
    ("left elbow", "left wrist"),
    ("right elbow", "right wrist"),
    ("left eye", "right eye"),
    ("nose", "left eye"),
    ("nose", "right eye"),
    ("left eye", "left ear"),
    ("right eye", "right ear"),
    ("left ear", "left shoulder"),
    ("right ear", "right shoulder"),
)


def draw(
    image: Source,
    result: Classifications | Detections | Mask | Keypoints | Embedding,
    *,
    point_confidence: float = 0.2,
    copy: bool = True,
) -> Image:
    """Return the picture with the result drawn into it.

    * Classifications: the classes with their confidence, a line each, at the top left.
    * Detections: a box each with class and confidence, one colour a class.
    * Mask: each class as a half-transparent colour, with a legend at the top left; the background stays as it is.
    * Keypoints: the points and, where they have the names of COCO's, the limbs between them; left, right and middle in
      three colours.

    Lines and letters grow with the picture's shorter side (3 and 18 pixels in 1280x720). Where a picture is too small
    for a line of text (less than twice its height) there is none.

    Args:
        image: The picture that the result belongs to: a path, the bytes of a file, or an array, as `read_image` takes.
        result: What a pipeline has answered.
        point_confidence: 0..1; key points below it are not drawn. Of a body that is all in sight (`squat.bmp` of
            Coral's test pictures) MoveNet gives each point 0.29 or more.
        copy: False draws into the array itself, which saves a copy of the frame (0.2 ms for 1280x720, x86); it must
            then be a writeable (height, width, 3) uint8 array.

    Returns:
        (height, width, 3) uint8 RGB; the given array where `copy` is False, else a new one.

    Raises:
        InputError: No picture; a result that has no place in a picture (`Embedding`) or is none; a mask of another
            size than the picture; `copy=False` and an array that cannot be drawn into.

    Example:
        >>> black = np.zeros((4, 4, 3), np.uint8)
        >>> mask = Mask(np.array([[0, 0, 0, 4]] * 4, np.uint8))
        >>> draw(black, mask)[0, 2:].tolist()
        [[0, 0, 0], [0, 57, 89]]
    """
    picture = _canvas(image, copy=copy)
    if isinstance(result, Detections):
        _draw_detections(picture, result)
    elif isinstance(result, Mask):
        _draw_mask(picture, result)
    elif isinstance(result, Keypoints):
        _draw_keypoints(picture, result, point_confidence)
    elif isinstance(result, Classifications):
        # What would be drawn as 0 % says nothing, but an answer has one class at least.
        shown = [one for place, one in enumerate(result) if place == 0 or one.confidence >= _LEAST]
        _draw_lines(picture, [(f"{one.label} {_percent(one.confidence)}", _DARK) for one in shown])
    else:
        raise _not_drawn(result)
    return picture


def _canvas(image: Source, *, copy: bool) -> Image:
    picture = read_image(image)
    if copy:
        # What was decoded belongs to nobody else.
        return picture if isinstance(image, (str, Path, bytes, bytearray, memoryview)) else picture.copy()
    if picture is not image or not picture.flags.writeable:
        raise InputError(
            "This picture cannot be drawn into.",
            received="a read-only array" if picture is image else "a picture that has to be read or converted first",
            expected="a writeable (height, width, 3) uint8 array, or `copy=True`",
        )
    return picture


def _not_drawn(result: object) -> InputError:
    if isinstance(result, Embedding):
        return InputError(
            "An embedding has no place in a picture.",
            received=f"an embedding of {result.vector.size} numbers",
            expected="classes, boxes, a mask or key points",
            next_step="Draw what was found with it, e.g. the classes of the nearest pictures as `Classifications`.",
        )
    return InputError(
        "This result cannot be drawn.",
        received=f"an object of type `{type(result).__name__}`",
        expected="`Classifications`, `Detections`, `Mask` or `Keypoints`",
    )


def _draw_detections(image: Image, found: Detections) -> None:
    height, width = image.shape[:2]
    line, size = line_width(image), _text_size(image)
    # Clipped before they become integers: a caller's boxes may lie anywhere, and NaN is no place.
    boxes = np.clip(found.xyxy, 0, (width, height, width, height))
    drawable = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes[:, :2] = np.floor(boxes[:, :2])
    boxes[:, 2:] = np.ceil(boxes[:, 2:])
    # The least sure first, so that the surest box lies on top of the others.
    rows = np.flatnonzero(drawable)[::-1].tolist()
    corners = [tuple(box) for box in boxes[rows].astype(np.int64).tolist()]
    classes, confidences = found.class_id[rows].tolist(), found.confidence[rows].tolist()
    for box, class_id in zip(corners, classes, strict=True):
        frame(image, box, line, class_colour(class_id))
    if not _has_room(image, size):
        return
    for box, class_id, confidence in zip(corners, classes, confidences, strict=True):
        colour = class_colour(class_id)
        parts = [strip(name_of(found.labels, class_id), size, colour)]
        # Small objects stand in groups, which tags would hide: narrower than its name a box gets no figure.
        if parts[0].shape[1] <= box[2] - box[0]:
            parts.append(strip(_percent(confidence), size, colour))
        _tag(image, box, parts)


def _tag(image: Image, box: Box, parts: Sequence[Image]) -> None:
    """Put strips side by side on top of a box, or inside where there is no room above; never outside the picture."""
    tag_width, tag_height = sum(part.shape[1] for part in parts), parts[0].shape[0]
    left = max(0, min(box[0], image.shape[1] - tag_width))
    top = box[1] - tag_height if box[1] >= tag_height else min(box[1], image.shape[0] - tag_height)
    for part in parts:
        paste(image, part, left, top)
        left += part.shape[1]


def _draw_mask(image: Image, mask: Mask) -> None:
    if mask.class_id.shape != image.shape[:2]:
        height, width = mask.class_id.shape
        raise InputError(
            "The mask is not of this picture.",
            received=f"a mask of {width} x {height} and a picture of {image.shape[1]} x {image.shape[0]}",
            expected="the same size",
        )
    overlay(image, mask)
    _draw_lines(image, [(name_of(mask.labels, one), class_colour(one)) for one in classes_seen(mask)])


def _draw_keypoints(image: Image, found: Keypoints, least: float) -> None:
    names = [" ".join(name.casefold().replace("_", " ").split()) for name in found.names]
    sides = [_LEFT if name.startswith("left") else _RIGHT if name.startswith("right") else _MIDDLE for name in names]
    colours = sides or [_MIDDLE] * found.xy.shape[1]
    limbs = [(names.index(a), names.index(b)) for a, b in _LIMBS if a in names and b in names]
    width = line_width(image)
    for xy, confidence in zip(found.xy.astype(np.float64), found.confidence, strict=True):
        seen = (confidence >= least) & np.isfinite(xy).all(axis=1)
        for colour in (_MIDDLE, _RIGHT, _LEFT):
            ends = [(a, b) for a, b in limbs if seen[a] and seen[b] and _limb_colour(colours, a, b) == colour]
            lines(image, xy[[a for a, _ in ends]], xy[[b for _, b in ends]], width + 1, colour)
        for colour in (_MIDDLE, _RIGHT, _LEFT):
            chosen = [index for index, own in enumerate(colours) if own == colour and seen[index]]
            points(image, xy[chosen], width + 1, colour)


def _limb_colour(colours: Sequence[Colour], one: int, other: int) -> Colour:
    return colours[one] if colours[one] == colours[other] else _MIDDLE


def _draw_lines(image: Image, lines: Sequence[tuple[str, Colour]]) -> None:
    """Write lines of text from the top left, within half of the height; the last says how many are missing."""
    size = _text_size(image)
    if not lines or not _has_room(image, size):
        return
    step = strip_height(size)
    room = max(1, image.shape[0] // 2 // step)
    shown = list(lines) if len(lines) <= room else [*lines[: room - 1], (f"+ {len(lines) - room + 1} more", _DARK)]
    strips = [strip(text, size, colour) for text, colour in shown]
    width = max(one.shape[1] for one in strips)
    for row, (one, (_, colour)) in enumerate(zip(strips, shown, strict=True)):
        image[row * step : (row + 1) * step, :width] = colour
        paste(image, one, 0, row * step)


def _text_size(image: Image) -> int:
    """Return the height of letters: a 40th of the shorter side, within 12 and 96 pixels."""
    shorter = int(min(image.shape[:2]))
    return min(96, max(12, (shorter + 20) // 40))


def _has_room(image: Image, size: int) -> bool:
    return int(min(image.shape[:2])) >= 2 * strip_height(size)


def _percent(confidence: float) -> str:
    """Return whole percents; only what is certain reads 100 %."""
    if not math.isfinite(confidence):
        return "? %"
    return f"{min(round(100 * confidence), 100 if confidence >= 1.0 else 99)} %"
