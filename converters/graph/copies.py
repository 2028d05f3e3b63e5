"""Make a layer anew, with the weights of the old one, so that the old one stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters.errors import ConversionError

__all__ = ["copy_state", "fresh_layer", "known_classes"]


def known_classes(model: Any) -> dict[str, Any]:
    """Return the classes of all layers that are not Keras' own, for wrappers around such layers to find them."""
    return {
        type(layer).__name__: type(layer)
        for layer in model._flatten_layers()
        if not type(layer).__module__.startswith("keras.")
    }


def fresh_layer(layer: Any, name: str = "", changes: Mapping[str, Any] | None = None) -> Any:
    """Make a layer or operation anew from its settings, with no call and no weights yet.

    Args:
        layer: Stays as it is.
        name: Of the new one; "" for the same.
        changes: Settings of a layer that become others, e.g. {"use_bias": True}. An operation and a Lambda take none.

    Raises:
        ConversionError: The class does not say its settings, or does not take them.
    """
    import keras

    name = name or layer.name
    if not isinstance(layer, keras.Layer):
        # An operation holds settings and no state, and some classes cannot say theirs (array constants).
        twin = object.__new__(type(layer))
        twin.__dict__.update(layer.__dict__)
        twin.name, twin._inbound_nodes, twin._outbound_nodes = name, [], []
        return twin
    if type(layer) is keras.layers.Lambda:
        # Its function is running here already. Keras would turn it into bytecode and refuse to read that back.
        return keras.layers.Lambda(
            layer.function,
            output_shape=layer._output_shape,
            mask=layer.mask,
            arguments=layer.arguments,
            name=name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
    try:
        return type(layer).from_config({**layer.get_config(), **(changes or {}), "name": name})
    except (TypeError, ValueError, NotImplementedError, AttributeError, KeyError) as error:
        raise ConversionError(
            f"Layer `{layer.name}` cannot be copied.",
            received=f"`{type(layer).__name__}`: {' '.join(str(error).split())[:300]}",
            expected="a class whose `get_config()` returns all arguments of its `__init__`",
            next_step=f"Give `{type(layer).__name__}` a `get_config()`, and a `from_config()` if that is not enough.",
        ) from error


def copy_state(old: Any, new: Any) -> None:
    """Copy all weights, statistics and seeds of a layer, and which of them train, into a built one of its class.

    Raises:
        ConversionError: They do not fit.
    """
    import keras

    if not isinstance(old, keras.Layer):
        return
    source, target = list(old.variables), list(new.variables)
    if [tuple(one.shape) for one in source] != [tuple(one.shape) for one in target]:
        raise ConversionError(
            f"The weights of layer `{old.name}` do not fit its copy.",
            received=f"{[tuple(one.shape) for one in source]}",
            expected=f"{[tuple(one.shape) for one in target]}",
            next_step="A layer whose input has changed must be replaced as well.",
        )
    for one, other in zip(source, target, strict=True):
        other.assign(one)
        # A layer that stands in a frozen model and was released by itself has weights that train, and the reverse.
        other.trainable = one.trainable
    for layer in new._flatten_layers():
        # Normalization computes with values that it derives from its weights once.
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
