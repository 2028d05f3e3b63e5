"""Read what older Kerases wrote, and say clearly what cannot be read."""

from __future__ import annotations

import errno
import importlib
import json
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters.errors import ConversionError
from edgeinfer.errors import DamagedModelError, EdgeInferError, OutputError

__all__ = ["UNREADABLE", "explain_load_failure", "readable_h5"]

# What Keras, h5py and zipfile raise on files that they cannot read.
UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    ImportError,
    OSError,
    RuntimeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)

_DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, json.JSONDecodeError, UnicodeDecodeError)

# Keras 2 wrote these keys into every layer's settings, Keras 3 does not know them. A key may go where its value
# changes nothing: the convolutions had one group, the recurrent layers took (batch, time, features), and initializers
# and regularizers do not matter to a trained model.
_ANY = object()
_GROUPS: dict[str, Any] = {"groups": 1}
_SEPARABLE: dict[str, Any] = {
    "groups": 1,
    "kernel_initializer": _ANY,
    "kernel_regularizer": _ANY,
    "kernel_constraint": None,
}
_RECURRENT: dict[str, Any] = {"time_major": False}
_RANDOM: dict[str, Any] = {"rng_type": _ANY}
_KERAS_2_KEYS: dict[str, dict[str, Any]] = {
    "Conv1DTranspose": _GROUPS,
    "Conv2DTranspose": _GROUPS,
    "Conv3DTranspose": _GROUPS,
    "ConvLSTM1D": _RECURRENT,
    "ConvLSTM2D": _RECURRENT,
    "ConvLSTM3D": _RECURRENT,
    "DepthwiseConv1D": _GROUPS,
    "DepthwiseConv2D": _GROUPS,
    "GRU": _RECURRENT,
    "LSTM": _RECURRENT,
    "RNN": _RECURRENT,
    "RandomBrightness": _RANDOM,
    "RandomContrast": _RANDOM,
    "RandomCrop": _RANDOM,
    "RandomFlip": _RANDOM,
    "RandomRotation": _RANDOM,
    "RandomTranslation": _RANDOM,
    "RandomZoom": _RANDOM,
    "SeparableConv1D": _SEPARABLE,
    "SeparableConv2D": _SEPARABLE,
    "SimpleRNN": _RECURRENT,
}


@contextmanager
def readable_h5(path: Path) -> Iterator[Path]:
    """Give an `.h5` file that Keras 3 can read: the file itself, or a copy without the keys that only Keras 2 knows.

    The copy and not `custom_objects`: those do not reach the layer inside a Bidirectional or TimeDistributed.

    Raises:
        OSError: It is no HDF5 file, or damaged.
    """
    # Keras brings it along; it has no types.
    h5py = importlib.import_module("h5py")

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    config = None if text is None else json.loads(text)
    kept = _without_keras_2_keys(config)
    if kept == config and path.suffix == ".h5":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="edgeinfer-") as folder:
        copy = Path(shutil.copyfile(path, Path(folder, "model.h5")))
        if kept is not None:
            with h5py.File(copy, "r+") as file:
                file.attrs["model_config"] = json.dumps(kept)
        yield copy


def _without_keras_2_keys(config: Any) -> Any:
    if isinstance(config, list):
        return [_without_keras_2_keys(one) for one in config]
    if not isinstance(config, dict):
        return config
    kept = {key: _without_keras_2_keys(value) for key, value in config.items()}
    keys = _KERAS_2_KEYS.get(str(kept.get("class_name")), {})
    if keys and isinstance(kept.get("config"), dict):
        kept["config"] = {
            key: value
            for key, value in kept["config"].items()
            if key not in keys or (keys[key] is not _ANY and keys[key] != value)
        }
    return kept


def explain_load_failure(error: Exception, path: Path) -> EdgeInferError:
    """Turn Keras' message into one that names the layer and the cure; of a damaged file, into a DamagedModelError."""
    text = str(error)
    unknown = re.search(r"(?:Unknown layer:|Could not locate (?:class|function)) '([^']+)'", text)
    if "Lambda" in text and ("safe_mode" in text or "unsafe" in text):
        return ConversionError(
            f"`{path}` holds a Lambda layer, and its code is not run.",
            received=_layer_name(text, "Lambda") or "a Lambda layer",
            expected="layers whose meaning is in the file",
            next_step="Replace the Lambda by Keras layers or `keras.ops` calls on the functional graph. Or, where you "
            'trained it, write a SavedModel with `model.export("model")`, and convert that directory.',
        )
    if unknown and unknown[1] in ("Functional", "Sequential", "Model"):
        return ConversionError(
            f"`{path}` was written by Keras 2 or tf-keras, in a format that Keras 3 does not read.",
            received="a `.keras` file of Keras 2",
            next_step='With the Keras that wrote it: `tf_keras.models.load_model(...).save("model.h5")` or '
            '`.save("model", save_format="tf")`, and convert that.',
        )
    if unknown and unknown[1] in ("TFOpLambda", "SlicingOpLambda"):
        return ConversionError(
            f"`{path}` holds bare TensorFlow calls, which Keras 3 cannot read from an `.h5` file.",
            received=f"`{unknown[1]}`",
            next_step='With the Keras that wrote it: `.save("model", save_format="tf")`, and convert that directory.',
        )
    if unknown:
        named = _layer_name(text, unknown[1])
        return ConversionError(
            f"`{path}` uses `{unknown[1]}`, which is not one of Keras' own layers.",
            received=f"`{unknown[1]}`" + (f", layer {named}" if named else ""),
            expected="layers that come with Keras: the file holds a custom layer's settings, not its code",
            next_step='Where the class is defined: `model.export("model")`. Then convert that directory. '
            "Or hand the model itself to `convert()` instead of a path.",
        )
    if "No model config found" in text:
        return ConversionError(
            f"`{path}` holds weights only.",
            received="an HDF5 file without a model",
            expected="a whole model",
            next_step='Build the model, `model.load_weights(...)`, `model.save("model.keras")`, and convert that.',
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return OutputError(
            "The model needs a copy in the temporary folder, which cannot be written.",
            received=str(error),
            next_step="Free some space there, or name another folder in TMPDIR.",
        )
    if isinstance(error, _DAMAGE):
        return DamagedModelError(
            f"`{path}` is damaged or was cut off.",
            received=" ".join(text.split())[:300],
            expected="the whole file",
            next_step='Copy it again, or save the model again with `model.save("model.keras")`.',
        )
    return ConversionError(
        f"`{path}` cannot be read.",
        received=" ".join(text.split())[:600],
        expected="a model that Keras 3 can load",
        next_step='Save the model again with `model.save("model.keras")`; if that does not help, with '
        '`model.export("model")`, and convert that directory.',
    )


def _layer_name(text: str, kind: str) -> str:
    """Return the name of the layer of a class that Keras' message quotes, or ""."""
    found = re.search(rf"'class_name': '{re.escape(kind)}', 'config': \{{'name': '([^']+)'", text)
    return f"`{found[1]}`" if found else ""
