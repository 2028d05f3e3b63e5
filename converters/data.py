"""Calibration data: taken from anywhere, put through the device's own preprocessing, checked before it is used.

Wrong calibration data is the most frequent reason for a useless int8 model: raw 0..255 where the model was trained on
0..1 costs a 98.75 % digits model everything but chance (measured), and no converter says a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import CalibrationError
from converters.samples import ONE_BY_ONE, as_array, each_sample
from edgeinfer.dataset import Dataset, from_arrays, open_dataset, sample_name
from edgeinfer.errors import InputError
from edgeinfer.model.metadata import InputSpec
from edgeinfer.preprocess.image import read_image
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.progress import Progress, ProgressReport
from edgeinfer.runtime.own_input import takes_whole_numbers

Source = str | Path | Dataset | NDArray[Any] | Mapping[str, NDArray[Any]] | Iterable[Any]

# Of what callers do wrong, 0..255 for 0..1 is 255 times off; [-1, 1] for [0, 1] is 2 times, and harmless.
WARN_RATIO = 4.0
REFUSE_RATIO = 16.0
HELD_OUT = 500
_FEW = 10
_MOST_FROM_ITERABLE = 10_000
# No normalization in use leaves values above this one: picture-shaped floats beyond it were never normalized.
_LIKE_PIXELS = 16.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration samples as the converter's child process reads them.

    Attributes:
        files: One `.npy` per input: (n, *input shape without batch), uint8 pixels or the model's own input, float32 or
            the input's own integer type.
        pixels: True where the files hold pixels of 0..255 that the child still has to normalize.
        samples: n.
        sha256: Over all the files' arrays: which samples made this model.
        mean: Of all values, in the unit of the files.
        std: Likewise.
        low: Smallest value.
        high: Largest value.
        warnings: Sentences for the report.
    """

    files: tuple[Path, ...]
    pixels: bool
    samples: int
    sha256: str
    mean: float
    std: float
    low: float
    high: float
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return what travels in the model file: count and fingerprint, not the data."""
        return {
            "samples": self.samples,
            "unit": "pixels" if self.pixels else "model input",
            "sha256": self.sha256,
            "mean": self.mean,
            "std": self.std,
            "min": self.low,
            "max": self.high,
        }


def open_calibration(source: Source) -> Dataset | Mapping[str, NDArray[Any]]:
    """Return calibration data as a `Dataset`, or arrays by input name for a model with several inputs.

    Args:
        source: A path in any format of `edgeinfer.dataset`; uint8 pictures or the model's own input as an array
            (n, ...); a mapping from input name to such arrays; or an iterable of paths, pictures or arrays, of which
            the first 10000 are taken. What TensorFlow's converter takes, one `[batch of 1]` a sample, is such an
            iterable.

    Raises:
        CalibrationError: There is not one sample, one is none of these, or the arrays of a mapping differ in length.
        InputError: The data cannot be read.
    """
    if isinstance(source, Dataset):
        data = source
    elif isinstance(source, str | Path):
        data = open_dataset(source)
    elif isinstance(source, Mapping):
        arrays = {name: as_array(values, f"The calibration data of input `{name}`") for name, values in source.items()}
        _check_lengths(arrays)
        return arrays
    elif hasattr(source, "__array__"):
        data = from_arrays(as_array(source, "The calibration array"), name="the calibration array")
    else:
        data = Dataset("the calibration samples", list(each_sample(source, _MOST_FROM_ITERABLE)))
    if not len(data):
        raise CalibrationError("The calibration data is empty.", received="no samples", expected="100 to 500 samples")
    return data


def choose(samples: int, wanted: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split sample numbers into those that calibrate and those that are held out, seeded.

    Args:
        samples: How many there are.
        wanted: How many calibrate.
        seed: Of the choice.

    Returns:
        (min(wanted, samples),) and (at most 500,) int64; both sorted, no number in both.
    """
    order = np.random.default_rng(seed).permutation(samples)
    return np.sort(order[:wanted]), np.sort(order[wanted : wanted + HELD_OUT])


