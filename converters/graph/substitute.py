"""Replace layers that an accelerator lacks by others that compute the same, before the converter sees them.

Each replacement is exact up to the rounding of floats, and each is written so that TensorFlow 2.21's converter does not
put the very op back together that is to be avoided: it makes HARD_SWISH of `x * (relu6(x + 3) / 6)`, and LEAKY_RELU of
`max(a x, x)`, but not of `max(x, a x)`. What cannot be replaced exactly is refused with the layer's name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converters.errors import ConversionError
from converters.graph.copies import copy_state, fresh_layer
from converters.graph.flat import flat_model
from converters.graph.network import Network, Node, read_network, rebuild
from edgeinfer.errors import UnsupportedOpError

__all__ = ["substitute"]

_CURE = "Train it with ReLU, ReLU6 or silu as the activation."
# Activations without an exact form in ops that the accelerator has, by the function's and by the operation's name.
_REFUSED = {
    "celu": _CURE,
    "elu": _CURE,
    "exponential": _CURE,
    "gelu": _CURE,
    "glu": _CURE,
    "hard_shrink": _CURE,
    "hardshrink": _CURE,
    "log_sigmoid": _CURE,
    "logsigmoid": _CURE,
    "log_softmax": "Leave it out of the model: the order of the classes stays the same.",
    "logsoftmax": "Leave it out of the model: the order of the classes stays the same.",
    "mish": _CURE,
    "selu": _CURE,
    "soft_shrink": _CURE,
    "softshrink": _CURE,
    "softplus": _CURE,
    "softsign": _CURE,
    "sparse_plus": _CURE,
    "sparseplus": _CURE,
    "sparsemax": _CURE,
    "squareplus": _CURE,
    "tanh_shrink": _CURE,
    "tanhshrink": _CURE,
    "threshold": _CURE,
}
_NORMS = ("LayerNormalization", "GroupNormalization", "RMSNormalization")
_DENSE, _GROUPS, _UP = "dense", "groups", "up"
# What computes its activation behind everything else, on its output. Recurrent layers do not.
_ACTIVATED = ("Activation", "Dense", "EinsumDense", "Conv", "DepthwiseConv", "SeparableConv")


@dataclass(frozen=True, slots=True)
class _Activation:
    """An activation in steps that have integer ops of their own.

    Attributes:
        kind: "hard_swish" or "leaky".
        slope: Of the negative half, 0..1.
        most: The largest value that comes out, or None.
    """

    kind: str
    slope: float = 0.0
    most: float | None = None

    def __call__(self, x: Any) -> Any:
        """Return the activation of a tensor."""
        from keras import ops

        if self.kind == "hard_swish":
            return (x * (1 / 6)) * ops.relu6(x + 3.0)
        # Source: Maas et al. 2013, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", section 3; with
        # 0 <= slope <= 1 the larger of both is the right one everywhere.
        leaky = ops.maximum(x, x * self.slope)
        return leaky if self.most is None else ops.minimum(leaky, self.most)

    def __str__(self) -> str:
        if self.kind == "hard_swish":
            return "x/6 * relu6(x + 3)"
        return f"max(x, {self.slope:g} x)" + ("" if self.most is None else f", at most {self.most:g}")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What becomes of one call of a layer.

    Attributes:
        form: "dense" or "groups" where the layer's own product is computed in another way, "up" for a resize, else "".
        activation: In steps; None leaves the layer's own.
    """

    form: str = ""
    activation: _Activation | None = None


def substitute(model: Any, target: str) -> tuple[Any, tuple[str, ...]]:
    """Return a model that computes the same without the layers that an Edge TPU lacks, and what was replaced.

    Args:
        model: A Keras 3 model; it is not changed.
        target: Name of the target, for errors.

    Returns:
        A flat functional model with the same inputs, outputs, layer names and weights; one sentence a layer. Where
        there is nothing to replace, the model itself. It is for the converter: saved, it cannot be read without this
        package.

    Raises:
        UnsupportedOpError: A layer cannot be replaced exactly.
        ConversionError: A layer needs replacing in a model that is subclassed or cannot be copied.
    """
    try:
        network = read_network(flat_model(model))
    except ConversionError:
        # A model with code of its own: its layers can be looked at, and not be replaced.
        for layer in model._flatten_layers():
            if _plan(layer, layer.name, target) is not None:
                raise
        return model, ()
    plans = {node.index: plan for node in network.nodes if (plan := _plan(node.layer, node.name, target)) is not None}
    pools = _pools_before_relu(network)
    if not plans and not pools:
        return model, ()
    made: dict[int, Any] = {}
    replace: dict[int, Callable[..., Any] | int] = {}
    notes: dict[str, None] = {}
    for pool, relu in pools:
        # The largest of what a ReLU lets through is what it lets through of the largest.
        replace[pool.index], replace[relu.index] = _swapped(pool.layer, relu.layer), 0
        notes[f"`{relu.name}` ({relu.kind}) in front of `{pool.name}` instead of behind it"] = None
    for node in network.nodes:
        if node.index not in plans:
            continue
        plan = plans[node.index]
        _check_sizes(node, network.shapes[node.inputs[0]], plan, target)
        notes[_said(node, plan)] = None
        if id(node.layer) not in made:
            made[id(node.layer)] = _twin(node, plan)
        replace[node.index] = made[id(node.layer)]
    changed = rebuild(network, replace)
    for node in network.nodes:
        if node.index in plans:
            copy_state(node.layer, made[id(node.layer)])
    return changed, tuple(notes)


