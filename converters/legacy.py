"""Read what older Kerases wrote, and say clearly what cannot be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from converters.errors import ConversionError

__all__ = ["explain_load_failure", "legacy_layers"]

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


def legacy_layers() -> dict[str, Any]:
    """Return stand-ins for Keras 3 layers that read the settings Keras 2 wrote.

    Each one only reads: what it returns is Keras' own layer.
    """
    import keras

    return {name: _reader(getattr(keras.layers, name), keys) for name, keys in _KERAS_2_KEYS.items()}


def _reader(layer: Any, keys: dict[str, Any]) -> Any:
    def from_config(_: Any, config: dict[str, Any]) -> Any:
        kept = {
            key: value
            for key, value in config.items()
            if key not in keys or (keys[key] is not _ANY and keys[key] != value)
        }
        return layer.from_config(kept)

    return type(layer.__name__, (layer,), {"from_config": classmethod(from_config)})


def explain_load_failure(error: Exception, path: Path) -> ConversionError:
    """Turn Keras' message into one that names the layer and the cure."""
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