def prepare(data: Dataset, spec: InputSpec, folder: Path, *, progress: ProgressReport | None = None) -> Calibration:
    """Write the samples of a one-input model to `folder` and check them.

    Args:
        data: The samples that calibrate, already chosen.
        spec: The model's own input: shape with batch 1, normalization from pixels, resize.
        folder: For the file.
        progress: Called after every sample.

    Raises:
        CalibrationError: A sample of the wrong shape, not finite; all samples constant; pixels without a declared
            normalization; or a range that cannot be what the model was trained on.
        InputError: A picture cannot be read.
    """
    first = data.sources[0]
    is_array = isinstance(first, np.ndarray)
    own = is_array and (first.dtype.kind == "f" or takes_whole_numbers(spec) or not spec.is_image)
    if not own and spec.normalization is None:
        raise CalibrationError(
            "The calibration data is pictures, but nobody says how the model's input is made of pixels.",
            received=f"pictures for input `{spec.name}`, no normalization",
            expected="(mean, std) in pixel units: (127.5, 127.5) for [-1, 1], (0, 255) for [0, 1], (0, 1) for [0, 255]",
            next_step="Give `Card(normalization=(mean, std))`, or `--normalization MEAN STD`.",
        )
    samples = _own(data, spec, progress) if own else _pixels(data, spec, progress)
    if not own:
        # Pictures need not hold black and white, but the device's pixels may: two pixels of the first sample span the
        # whole range, so the input's scale is exactly one pixel step and the integer path is exact.
        _check_constant(samples)
        samples[0].flat[0], samples[0].flat[-1] = 0, 255
    path = folder / "calibration-0.npy"
    np.save(path, samples)
    calibration = replace(_describe((samples,), (path,)), pixels=not own)
    return _finish(calibration, [(samples, spec)] if own else [])


def prepare_arrays(arrays: Mapping[str, NDArray[Any]], specs: tuple[InputSpec, ...], folder: Path) -> Calibration:
    """Write the samples of a model with several inputs: its own input, one array per input name, already chosen.

    Raises:
        CalibrationError: An input without an array, arrays of different length or wrong shape, values that are not
            finite, or a range that cannot be what the model was trained on.
    """
    names = [spec.name for spec in specs]
    if set(arrays) != set(names):
        raise CalibrationError(
            "The calibration data must have one array per input.",
            received=", ".join(sorted(arrays)) or "none",
            expected=", ".join(names),
        )
    _check_lengths(arrays)
    columns = []
    paths = []
    for number, spec in enumerate(specs):
        values = np.asarray(arrays[spec.name])
        columns.append(np.stack([own_sample(value, spec, row) for row, value in enumerate(values)]))
        paths.append(folder / f"calibration-{number}.npy")
        np.save(paths[-1], columns[-1])
    return _finish(_describe(tuple(columns), tuple(paths)), list(zip(columns, specs, strict=True)))


def _check_lengths(arrays: Mapping[str, NDArray[Any]]) -> None:
    if not arrays:
        raise CalibrationError("The calibration data is empty.", received="no arrays", expected="one array per input")
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise CalibrationError(
            "All inputs need the same number of samples.",
            received=", ".join(f"`{name}` {length}" for name, length in lengths.items()),
            expected="arrays of shape (n, *input shape) with the same n above 0",
        )


def declared_range(spec: InputSpec) -> tuple[float, float] | None:
    """Return what the model's own input is declared to span, or None where nobody says."""
    return None if spec.normalization is None else spec.normalization.range


def _pixels(data: Dataset, spec: InputSpec, progress: ProgressReport | None) -> NDArray[np.uint8]:
    preprocessor = Preprocessor(spec)
    samples = np.empty((len(data), *spec.shape[1:]), dtype=np.uint8)
    for row, source in enumerate(data):
        try:
            samples[row] = preprocessor.pixels(read_image(source))
        except InputError as error:
            raise error.named(f"Calibration picture `{sample_name(source, row)}`") from error
        if progress:
            progress(Progress("calibration data", row + 1, len(data)))
    return samples


def _own(data: Dataset, spec: InputSpec, progress: ProgressReport | None) -> NDArray[Any]:
    samples = np.empty((len(data), *spec.shape[1:]), dtype=spec.dtype if takes_whole_numbers(spec) else np.float32)
    for row, source in enumerate(data):
        samples[row] = own_sample(source, spec, row)
        if progress:
            progress(Progress("calibration data", row + 1, len(data)))
    return samples


