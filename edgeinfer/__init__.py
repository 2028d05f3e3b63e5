"""Run a TFLite model on a small device: pixels in, answers out. No TensorFlow."""

from edgeinfer.bench import Benchmark, bench
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
from edgeinfer.evaluate import Evaluation, evaluate
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
    "bench",
    "classifier",
    "crop",
    "evaluate",
    "letterbox",
    "load",
    "open_dataset",
    "read_image",
    "stretch",
]
