"""Remove channels for real: the layers that make them get narrower, and so does every weight that reads them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from converters.errors import ConversionError
from converters.graph.channels import ChannelGroup, GroupedChannels, group_channels
from converters.graph.copies import fresh_layer
from converters.graph.network import read_network, rebuild

__all__ = ["remove_channels"]


def remove_channels(model: Any, removed: Mapping[str, NDArray[np.int64]]) -> Any:
    """Return the model without some of its channels: it computes what it did with those channels unread.

    The result equals the given model with zeros in every weight that reads a removed channel (the rows of the kernels
    behind it). Layers keep their names and their `trainable` flags; compiled losses and metrics are not carried over.

    Args:
        model: A flat Keras model; it stays as it is, weights included.
        removed: Name of a group of `converters.graph.channels.channel_groups` -> (n,) numbers of the units to remove,
            0 <= unit < size. In any order; one that stands there twice is removed once.

    Returns:
        A new functional model with the same inputs and outputs.

    Raises:
        ConversionError: A group or unit does not exist, is frozen, or would lose all its units; or the model is not
            flat.
    """
    import keras

    analysis = group_channels(read_network(model))
    known = {group.name: (group, units) for group, units in zip(analysis.groups, analysis.units, strict=True)}
    gone: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    cuts: dict[str, dict[tuple[int, int], list[NDArray[np.int64]]]] = {}
    for name, given in removed.items():
        if name not in known:
            raise _unknown_group(name, list(known))
        group, roots = known[name]
        units = _checked_units(group, given)
        gone.append(roots[units])
        for member in group.members if units.size else ():
            places = cuts.setdefault(member.layer, {}).setdefault((member.weight, member.axis), [])
            places.extend(member.positions[unit] for unit in units.tolist())
    settings = _settings(analysis, np.concatenate(gone))
    old = {node.name: node.layer for node in analysis.network.nodes}
    replaced = {name: _narrower(old[name], settings.get(name, {})) for name in [*old] if name in {*cuts, *settings}}
    replace: dict[int, Callable[..., Any] | int] = {
        node.index: replaced[node.name] for node in analysis.network.nodes if node.name in replaced
    }
    made = _rebuilt(analysis, replace)
    for name, axes in cuts.items():
        _set_weights(old[name], replaced[name], axes)
    # Layers without a cut in their weights may still have some: a Reshape has none, but its kind is not asked here.
    for name in replaced.keys() - cuts.keys():
        if isinstance(old[name], keras.Layer):
            replaced[name].set_weights(old[name].get_weights())
    return made


def _rebuilt(analysis: GroupedChannels, replace: Mapping[int, Callable[..., Any] | int]) -> Any:
    import tensorflow as tf

    try:
        return rebuild(analysis.network, replace)
    except ConversionError:
        raise
    except (TypeError, ValueError, tf.errors.OpError) as error:
        # E.g. an initializer that holds an array of the old size.
        raise ConversionError(
            f"The model `{analysis.network.model.name}` cannot be built with fewer channels.",
            received=" ".join(str(error).split())[:300],
            expected="layers that can be made at any width",
            next_step="Give the layers that Keras names here initializers without a fixed size, or skip them.",
        ) from error


def _unknown_group(name: str, known: list[str]) -> ConversionError:
    close = difflib.get_close_matches(str(name), known, n=3)
    return ConversionError(
        "There is no such group of channels.",
        received=repr(name),
        expected=f"one of {', '.join(repr(one) for one in close or known[:10])}" if known else "a model with groups",
        next_step="`channel_groups(model)` lists the groups of this very model.",
    )


def _checked_units(group: ChannelGroup, given: ArrayLike) -> NDArray[np.int64]:
    """Return the units to remove: ascending, each once."""
    units = np.asarray(given)
    name = f"group {group.name!r}"
    if units.size and (units.dtype.kind not in "iu" or units.ndim != 1):
        raise ConversionError(
            f"Units of {name} are no whole numbers in one row.",
            received=f"{units.dtype}, shape {units.shape}",
            expected="(n,) int64",
            next_step="`np.flatnonzero(mask)` turns a mask into numbers.",
        )
    units = np.unique(units.astype(np.int64).reshape(-1))
    if not units.size:
        return units
    if units[0] < 0 or units[-1] >= group.size:
        raise ConversionError(
            f"{name.capitalize()} has no such unit.",
            received=str(int(units[0] if units[0] < 0 else units[-1])),
            expected=f"0..{group.size - 1}",
        )
    if group.frozen:
        raise ConversionError(
            f"{name.capitalize()} is frozen.",
            received=f"{units.size} units to remove",
            expected=f"none: {group.frozen}",
        )
    if units.size == group.size:
        raise ConversionError(
            f"{name.capitalize()} would lose all its units.",
            received=f"{units.size} of {group.size} to remove",
            expected=f"at most {group.size - 1}",
        )
    return units


def _settings(analysis: GroupedChannels, gone: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Return by layer and setting the new numbers of channels, where they change."""
    changed: dict[str, dict[str, int]] = {}
    for size in analysis.channels.sizes:
        kept = int((~np.isin(analysis.channels.roots(size.ids), gone)).sum())
        if kept != len(size.ids):
            changed.setdefault(size.layer, {})[size.setting] = kept
    return changed


def _narrower(layer: Any, settings: Mapping[str, int]) -> Any:
    """Return a layer or operation of the same name with other numbers of channels, not built yet."""
    import keras

    def adapted(value: Any, count: int) -> Any:
        # Of a shape it is the last entry.
        return (*value[:-1], count) if isinstance(value, (tuple, list)) else count

    if not isinstance(layer, keras.Layer):
        twin = fresh_layer(layer)
        for name, count in settings.items():
            setattr(twin, name, adapted(getattr(layer, name), count))
        return twin
    config = layer.get_config()
    config.update({name: adapted(config[name], count) for name, count in settings.items()})
    return type(layer).from_config(config)


def _set_weights(old: Any, new: Any, axes: Mapping[tuple[int, int], list[NDArray[np.int64]]]) -> None:
    values = [np.asarray(one) for one in old.get_weights()]
    for (weight, axis), places in axes.items():
        values[weight] = np.delete(values[weight], np.concatenate(places), axis=axis)
    new.set_weights(values)
