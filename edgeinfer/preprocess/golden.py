"""Known pictures and tensors: does this machine preprocess as the others do?

The expected values in `golden.json` come from TensorFlow (`tf.image.resize`, `tf.io.decode_jpeg` and TFLite's
QUANTIZE kernel); `benchmarks/make_golden.py` made them, and the file says with which versions.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.frozen import dataclass
from edgeinfer.model.metadata import InputSpec, Normalization, Resize
from edgeinfer.preprocess.image import Image, read_image
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.quantization import quantize

_FILE = Path(__file__).with_name("golden.json")
_PICTURE_SIZE = (13, 9)


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """How far this machine is from a golden vector.

    Attributes:
        name: Of the vector.
        difference: Largest absolute difference, in units of the tensor (grey levels for pixels).
        allowed: The largest that is no fault.
        reason: Why that much is allowed.
    """

    name: str
    difference: float
    allowed: float
    reason: str

    @property
    def ok(self) -> bool:
        """True where the difference is allowed."""
        return self.difference <= self.allowed


def golden_picture() -> Image:
    """Return the picture of the vectors: (9, 13, 3) uint8, rough, so that the filters differ.

    Channel c of pixel (x, y) is `(37 x + 61 y + 85 c + 7 x y) mod 256`.
    """
    width, height = _PICTURE_SIZE
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    picture: Image = ((37 * x + 61 * y + 85 * channel + 7 * x * y) % 256).astype(np.uint8)
    return picture


def check_golden() -> tuple[GoldenResult, ...]:
    """Compare this machine with the golden vectors: decoding, each filter and mode, tensors, quantization."""
    golden = _load()
    results = [_decode(case) for case in golden["decode"]]
    results += [_tensor(case) for case in golden["tensors"]]
    results += [_quantize(case) for case in golden["quantization"]]
    return tuple(results)


@functools.cache
def _load() -> Mapping[str, Any]:
    golden: Mapping[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return golden


def _decode(case: Mapping[str, Any]) -> GoldenResult:
    return _compare(case, read_image(base64.b64decode(case["file"])))


def _tensor(case: Mapping[str, Any]) -> GoldenResult:
    spec = InputSpec(
        name=case["name"],
        shape=tuple(case["shape"]),
        dtype=case["dtype"],
        scale=case["scale"],
        zero_point=case["zero_point"],
        normalization=None if case["normalization"] is None else Normalization(*case["normalization"]),
        resize=Resize(case["mode"], case["filter"], case["pad"]),
    )
    tensor = np.empty(spec.shape, dtype=spec.dtype)
    Preprocessor(spec)(golden_picture(), tensor)
    return _compare(case, tensor)


def _quantize(case: Mapping[str, Any]) -> GoldenResult:
    values = np.array(case["values"], dtype=np.float32)
    return _compare(case, quantize(values, scale=case["scale"], zero_point=case["zero_point"], dtype=case["dtype"]))


def _compare(case: Mapping[str, Any], actual: NDArray[Any]) -> GoldenResult:
    expected = np.array(case["expected"], dtype=np.float64)
    if expected.size == actual.size:
        difference = float(np.abs(actual.ravel() - expected).max())
    else:
        difference = float("inf")
    return GoldenResult(case["name"], difference, case["allowed"], case["reason"])
