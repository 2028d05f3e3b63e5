"""Run a TFLite model on a small device: pixels in, answers out. No TensorFlow.

Names are loaded when they are first used, so that `import edgeinfer` costs little more than `import numpy`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeinfer.bench import Benchmark
    from edgeinfer.dataset import Dataset, open_dataset
    from edgeinfer.errors import (
        DamagedModelError,
        DeviceError,
        EdgeInferError,
        InputError,
        InputFileError,
        MetadataError,
        MissingDependencyError,
        ModelError,
        OutputError,
        UnsupportedOpError,
        WrongTaskError,
    )
    from edgeinfer.evaluate import Evaluation
    from edgeinfer.model.metadata import InputSpec, ModelMetadata, Normalization, OutputSpec, Resize
    from edgeinfer.pipeline import Pipeline, classifier, load
    from edgeinfer.preprocess.geometry import View
    from edgeinfer.preprocess.image import Image, read_image
    from edgeinfer.preprocess.tensor import crop, letterbox, stretch
    from edgeinfer.results import Classification, Classifications
    from edgeinfer.runtime.runtime import Runtime, Tensors

__version__ = "0.1.0"

__all__ = [
    "Benchmark",
    "Classification",
    "Classifications",
    "DamagedModelError",
    "Dataset",
    "DeviceError",
    "EdgeInferError",
    "Evaluation",
    "Image",
    "InputError",
    "InputFileError",
    "InputSpec",
    "MetadataError",
    "MissingDependencyError",
    "ModelError",
    "ModelMetadata",
    "Normalization",
    "OutputError",
    "OutputSpec",
    "Pipeline",
    "Resize",
    "Runtime",
    "Tensors",
    "UnsupportedOpError",
    "View",
    "WrongTaskError",
    "classifier",
    "crop",
    "letterbox",
    "load",
    "open_dataset",
    "read_image",
    "stretch",
]

_HOMES = {
    "edgeinfer.bench": ("Benchmark",),
    "edgeinfer.dataset": (
        "Dataset",
        "open_dataset",
    ),
    "edgeinfer.errors": (
        "DamagedModelError",
        "DeviceError",
        "EdgeInferError",
        "InputError",
        "InputFileError",
        "MetadataError",
        "MissingDependencyError",
        "ModelError",
        "OutputError",
        "UnsupportedOpError",
        "WrongTaskError",
    ),
    "edgeinfer.evaluate": ("Evaluation",),
    "edgeinfer.model.metadata": (
        "InputSpec",
        "ModelMetadata",
        "Normalization",
        "OutputSpec",
        "Resize",
    ),
    "edgeinfer.pipeline": (
        "Pipeline",
        "classifier",
        "load",
    ),
    "edgeinfer.preprocess.geometry": ("View",),
    "edgeinfer.preprocess.image": (
        "Image",
        "read_image",
    ),
    "edgeinfer.preprocess.tensor": (
        "crop",
        "letterbox",
        "stretch",
    ),
    "edgeinfer.results": (
        "Classification",
        "Classifications",
    ),
    "edgeinfer.runtime.runtime": (
        "Runtime",
        "Tensors",
    ),
}


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it."""
    for module, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module `edgeinfer` has no attribute `{name}`")


def __dir__() -> list[str]:
    """List the public names too before they are loaded."""
    return sorted({*globals(), *__all__})
