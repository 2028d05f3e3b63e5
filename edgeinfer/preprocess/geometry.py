"""Where a picture lies in the tensor, and the filters that put it there.

All of the placing is integer arithmetic: the same on every machine. Each filter has one meaning, whichever
library is installed:

* "nearest": the pixel under the centre, by integers, in NumPy. OpenCV 4.11, OpenCV 5 and Pillow each break
  ties in their own way (a width of 2 to 7 has one), so none of them is asked.
* "bilinear": the four pixels around the centre. OpenCV's INTER_LINEAR; without it Pillow's affine transform,
  which rounds down and so differs by at most 1 grey level; by 2 from OpenCV 5's wheel for arm64, whose kernels are
  Arm's own (0.7 % of the values are more than 1 from the exact mean, none more than 1.6; x86-64: none).
* "bilinear-antialias", "bicubic-antialias", "lanczos-antialias": Pillow's, always.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer.errors import InputError
from edgeinfer.frozen import dataclass
from edgeinfer.model.metadata import Filter, Resize
from edgeinfer.preprocess import libraries
from edgeinfer.preprocess.image import Image

Box: TypeAlias = tuple[int, int, int, int]  # xyxy, pixels, the right and lower end excluded
Size: TypeAlias = tuple[int, int]  # (width, height)


@dataclass(frozen=True, slots=True)
class View:
    """The way from the picture to the tensor: `tensor = image * scale + offset`, per axis.

    Coordinates are continuous: 0 is the left edge of the first pixel, its centre lies at 0.5.

    Attributes:
        image_size: (width, height) of the picture that was given.
        tensor_size: (width, height) of the model's input.
        scale: (x, y), tensor pixels per picture pixel.
        offset: (x, y), tensor pixels.
        region: The part of the picture that was taken, xyxy, pixels; None is the whole.

    Example:
        >>> view = View((200, 100), (100, 100), scale=(0.5, 0.5), offset=(0.0, 25.0))
        >>> view.to_image([[0, 25, 100, 75]])
        array([[  0.,   0., 200., 100.]], dtype=float32)
    """

    image_size: Size
    tensor_size: Size
    scale: tuple[float, float]
    offset: tuple[float, float]
    region: Box | None = None

    def __post_init__(self) -> None:
        if min(*self.image_size, *self.tensor_size) < 1 or min(self.scale) <= 0:
            raise InputError("A view needs sizes of at least 1 and scales above 0.", received=repr(self))
        if not all(math.isfinite(number) for number in (*self.scale, *self.offset)):
            raise InputError("A view needs finite numbers.", received=repr(self))

    def within(self, image_size: Size, region: Box) -> View:
        """Return the same way for a picture that this one was cut out of.

        Args:
            image_size: (width, height) of the larger picture.
            region: Where in it this view's picture lies, xyxy.
        """
        left, top = region[:2]
        offset = (self.offset[0] - left * self.scale[0], self.offset[1] - top * self.scale[1])
        return View(image_size, self.tensor_size, self.scale, offset, region)

    def to_image(self, points: ArrayLike) -> NDArray[np.float32]:
        """Map points or boxes from the tensor back to the picture.

        Args:
            points: (n, 2) xy or (n, 4) xyxy, pixels of the tensor.

        Returns:
            The same shape, float32, pixels of the picture; not clipped to its borders.

        Raises:
            InputError: Another shape.
        """
        tensor_points = np.asarray(points, dtype=np.float64)
        if tensor_points.ndim != 2 or tensor_points.shape[1] not in (2, 4):
            raise InputError(
                "These are neither points nor boxes.",
                received=f"shape {tensor_points.shape}",
                expected="(n, 2) xy or (n, 4) xyxy",
            )
        pairs = tensor_points.reshape(-1, 2)
        return ((pairs - self.offset) / self.scale).reshape(tensor_points.shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Placement:
    """Which part of the picture goes to which part of the tensor.

    Attributes:
        source: What is taken of the picture.
        target: Where it goes in the tensor.
        bars: The rest of the tensor.
        view: The same as a map.
    """

    source: Box
    target: Box
    bars: tuple[Box, ...]
    view: View


def place(resize: Resize, image_size: Size, tensor_size: Size) -> Placement:
    """Say where a picture of one size lies in a tensor of another.

    * "stretch" takes all of both.
    * "letterbox" scales by the smaller of both ratios, rounds the other side half up (at least 1 pixel) and
      centres it; an odd rest goes to the right or below.
    * "crop" cuts the picture to the tensor's aspect ratio, with the same rounding, about its centre.

    Args:
        resize: How.
        image_size: (width, height) of the picture.
        tensor_size: (width, height) of the tensor.

    Example:
        >>> place(Resize("letterbox"), (1280, 720), (224, 224)).target
        (0, 49, 224, 175)
        >>> place(Resize("crop"), (1280, 720), (224, 224)).source
        (280, 0, 1000, 720)
    """
    source = (0, 0, *image_size)
    target = (0, 0, *tensor_size)
    if resize.mode == "letterbox":
        target = _centred(_fit(image_size, tensor_size), tensor_size)
    elif resize.mode == "crop":
        source = _centred(_fit(tensor_size, image_size), image_size)
    scale_x = (target[2] - target[0]) / (source[2] - source[0])
    scale_y = (target[3] - target[1]) / (source[3] - source[1])
    view = View(
        image_size,
        tensor_size,
        scale=(scale_x, scale_y),
        offset=(target[0] - source[0] * scale_x, target[1] - source[1] * scale_y),
    )
    return Placement(source, target, _bars(target, tensor_size), view)


def cut(image: Image, region: Box) -> Image:
    """Return a part of a picture, without copying it.

    Args:
        image: (height, width, 3) uint8.
        region: xyxy, whole pixels, the right and lower end excluded.

    Raises:
        InputError: It does not lie in the picture, or is empty.
    """
    width, height = image.shape[1], image.shape[0]
    try:
        left, top, right, bottom = (operator.index(number) for number in region)
    except (TypeError, ValueError) as error:
        raise _no_region(region, width, height) from error
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise _no_region(region, width, height)
    return image[top:bottom, left:right]


def _no_region(region: object, width: int, height: int) -> InputError:
    return InputError(
        "This region does not lie in the picture.",
        received=repr(region),
        expected=f"(left, top, right, bottom), whole numbers within (0, 0, {width}, {height}), not empty",
    )


def draw(image: Image, placement: Placement, resize: Resize, out: NDArray[np.uint8]) -> None:
    """Write the placed picture and its bars.

    The bars are written each time: TFLite may use an input's memory for other tensors while it runs.

    Args:
        image: (height, width, 3) uint8, of the size that `placement` is for.
        placement: From `place`.
        resize: The same as for `place`.
        out: (height, width, 3) uint8, written in place.
    """
    for left, top, right, bottom in placement.bars:
        out[top:bottom, left:right] = resize.pad
    left, top, right, bottom = placement.source
    source = image[top:bottom, left:right]
    left, top, right, bottom = placement.target
    resize_into(source, out[top:bottom, left:right], resize.filter)


def resize_into(image: Image, out: NDArray[np.uint8], filter: Filter) -> None:  # noqa: A002 - `Resize.filter`
    """Resize a picture to the size of `out` and write it there.

    Args:
        image: (height, width, 3) uint8; any strides.
        out: (height, width, 3) uint8, written in place; may be a part of a larger array.
        filter: Its meaning stands at the top of this file. A picture of the right size is copied.

    Raises:
        InputError: OpenCV or Pillow cannot resize this picture.
    """
    if image.shape == out.shape:
        np.copyto(out, image)
    elif filter == "nearest":
        height, width = image.shape[:2]
        rows = image[_nearest_indices(height, out.shape[0])]
        np.take(rows, _nearest_indices(width, out.shape[1]), axis=1, out=out, mode="clip")
    elif filter == "bilinear" and libraries.opencv() is not None:
        _resize_opencv(image, out)
    else:
        _resize_pillow(image, out, filter)


def _resize_opencv(image: Image, out: NDArray[np.uint8]) -> None:
    cv2 = libraries.require_opencv()
    try:
        result = cv2.resize(image, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_LINEAR)
    except cv2.error as error:
        raise InputError("OpenCV cannot resize this picture.", received=str(error)) from error
    if result is not out:  # OpenCV made an array of its own because this one did not suit it
        np.copyto(out, result)


def _resize_pillow(image: Image, out: NDArray[np.uint8], filter: Filter) -> None:  # noqa: A002
    pillow = libraries.pillow()
    size = (out.shape[1], out.shape[0])
    try:
        picture = pillow.fromarray(image)
        if filter == "bilinear":
            # Unlike `resize`, the transform does not widen its filter with the reduction.
            step = (image.shape[1] / size[0], 0, 0, 0, image.shape[0] / size[1], 0)
            picture = picture.transform(size, pillow.Transform.AFFINE, step, resample=pillow.Resampling.BILINEAR)
        else:
            name = filter.removesuffix("-antialias").upper()
            picture = picture.resize(size, pillow.Resampling[name])
    except (ValueError, MemoryError) as error:
        raise InputError("Pillow cannot resize this picture.", received=str(error)) from error
    np.copyto(out, np.asarray(picture))


@functools.lru_cache(maxsize=16)
def _nearest_indices(length: int, count: int) -> NDArray[np.intp]:
    """Return floor((i + 1/2) * length / count) for i in 0..count-1, without a float.

    Source: `tf.image.resize(method="nearest")`, which takes half-pixel centres; its float32 is inexact at
    ties.
    """
    indices = (2 * np.arange(count, dtype=np.intp) + 1) * length // (2 * count)
    indices.flags.writeable = False
    return indices


def _fit(inner: Size, outer: Size) -> Size:
    """Return the largest size of the aspect ratio of `inner` inside `outer`, rounded half up, at least 1."""
    width, height = inner
    outer_width, outer_height = outer
    if width * outer_height >= outer_width * height:
        return outer_width, max(1, (2 * height * outer_width + width) // (2 * width))
    return max(1, (2 * width * outer_height + height) // (2 * height)), outer_height


def _centred(inner: Size, outer: Size) -> Box:
    left = (outer[0] - inner[0]) // 2
    top = (outer[1] - inner[1]) // 2
    return left, top, left + inner[0], top + inner[1]


def _bars(target: Box, tensor_size: Size) -> tuple[Box, ...]:
    left, top, right, bottom = target
    width, height = tensor_size
    around = (
        (0, 0, width, top),
        (0, bottom, width, height),
        (0, top, left, bottom),
        (right, top, width, bottom),
    )
    return tuple(box for box in around if box[2] > box[0] and box[3] > box[1])
