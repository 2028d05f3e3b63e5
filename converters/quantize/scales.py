"""Which tensors of a model get a scale of their own in a full int8 file, which share one, and which vanish in a kernel.

TensorFlow's converter gives every tensor that an op computes a scale, with four exceptions: a ReLU is computed inside
the kernel before it; ops that only move or choose numbers (reshape, pad, pool, concatenate) keep the scale of what
they move; the output of Softmax and Sigmoid has a scale by definition; and what stands before the model's real input
is taken off. A range that is put anywhere else makes another file than the one that was trained for.

Measured with TensorFlow 2.21: with one range on all the producers that a Concatenate joins, the file has no op in
between; with several, it has a QUANTIZE before the Concatenate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from converters.errors import ConversionError
from converters.graph.leading import take_off_leading
from converters.graph.network import Network, Node
from converters.settings import close_name

__all__ = [
    "AVERAGE_POOLING",
    "WEIGHTED",
    "Range",
    "Ranges",
    "Scales",
    "activation_name",
    "aligned_ranges",
    "checked_ranges",
    "read_scales",
]

Range = tuple[float, float]
Ranges = tuple[tuple[str, float, float], ...]

# Conv3D has no int8 kernel; of the transposed ones the kernel's axes differ.
WEIGHTED = frozenset({"Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "Conv2DTranspose", "Dense"})
_IDLE = frozenset(
    {
        "ActivityRegularization",
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
    }
)
AVERAGE_POOLING = frozenset({"AveragePooling1D", "AveragePooling2D"})
_SAME_SCALE = AVERAGE_POOLING | {
    "Concatenate",
    "Cropping1D",
    "Cropping2D",
    "Flatten",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "MaxPooling1D",
    "MaxPooling2D",
    "Permute",
    "RepeatVector",
    "Reshape",
    "Transpose",
    "UpSampling1D",
    "UpSampling2D",
    "ZeroPadding1D",
    "ZeroPadding2D",
}
_FUSING = WEIGHTED | {"Add", "Subtract", "Multiply"}
_OWN_SCALE = _FUSING | {"ReLU", "LeakyReLU", "Maximum", "Minimum", "GlobalAveragePooling1D", "GlobalAveragePooling2D"}
# TensorFlow Lite 8-bit quantization specification, "Int8 quantized operator specifications": (scale, zero point) as the
# range that an 8-bit FakeQuant takes. Softmax and Logistic 1/256 and -128, Tanh 1/128 and 0.
_FIXED: Mapping[str, Range] = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """What has which scale.

    Attributes:
        network: The model.
        sources: By tensor number, the name under which its range is given: that of the layer that computes it, of the
            input, or of the last layer of a rescaling at the front, which is the file's input.
        groups: By name, the number of the group that shares one scale.
        tensors: By tensor number, that group; no entry for tensors that are no 8-bit tensors in the file.
        fixed: By tensor number, the range that the op gives its output by definition.
        fused: By number of a tensor that vanishes inside a kernel, that of the ReLU's output, which the kernel writes.
        inputs: The names among `sources` that are the file's inputs.
        notes: Sentences about layers that the file computes in more steps than can be foreseen.
    """

    network: Network
    sources: Mapping[int, str]
    groups: Mapping[str, int]
    tensors: Mapping[int, int]
    fixed: Mapping[int, Range]
    fused: Mapping[int, int]
    inputs: frozenset[str]
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all ranges that the file needs, in the order of the model."""
        return tuple(dict.fromkeys(self.sources.values()))

    def range_of(self, tensor: int, ranges: Mapping[str, Range]) -> Range | None:
        """Return the range of a tensor, or None where it has none or nobody gave it."""
        if tensor in self.fixed:
            return self.fixed[tensor]
        group = self.tensors.get(tensor)
        return next((ranges[name] for name in self.names if name in ranges and self.groups[name] == group), None)


def activation_name(layer: Any) -> str:
    """Return the name of the function that a layer applies at its end: "linear" for none, "relu", "relu6", ..."""
    kind = type(layer).__name__
    if kind in ("ReLU", "Relu", "Relu6"):
        if kind != "ReLU":
            return kind.lower()
        plain = not layer.negative_slope and not layer.threshold
        return {None: "relu", 6.0: "relu6"}.get(layer.max_value, "other") if plain else "other"
    if kind in ("Softmax", "Sigmoid", "Tanh"):
        return kind.lower()
    function = getattr(layer, "activation", None)
    if function is None or isinstance(function, str):
        return function or "linear"
    name = str(getattr(function, "__name__", "other"))
    return name if str(getattr(function, "__module__", "")).startswith("keras.") else "other"


