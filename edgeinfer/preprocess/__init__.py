"""Pixels into the model's input tensor, the same on every machine."""

from __future__ import annotations

from edgeinfer.preprocess.geometry import View
from edgeinfer.preprocess.golden import GoldenResult, check_golden
from edgeinfer.preprocess.image import Image, read_image
from edgeinfer.preprocess.tensor import Preprocessor, crop, letterbox, prepare, stretch

__all__ = [
    "GoldenResult",
    "Image",
    "Preprocessor",
    "View",
    "check_golden",
    "crop",
    "letterbox",
    "prepare",
    "read_image",
    "stretch",
]
