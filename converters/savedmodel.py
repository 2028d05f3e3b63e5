"""Read a SavedModel directory: its serving function, at batch 1.

A SavedModel is a function, not layers: nothing can be taken off its front. One written by `model.export` or by Keras 2
is restored by TensorFlow itself; only where that fails is Keras 2 (tf-keras) needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters.errors import ConversionError
from converters.facts import Loaded, ModelFacts, TensorFacts
from converters.inert import KERAS_2_FILE, check_graph

__all__ = ["NeedsKeras2Error", "load_saved_model"]

_EXPORT_CURE = (
    "Export it again with a fixed size: "
    '`model.export("model", input_signature=[keras.InputSpec(shape=(1, 224, 224, 3))])`.'
)


class NeedsKeras2Error(ConversionError):
    """TensorFlow alone cannot restore this directory, and Keras 2 wrote it."""


def load_saved_model(path: Path) -> Loaded:
    """Restore a SavedModel and wrap its serving signature with a batch of 1.

    Raises:
        NeedsKeras2Error: Keras 2 wrote it, and TensorFlow cannot restore it or finds no signature in it.
        ConversionError: The directory is damaged, its graph does more than compute, it has no signature, or an input
            has no fixed shape.
    """
    import tensorflow as tf

    try:
        check_graph(path)
    except (OSError, tf.errors.OpError) as error:
        raise _damaged(path, error) from error
    try:
        restored = _restore(path)
        signature = _serving(restored, path)
    except (AttributeError, ValueError, TypeError, KeyError, OSError, tf.errors.OpError) as error:
        if (path / KERAS_2_FILE).is_file():
            raise NeedsKeras2Error(f"TensorFlow cannot restore `{path}`.", received=_short(error)) from error
        if isinstance(error, ConversionError):
            raise
        raise _damaged(path, error) from error
    keywords = signature.structured_input_signature[1]
    inputs = tuple(_input_facts(name, one) for name, one in sorted(keywords.items()))
    names = sorted(signature.structured_outputs, key=_natural)

    def call(tensors: Sequence[Any]) -> list[Any]:
        # `restored` is named here to keep its variables alive: the signature holds them only weakly.
        answers = signature(**{one.name: tensor for one, tensor in zip(inputs, tensors, strict=True)})
        return [answers[name] for name in names] if restored is not None else []

    outputs = tuple(
        TensorFacts(
            name, _batch_one(signature.structured_outputs[name].shape), signature.structured_outputs[name].dtype.name
        )
        for name in names
    )
    return Loaded(
        call,
        ModelFacts(
            name=path.resolve().name,
            kind="savedmodel",
            inputs=inputs,
            outputs=outputs,
            versions={"tensorflow": str(tf.__version__)},
        ),
    )


def _restore(path: Path) -> Any:
    """Load the directory; without its optimizer's memory if that is what stands in the way."""
    import tensorflow as tf

    try:
        return tf.saved_model.load(path)
    except AttributeError as error:
        if "add_slot" not in str(error):
            raise
    return _restore_without_slots(path)


def _restore_without_slots(path: Path) -> Any:
    """Load a directory whose object graph holds an optimizer of Keras 2, which TensorFlow alone cannot rebuild.

    The entries that ask for its slot variables are left out of a copy of the graph; the weights stay where they are.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    graph = saved_model_pb2.SavedModel()
    graph.ParseFromString((path / "saved_model.pb").read_bytes())
    for part in graph.meta_graphs:
        for node in part.object_graph_def.nodes:
            node.ClearField("slot_variables")
    with tempfile.TemporaryDirectory(prefix="edgeinfer-") as name:
        folder = Path(name)
        (folder / "saved_model.pb").write_bytes(graph.SerializeToString())
        for one in path.iterdir():
            if one.name not in ("saved_model.pb", "fingerprint.pb"):
                (folder / one.name).symlink_to(one.resolve())
        return tf.saved_model.load(folder)


def _damaged(path: Path, error: Exception) -> ConversionError:
    return ConversionError(
        f"TensorFlow cannot restore `{path}`.",
        received=_short(error),
        expected="a SavedModel directory, whole",
        next_step='Write it again with `model.export("model")`.',
    )


def _short(error: Exception) -> str:
    text = error.received if isinstance(error, ConversionError) else str(error)
    return " ".join(text.split())[:600]


def _serving(restored: Any, path: Path) -> Any:
    signatures = restored.signatures
    if "serving_default" in signatures:
        return signatures["serving_default"]
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    raise ConversionError(
        f"`{path}` does not say which function to convert.",
        received=", ".join(f"`{name}`" for name in signatures) or "no signature",
        expected="a signature `serving_default`, or a single one",
        next_step='Write it again with `model.export("model")`, or with `tf.saved_model.save(..., signatures=...)`.',
    )


def _input_facts(name: str, specification: Any) -> TensorFacts:
    shape, dtype = specification.shape, specification.dtype.name
    if dtype == "string" or not hasattr(specification, "dtype") or type(specification).__name__ != "TensorSpec":
        raise ConversionError(
            f"Input `{name}` cannot be converted.",
            received="text" if dtype == "string" else type(specification).__name__,
            expected="a dense tensor of numbers",
            next_step="Turn text and ragged data into numbers of a fixed shape before the model.",
        )
    if shape.rank is None or None in shape[1:].as_list() or (shape.rank and shape[0] not in (None, 1)):
        raise ConversionError(
            f"Input `{name}` has no fixed shape with batch 1.",
            received=f"shape {shape}",
            expected="an open batch or 1, and numbers after it, e.g. (None, 224, 224, 3)",
            next_step=_EXPORT_CURE,
        )
    return TensorFacts(name, _batch_one(shape), dtype)


def _batch_one(shape: Any) -> tuple[int, ...]:
    if shape.rank is None:
        return (-1,)
    return tuple(1 if index == 0 else -1 if size is None else int(size) for index, size in enumerate(shape.as_list()))


def _natural(name: str) -> tuple[str, int]:
    """Sort `output_10` behind `output_9`, as Keras numbers them."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if stem and number.isdigit() else (name, -1)
