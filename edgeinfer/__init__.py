"""Run a TFLite model on a small device: pixels in, answers out. No TensorFlow.

Names are loaded when they are first used, so that `import edgeinfer` costs little more than `import numpy`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeinfer.annotations.formats import open_data
    from edgeinfer.annotations.truth import DetectionData, PoseData, SegmentationData
    from edgeinfer.bench import Benchmark
    from edgeinfer.dataset import Dataset, open_dataset
    from edgeinfer.drawing import draw
    from edgeinfer.embeddings.imprint import ImprintedClassifier
    from edgeinfer.embeddings.retrieval import Index
    from edgeinfer.errors import (
        DamagedModelError,
        DeviceError,
        DownloadError,
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
    from edgeinfer.evaluation.detection import DetectionEvaluation
    from edgeinfer.evaluation.pose import PoseEvaluation
    from edgeinfer.evaluation.segmentation import SegmentationEvaluation
    from edgeinfer.health import Health
    from edgeinfer.live.live import Live
    from edgeinfer.live.shown import Shown, Status
    from edgeinfer.model.heads import AnchorGrid, DetectionHead
    from edgeinfer.model.labels import read_labels
    from edgeinfer.model.metadata import InputSpec, ModelMetadata, Normalization, OutputSpec, Resize
    from edgeinfer.outputs.lines import Lines
    from edgeinfer.outputs.mqtt import Mqtt
    from edgeinfer.outputs.recording import Recording
    from edgeinfer.outputs.window import Window, show
    from edgeinfer.pipeline import Pipeline
    from edgeinfer.postprocess.detect import DetectionOptions
    from edgeinfer.postprocess.values import depth_map, picture, values
    from edgeinfer.preprocess.encode import write_image
    from edgeinfer.preprocess.geometry import View
    from edgeinfer.preprocess.image import Image, read_image
    from edgeinfer.preprocess.tensor import crop, letterbox, stretch
    from edgeinfer.preview.page import Page
    from edgeinfer.results import Classification, Classifications, Detection, Detections, Embedding, Keypoints, Mask
    from edgeinfer.runtime.edgetpu.guard import Faults
    from edgeinfer.runtime.edgetpu.segments import Segments
    from edgeinfer.runtime.edgetpu.settings import EdgeTpuOptions
    from edgeinfer.runtime.runtime import Runtime, Tensors
    from edgeinfer.sources.camera import Camera
    from edgeinfer.sources.frame import Frame, FrameSource
    from edgeinfer.tasks import classifier, detector, embedder, load, poser, segmenter
    from edgeinfer.tiling import Merge, Tiles, tiled

__version__ = "0.1.0"

__all__ = [
    "AnchorGrid",
    "Benchmark",
    "Camera",
    "Classification",
    "Classifications",
    "DamagedModelError",
    "Dataset",
    "Detection",
    "DetectionData",
    "DetectionEvaluation",
    "DetectionHead",
    "DetectionOptions",
    "Detections",
    "DeviceError",
    "DownloadError",
    "EdgeInferError",
    "EdgeTpuOptions",
    "Embedding",
    "Evaluation",
    "Faults",
    "Frame",
    "FrameSource",
    "Health",
    "Image",
    "ImprintedClassifier",
    "Index",
    "InputError",
    "InputFileError",
    "InputSpec",
    "Keypoints",
    "Lines",
    "Live",
    "Mask",
    "Merge",
    "MetadataError",
    "MissingDependencyError",
    "ModelError",
    "ModelMetadata",
    "Mqtt",
    "Normalization",
    "OutputError",
    "OutputSpec",
    "Page",
    "Pipeline",
    "PoseData",
    "PoseEvaluation",
    "Recording",
    "Resize",
    "Runtime",
    "SegmentationData",
    "SegmentationEvaluation",
    "Segments",
    "Shown",
    "Status",
    "Tensors",
    "Tiles",
    "UnsupportedOpError",
    "View",
    "Window",
    "WrongTaskError",
    "classifier",
    "crop",
    "depth_map",
    "detector",
    "draw",
    "embedder",
    "letterbox",
    "load",
    "open_data",
    "open_dataset",
    "picture",
    "poser",
    "read_image",
    "read_labels",
    "segmenter",
    "show",
    "stretch",
    "tiled",
    "values",
    "write_image",
]

_HOMES = {
    "edgeinfer.annotations.formats": ("open_data",),
    "edgeinfer.annotations.truth": (
        "DetectionData",
        "PoseData",
        "SegmentationData",
    ),
    "edgeinfer.bench": ("Benchmark",),
    "edgeinfer.dataset": (
        "Dataset",
        "open_dataset",
    ),
    "edgeinfer.drawing": ("draw",),
    "edgeinfer.embeddings.imprint": ("ImprintedClassifier",),
    "edgeinfer.embeddings.retrieval": ("Index",),
    "edgeinfer.errors": (
        "DamagedModelError",
        "DeviceError",
        "DownloadError",
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
    "edgeinfer.evaluation.detection": ("DetectionEvaluation",),
    "edgeinfer.evaluation.pose": ("PoseEvaluation",),
    "edgeinfer.evaluation.segmentation": ("SegmentationEvaluation",),
    "edgeinfer.health": ("Health",),
    "edgeinfer.live.live": ("Live",),
    "edgeinfer.live.shown": (
        "Shown",
        "Status",
    ),
    "edgeinfer.model.heads": (
        "AnchorGrid",
        "DetectionHead",
    ),
    "edgeinfer.model.labels": ("read_labels",),
    "edgeinfer.model.metadata": (
        "InputSpec",
        "ModelMetadata",
        "Normalization",
        "OutputSpec",
        "Resize",
    ),
    "edgeinfer.outputs.lines": ("Lines",),
    "edgeinfer.outputs.mqtt": ("Mqtt",),
    "edgeinfer.outputs.recording": ("Recording",),
    "edgeinfer.outputs.window": (
        "Window",
        "show",
    ),
    "edgeinfer.pipeline": ("Pipeline",),
    "edgeinfer.postprocess.detect": ("DetectionOptions",),
    "edgeinfer.postprocess.values": (
        "depth_map",
        "picture",
        "values",
    ),
    "edgeinfer.preprocess.encode": ("write_image",),
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
    "edgeinfer.preview.page": ("Page",),
    "edgeinfer.results": (
        "Classification",
        "Classifications",
        "Detection",
        "Detections",
        "Embedding",
        "Keypoints",
        "Mask",
    ),
    "edgeinfer.runtime.edgetpu.guard": ("Faults",),
    "edgeinfer.runtime.edgetpu.segments": ("Segments",),
    "edgeinfer.runtime.edgetpu.settings": ("EdgeTpuOptions",),
    "edgeinfer.runtime.runtime": (
        "Runtime",
        "Tensors",
    ),
    "edgeinfer.sources.camera": ("Camera",),
    "edgeinfer.sources.frame": (
        "Frame",
        "FrameSource",
    ),
    "edgeinfer.tasks": (
        "classifier",
        "detector",
        "embedder",
        "load",
        "poser",
        "segmenter",
    ),
    "edgeinfer.tiling": (
        "Merge",
        "Tiles",
        "tiled",
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
