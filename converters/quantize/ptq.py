"""Quantize a frozen function with TensorFlow's converter. Runs in the child process only.

The function that is converted has batch 1, constants for variables and one name per input and output. Only this route
gives files without SHAPE, PACK and VAR_HANDLE ops: a Keras model with an open batch adds the first two, a function with
live variables the third.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from converters.errors import CalibrationError, ConversionError
from converters.quantize.frozen import Frozen
from converters.quantize.mixed import fallback_layers, quantize_mixed
from converters.quantize.refusal import explain_refusal
from converters.settings import check_fallback
from converters.steps import Ending
from converters.targets import CALIBRATED_SCHEMES, Io, Scheme
from edgeinfer.errors import EdgeInferError

if TYPE_CHECKING:
    from converters.facts import TensorFacts
    from converters.graph.leading import Leading

__all__ = ["ConvertFacts", "ConvertRequest", "calibration_samples", "quantize"]


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """What the child shall make of the model that it has loaded.

    Attributes:
        output: The file to write.
        scheme: "int8" and "int16x8" are full integer and need calibration; "float16" stores weights in half precision,
            "dynamic" in int8; "float32" changes nothing: the reference.
        io: Element type of the tensors at both ends. Only int8 can be other than float32.
        calibration: One `.npy` file per input, in the order of `ModelFacts.inputs`, each (n, *shape without batch).
            uint8 for a float input means pixels; floats are the model's own input, as it was trained; for an integer
            input the values are taken as they are.
        normalization: (mean, std) in pixel units: `(pixel - mean) / std` is what the model gets behind a rescaling that
            was taken off. Needed where a file holds pixels.
        per_tensor_dense: One scale per Dense weight under "dynamic". tflite-runtime 2.14 refuses the other form
            (FULLY_CONNECTED version 12).
        ranges: Of activations: (layer name, low, high), in the units of the model, low <= 0 <= high. The file has
            these ranges to the last bit; tensors without one get theirs from the calibration data, which is needed in
            any case: without it ops stay float. Names are those of `converters.quantize.scales`.
        fallback: Layers that stay float in an int8 file: (pattern, "float32"), see `converters.quantize.mixed`.
        ending: What is put behind the model, see `converters.quantize.ending`; None is nothing.
        top_k: For the ending "top-k".
        substitute_for: Name of a target whose missing layers are replaced, see `converters.graph.substitute`; "" leaves
            the model as it is.
    """

    output: Path
    scheme: Scheme = "int8"
    io: Io = "int8"
    calibration: tuple[Path, ...] = ()
    normalization: tuple[float, float] | None = None
    per_tensor_dense: bool = False
    ranges: tuple[tuple[str, float, float], ...] = ()
    fallback: tuple[tuple[str, str], ...] = ()
    ending: Ending | None = None
    top_k: int = 5
    substitute_for: str = ""

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("scheme", self.scheme, get_args(Scheme)),
            ("io", self.io, get_args(Io)),
        ):
            if value not in allowed:
                raise ConversionError(
                    f"`{what}` has a value that is not known.", received=repr(value), expected=", ".join(allowed)
                )
        if self.scheme != "int8" and self.io != "float32":
            raise ConversionError(
                f'`io="{self.io}"` goes with the scheme "int8" only.',
                received=f'scheme="{self.scheme}", io="{self.io}"',
                expected='io="float32"',
                next_step='Ask for io="float32": the file quantizes at its own ends.',
            )
        if self.scheme in CALIBRATED_SCHEMES and not self.calibration:
            raise CalibrationError(
                f'The scheme "{self.scheme}" needs calibration data.',
                received="none",
                expected="one `.npy` file per input",
            )
        check_fallback(self.fallback)
        if self.ranges and self.scheme != "int8":
            raise ConversionError(
                "Ranges of activations are 8-bit ranges.",
                received=f'scheme="{self.scheme}" with {len(self.ranges)} ranges',
                expected='scheme="int8"',
            )


@dataclass(frozen=True, slots=True)
class ConvertFacts:
    """What came out of a conversion.

    Attributes:
        output: The file that was written.
        size_bytes: Its size.
        samples: How many calibration samples the converter saw; 0 for a scheme without calibration.
        seconds: How long the converter ran, calibration included.
        replaced: What stands in the place of layers that the target lacks, one sentence a layer.
    """

    output: Path
    size_bytes: int
    samples: int
    seconds: float
    replaced: tuple[str, ...] = ()


def quantize(frozen: Frozen, request: ConvertRequest) -> tuple[bytes, int]:
    """Convert a frozen function by one scheme.

    Returns:
        The TFLite file's bytes, and the number of calibration samples used.

    Raises:
        CalibrationError: The calibration files do not fit the inputs.
        UnsupportedOpError: TensorFlow Lite has no such op, or none in this scheme.
        ConversionError: The converter failed for another reason.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import ConverterError

    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen.function])
    samples = 0
    if request.scheme != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if request.scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if request.scheme in CALIBRATED_SCHEMES:
        samples, converter.representative_dataset = calibration_samples(frozen, request)
        sets = tf.lite.OpsSet
        converter.target_spec.supported_ops = [
            sets.TFLITE_BUILTINS_INT8
            if request.scheme == "int8"
            else sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(request.io)
    # Not a public setting, but the only one that keeps FULLY_CONNECTED below version 10.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = request.per_tensor_dense
    layers = fallback_layers(request.fallback, frozen.layers)
    try:
        return (quantize_mixed(converter, frozen, layers).tflite if layers else bytes(converter.convert())), samples
    except EdgeInferError:  # some are a ValueError too, and are explained already
        raise
    except (ConverterError, ValueError, TypeError, RuntimeError, tf.errors.OpError) as error:
        graph = frozen.function.graph.as_graph_def()
        raise explain_refusal(str(error), request.scheme, graph, frozen.layers) from error


def calibration_samples(frozen: Frozen, request: ConvertRequest) -> tuple[int, Any]:
    """Check the calibration files and return their length and a function that yields batch-1 samples.

    The files are mapped anew for every sample: pages that were read count as this process's memory for as long as the
    mapping lives.

    Returns:
        n, and a function that returns an iterator over lists with one (1, ...) array per input.

    Raises:
        CalibrationError: A file is missing, has another shape or type than its input needs, or is empty; the files
            differ in length; or pixels come without a normalization.
    """
    if len(request.calibration) != len(frozen.inputs):
        raise CalibrationError(
            "Every input needs its own calibration file.",
            received=f"{len(request.calibration)} files",
            expected=f"{len(frozen.inputs)}: " + ", ".join(f"`{one.name}` {one.shape}" for one in frozen.inputs),
        )
    pairs = list(zip(request.calibration, frozen.inputs, strict=True))
    lengths = {_checked_length(path, one, request) for path, one in pairs}
    if len(lengths) != 1:
        raise CalibrationError(
            "The calibration files of the inputs differ in length.",
            received=", ".join(str(one) for one in sorted(lengths)),
            expected="the same number of samples for every input",
        )
    count = lengths.pop()
    table = _pixel_table(request.normalization)

    def samples() -> Iterator[list[NDArray[Any]]]:
        for index in range(count):
            yield [
                _own_or_pixels(np.load(path, mmap_mode="r")[index : index + 1], one, table, frozen.leading)
                for path, one in pairs
            ]

    return count, samples


def _checked_length(path: Path, tensor: TensorFacts, request: ConvertRequest) -> int:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CalibrationError("A calibration file cannot be read.", received=f"{path}: {error}") from error
    if not isinstance(array, np.ndarray) or array.shape[1:] != tensor.shape[1:] or len(array) == 0:
        raise CalibrationError(
            f"The calibration data does not fit the input `{tensor.name}`.",
            received=f"shape {getattr(array, 'shape', None)}",
            expected="(n, " + ", ".join(str(one) for one in tensor.shape[1:]) + ") with n above 0",
        )
    if tensor.dtype.startswith("float") and array.dtype == np.uint8 and request.normalization is None:
        raise CalibrationError(
            f"The calibration data of input `{tensor.name}` is pixels, and nobody said how to normalize them.",
            received="uint8 without `normalization`",
            expected="(mean, std) in pixel units, e.g. (127.5, 127.5) for [-1, 1]",
        )
    return len(array)


def _pixel_table(normalization: tuple[float, float] | None) -> NDArray[np.float32] | None:
    """Return what each of the 256 pixel values becomes: (256,) float32."""
    if normalization is None:
        return None
    mean, std = normalization
    return ((np.arange(256, dtype=np.float64) - mean) / std).astype(np.float32)


def _own_or_pixels(
    sample: NDArray[Any], tensor: TensorFacts, table: NDArray[np.float32] | None, leading: Leading | None
) -> NDArray[Any]:
    """Return a sample as the graph expects it: pixels through the table, own input through the map taken off."""
    if not tensor.dtype.startswith("float"):
        return np.array(sample, dtype=tensor.dtype)
    if sample.dtype == np.uint8 and table is not None:
        return np.asarray(table[sample], dtype=tensor.dtype)
    if leading is not None:
        return np.asarray(sample * leading.scale + leading.offset, dtype=tensor.dtype)
    return np.array(sample, dtype=tensor.dtype)
