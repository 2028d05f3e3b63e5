"""Find a rescaling at the front of a model and take it off.

A Rescaling that stays in the graph costs two ops, and the input's scale then spans 0..255 instead of the range that the
network was trained on. Taken off, its map moves into the file's normalization, and a pixel becomes the stored integer
by a copy.

The module works on whichever Keras made the model (Keras 3 or tf-keras): it asks the model's own classes, by name.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Leading", "take_off_leading"]

# These do nothing at inference, so a rescaling behind them is still at the front. RandomCrop and RandAugment are
# missing on purpose: the first one resizes at inference too, the second one rescales inside.
_IDLE = frozenset(
    {
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "InputLayer",
        "RandomBrightness",
        "RandomColorJitter",
        "RandomContrast",
        "RandomFlip",
        "RandomHeight",
        "RandomHue",
        "RandomRotation",
        "RandomSaturation",
        "RandomShear",
        "RandomTranslation",
        "RandomWidth",
        "RandomZoom",
        "SpatialDropout2D",
    }
)
_KERAS = ("keras.", "tf_keras.")


@dataclass(frozen=True, slots=True)
class Leading:
    """The map of a rescaling at the front: `tensor value = own input * scale + offset`.

    Attributes:
        scale: Finite; above 0 where the map was taken off.
        offset: Finite.
        layers: Names of the layers that made it up, front first.
    """

    scale: float
    offset: float
    layers: tuple[str, ...] = ()

    def then(self, following: Leading) -> Leading:
        """Return the one map that does this one first and `following` second.

        Example:
            >>> Leading(1 / 255, 0.0).then(Leading(2.0, -1.0)).offset
            -1.0
        """
        return Leading(
            self.scale * following.scale,
            self.offset * following.scale + following.offset,
            self.layers + following.layers,
        )


def take_off_leading(model: Any) -> tuple[Any, Leading | None, tuple[Leading, ...]]:
    """Return the model without its leading rescaling, what was taken off, and the maps of the one that stayed.

    Rescaling and Normalization layers with one scale and one offset come off, several in a row as one; layers that do
    nothing at inference (Dropout, RandomFlip, ...) go with them. The front of a nested model is searched as well. The
    returned model shares its layers and weights with the one given, which stays usable.

    Args:
        model: A Keras model. One that is not Sequential or functional, has several inputs, or hands its input to
            several layers is returned as it is.

    Returns:
        The model; the map, or None; where a Normalization or Rescaling now stands at the front that could not come off,
        e.g. with a value per channel, the maps of those of its channels that have the smallest and the largest scale
        and offset, else nothing.
    """
    current, found = model, None
    stayed: tuple[Leading, ...] = ()
    # Every turn takes one layer off, so the number of layers bounds the loop.
    while True:
        layer = _front(current)
        if layer is None:
            break
        affine = _scalar_map(layer)
        if affine is None:
            stayed = _extreme_maps(layer)
            break
        stripped = _without_front(current)
        if stripped is None:
            stayed = (affine,)
            break
        current = stripped
        found = affine if found is None else found.then(affine)
    return current, found, stayed


def _is_keras(layer: Any, *names: str) -> bool:
    """Whether the layer is exactly one of Keras' own: a subclass may do something else."""
    return type(layer).__name__ in names and type(layer).__module__.startswith(_KERAS)


def _graph(model: Any) -> Any | None:
    """Return the functional graph of a model, or None."""
    if _is_keras(model, "Functional", "Model"):
        graph = model
    elif _is_keras(model, "Sequential"):
        graph = getattr(model, "_functional", model)
    else:
        return None
    return graph if getattr(graph, "_nodes_by_depth", None) else None


def _consumers(model: Any, tensor: Any) -> list[Any]:
    """Return the nodes of a functional graph that read a tensor."""
    nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes]
    return [
        node
        for node in nodes
        # In tf-keras an InputLayer reads its own tensor.
        if type(_operation(node)).__name__ != "InputLayer" and any(one is tensor for one in _input_tensors(node))
    ]


def _input_tensors(node: Any) -> list[Any]:
    # tf-keras hands a lone tensor over, and that one has no truth value.
    tensors = getattr(node, "input_tensors", None)
    return [] if tensors is None else _flat(tensors)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for one in value for leaf in _flat(one)]
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in _flat(value[key])]
    return [value]


