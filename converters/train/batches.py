"""Labelled examples, and how they become batches: in another order each epoch, augmented, normalized on the fly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import TrainingError
from converters.steps import Fit
from edgeinfer.errors import InputError

__all__ = ["Examples", "batches", "steps_per_epoch"]

# Draws of one batch must not repeat each other: each kind of draw has its own half of the key.
_SHIFT, _FLIP = 1, 2
_LARGEST_SHIFT = 8  # an eighth of the size


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Labelled samples in memory, or mapped into it from files.

    Attributes:
        inputs: One array (n, *shape) per input of the model, in its order: uint8 pixels, or the model's own input,
            floats or (tokens, indices) whole numbers.
        labels: (n,) whole numbers, the classes; or floats (n, ...), what a regression shall answer.
        normalization: (mean, std) in pixel units: uint8 becomes (pixel - mean) / std in float32. None: uint8 becomes
            float32 as it is. Floats and other whole numbers are never normalized.

    Raises:
        InputError: There are no samples, the arrays differ in length or hold no numbers, or the std is not above 0.
    """

    inputs: tuple[NDArray[Any], ...]
    labels: NDArray[Any]
    normalization: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.inputs or self.labels is None:
            raise InputError(
                "Training needs inputs and labels.",
                received=f"{len(self.inputs)} input arrays, {'no ' if self.labels is None else ''}labels",
                expected="one array per input of the model, and one of labels",
            )
        arrays = (*self.inputs, self.labels)
        if any(one.dtype.kind not in "biuf" for one in arrays):
            raise InputError(
                "Inputs and labels are numbers.",
                received=", ".join(str(one.dtype) for one in arrays),
                expected="uint8 pixels, floats or whole numbers",
            )
        if any(one.ndim == 0 for one in arrays) or len({len(one) for one in arrays}) != 1 or not len(self.labels):
            raise InputError(
                "Inputs and labels do not go together sample by sample.",
                received=f"inputs {', '.join(str(one.shape) for one in self.inputs)}; labels {self.labels.shape}",
                expected="the same first size in all of them, at least 1",
            )
        if self.normalization is not None:
            mean, std = self.normalization
            if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
                raise InputError(
                    "A normalization needs a finite mean and a std above 0.",
                    received=f"mean={mean}, std={std}",
                    expected="pixel units, e.g. (127.5, 127.5) for [-1, 1], (0, 255) for [0, 1]",
                )

    def __len__(self) -> int:
        return len(self.labels)


def steps_per_epoch(examples: Examples, fit: Fit) -> int:
    """Return how many batches an epoch has; the last one may be smaller."""
    return math.ceil(len(examples) / fit.batch_size)


