"""Read a trained model: `.keras`, `.h5` or a SavedModel directory. TensorFlow and Keras load in the child only.

Keras files are always read with `safe_mode=True`: a model file can hold code, and there is no switch to run it. For
SavedModel directories, which know no such mode, `converters.inert` looks first.
"""

from __future__ import annotations

import importlib
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.errors import ConversionError
from converters.facts import Kind, LayerFacts, Loaded, ModelFacts, TensorFacts
from converters.graph.leading import take_off_leading
from converters.graph.lower import lower
from converters.graph.substitute import substitute
from converters.inert import check_graph, check_settings
from converters.legacy import UNREADABLE, explain_load_failure, readable_h5
from converters.quantize.insert import ranged_model
from converters.quantize.scales import Ranges
from edgeinfer.errors import DamagedModelError, InputFileError, MissingDependencyError

__all__ = [
    "load_keras",
    "load_tf_keras",
    "model_kind",
    "read_keras",
    "save_live_model",
]

_SIZE_CURE = (
    "Build the model again with a fixed size: "
    "`keras.models.clone_model(model, input_tensors=[keras.Input((224, 224, 3))])`, "
    "then `clone.set_weights(model.get_weights())`, and save the clone."
)
_HALF = ("float16", "bfloat16")
_RESAVE_CURE = 'Save the model again with `model.save("model.keras")`.'


def model_kind(path: Path) -> Kind:
    """Say what a path holds, by content and not by name. Needs no TensorFlow.

    Raises:
        InputFileError: Nothing is there, or it cannot be read.
        DamagedModelError: It is a model file that was cut off.
        ConversionError: It is no model that can be converted.
    """
    expected = "a `.keras` file, a Keras `.h5` file or a SavedModel directory"
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "savedmodel"
        raise ConversionError(
            f"`{path}` is a directory, but no SavedModel.",
            received="no file `saved_model.pb` in it",
            expected=expected,
            next_step="Name the directory that holds `saved_model.pb`, or a model file.",
        )
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise InputFileError(f"`{path}` cannot be read.", received=str(error), expected=expected) from error
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "h5"
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        return "keras"
    if not head or head.startswith(b"PK"):
        raise DamagedModelError(
            f"`{path}` was cut off.",
            received="a zip file that was cut off" if head else "an empty file",
            expected=expected,
            next_step=f"Copy it again. {_RESAVE_CURE}",
        )
    if head[4:8] == b"TFL3":
        what = "a TFLite file: it is converted already"
    else:
        what = f"a file that begins with {head!r}"
    raise ConversionError(f"`{path}` is no Keras model.", received=what, expected=expected, next_step=_RESAVE_CURE)


def load_keras(
    path: Path, kind: Kind, ranges: Ranges = (), *, lowered: bool = False, substitute_for: str = ""
) -> Loaded:
    """Read a `.keras` or `.h5` file with Keras 3, and take a leading rescaling off.

    `ranges` of activations (layer name, low, high) are built into what is called. With `lowered`, layers without int8
    kernels are called step by step, see `converters.graph.lower`; with `substitute_for`, the name of a target, layers
    that it lacks are replaced, see `converters.graph.substitute`. The facts are those of the model in the file.

    Raises:
        UnsupportedOpError: A layer has no place on the target, and no exact replacement.
        ConversionError: The file holds code, unknown layers or no model; an input has no fixed shape; a range no layer.
        MissingDependencyError: Keras is not installed.
    """
    try:
        import keras
    except ImportError as error:
        raise MissingDependencyError(
            "Keras is not installed.", received=str(error), next_step='pip install "edgeinfer[convert]"'
        ) from error
    # Automatic layer names count on from model to model; they would end up in the file's tensor names.
    keras.backend.clear_session()
    model = read_keras(path, kind)
    replaced: list[str] = []

    def prepared(body: Any) -> Any:
        # Who replaces layers refuses those that would be lowered.
        body = lower(body) if lowered and not substitute_for else body
        body = ranged_model(body, ranges) if ranges else body
        body, notes = substitute(body, substitute_for) if substitute_for else (body, ())
        replaced.extend(notes)
        return body

    loaded = _from_keras(model, kind, {"keras": str(keras.__version__)}, prepared)
    return replace(loaded, replaced=tuple(replaced))