def _operation(node: Any) -> Any:
    """Return the layer of a node: Keras 3 says `operation`, tf-keras `layer`."""
    return node.operation if hasattr(node, "operation") else node.layer


def _outputs(node: Any) -> list[Any]:
    return _flat(node.output_tensors if hasattr(node, "output_tensors") else node.outputs)


def _way_in(model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the nodes and layers that the input passes one after the other, until it branches or ends."""
    graph = _graph(model)
    if graph is None or len(_flat(graph.inputs)) != 1:
        return
    tensor = _flat(graph.inputs)[0]
    ends = _flat(graph.outputs)
    while not any(one is tensor for one in ends):
        nodes = _consumers(graph, tensor)
        if len(nodes) != 1 or len(_input_tensors(nodes[0])) != 1 or len(_outputs(nodes[0])) != 1:
            return
        yield nodes[0], _operation(nodes[0])
        tensor = _outputs(nodes[0])[0]


def _front(model: Any) -> Any | None:
    """Return the first layer that does something, inside a nested model too, or None."""
    for _, layer in _way_in(model):
        if _is_keras(layer, *_IDLE):
            continue
        return layer if _graph(layer) is None else _front(layer)
    return None


def _maps(layer: Any) -> Any | None:
    """Return scale and offset of a Rescaling or Normalization: (2, channels) float64; None for other layers."""
    import numpy as np

    if _is_keras(layer, "Rescaling"):
        pair = layer.scale, layer.offset
    elif _is_keras(layer, "Normalization"):
        pair = layer.mean, layer.variance
    else:
        return None
    first, second = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in pair))
    if _is_keras(layer, "Normalization"):
        # Keras divides by the larger of the standard deviation and its epsilon, 1e-7.
        deviation = np.maximum(np.sqrt(second), 1e-7)
        first, second = (deviation, first) if layer.invert else (1.0 / deviation, -first / deviation)
    return np.stack([first.reshape(-1), second.reshape(-1)])


def _scalar_map(layer: Any) -> Leading | None:
    """Return the map of a Rescaling or Normalization that treats all channels alike, or None."""
    maps = _maps(layer)
    if maps is None or not maps.size or not (maps == maps[:, :1]).all():
        return None
    scale, offset = float(maps[0, 0]), float(maps[1, 0])
    if not (math.isfinite(scale) and math.isfinite(offset)) or scale <= 0:
        # A map that turns the range around stays: a mean and a std cannot say it.
        return None
    return Leading(scale, offset, (layer.name,))


def _extreme_maps(layer: Any) -> tuple[Leading, ...]:
    """Return up to four of a layer's maps: a Normalization may have as many as its input has values."""
    import numpy as np

    maps = _maps(layer)
    if maps is None or not maps.size or not np.isfinite(maps).all():
        return ()
    chosen = {int(pick(row)) for row in maps for pick in (np.argmin, np.argmax)}
    pairs = {(float(maps[0, index]), float(maps[1, index])) for index in chosen}
    return tuple(Leading(scale, offset, (layer.name,)) for scale, offset in sorted(pairs))


def _without_front(model: Any) -> Any | None:
    """Return the model without everything up to its first working layer, sharing all other layers."""
    graph = _graph(model)
    if graph is None:
        return None
    make = _functional_class(graph)
    for node, layer in _way_in(model):
        if _is_keras(layer, *_IDLE):
            continue
        end = _outputs(node)[0]
        if any(one is end for one in _flat(graph.outputs)):
            # Nothing stands behind it, in this model at least: an empty model is not worth its trouble.
            return _without_front(layer) if _graph(layer) is not None else None
        ends = _flat(graph.outputs)
        rest = make(end, ends if len(ends) > 1 else ends[0])
        if _graph(layer) is None:
            return rest
        inner = _without_front(layer)
        if inner is None:
            return None
        start = _flat(inner.inputs)[0]
        return make(start, rest(inner(start)))
    return None


def _functional_class(graph: Any) -> Any:
    """Return `Model` of the Keras that made the graph."""
    if type(graph).__module__.startswith("tf_keras."):
        return importlib.import_module("tf_keras").Model
    import keras

    return keras.Model
