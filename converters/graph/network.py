"""Read a Keras model as a list of calls between numbered tensors, and build it again with some calls replaced.

Keras keeps the graph in objects that point at each other and changes them whenever a layer is called again. A `Network`
is a still picture of it: what pruning, folding and quantization-aware training decide on. `rebuild` is their one way to
a new model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from converters.errors import ConversionError
from converters.graph.copies import copy_state, fresh_layer, known_classes

__all__ = [
    "Network",
    "Node",
    "Slot",
    "assemble",
    "computable_order",
    "fresh_inputs",
    "functional_graph",
    "read_network",
    "rebuild",
]

_WAY_OUT = (
    "Build it from layers with `keras.Input(...)` and `keras.Model(inputs, outputs)`, copy the weights over "
    "(`functional.set_weights(model.get_weights())`), and hand that in."
)


@dataclass(frozen=True, slots=True)
class Slot:
    """Stands in a node's call arguments for the tensor of that number."""

    tensor: int


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One call of one layer or Keras operation.

    Attributes:
        index: Its place in `Network.nodes`.
        layer: The Keras layer; or the Keras operation that e.g. `x + 3.0` or `keras.ops.mean(x)` makes.
        kind: The name of its class, e.g. "Conv2D".
        name: The name of the layer. A layer that is called twice makes two nodes of this name.
        inputs: Numbers of the tensors among the call's arguments, in their order.
        outputs: Numbers of the tensors that it makes.
        args: The call's positional arguments, with a `Slot` for every tensor; constants as they are.
        kwargs: The call's keyword arguments, likewise.
    """

    index: int
    layer: Any
    kind: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """What a model computes, as calls between numbered tensors.

    Attributes:
        model: The Keras model that was read.
        nodes: In an order in which they can be computed. InputLayers are no nodes.
        shapes: By tensor number, batch first; None where a size is not known before the model runs.
        inputs: Numbers of the model's inputs, in its own order.
        outputs: Numbers of its outputs, in its own order. An input can be one, and a tensor can be one twice.
    """

    model: Any
    nodes: tuple[Node, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def consumers(self, tensor: int) -> tuple[Node, ...]:
        """Return the nodes that read a tensor; that it is an output of the model makes no node."""
        return tuple(node for node in self.nodes if tensor in node.inputs)

    def producer(self, tensor: int) -> Node | None:
        """Return the node that makes a tensor, or None for an input of the model."""
        return next((node for node in self.nodes if tensor in node.outputs), None)

    def calls(self, layer: Any) -> tuple[Node, ...]:
        """Return the nodes in which this very layer is called: several where it is shared."""
        return tuple(node for node in self.nodes if node.layer is layer)


def read_network(model: Any) -> Network:
    """Read a flat model, see `converters.graph.flat.flat_model`.

    Args:
        model: Functional or Sequential, without models in it.

    Raises:
        ConversionError: It is no such model, or a model is nested in it.
    """
    import keras

    graph = functional_graph(model)
    numbers: dict[int, int] = {}
    shapes: list[tuple[int | None, ...]] = []

    def number(tensor: Any) -> int:
        if id(tensor) not in numbers:
            numbers[id(tensor)] = len(shapes)
            shapes.append(tuple(tensor.shape))
        return numbers[id(tensor)]

    def slot(value: Any) -> Any:
        return Slot(number(value)) if isinstance(value, keras.KerasTensor) else value

    inputs = tuple(number(one) for one in graph.inputs)
    nodes = []
    for index, one in enumerate(computable_order(graph)):
        layer = one.operation
        if isinstance(layer, (keras.Model, keras.Function)):
            raise ConversionError(
                f"The model `{model.name}` holds the model `{layer.name}`.",
                received=f"a nested {type(layer).__name__}",
                expected="a flat model",
                next_step="Unfold it first: `flat_model(model)` of `converters.graph.flat`.",
            )
        nodes.append(
            Node(
                index=index,
                layer=layer,
                kind=type(layer).__name__,
                name=layer.name,
                inputs=tuple(number(tensor) for tensor in one.input_tensors),
                outputs=tuple(number(tensor) for tensor in one.outputs),
                args=keras.tree.map_structure(slot, one.arguments.args),
                kwargs=keras.tree.map_structure(slot, one.arguments.kwargs),
            )
        )
    return Network(model, tuple(nodes), tuple(shapes), inputs, tuple(number(one) for one in graph.outputs))


def rebuild(network: Network, replace: Mapping[int, Callable[..., Any] | int] | None = None) -> Any:
    """Build the model again from copies of its layers, with some calls replaced.

    Every layer is made anew from its settings, under its own name, and gets the weights of the old one; a layer that is
    called twice becomes one new layer that is called twice. Each layer and weight keeps its own `trainable` flag: a
    model that was frozen as a whole comes back with all its layers frozen, and training it changes nothing until they
    are released.
    Compiled losses and metrics are not carried over.

    Args:
        network: The model. It stays as it is.
        replace: By `Node.index`. A layer or function is called in the place of the node's layer, with the node's new
            tensors and its other call arguments (`training` and `mask` only where it takes them); the same layer under
            several numbers is shared. A number drops the node: that of its inputs goes through, 0 for the first.
            What only a dropped node needed is not built.

    Returns:
        A functional model with the same names, order and structure of inputs and outputs. Where a replaced call makes
        an output, `model.output_names` still says the old name; a file that is saved names outputs by their layers.

    Raises:
        ConversionError: A layer cannot be made from its settings, or its old weights do not fit its new input.
    """
    import keras

    graph = functional_graph(network.model)
    replace = {} if replace is None else replace
    needed = _needed(network, replace)
    copies: dict[int, tuple[Any, Any]] = {}
    inputs = fresh_inputs(graph)
    tensors: dict[int, Any] = dict(zip(network.inputs, inputs, strict=True))
    with keras.saving.custom_object_scope(known_classes(network.model)):
        for node in network.nodes:
            if node.index not in needed:
                continue
            wanted = replace.get(node.index)
            if isinstance(wanted, int):
                tensors[node.outputs[0]] = tensors[node.inputs[wanted]]
                continue
            args, kwargs = _filled(node, tensors)
            if wanted is not None:
                made = wanted(*args, **_accepted(wanted, kwargs))
            else:
                if id(node.layer) not in copies:
                    copies[id(node.layer)] = node.layer, fresh_layer(node.layer)
                made = copies[id(node.layer)][1](*args, **kwargs)
            tensors.update(zip(node.outputs, keras.tree.flatten(made), strict=True))
    for old, new in copies.values():
        copy_state(old, new)
    return assemble(network.model, inputs, [tensors[number] for number in network.outputs])


def _needed(network: Network, replace: Mapping[int, Callable[..., Any] | int]) -> set[int]:
    """Return the numbers of the nodes that the outputs depend on once dropped nodes let one input through."""
    tensors, nodes = set(network.outputs), set()
    for node in reversed(network.nodes):
        if tensors.isdisjoint(node.outputs):
            continue
        nodes.add(node.index)
        wanted = replace.get(node.index)
        tensors.update(node.inputs if not isinstance(wanted, int) else (node.inputs[wanted],))
    return nodes


def _filled(node: Node, tensors: Mapping[int, Any]) -> tuple[Any, Any]:
    import keras

    def fill(value: Any) -> Any:
        return tensors[value.tensor] if isinstance(value, Slot) else value

    return keras.tree.map_structure(fill, node.args), keras.tree.map_structure(fill, node.kwargs or {})


def _accepted(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what Keras hands to every layer that asks for it, where the function does not ask."""
    parameters = inspect.signature(getattr(function, "call", function)).parameters.values()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return dict(kwargs)
    names = {one.name for one in parameters}
    return {key: value for key, value in kwargs.items() if key in names or key not in ("training", "mask")}