def batches(examples: Examples, fit: Fit, *, seed: int, training: bool) -> Any:
    """Return the batches of an epoch.

    The arrays are read batch by batch and never copied as a whole: files that are mapped into memory may be larger than
    it.

    Args:
        examples: What is batched. Pictures are augmented as uint8, before their normalization.
        fit: Batch size and augmentation.
        seed: Of the order and of the augmentation. The k-th pass over the returned data set is the same for the same
            seed, whatever else the process draws.
        training: Whether to shuffle, anew in each pass over all samples, and to augment. Otherwise the samples come in
            their own order, as they are.

    Returns:
        `tf.data.Dataset` of (x, y). x is one tensor, or a tuple for several inputs: uint8 and floats as float32
        (batch, *shape), other whole numbers as they are. y: whole numbers as int64, floats as float32. The last batch
        is smaller where the count does not divide. Its cardinality is known.

    Raises:
        TrainingError: Augmentation is asked of data that has no pictures, or whose labels are pictures themselves.
    """
    import tensorflow as tf

    if training:
        _check_augmentation(examples, fit)
    count, passes = len(examples), itertools.count()

    def positions() -> Iterator[tuple[NDArray[np.int64], int]]:
        number = next(passes)
        order = np.random.default_rng((seed, number)).permutation(count) if training else np.arange(count)
        for start in range(0, count, fit.batch_size):
            # The start tells one batch of a pass from another, `number * count` one pass from another.
            yield order[start : start + fit.batch_size], number * count + start

    def read(rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        return [*(_stored(one[rows]) for one in examples.inputs), _labels(examples.labels[rows])]

    samples = [_stored(one[:1]) for one in examples.inputs] + [_labels(examples.labels[:1])]

    def load(rows: Any, key: Any) -> tuple[Any, Any]:
        arrays = tf.numpy_function(read, [rows], [one.dtype for one in samples], stateful=False)
        for array, sample in zip(arrays, samples, strict=True):
            array.set_shape((None, *sample.shape[1:]))
        *inputs, labels = arrays
        augment = fit.augment if training else ()
        made = tuple(_normalized(_augmented(one, augment, (seed, key)), examples.normalization) for one in inputs)
        return (made if len(made) > 1 else made[0]), labels

    signature = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64))
    data = tf.data.Dataset.from_generator(positions, output_signature=signature)
    data = data.apply(tf.data.experimental.assert_cardinality(steps_per_epoch(examples, fit)))
    return data.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _stored(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _labels(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64, copy=False)


def _is_picture(array: NDArray[Any]) -> bool:
    return array.ndim == 4 and array.dtype == np.uint8


def _check_augmentation(examples: Examples, fit: Fit) -> None:
    if not fit.augment:
        return
    if not any(_is_picture(one) for one in examples.inputs):
        raise TrainingError(
            "Only pictures can be augmented.",
            received=", ".join(f"{one.dtype} {one.shape}" for one in examples.inputs) + f"; augment={fit.augment}",
            expected="uint8 pixels (n, height, width, channels)",
            next_step="Hand the pictures over as uint8 with their normalization, or leave `augment` out.",
        )
    if examples.labels.ndim > 2:
        raise TrainingError(
            "Labels that are pictures would have to be moved along with their inputs.",
            received=f"labels {examples.labels.shape}; augment={fit.augment}",
            expected="classes (n,) or values (n, k)",
            next_step="Leave `augment` out, or hand over augmented batches of your own.",
        )


def _augmented(pixels: Any, augment: tuple[str, ...], key: tuple[int, Any]) -> Any:
    """Return uint8 pictures (batch, height, width, channels), each moved and mirrored as its own draw says.

    Pictures of one sample on several inputs have the same draws, so that they still show the same thing.
    """
    import tensorflow as tf

    if not augment or pixels.dtype != tf.uint8 or pixels.shape.rank != 4:
        return pixels
    count = tf.shape(pixels)[0]
    if "shift" in augment:
        for axis in (1, 2):
            pixels = _shifted(pixels, axis, tf.random.stateless_uniform([count], _key(_SHIFT * 4 + axis, key)))
    if "flip" in augment:
        mirrored = tf.random.stateless_uniform([count], _key(_FLIP * 4, key)) < 0.5
        pixels = tf.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels)
    return pixels


def _key(draw: int, key: tuple[int, Any]) -> Any:
    import tensorflow as tf

    seed, batch = key
    return tf.stack([tf.constant((seed << 4 | draw) & (2**63 - 1), tf.int64), batch])


def _shifted(pixels: Any, axis: int, draws: Any) -> Any:
    """Move each picture along an axis; draws in [0, 1) become whole pixels from -size // 8 to size // 8."""
    import tensorflow as tf

    size = pixels.shape[axis]
    reach = size // _LARGEST_SHIFT
    if reach == 0:
        return pixels
    paddings = [[0, 0] for _ in range(4)]
    paddings[axis] = [reach, reach]
    first = tf.cast(tf.floor(draws * (2 * reach + 1)), tf.int32)
    rows = first[:, None] + tf.range(size)[None]
    return tf.gather(tf.pad(pixels, paddings), rows, axis=axis, batch_dims=1)


def _normalized(values: Any, normalization: tuple[float, float] | None) -> Any:
    import tensorflow as tf

    if values.dtype != tf.uint8:
        return values
    values = tf.cast(values, tf.float32)
    if normalization is None:
        return values
    mean, std = normalization
    return (values - mean) / std
