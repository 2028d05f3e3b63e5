"""One call of a layer as the channel rules see it, and what they ask of every layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converters.graph.channel_ids import ChannelIds, Ids
from converters.graph.network import Node

__all__ = ["Call", "Rule", "channels_last", "elementwise"]

_ELEMENTWISE = frozenset(
    {
        "celu",
        "elu",
        "exponential",
        "gelu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softplus",
        "softsign",
        "sparse_plus",
        "sparse_sigmoid",
        "squareplus",
        "tanh",
        "tanh_shrink",
        "threshold",
    }
)
_ACTIVATION_LAYERS = ("ELU", "LeakyReLU", "ReLU")


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A node with what is known of its tensors.

    Attributes:
        node: The call. It has one output.
        inputs: The channels of each input.
        shapes: The shape of each input, batch first; the last size is known.
        output: The shape of the output, likewise.
    """

    node: Node
    inputs: tuple[Ids, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    output: tuple[int | None, ...]

    @property
    def layer(self) -> Any:
        """The layer or operation."""
        return self.node.layer

    @property
    def channels(self) -> int:
        """The number of channels of the output."""
        return int(self.output[-1] or 0)


Rule = Callable[[Call, ChannelIds], "Ids | str"]


def channels_last(layer: Any) -> bool:
    """Whether a layer or operation takes its last axis for the channels. What has no such setting does."""
    import keras

    if not hasattr(layer, "data_format"):
        return True
    return str(layer.data_format or keras.config.image_data_format()) == "channels_last"


def elementwise(activation: Any) -> bool:
    """Whether an activation function, or a layer in its place, treats every value for itself."""
    import keras

    if isinstance(activation, keras.Layer):
        return type(activation).__name__ in _ACTIVATION_LAYERS and type(activation).__module__.startswith("keras.")
    module = str(getattr(activation, "__module__", ""))
    return module.startswith("keras.") and getattr(activation, "__name__", "") in _ELEMENTWISE