def read_scales(network: Network) -> Scales:
    """Find out which tensors have which scale.

    Args:
        network: Of a model without BatchNorm behind convolutions and without activations other than ReLU in layers
            with weights, see `converters.quantize.standard`. Others are read too; their inner steps have no range.
    """
    return _Reader(network).read()


def _is_idle(node: Node) -> bool:
    return node.kind in _IDLE or (node.kind == "Activation" and activation_name(node.layer) == "linear")


class _Reader:
    """Goes through a network once, in its order."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.parent = list(range(len(network.shapes)))
        # A tensor that an idle layer hands on is the same tensor: it fuses like it and counts its consumers.
        self.same = list(range(len(network.shapes)))
        self.sources: dict[int, str] = {}
        self.fixed: dict[int, Range] = {}
        self.notes: list[str] = []
        self.fused: dict[int, int] = {}
        self.inputs: set[str] = set()

    def read(self) -> Scales:
        front = self._front()
        for node in self.network.nodes:
            if node.index in front:
                continue
            if _is_idle(node):
                self._hand_on(node)
            elif node.kind in _SAME_SCALE:
                self._move(node)
            else:
                self._compute(node)
        first: dict[str, int] = {}
        for tensor, name in self.sources.items():
            if name in first:  # a layer that is called twice has one name, so one range
                self._join(tensor, first[name])
            first.setdefault(name, tensor)
        roots = {self._root(tensor) for tensor in self.sources}
        return Scales(
            self.network,
            dict(self.sources),
            {name: self._root(tensor) for tensor, name in self.sources.items()},
            {tensor: self._root(tensor) for tensor in range(len(self.parent)) if self._root(tensor) in roots},
            {tensor: self.fixed[self._root(tensor)] for tensor in range(len(self.parent)) if self._is_fixed(tensor)},
            dict(self.fused),
            frozenset(self.inputs),
            tuple(self.notes),
        )

    def _front(self) -> set[int]:
        """Name the inputs, and return the nodes of a rescaling that the converter takes off."""
        network = self.network
        graph = getattr(network.model, "_functional", None) or network.model
        inputs = dict(zip(network.inputs, graph.inputs, strict=True))
        names = {number: str(tensor._keras_history.operation.name) for number, tensor in inputs.items()}
        dtypes = {number: str(tensor.dtype) for number, tensor in inputs.items()}
        nodes: set[int] = set()
        _, leading, _ = take_off_leading(network.model)
        if leading is not None:
            (number,) = network.inputs
            last = leading.layers[-1]
            while True:
                (node,) = network.consumers(number)
                nodes.add(node.index)
                number = node.outputs[0]
                if node.name == last:
                    break
            names, dtypes = {number: last}, {number: "float32"}
        kept = {number: name for number, name in names.items() if dtypes[number].startswith("float")}
        self.sources.update(kept)
        self.inputs = set(kept.values())
        return nodes

    def _hand_on(self, node: Node) -> None:
        self._join(node.outputs[0], node.inputs[0])
        self.same[node.outputs[0]] = self.same[node.inputs[0]]

    def _move(self, node: Node) -> None:
        moved = [one for one in node.inputs if not self._is_fixed(one)]
        if not moved:
            self._join(node.outputs[0], node.inputs[0])
            return
        for one in moved:
            self._join(node.outputs[0], one)
        if len(moved) < len(node.inputs):
            # A Softmax has its own scale and is brought to the common one here.
            self.sources[node.outputs[0]] = node.name

    def _compute(self, node: Node) -> None:
        activation = activation_name(node.layer)
        if node.kind in ("Softmax", "Sigmoid", "Tanh") or (node.kind == "Activation" and activation in _FIXED):
            self.fixed[node.outputs[0]] = _FIXED[activation]
            return
        rectifies = activation in ("relu", "relu6") and node.kind in ("ReLU", "Relu", "Relu6", "Activation")
        if rectifies and self._fuses(node.inputs[0]):
            origin = self.same[node.inputs[0]]
            self.sources.pop(origin)
            self.fused[origin] = node.outputs[0]
        elif node.kind not in _OWN_SCALE and not rectifies:
            self.notes.append(
                f"`{node.name}` ({node.kind}) is computed in steps of its own in the int8 file: only its output is "
                "rounded in the simulation."
            )
        elif node.kind in ("Add", "Multiply") and len(node.inputs) != 2:
            self.notes.append(
                f"`{node.name}` joins {len(node.inputs)} tensors: the int8 file rounds in between, the simulation "
                "does not."
            )
        if node.kind in WEIGHTED and activation not in ("linear", "relu", "relu6"):
            self.notes.append(f"`{node.name}` applies {activation} itself: what goes into it is not rounded here.")
            if activation in _FIXED:
                self.fixed[node.outputs[0]] = _FIXED[activation]
                return
        for one in node.outputs:
            self.sources[one] = node.name

    def _fuses(self, tensor: int) -> bool:
        """Whether the ReLU that reads a tensor is computed inside the kernel that makes it."""
        origin = self.same[tensor]
        producer = self.network.producer(origin)
        if producer is None or producer.kind not in _FUSING or activation_name(producer.layer) != "linear":
            return False
        aliases = [one for one in range(len(self.same)) if self.same[one] == origin]
        readers = [node for one in aliases for node in self.network.consumers(one) if not _is_idle(node)]
        return origin in self.sources and len(readers) == 1 and not set(aliases) & set(self.network.outputs)

    def _root(self, tensor: int) -> int:
        while self.parent[tensor] != tensor:
            tensor = self.parent[tensor]
        return tensor

    def _join(self, tensor: int, other: int) -> None:
        low, high = sorted((self._root(tensor), self._root(other)))
        self.parent[high] = low

    def _is_fixed(self, tensor: int) -> bool:
        return self._root(tensor) in self.fixed


def aligned_ranges(scales: Scales, ranges: Iterable[tuple[str, float, float]]) -> Ranges:
    """Return ranges as the file can have them: one for all tensors that share a scale, and only where one is needed.

    Args:
        scales: Of the model.
        ranges: (layer name, low, high) of any layers. Of a group, the union is taken; 0 is always inside, because
            padding and ReLU need it exactly.

    Raises:
        ConversionError: A name is none of the model's layers.
    """
    known = {node.name for node in scales.network.nodes} | set(scales.names)
    groups: dict[int, Range] = {}
    given = set()
    for name, low, high in ranges:
        if name not in known:
            raise _unknown_layer(name, sorted(known))
        if name in scales.groups:
            before = groups.get(scales.groups[name], (0.0, 0.0))
            groups[scales.groups[name]] = (min(before[0], low), max(before[1], high))
            given.add(name)
    return tuple((name, *groups[scales.groups[name]]) for name in scales.names if scales.groups[name] in groups)


def checked_ranges(scales: Scales, ranges: Iterable[tuple[str, float, float]], *, complete: bool) -> dict[str, Range]:
    """Return ranges by name, once it is sure that a file can have them.

    Raises:
        ConversionError: A name is none of `scales.names`, a range is none or is missing, or two tensors of one scale
            have different ranges.
    """
    ranges = tuple(ranges)
    given = {name: (low, high) for name, low, high in ranges}
    for name, (low, high) in given.items():
        if name not in scales.groups:
            raise _unknown_layer(name, list(scales.names))
        if not (math.isfinite(low) and math.isfinite(high) and low <= 0 <= high and low < high):
            raise ConversionError(
                f"The range of `{name}` is none.",
                received=f"{low} to {high}",
                expected="low <= 0 <= high, low < high, both finite",
            )
    if complete:
        missing = [name for name in scales.names if name not in given]
        if missing:
            raise ConversionError(
                "Layers have no range.",
                received=f"{len(given)} ranges, none for " + ", ".join(f"`{name}`" for name in missing),
                expected="a range for every layer with a scale of its own",
            )
    for name, low, high in aligned_ranges(scales, ranges):
        if name in given and given[name] != (low, high):
            raise ConversionError(
                f"`{name}` shares its scale with other layers, which have another range.",
                received=f"{given[name][0]} to {given[name][1]}",
                expected=f"{low} to {high} for all of them",
                next_step="Put the ranges through `aligned_ranges` first.",
            )
    return given


def _unknown_layer(name: str, names: list[str]) -> ConversionError:
    """Make the error for a range of a layer that the model does not have."""
    return ConversionError(
        f"The model has no layer `{name}` that a range could belong to.",
        received=f"a range for `{name}`",
        expected=", ".join(f"`{one}`" for one in names[:20]) + (", ..." if len(names) > 20 else ""),
        next_step=close_name(name, names),
    )
