"""Training data: taken from anywhere, through the device's preprocessing, to arrays that can be read again."""

from __future__ import annotations

import hashlib
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.card import Card
from converters.contract import own_inputs
from converters.data import own_sample
from converters.errors import CalibrationError, TrainingError
from converters.facts import ModelFacts
from converters.samples import as_array
from converters.train.batches import Examples
from edgeinfer.dataset import Dataset, from_arrays, match_classes, open_dataset, sample_name
from edgeinfer.errors import InputError, OutputError
from edgeinfer.model.metadata import InputSpec, OutputSpec
from edgeinfer.postprocess.classify import class_count
from edgeinfer.preprocess.image import read_image
from edgeinfer.preprocess.tensor import Preprocessor
from edgeinfer.progress import Progress, ProgressReport
from edgeinfer.runtime.own_input import takes_whole_numbers

__all__ = ["fingerprint", "open_examples", "prepare_examples"]


def open_examples(source: Any) -> Any:
    """Return training data as a labelled `Dataset`, or the caller's own batches as they are.

    Args:
        source: A path, a `Dataset`, a pair of arrays (x, y), or batches as Keras' `fit` takes them.

    Raises:
        InputError: The data cannot be read, or has no labels.
    """
    if isinstance(source, str | Path):
        source = open_dataset(source)
    elif isinstance(source, tuple | list) and len(source) == 2 and all(hasattr(one, "__array__") for one in source):
        x, y = (as_array(one, f"The training array {name}") for one, name in zip(source, "xy", strict=True))
        source = from_arrays(x, y, name="the training arrays")
    if isinstance(source, Dataset) and source.truth is None:
        raise InputError(
            "The training data has no labels.",
            received=source.name,
            expected="class folders, labels.csv, or an .npz with y",
        )
    return source


def prepare_examples(
    source: Any,
    facts: ModelFacts,
    card: Card,
    folder: Path,
    *,
    class_offset: int | None = None,
    progress: ProgressReport | None = None,
) -> Any:
    """Return `Examples` of a data set, or the caller's own batches as they are.

    Pictures go through the device's preprocessing once and lie as uint8 on disk, mapped into memory: training data may
    be larger than the memory.

    Args:
        source: From `open_examples`.
        facts: Of the model that will be trained.
        card: How its input is made of pixels.
        folder: For the prepared pictures.
        class_offset: See `edgeinfer.dataset.match_classes`.
        progress: Called after every sample.

    Raises:
        TrainingError: The model has several inputs or outputs, or nobody says how its input is made of pixels.
        InputError: A sample cannot be read or does not fit; the data has classes that the model has not.
        OutputError: The folder cannot be written, or the disk is full.
    """
    if not isinstance(source, Dataset):
        return source
    specs = own_inputs(facts, card)
    if len(specs) != 1 or len(facts.outputs) != 1:
        raise TrainingError(
            "A data set trains a model with one input and one output.",
            received=f"{len(specs)} inputs and {len(facts.outputs)} outputs",
            expected="batches (x, y) of the model's own input, e.g. a `tf.data.Dataset`",
        )
    spec, output = specs[0], facts.outputs[0]
    classes = class_count(OutputSpec(output.name, output.shape, output.dtype))
    truth = match_classes(source, card.labels, classes, class_offset=class_offset)
    first = source.sources[0]
    own = isinstance(first, np.ndarray) and (first.dtype.kind == "f" or takes_whole_numbers(spec) or not spec.is_image)
    if own:
        try:
            inputs = np.stack([own_sample(value, spec, row) for row, value in enumerate(source)])
        except CalibrationError as error:  # its words are of samples, whatever they are for
            raise InputError(
                str(error.message).replace("Calibration", "Training"),
                received=error.received,
                expected=error.expected,
                next_step=error.next_step,
            ) from error
        return Examples((inputs,), truth)
    if spec.normalization is None:
        raise TrainingError(
            "The training data is pictures, but nobody says how the model's input is made of pixels.",
            received=f"pictures for input `{spec.name}`, no normalization",
            expected="(mean, std) in pixel units: (127.5, 127.5) for [-1, 1], (0, 255) for [0, 1], (0, 1) for [0, 255]",
            next_step="Give `Card(normalization=(mean, std))`, or `--normalization MEAN STD`.",
        )
    pixels = _pixels(source, spec, folder / "training-pixels.npy", progress)
    return Examples((pixels,), truth, (spec.normalization.mean, spec.normalization.std))


def _pixels(data: Dataset, spec: InputSpec, path: Path, progress: ProgressReport | None) -> NDArray[np.uint8]:
    preprocessor = Preprocessor(spec)
    shape = (len(data), *spec.shape[1:])
    # Written under another name: whoever has the old file mapped into memory keeps it.
    unfinished = path.with_name(f".{path.stem}.unfinished.npy")
    try:
        pixels = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(unfinished)
        for row, source in enumerate(data):
            try:
                pixels[row] = preprocessor.pixels(read_image(source))
            except InputError as error:
                raise error.named(f"Training picture `{sample_name(source, row)}`") from error
            if progress:
                progress(Progress("training data", row + 1, len(data)))
        pixels.flush()
        unfinished.replace(path)
    except OSError as error:
        if isinstance(error, InputError | OutputError):
            raise
        raise OutputError(
            "The prepared training data cannot be kept.",
            received=f"`{path}`, {math.prod(shape):,} bytes: {error}",
            next_step="Make room, or have temporary files elsewhere: `TMPDIR=/a/larger/disk`.",
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return pixels


def _reserve(path: Path) -> None:
    """Ask for all the room of a file at once: a mapped one that finds none while it is filled ends the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def fingerprint(data: Any) -> str:
    """Return what tells one training set from another: a hash of all its numbers.

    Of a caller's own batches only the type and the length are known: whoever changes these between a run and its
    continuation mixes two trainings.
    """
    digest = hashlib.sha256()
    if isinstance(data, Examples):
        for array in (*data.inputs, data.labels):
            digest.update(f"{array.shape} {array.dtype}".encode())
            for start in range(0, len(array), 1024):
                digest.update(np.ascontiguousarray(array[start : start + 1024]).data)
        digest.update(repr(data.normalization).encode())
    elif data is not None:
        length = -1
        with suppress(TypeError):  # no length, or a `tf.data.Dataset` that does not know its own
            length = len(data)
        digest.update(f"{type(data).__module__}.{type(data).__name__} {length}".encode())
    return digest.hexdigest()