def read_keras(path: Path, kind: Kind) -> Any:
    """Return the Keras 3 model of a `.keras` or `.h5` file, as it was saved.

    Raises:
        ConversionError: The file holds code, unknown layers or no model.
        DamagedModelError: It was cut off.
    """
    import keras

    try:
        with readable_h5(path) if kind == "h5" else _well_named(path) as named:
            return keras.models.load_model(named, compile=False, safe_mode=True)
    except UNREADABLE as error:
        raise explain_load_failure(error, path) from error


def load_tf_keras(path: Path) -> Loaded:
    """Read a Keras 2 SavedModel with tf-keras, in an environment that has it.

    Raises:
        ConversionError: It holds code, or tf-keras cannot read it either.
        MissingDependencyError: tf-keras is not installed here.
    """
    try:
        # Not at hand where this file is checked: it lives in an environment of its own.
        tf_keras = importlib.import_module("tf_keras")
    except ImportError as error:
        raise MissingDependencyError(
            "The interpreter that EDGEINFER_TF_KERAS_PYTHON names has no tf-keras.",
            received=str(error),
            next_step="Install it there: `pip install tensorflow==2.21.0 tf-keras==2.21.0 numpy pillow`",
        ) from error
    try:
        check_graph(path)
        check_settings(path)
        # The second lock. It holds back bytecode only, and this loader turns to the saved functions in silence where it
        # does, so the check before it is the one that speaks.
        safe_mode = importlib.import_module("tf_keras.src.saving.serialization_lib").SafeModeScope(True)
        with safe_mode:
            model = tf_keras.models.load_model(path, compile=False)
    except ConversionError:
        raise
    except UNREADABLE as error:
        raise explain_load_failure(error, path) from error
    return _from_keras(model, "savedmodel", {"tf-keras": str(tf_keras.__version__)})


@contextmanager
def _well_named(path: Path) -> Iterator[Path]:
    """Give a `.keras` file the ending that Keras goes by, whatever it is called."""
    if path.suffix == ".keras":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="edgeinfer-") as folder:
        link = Path(folder, "model.keras")
        link.symlink_to(path.resolve())
        yield link


def _from_keras(
    model: Any, kind: Kind, versions: Mapping[str, str], prepared: Callable[[Any], Any] | None = None
) -> Loaded:
    """Describe a Keras model of either generation and make it callable with a flat list of tensors.

    `prepared` returns what is called in its place.
    """
    import tensorflow as tf

    inputs = tuple(_input_facts(one) for one in _model_inputs(model))
    model = _in_float32(model)
    whole = getattr(model, "_functional", None) or model
    body, leading, staying = take_off_leading(prepared(model) if prepared else model)
    graph = getattr(body, "_functional", None) or body
    structure = graph.input

    def call(tensors: Sequence[Any]) -> list[Any]:
        packed = tf.nest.pack_sequence_as(structure, list(tensors))
        return list(tf.nest.flatten(graph(packed, training=False)))

    if leading is not None:
        # The layer that was taken off turned any integers into floats.
        inputs = tuple(TensorFacts(one.name, one.shape, "float32") for one in inputs)
    facts = ModelFacts(
        name=model.name,
        kind=kind,
        inputs=inputs,
        outputs=tuple(
            TensorFacts(name, (1, *(-1 if size is None else int(size) for size in one.shape[1:])), _name(one.dtype))
            for name, one in zip(whole.output_names, whole.outputs, strict=True)
        ),
        layers=tuple(_layers(model)),
        parameters=int(model.count_params()),
        leading=leading,
        staying=staying,
        versions={**versions, "tensorflow": str(tf.__version__)},
    )
    return Loaded(call, facts)


def _model_inputs(model: Any) -> list[Any]:
    try:
        inputs = getattr(model, "inputs", None)
    except (AttributeError, ValueError):
        inputs = None
    if not inputs:
        raise ConversionError(
            f"The model `{model.name}` does not say what goes in.",
            received=f"{type(model).__name__} without a known input shape",
            expected="a functional or Sequential model with a `keras.Input`",
            next_step="Wrap it: `x = keras.Input((224, 224, 3))`, `keras.Model(x, model(x))`, and save that.",
        )
    return list(inputs)