def own_sample(value: Any, spec: InputSpec, row: int) -> NDArray[Any]:
    """Return one sample of the model's own input without the batch: float32, or whole numbers in the input's own type.

    Raises:
        CalibrationError: Its dtype, shape or values are not what the input takes.
    """
    sample = np.asarray(value)
    whole = takes_whole_numbers(spec)
    if sample.dtype.kind not in ("iub" if whole else "f"):
        raise CalibrationError(
            f"Calibration sample {row} is not {'whole numbers' if whole else 'floats'}.",
            received=str(sample.dtype),
            expected=f"{spec.dtype if whole else 'floats'} like {spec.shape}",
            next_step=f"Turn them into what the training used: `values.astype(np.{spec.dtype})`."
            if sample.dtype.kind in "iubf" and not spec.is_image
            else "",
        )
    if sample.shape == spec.shape:
        sample = sample[0]
    if sample.shape != spec.shape[1:]:
        raise CalibrationError(
            f"Calibration sample {row} has the wrong shape.",
            received=str(sample.shape),
            expected=f"{spec.shape[1:]}, the model's own input `{spec.name}`",
            next_step=ONE_BY_ONE if sample.shape[1:] == spec.shape[1:] else "",
        )
    if whole:
        stored = sample.astype(spec.dtype)
        if not np.array_equal(stored, sample):
            raise CalibrationError(
                f"Calibration sample {row} holds values that the input `{spec.name}` cannot take.",
                received=f"{sample.min()} to {sample.max()}",
                expected=f"whole numbers that fit {spec.dtype}",
            )
        return stored
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused below
        single: NDArray[np.float32] = sample.astype(np.float32)
    if not np.isfinite(single).all():
        raise CalibrationError(
            f"Calibration sample {row} holds values that are not finite.",
            received=f"{int(np.count_nonzero(~np.isfinite(single)))} of {single.size} are NaN or infinite in float32",
            next_step="Mend or leave out this sample.",
        )
    return single


def _describe(columns: tuple[NDArray[Any], ...], paths: tuple[Path, ...]) -> Calibration:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(np.ascontiguousarray(column).data)
    low = min(float(column.min()) for column in columns)
    high = max(float(column.max()) for column in columns)
    count = sum(column.size for column in columns)
    # float64 sums in slices: a copy of all the samples in float64 would be eight times the pixels.
    total = sum(float(sample.sum(dtype=np.float64)) for column in columns for sample in column)
    mean = total / count
    squares = sum(float(np.square(sample - mean, dtype=np.float64).sum()) for column in columns for sample in column)
    return Calibration(
        files=paths,
        pixels=False,
        samples=len(columns[0]),
        sha256=digest.hexdigest(),
        mean=mean,
        std=float(np.sqrt(squares / count)),
        low=low,
        high=high,
    )


def _check_constant(samples: NDArray[Any]) -> None:
    if all(int(np.ptp(sample)) == 0 for sample in samples):
        raise CalibrationError(
            "Every calibration picture is of one colour value.",
            received=f"{len(samples)} constant pictures",
            expected="pictures like those that the device will see",
        )


def _finish(calibration: Calibration, own: Sequence[tuple[NDArray[Any], InputSpec]]) -> Calibration:
    """Add what is to be said of the samples: of their number, and of the range of those that are the own input."""
    if calibration.low == calibration.high:
        raise CalibrationError(
            "The calibration data is constant.",
            received=f"{calibration.samples} samples, all values {calibration.low:g}",
            expected="samples like those that the device will see",
        )
    warnings = []
    if calibration.samples < _FEW:
        warnings.append(f"Only {calibration.samples} calibration samples: 100 and more are usual.")
    for column, spec in own:
        if not takes_whole_numbers(spec):
            warnings += _compare_range(float(column.min()), float(column.max()), spec)
    return replace(calibration, warnings=tuple(warnings))


def _compare_range(low: float, high: float, spec: InputSpec) -> list[str]:
    declared = declared_range(spec)
    said = f"{low:g} to {high:g}"
    if declared is None:
        if not (spec.is_image and low >= 0 and _LIKE_PIXELS < high <= 255):
            return []
        return [
            f"Nobody declares the range of the input `{spec.name}`, and the calibration data spans {said}: these look "
            "like pixels of 0..255. If the model was trained on 0..1 or -1..1, the file will be useless. "
            "Give --normalization to have this checked."
        ]
    span = declared[1] - declared[0]
    # The farther end counts: 0..255 against -1..1 differs by its upper end, not by its span alone.
    reach = max(abs(low), abs(high)) / max(abs(declared[0]), abs(declared[1]))
    ratio = max(reach, 1 / reach if reach else np.inf, (high - low) / span)
    wanted = f"{declared[0]:g} to {declared[1]:g}"
    if ratio > REFUSE_RATIO:
        raise CalibrationError(
            "The calibration data is not what the model was trained on.",
            received=f"values from {said} for the input `{spec.name}`",
            expected=f"values from {wanted}, as the normalization declares",
            next_step="Hand over the model's own input, or uint8 pictures, which are normalized here.",
        )
    if ratio > WARN_RATIO:
        return [f"The calibration data spans {said}, but the model's input `{spec.name}` is declared as {wanted}."]
    return []
