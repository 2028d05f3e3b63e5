"""Keras in this process: needed by the steps that train, and by nothing else."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from converters.errors import ConversionError
from edgeinfer.errors import MissingDependencyError

__all__ = ["require_keras"]

# What a user's keras.json says counts for the user's own scripts; these steps stand on TensorFlow. It reads its log
# level once, when it is loaded.
_VARIABLES = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def require_keras() -> None:
    """Import Keras with TensorFlow below it, without the lines that TensorFlow writes on standard error.

    Raises:
        MissingDependencyError: One of them is not installed.
        ConversionError: Keras runs on another backend in this process already.
    """
    if "keras" not in sys.modules:
        try:
            with _environment(), _quiet():
                import keras
                import tensorflow as tf

                tf.constant(0)  # looks for devices, and complains of those that it does not find
                # It warns of a graph for each training, as if they were steps of one.
                tf.get_logger().setLevel(logging.ERROR)
        except ImportError as error:
            raise MissingDependencyError(
                "Steps that train need Keras and TensorFlow.",
                received=str(error),
                next_step='pip install "edgeinfer[convert]"',
            ) from error
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConversionError(
            "Steps that train need Keras on TensorFlow.",
            received=f"Keras on {keras.backend.backend()}",
            next_step="Save the model as `.keras` and run `edgeinfer-convert`, or start Python with "
            "KERAS_BACKEND=tensorflow.",
        )


@contextmanager
def _environment() -> Iterator[None]:
    """Set the variables while the packages load, and leave the caller's environment as it was."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(_VARIABLES)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what C++ code writes on standard error; show it only if something fails."""
    sys.stderr.flush()
    try:
        descriptor = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            with suppress(OSError):
                os.write(descriptor, kept.read())
            raise
        finally:
            os.dup2(descriptor, 2)
            os.close(descriptor)