def fresh_inputs(graph: Any) -> list[Any]:
    """Make symbolic inputs of the same names, shapes and dtypes as those of a functional graph, in its order."""
    import keras

    layers = [one._keras_history.operation for one in graph.inputs]
    return [
        keras.Input(
            batch_shape=one.shape,
            dtype=one.dtype,
            sparse=one.sparse,
            name=layer.name,
            optional=getattr(layer, "optional", False),
        )
        for one, layer in zip(graph.inputs, layers, strict=True)
    ]


def assemble(model: Any, inputs: list[Any], outputs: list[Any], *, unwrap: bool = False) -> Any:
    """Make the functional model of new tensors that takes the place of another: names, order and structure are its own.

    Args:
        model: The one that was there before.
        inputs: From `fresh_inputs`.
        outputs: As many as the model has, in its order.
        unwrap: Whether a list of one tensor becomes the tensor.
    """
    import keras

    graph = functional_graph(model)

    def packed(structure: Any, tensors: list[Any]) -> Any:
        if unwrap and isinstance(structure, (list, tuple)) and len(structure) == len(tensors) == 1:
            return tensors[0]
        return keras.tree.pack_sequence_as(structure, tensors)

    made = keras.Model(packed(graph.input, inputs), packed(graph.output, outputs), name=model.name)
    # Keras names outputs by the layers that make them, and those may be others now.
    made.output_names = list(graph.output_names)
    return made


def functional_graph(model: Any) -> Any:
    """Return the graph of a functional or Sequential model.

    Raises:
        ConversionError: The model has none that says all of what it computes.
    """
    import keras

    name = getattr(model, "name", type(model).__name__)
    graph = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if not isinstance(model, keras.Model):
        raise ConversionError(
            f"`{name}` is no Keras 3 model.",
            received=f"{type(model).__module__}.{type(model).__name__}",
            expected="a functional or Sequential model of Keras 3",
            next_step=_WAY_OUT,
        )
    if isinstance(model, keras.Sequential) and graph is None and _has_input(model):
        raise ConversionError(
            f"The shapes inside the Sequential model `{name}` are not known.",
            received=", ".join(f"`{type(layer).__name__}`" for layer in model.layers)[:300],
            expected="layers that all say what shape comes out",
            next_step="Give your own layers a `compute_output_shape(self, input_shape)`, and build the model again.",
        )
    if isinstance(model, keras.Sequential) and graph is None:
        raise ConversionError(
            f"The Sequential model `{name}` does not know its input yet.",
            received="no input shape",
            expected="a model that is built",
            next_step="Give it one: `keras.Sequential([keras.Input((32, 32, 3)), *model.layers])`.",
        )
    own_call = _from_keras(getattr(type(model), "call", None))
    if getattr(graph, "_nodes_by_depth", None) is None or not own_call:
        raise ConversionError(
            f"The model `{name}` computes with code of its own, and its layers cannot be told from outside.",
            received=f"the subclassed model `{type(model).__name__}`",
            expected="a functional or Sequential model",
            next_step=_WAY_OUT,
        )
    return graph


def _has_input(model: Any) -> bool:
    import keras

    return any(isinstance(one, keras.layers.InputLayer) for one in model._layers)


def _from_keras(function: Any) -> bool:
    """Whether Keras itself defines a method: a class that overrides `call` may compute anything."""
    return str(getattr(function, "__module__", "")).startswith("keras.")


def computable_order(graph: Any) -> Iterator[Any]:
    """Yield Keras' own nodes of a functional graph so that every input is there before it is needed."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input:
                yield node
