"""Residual branches that can be taken out whole: what stays is the skip."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from converters.errors import ConversionError
from converters.graph.cost import call_macs
from converters.graph.network import Network, Node, read_network, rebuild

__all__ = ["Block", "remove_blocks", "residual_blocks"]


@dataclass(frozen=True, slots=True)
class Block:
    """One residual branch around which the input goes unchanged: `x + branch(x)`.

    Attributes:
        name: Of the Add, with a number behind where an Add is called several times: "add_3 (2)".
        add: Name of the Add, layer or operation.
        layers: Names of the branch's layers, in the order in which they are computed; those of blocks within too.
        macs: Multiply-accumulates of the branch, with batch 1.
    """

    name: str
    add: str
    layers: tuple[str, ...]
    macs: int


@dataclass(frozen=True, slots=True, eq=False)
class _Branch:
    block: Block
    node: int  # of the Add
    skip: int  # which of its inputs stays
    nodes: frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class _Links:
    """A network with its tensors' ends at hand: asking every node for each of them takes long in a large model."""

    network: Network
    makers: Mapping[int, Node]
    readers: Mapping[int, set[int]]

    @classmethod
    def of(cls, network: Network) -> _Links:
        makers = {tensor: node for node in network.nodes for tensor in node.outputs}
        readers: dict[int, set[int]] = {}
        for node in network.nodes:
            for tensor in node.inputs:
                readers.setdefault(tensor, set()).add(node.index)
        return cls(network, makers, readers)


def residual_blocks(model: Any) -> tuple[Block, ...]:
    """Return the residual branches with an identity skip, in the model's order.

    An Add of two tensors of one shape closes a block if one of them is computed from the other alone, and nobody else
    reads what comes in between. A skip with a convolution of its own is no identity: such an Add closes none.

    Args:
        model: A flat Keras model.

    Raises:
        ConversionError: The model is not flat, or the MACs depend on a size that is not fixed.
    """
    return tuple(one.block for one in _branches(read_network(model)))


def remove_blocks(model: Any, names: Collection[str]) -> Any:
    """Return the model without some of its residual branches: each Add becomes its skip.

    The result equals the given model with zeros for what the branches add. What follows the Add stays, but for a ReLU
    that would stand behind a ReLU: it does nothing, and in an int8 file with chosen ranges it is an op that engines do
    not fuse (measured: 2.1 to 2.6 times the latency of ResNet-8). Compiled losses and metrics are not carried over.

    Args:
        model: A flat Keras model; it stays as it is, weights included.
        names: Of blocks that `residual_blocks` lists. A block within another one may be named along with it.

    Returns:
        A new functional model with the same inputs and outputs.

    Raises:
        ConversionError: There is no such block, or the model is not flat.
    """
    network = read_network(model)
    branches = {one.block.name: one for one in _branches(network)}
    for name in names:
        if name not in branches:
            close = difflib.get_close_matches(str(name), branches, n=3) or list(branches)[:10]
            raise ConversionError(
                "There is no such residual block.",
                received=repr(name),
                expected=f"one of {', '.join(map(repr, close))}" if close else "a model with residual blocks",
                next_step="`residual_blocks(model)` lists those of this very model.",
            )
    dropped = {branches[name].node: branches[name].skip for name in names}
    repeated = {
        reader.index: 0
        for node, skip in dropped.items()
        if _is_relu(network.producer(network.nodes[node].inputs[skip]))
        for reader in network.consumers(network.nodes[node].outputs[0])
        # An output of the model is named by its layer, and a layer with weights does more than its activation.
        if _is_relu(reader) and not reader.layer.weights and not set(reader.outputs) & set(network.outputs)
    }
    return rebuild(network, {**dropped, **repeated})


def _is_relu(node: Node | None) -> bool:
    """Whether the last thing that a node does is max(0, x)."""
    if node is None:
        return False
    if node.kind == "ReLU":
        settings = node.layer.get_config()
        return settings["max_value"] is None and not settings["negative_slope"] and not settings["threshold"]
    return getattr(getattr(node.layer, "activation", None), "__name__", "") == "relu"


def _branches(network: Network) -> list[_Branch]:
    import keras

    links = _Links.of(network)
    found: list[_Branch] = []
    taken: set[str] = set()
    for node in network.nodes:
        if not _adds_two(network, node) or not type(node.layer).__module__.startswith("keras."):
            continue
        for skip in (0, 1):
            nodes = _branch(links, node, skip)
            if not nodes:
                continue
            name, number = node.name, 1
            while name in taken:
                number += 1
                name = f"{node.name} ({number})"
            taken.add(name)
            inside = [one for one in network.nodes if one.index in nodes]
            macs = sum(
                call_macs(one.layer, network.shapes[one.inputs[0]], network.shapes[one.outputs[0]])
                for one in inside
                if isinstance(one.layer, keras.Layer) and one.inputs and one.outputs
            )
            layers = tuple(dict.fromkeys(one.name for one in inside))
            found.append(_Branch(Block(name, node.name, layers, macs), node.index, skip, frozenset(nodes)))
            break
    return found


def _adds_two(network: Network, node: Node) -> bool:
    """Whether a node adds two different tensors of the shape of its output, and does nothing else."""
    if node.kind != "Add" or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
        return False
    shapes = {network.shapes[one] for one in (*node.inputs, *node.outputs)}
    return len(shapes) == 1


def _branch(links: _Links, add: Node, skip: int) -> set[int]:
    """Return the nodes between the skip and the other input of an Add; none if they do not hang on the skip alone."""
    start, end = add.inputs[skip], add.inputs[1 - skip]
    nodes: set[int] = set()
    waiting, reached = [end], False
    while waiting:
        tensor = waiting.pop()
        if tensor == start:
            reached = True
            continue
        maker = links.makers.get(tensor)
        if maker is None:
            return set()
        if maker.index not in nodes:
            nodes.add(maker.index)
            waiting.extend(maker.inputs)
    inside = nodes | {add.index}
    for index in nodes:
        for tensor in links.network.nodes[index].outputs:
            if tensor in links.network.outputs or not inside.issuperset(links.readers.get(tensor, ())):
                return set()
    return nodes if reached else set()