def _pools_before_relu(network: Network) -> list[tuple[Node, Node]]:
    """Return each MaxPooling2D with the ReLU that alone reads it: the converter would fuse it into the pooling."""
    found = []
    for relu in network.nodes:
        if not _is_relu(relu.layer) or len(relu.inputs) != 1 or len(network.calls(relu.layer)) != 1:
            continue
        pool = network.producer(relu.inputs[0])
        if pool is None or pool.kind != "MaxPooling2D" or len(network.calls(pool.layer)) != 1:
            continue
        if network.consumers(pool.outputs[0]) == (relu,) and pool.outputs[0] not in network.outputs:
            found.append((pool, relu))
    return found


def _is_relu(layer: Any) -> bool:
    if not type(layer).__module__.startswith("keras."):
        return False
    if type(layer).__name__ == "ReLU":
        return not layer.negative_slope and not layer.threshold
    own = layer.activation if type(layer).__name__ == "Activation" else None
    return type(layer).__name__ in ("Relu", "Relu6") or getattr(own, "__name__", "") in ("relu", "relu6")


def _swapped(pool: Any, relu: Any) -> Callable[[Any], Any]:
    first, then = fresh_layer(relu), fresh_layer(pool)
    return lambda inputs: then(first(inputs))


def _plan(layer: Any, name: str, target: str) -> _Plan | None:
    """Return what becomes of a layer or Keras operation; None where it stays.

    Raises:
        UnsupportedOpError: It has no place on the target and no exact replacement.
    """
    kind, module = type(layer).__name__, type(layer).__module__
    if not module.startswith("keras."):
        return None
    if kind in _NORMS:
        raise _refused(layer, name, target, kind, "Train it with BatchNormalization.")
    if kind == "UpSampling2D" and layer.interpolation == "nearest":
        return _Plan(_UP)
    if hasattr(layer, "layer"):  # a wrapper, such as TimeDistributed: nothing is replaced within it
        if _plan(layer.layer, name, target) is not None:
            raise _refused(layer, name, target, f"`{layer.layer.name}` within it", "Use the layer without its wrapper.")
        return None
    if kind == "PReLU" and any(size != 1 for size in layer.alpha.shape[:-1]):
        raise _refused(layer, name, target, "a slope for each place", "Make it with `shared_axes=[1, 2]`.")
    if kind == "ReLU" and layer.threshold:
        raise _refused(layer, name, target, "a threshold", _CURE)
    form = ""
    if kind == "Dense" and _rank(layer) > 2:
        form = _DENSE
    elif kind in ("Conv1D", "Conv2D") and layer.groups > 1:
        form = _GROUPS
    activation = _activation(layer, name, target)
    return _Plan(form, activation) if form or activation else None


def _rank(layer: Any) -> int:
    return max((len(node.input_tensors[0].shape) for node in layer._inbound_nodes if node.input_tensors), default=2)


def _activation(layer: Any, name: str, target: str) -> _Activation | None:
    """Return the steps of a layer's activation; None where it has none, or one that stays."""
    kind = type(layer).__name__
    own = getattr(layer, "activation", None)
    if kind in ("LeakyReLU", "LeakyRelu"):
        return _leaky(layer, name, target, float(layer.negative_slope))
    if kind == "ReLU" and layer.negative_slope:
        most = None if layer.max_value is None else float(layer.max_value)
        return _leaky(layer, name, target, float(layer.negative_slope), most)
    if kind in ("HardSilu", "HardSwish"):
        return _Activation("hard_swish")
    if hasattr(layer, "activation") and not kind.startswith(_ACTIVATED):
        return None
    if hasattr(own, "get_config") and hasattr(own, "call"):  # a layer as the activation: `activation=LeakyReLU(0.1)`
        return _activation(own, name, target)
    refusal = kind if not hasattr(layer, "activation") else getattr(own, "__name__", "")
    if refusal.casefold() in _REFUSED:
        raise _refused(layer, name, target, refusal, _REFUSED[refusal.casefold()])
    if own is None or not str(getattr(own, "__module__", "")).startswith("keras."):
        return None
    if own.__name__ in ("hard_silu", "hard_swish"):
        return _Activation("hard_swish")
    return _leaky(layer, name, target, 0.2) if own.__name__ == "leaky_relu" else None


def _leaky(layer: Any, name: str, target: str, slope: float, most: float | None = None) -> _Activation:
    if not 0 <= slope <= 1 or (most is not None and most < 0):
        raise _refused(layer, name, target, f"a slope of {slope:g}", "Train it with a slope between 0 and 1.")
    return _Activation("leaky", slope, most)


