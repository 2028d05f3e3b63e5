"""Unfold models within models: one functional model of plain layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from converters.graph.copies import copy_state, fresh_layer, known_classes
from converters.graph.network import assemble, computable_order, fresh_inputs, functional_graph

__all__ = ["flat_model", "is_flat"]


def flat_model(model: Any) -> Any:
    """Return a functional model that computes the same and holds no other model.

    All layers are copies with their own weights, so that the given model stays as it is; a layer, or a whole nested
    model, that is called twice is still one and is called twice. A layer keeps its name unless another one has it: then
    the names of the models around it go in front, "outer_inner". Each layer and weight keeps its own `trainable` flag:
    a model that was frozen as a whole, nested or not, comes back with all its layers frozen, and does not train.
    `training` in the call of a nested model is handed to its layers. TimeDistributed, Bidirectional and the like
    are layers, not models, and stay. Compiled losses and metrics are not carried over.

    Args:
        model: Functional or Sequential. A flat one is copied.

    Returns:
        A functional model with the same names and order of inputs and outputs. A list of one tensor, which old `.h5`
        files give, becomes the tensor. `model.output_names` is kept where a nested model makes an output; a file that
        is saved names outputs by their layers.

    Raises:
        ConversionError: The model or one within it is subclassed, has no known input, or holds a layer that cannot be
            copied.
    """
    import keras

    graph = functional_graph(model)
    unfolding = _Unfolding(graph)
    inputs = fresh_inputs(graph)
    with keras.saving.custom_object_scope(known_classes(model)):
        outputs = unfolding.run(graph, inputs, training=None)
    for old, new in unfolding.copies.values():
        copy_state(old, new)
    return assemble(model, inputs, outputs, unwrap=True)


def is_flat(model: Any) -> bool:
    """Whether a functional or Sequential model holds no other model.

    Raises:
        ConversionError: It is neither.
    """
    return not any(_is_model(layer) for layer in _operations(functional_graph(model)))


def _is_model(layer: Any) -> bool:
    import keras

    return isinstance(layer, (keras.Model, keras.Function))


def _operations(graph: Any) -> Iterator[Any]:
    """Yield every layer, operation and nested model of one graph once."""
    seen: set[int] = set()
    for node in computable_order(graph):
        if id(node.operation) not in seen:
            seen.add(id(node.operation))
            yield node.operation


def _unique_names(graph: Any) -> dict[int, str]:
    """Return the new names by `id` of the layer. Outer layers choose first, so that they all keep theirs."""
    taken = {one._keras_history.operation.name for one in graph.inputs}
    names: dict[int, str] = {}
    level: list[tuple[Any, tuple[str, ...]]] = [(graph, ())]
    seen: set[int] = set()
    while level:
        deeper: list[tuple[Any, tuple[str, ...]]] = []
        for one, path in level:
            for layer in _operations(one):
                if _is_model(layer) and id(layer) not in seen:
                    seen.add(id(layer))
                    deeper.append((functional_graph(layer), (*path, layer.name)))
                elif not _is_model(layer) and id(layer) not in names:
                    names[id(layer)] = next(name for name in _candidates(path, layer.name) if name not in taken)
                    taken.add(names[id(layer)])
        level = deeper
    return names


def _candidates(path: tuple[str, ...], name: str) -> Iterator[str]:
    for start in range(len(path), -1, -1):
        full = "_".join((*path[start:], name))
        yield full
    number = 1
    while True:
        yield f"{full}_{number}"
        number += 1


class _Unfolding:
    """Runs graphs on new tensors, with one copy for each layer wherever and however often it is called.

    Attributes:
        copies: By `id` of the old layer: the old and the new one.
    """

    def __init__(self, graph: Any) -> None:
        self.names = _unique_names(graph)
        self.copies: dict[int, tuple[Any, Any]] = {}

    def run(self, graph: Any, inputs: list[Any], *, training: bool | None) -> list[Any]:
        tensors = {id(old): new for old, new in zip(graph.inputs, inputs, strict=True)}
        for node in computable_order(graph):
            layer = node.operation
            args, kwargs = node.arguments.fill_in(tensors)
            if training is not None and "training" in getattr(layer, "_call_context_args", ()):
                kwargs = {**kwargs, "training": training}
            if _is_model(layer):
                inner = functional_graph(layer)
                made = self.run(
                    inner,
                    self._entering(layer.name, inner, args[0] if args else kwargs["inputs"]),
                    training=kwargs.get("training"),
                )
            else:
                made = _flat(self._copy(layer)(*args, **kwargs))
            tensors.update((id(old), new) for old, new in zip(node.outputs, made, strict=True))
        return [tensors[id(one)] for one in graph.outputs]

    def _copy(self, layer: Any) -> Any:
        if id(layer) not in self.copies:
            self.copies[id(layer)] = layer, fresh_layer(layer, self.names[id(layer)])
        return self.copies[id(layer)][1]

    def _entering(self, name: str, graph: Any, given: Any) -> list[Any]:
        """Return the tensors for a nested model's inputs, in its own order: Keras finds them by name and casts them."""
        from keras import ops

        if isinstance(given, dict) and not isinstance(graph.input, dict):
            given = [given[one._keras_history.operation.name] for one in graph.inputs]
        entering = []
        for tensor, wanted in zip(_flat(given), graph.inputs, strict=True):
            if tensor.dtype != wanted.dtype:
                entering.append(self._named(ops.cast(tensor, wanted.dtype), f"{name}_cast"))
            else:
                entering.append(tensor)
        return entering

    def _named(self, tensor: Any, name: str) -> Any:
        """Name the operation that made a tensor: the name that Keras counts up can be taken in a loaded model."""
        operation = tensor._keras_history.operation
        taken = set(self.names.values())
        self.names[id(operation)] = operation.name = next(one for one in _candidates((), name) if one not in taken)
        return tensor


def _flat(value: Any) -> list[Any]:
    import keras

    return list(keras.tree.flatten(value))
