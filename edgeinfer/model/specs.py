"""The contract that travels in the model file, as frozen dataclasses.

It is what a device must know to feed the model and to read its answer. `edgeinfer.model.metadata` reads it,
`converters.metadata` writes it; both export these names.

Source: TFLite Metadata, `metadata_schema.fbs` 1.5 in tensorflow/tflite-support.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

from edgeinfer.errors import MetadataError
from edgeinfer.frozen import dataclass, field
from edgeinfer.model.choice import one_of

if TYPE_CHECKING:
    from edgeinfer.model.heads import DetectionHead

Colour = Literal["rgb", "grayscale"]
ResizeMode = Literal["stretch", "letterbox", "crop"]
Filter = Literal["nearest", "bilinear", "bilinear-antialias", "bicubic-antialias", "lanczos-antialias"]
Task = Literal["classification", "detection", "segmentation", "pose", "embedding", "tensors"]
# What an output is to its task. Boxes, scores, classes and count are the four of a finished detection; sizes and
# offsets belong to a heat map; a row is one of (1, classes), an embedding, or a regression: the task says which.
Role = Literal[
    "", "boxes", "scores", "classes", "count", "predictions", "heatmap", "sizes", "offsets", "classmap", "keypoints"
]
Activation = Literal["softmax", "sigmoid", "none"]

SCHEMA = 1
JSON_NAME = "edgeinfer.json"
LABELS_NAME = "labels.txt"


@dataclass(frozen=True, slots=True)
class Normalization:
    """How a pixel becomes the number that the model was trained on: `(pixel - mean) / std`.

    Attributes:
        mean: In pixel units, 0..255.
        std: In pixel units, above 0.

    Example:
        >>> Normalization(127.5, 127.5).range
        (-1.0, 1.0)
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise MetadataError(
                "A normalization needs a finite mean and a std above 0.",
                received=f"mean={self.mean}, std={self.std}",
                expected="pixel units, e.g. (127.5, 127.5) for [-1, 1], (0, 255) for [0, 1], (0, 1) for [0, 255]",
            )

    @property
    def range(self) -> tuple[float, float]:
        """The values that pixels 0 and 255 become."""
        return (0.0 - self.mean) / self.std, (255.0 - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Resize:
    """How a picture of any size becomes the model's size.

    Attributes:
        mode: "stretch" changes the aspect ratio; "letterbox" keeps it and pads; "crop" keeps it and cuts the long side.
        filter: "nearest" and "bilinear" take the nearest one or four pixels (what Keras' Resizing, `tf.image.resize`
            and OpenCV's INTER_LINEAR do); the "-antialias" ones widen with the reduction (what Pillow does).
        pad: Grey level of the letterbox's bars, 0..255.
    """

    mode: ResizeMode = "stretch"
    filter: Filter = "bilinear"
    pad: int = 0

    def __post_init__(self) -> None:
        one_of("resize", self.mode, get_args(ResizeMode))
        one_of("filter", self.filter, get_args(Filter))
        if not 0 <= self.pad <= 255:
            raise MetadataError("`pad` is a grey level.", received=str(self.pad), expected="0..255")


@dataclass(frozen=True, slots=True)
class Rescaling:
    """A rescaling layer that was taken off the front of the model: `tensor value = own input * scale + offset`.

    The model was trained behind it, so floats that a caller hands over ("the model's own input") still pass it; pixels
    do not, because the file's normalization already holds it.
    """

    scale: float
    offset: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.offset) and self.scale != 0):
            raise MetadataError(
                "A folded rescaling needs a finite scale other than 0 and a finite offset.",
                received=f"scale={self.scale}, offset={self.offset}",
            )


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of the model file.

    Attributes:
        name: As the file says it.
        shape: With the batch, e.g. (1, 224, 224, 3).
        dtype: NumPy's name: "int8", "uint8", "int16", "float32", ...
        scale: Quantization, `real = scale * (stored - zero_point)`; 0.0 where the tensor is not quantized.
        zero_point: As above.
        colour: What the channels of a picture mean; None where the input is no picture.
        normalization: From pixels to real values; None where the file does not say.
        resize: From any picture to `size`.
        rescaling: A layer folded away, or None.
        picture_problem: Why the file's own normalization cannot be applied to pixels, e.g. one pair per channel;
            empty where it can. Whoever feeds pixels without a `normalization` of their own must raise it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0
    colour: Colour | None = None
    normalization: Normalization | None = None
    resize: Resize = field(default_factory=Resize)
    rescaling: Rescaling | None = None
    picture_problem: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """The picture's (width, height).

        Raises:
            MetadataError: This input is no picture.
        """
        if not self.is_image:
            raise MetadataError(
                f"Input `{self.name}` is not a picture.",
                received=f"shape {self.shape}",
                expected="(1, height, width, 1 or 3)",
                next_step="Hand over floats of this shape instead of a picture.",
            )
        return self.shape[2], self.shape[1]

    @property
    def is_image(self) -> bool:
        """True for (1, height, width, 1 or 3)."""
        return len(self.shape) == 4 and self.shape[0] == 1 and self.shape[3] in (1, 3)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One output of the model file.

    Attributes:
        name: As the file says it.
        shape: With the batch.
        dtype: NumPy's name.
        scale: Quantization, as in `InputSpec`.
        zero_point: As above.
        labels: Names of the classes, index by index; empty where the file has none.
        activation: What the last op leaves: "softmax" and "sigmoid" are probabilities, "none" anything else.
        role: What it is to the task, where that is known; "" where nothing says so.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0
    labels: tuple[str, ...] = ()
    activation: Activation = "none"
    role: Role = ""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """All that a model file says of itself.

    Attributes:
        task: What the model does; "tensors" where the file does not say it and its outputs do not show it.
        inputs: In the order of the file.
        outputs: In the order of the file.
        name: A person's name for the model.
        description: A sentence.
        version: The author's.
        author: Whoever made it.
        license: The licence's name or text.
        made: How the file was made, as `edgeinfer.json` says it: recipe, calibration, measured accuracy, versions.
        head: How a detection's outputs become boxes, where the file says it.
        open_batch: Whether several samples go in at once: the first axis of all inputs and outputs is open.
    """

    task: Task
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    made: Mapping[str, object] = field(default_factory=dict)
    head: DetectionHead | None = None
    open_batch: bool = False

    def __post_init__(self) -> None:
        one_of("task", self.task, get_args(Task))