def _input_facts(tensor: Any) -> TensorFacts:
    name, dtype = str(tensor.name).split(":")[0], _name(tensor.dtype)
    if dtype == "string" or getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
        raise ConversionError(
            f"Input `{name}` cannot be converted.",
            received="text" if dtype == "string" else "a sparse or ragged tensor",
            expected="a dense tensor of numbers",
            next_step="Turn text and ragged data into numbers of a fixed shape before the model.",
        )
    if tensor.shape is None or any(size is None for size in tuple(tensor.shape)[1:]):
        raise ConversionError(
            f"Input `{name}` has no fixed shape.",
            received=f"shape {tuple(tensor.shape)}",
            expected="numbers everywhere but for the batch, e.g. (None, 224, 224, 3)",
            next_step=_SIZE_CURE,
        )
    return TensorFacts(name, (1, *(int(size) for size in tuple(tensor.shape)[1:])), dtype)


def _name(dtype: Any) -> str:
    """Return the dtype's name: Keras 3 says a string, tf-keras a `tf.DType`."""
    return str(getattr(dtype, "name", dtype))


def _in_float32(model: Any) -> Any:
    """Undo mixed precision: half-precision ops are for the training hardware, and TFLite's kernels have none."""
    if all(getattr(one, "compute_dtype", "float32") not in _HALF for one in model._flatten_layers()):
        return model
    rebuilt = type(model).from_config(_without_mixed(model.get_config()))
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def _without_mixed(config: Any) -> Any:
    """Return a model's settings with every mixed-precision policy replaced by float32."""
    if isinstance(config, dict):
        return {key: _without_mixed(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_without_mixed(value) for value in config)
    return "float32" if config in ("mixed_float16", "mixed_bfloat16") else config


def _layers(model: Any, prefix: str = "") -> Iterator[LayerFacts]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer, f"{prefix}{layer.name}/")
        elif type(layer).__name__ != "InputLayer":
            yield LayerFacts(prefix + layer.name, type(layer).__name__)


def save_live_model(model: Any, folder: Path) -> Path:
    """Write a Keras model that is in memory, so that the child can read it. Runs in the caller's process.

    A model of Keras' own layers becomes a `.keras` file. One with custom layers or a Lambda becomes a SavedModel with
    batch 1: its code is the caller's own, already running here, and only the traced function travels.

    Args:
        model: A Keras 3 or tf-keras model.
        folder: Where to put it; must exist.

    Returns:
        The file or directory that was written.

    Raises:
        ConversionError: It is no Keras model, has no known input shape, or Keras cannot write it.
    """
    if not hasattr(model, "_flatten_layers") or not hasattr(model, "save"):
        raise ConversionError(
            "This is no Keras model.",
            received=f"{type(model).__module__}.{type(model).__name__}",
            expected="a `keras.Model`, or the path of one",
        )
    try:
        if type(model).__module__.startswith("tf_keras."):
            path = folder / "model"
            model.save(path, save_format="tf", include_optimizer=False)
        elif all(_is_own(layer) for layer in model._flatten_layers()):
            path = folder / "model.keras"
            model.save(path)
        else:
            path = folder / "model"
            _export(model, path)
    except (ValueError, TypeError, AttributeError, NotImplementedError, OSError, RuntimeError) as error:
        if isinstance(error, ConversionError):
            raise
        raise ConversionError(
            f"Keras cannot write the model `{model.name}`.",
            received=str(error)[:600],
            next_step='Try `model.save("model.keras")` or `model.export("model")`, and convert what comes out.',
        ) from error
    return path


def _is_own(layer: Any) -> bool:
    """Whether Keras itself can read the layer back without anybody's code."""
    return type(layer).__module__.startswith("keras.") and type(layer).__name__ != "Lambda"


def _export(model: Any, path: Path) -> None:
    import keras

    facts = [_input_facts(one) for one in _model_inputs(model)]
    signature = [keras.InputSpec(shape=one.shape, dtype=one.dtype, name=one.name) for one in facts]
    model.export(path, verbose=False, input_signature=signature)