def _refused(layer: Any, name: str, target: str, what: str, cure: str) -> UnsupportedOpError:
    return UnsupportedOpError(
        f"The target `{target}` has no op for the layer `{name}`, and nothing computes exactly the same.",
        received=f"`{type(layer).__name__}`" + (f": {what}" if what != type(layer).__name__ else ""),
        expected="layers that become ops which the target has, or that can be replaced by such",
        next_step=cure,
    )


def _check_sizes(node: Node, shape: tuple[int | None, ...], plan: _Plan, target: str) -> None:
    if plan.form in (_DENSE, _UP) and any(size is None for size in shape[1:]):
        raise _refused(
            node.layer, node.name, target, f"an input of open size {shape}", "Give the model's Input a full shape."
        )
    if plan.form and getattr(node.layer, "data_format", "channels_last") == "channels_first":
        raise _refused(node.layer, node.name, target, "channels_first", "Build the model with channels_last.")


def _said(node: Node, plan: _Plan) -> str:
    parts = []
    if plan.form == _DENSE:
        parts.append("as a 1x1 convolution")
    elif plan.form == _GROUPS:
        parts.append(f"as {node.layer.groups} convolutions behind a split")
    elif plan.form:
        parts.append("as a nearest-neighbour resize")
    if plan.activation is not None:
        parts.append(f"its activation as {plan.activation}")
    return f"`{node.name}` ({node.kind}): {', '.join(parts)}"


def _twin(node: Node, plan: _Plan) -> Any:
    """Return a layer of the same name and, once it is built, the same weights."""
    layer = node.layer
    if plan.form == _UP:
        return _resize_class()(layer.size, name=node.name)
    if not list(getattr(layer, "variables", ())):
        return _steps_class(plan.activation)(name=node.name)
    changes = {} if plan.activation is None else {"activation": "linear"}
    settings = fresh_layer(layer, changes=changes).get_config()
    return _product_class(type(layer), plan).from_config(settings)  # type: ignore[arg-type]  # a class can be hashed


@functools.cache
def _resize_class() -> Any:
    import keras

    class NearestResize(keras.layers.UpSampling2D):  # type: ignore[misc]
        """Pixel (y, x) is input pixel (y // factor, x // factor), as repeating has it."""

        def call(self, inputs: Any) -> Any:
            size = tuple(one * factor for one, factor in zip(inputs.shape[1:3], self.size, strict=True))
            return keras.ops.image.resize(inputs, size, interpolation="nearest")

    return NearestResize


@functools.cache
def _steps_class(activation: _Activation | None) -> Any:
    import keras

    class Steps(keras.layers.Layer):  # type: ignore[misc]
        """An activation alone."""

        def call(self, inputs: Any) -> Any:
            return inputs if activation is None else activation(inputs)

    return Steps


@functools.cache
def _product_class(own: Any, plan: _Plan) -> Any:
    from keras import ops

    class Product(own):  # type: ignore[misc]
        """A layer with weights, whose product or activation is computed in other steps."""

        def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if plan.form == _DENSE:
                outputs = _dense(self, inputs)
            elif plan.form == _GROUPS:
                return _groups(self, inputs, plan.activation)
            else:
                outputs = super().call(inputs, *args, **kwargs)
            return outputs if plan.activation is None else plan.activation(outputs)

    def _dense(layer: Any, inputs: Any) -> Any:
        *places, channels = inputs.shape[1:]
        # Height 1, so that any number of places stands in one row.
        row = inputs if len(places) == 2 else ops.reshape(inputs, (-1, 1, _product(places), channels))
        made = ops.conv(row, ops.reshape(layer.kernel, (1, 1, channels, layer.units)), padding="valid")
        if layer.use_bias:
            made = made + layer.bias
        if layer.activation is not None:
            made = layer.activation(made)
        return made if len(places) == 2 else ops.reshape(made, (-1, *places, layer.units))

    def _groups(layer: Any, inputs: Any, activation: _Activation | None) -> Any:
        each, outputs = layer.filters // layer.groups, []
        whole = getattr(layer.activation, "__name__", "") == "softmax"  # looks at all channels at once
        if layer.padding == "causal":
            inputs = ops.pad(inputs, [[0, 0], [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0], [0, 0]])
        for number, part in enumerate(ops.split(inputs, layer.groups, axis=-1)):
            mine = slice(number * each, (number + 1) * each)
            made = ops.conv(
                part,
                layer.kernel[..., mine],
                strides=list(layer.strides),
                padding="valid" if layer.padding == "causal" else layer.padding,
                dilation_rate=layer.dilation_rate,
                data_format=layer.data_format,
            )
            if layer.use_bias:
                made = made + layer.bias[mine]
            if layer.activation is not None and not whole:
                # Each part has its own, which a convolution does in passing; behind the concatenation it would be
                # fused into that, and the Edge TPU takes none with an activation.
                made = layer.activation(made)
            outputs.append(made if activation is None else activation(made))
        made = ops.concatenate(outputs, axis=-1)
        return layer.activation(made) if whole else made

    return Product


def _product(sizes: list[int]) -> int:
    made = 1
    for size in sizes:
        made *= size
    return made
