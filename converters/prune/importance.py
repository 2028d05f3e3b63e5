"""What each channel of a group is worth: norms of its weights, or what the loss or the outputs would lose with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError, TrainingError
from converters.graph.channels import ChannelGroup, Member
from converters.prune.samples import labelled_batches, model_outputs, sample_batches
from converters.steps import Prune
from converters.train.endings import find_ending, only_output
from converters.train.labels import Labels, check_labels, choose_goal

__all__ = ["importances"]

_TAYLOR_SAMPLES, _TAYLOR_BATCH = 1024, 32
# Each pass backwards gives (J^T v)^2 summed over a batch, which for normally distributed sums has twice its mean
# squared as variance, however large the batch is: 256 / 16 * 8 = 128 passes leave sqrt(2 / 128) = 12.5 % per weight,
# and a channel adds up many weights.
_HESSIAN_SAMPLES, _HESSIAN_BATCH = 256, 16
_RANDOM_VECTORS = 8


def importances(
    model: Any, groups: Sequence[ChannelGroup], step: Prune, *, data: Any = None
) -> Mapping[str, NDArray[np.float64]]:
    """Return what each channel is worth, in a unit in which the channels of all groups can be compared.

    A channel of a group is a slice of several layers' weights; all of them count together.

    * "l1", "l2": norm of its slice of the kernel that makes it, biases left out, divided by the mean over the group:
      a kernel is large or small as a whole (by its fan-in, or by the BatchNormalization behind it), and that says
      nothing of its worth. Where several layers make a channel (they are added), it is the sum of theirs: the mean
      channel of a group is worth as much as there are layers that make it.
    * "batchnorm": |gamma| of the BatchNormalization behind, likewise divided by the mean over the group; of several
      ones the mean, times the number of layers that make the channel. A group without one has the "l2" norms, which
      are in the same unit.
    * "taylor": (sum g w)^2, averaged over batches of training data, with the gradient g of the loss. The sum runs over
      the weights that read the channel: with them at zero the channel is gone for the rest of the model, whatever
      activation stands before them; it is the gradient of a gate that the channel passes.
    * "hessian": sum H_ii w_i^2 / 2 over the kernels and biases that make the channel. H is the Hessian of half the
      squared difference between the outputs with and without the change, which is J^T J with the outputs' Jacobian J:
      the second order of what the removal changes, known without labels. Its diagonal is estimated as the mean of
      (J^T v)^2 with random vectors v of -1 and 1.

    The last two are changes of one and the same quantity, the loss or the outputs of the whole model, so the channels
    of all layers compare as they are.

    Args:
        model: A flat model; it is not changed.
        groups: Its groups.
        step: Says which importance.
        data: `Examples`, or batches as Keras' `fit` takes them; "taylor" reads the labels, "hessian" the inputs only.
            At most 1024 and 256 samples are read, spread evenly over all of them.

    Returns:
        Group name -> (size,) float64, at least 0. Frozen groups are scored, too, where they have weights.

    Raises:
        ConversionError: There is no data where it is needed, or a score is no finite number.
        TrainingError: The labels do not fit the model.

    Source: l1: Li et al. 2016, arXiv:1608.08710, section 3.1. batchnorm: Liu et al. 2017, arXiv:1708.06519, section 3.
    taylor: Molchanov et al. 2019, arXiv:1906.10771, equation 8, and the abstract for "scale consistently across any
    network layer". hessian: LeCun et al. 1989, Optimal Brain Damage, equation 5 (sum H_ii w_i^2 / 2); Gordon et al.
    2023, arXiv:2309.11531 (label-free Hessian J^T J); Bekas et al. 2007, Applied Numerical Mathematics 57, p. 1214
    (diagonal by random vectors, after Hutchinson 1990).
    """
    layers = {layer.name: layer for layer in model.layers}
    if step.importance in ("taylor", "hessian"):
        if data is None:
            needed = "training data with labels" if step.importance == "taylor" else "samples"
            raise ConversionError(
                f'Importance "{step.importance}" is measured on data.',
                received="no data",
                expected=needed,
                next_step='Give training data, or take importance="l2", which needs none.',
            )
        measure = _taylor if step.importance == "taylor" else _hessian
        scores = measure(model, layers, groups, data)
    else:
        scores = {group.name: _weight_score(layers, group, step.importance) for group in groups}
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise ConversionError(
                f"The channels of `{name}` cannot be ranked: their {step.importance} scores are not finite.",
                received=f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} are not",
                next_step="Check the model's weights for infinity and NaN.",
            )
    return scores


def _relative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = values.mean() if len(values) else 0.0
    return values / mean if mean > 0 else values


def _weight_score(layers: Mapping[str, Any], group: ChannelGroup, kind: str) -> NDArray[np.float64]:
    kernels = [member for member in group.members if member.producing and _weight(layers, member).ndim > 1]
    if kind == "batchnorm":
        gammas = [member for member in group.members if _is_gamma(layers, member)]
        if gammas:
            sizes = [_relative(_by_channel(np.abs(_array(layers, one)), one, group.size)) for one in gammas]
            return np.asarray(np.mean(sizes, axis=0) * max(len(kernels), 1), dtype=np.float64)
    total = np.zeros(group.size)
    for member in kernels:
        if kind == "l1":
            norms = _by_channel(np.abs(_array(layers, member)), member, group.size)
        else:
            norms = np.sqrt(_by_channel(_array(layers, member) ** 2, member, group.size))
        total += _relative(norms)
    return total


def _weight(layers: Mapping[str, Any], member: Member) -> Any:
    return layers[member.layer].weights[member.weight]


def _array(layers: Mapping[str, Any], member: Member) -> NDArray[np.float64]:
    return np.asarray(_weight(layers, member), dtype=np.float64)


def _is_gamma(layers: Mapping[str, Any], member: Member) -> bool:
    layer = layers[member.layer]
    gamma = getattr(layer, "gamma", None)
    return type(layer).__name__ == "BatchNormalization" and gamma is layer.weights[member.weight]


def _by_channel(values: NDArray[Any], member: Member, size: int) -> NDArray[np.float64]:
    """Return (size,) sums over all that belongs to each channel of an array shaped like the member's weight."""
    axis = member.axis % values.ndim
    along = values.sum(axis=tuple(number for number in range(values.ndim) if number != axis), dtype=np.float64)
    return np.array([along[member.positions[channel]].sum() for channel in range(size)], dtype=np.float64)


def _readers(groups: Sequence[ChannelGroup], group: ChannelGroup) -> list[Member]:
    """Return one member for each time that a layer reads the channels and makes others of them.

    What scales or normalizes channel by channel (depthwise, BatchNormalization, PReLU) hands the channel on: counting
    it would count the channel twice. A layer with two kernels that read one after the other (SeparableConv2D) counts
    with its first. Where nothing reads (the channels end in an operation without weights), what makes them counts.
    """
    makers = {member.layer for one in groups for member in one.members if member.producing}
    readers: dict[str, dict[int, list[Member]]] = {}
    for member in group.members:
        if member.layer in makers and not member.producing:
            readers.setdefault(member.layer, {}).setdefault(member.weight, []).append(member)
    found = [member for weights in readers.values() for member in weights[min(weights)]]
    return found or [member for member in group.members if member.producing]


def _taylor(
    model: Any, layers: Mapping[str, Any], groups: Sequence[ChannelGroup], data: Any
) -> dict[str, NDArray[np.float64]]:
    members = {group.name: _readers(groups, group) for group in groups}
    squared = {group.name: np.zeros(group.size) for group in groups}
    gradients_of = _Gradients(model, layers, [one for found in members.values() for one in found])
    count = 0
    for inputs, labels in labelled_batches(model, data, _TAYLOR_SAMPLES, _TAYLOR_BATCH):
        gradients = gradients_of(inputs, _loss(model, np.asarray(labels)))
        for group in groups:
            slope = np.zeros(group.size)
            for member in members[group.name]:
                slope += _by_channel(gradients[_key(member)] * _array(layers, member), member, group.size)
            squared[group.name] += slope**2
        count += 1
    return {name: values / count for name, values in squared.items()}


def _loss(model: Any, labels: NDArray[Any]) -> Callable[[Sequence[Any]], Any]:
    """Return the mean loss of a batch, as a function of the outputs: the one that the model would be trained with."""
    output = tuple(only_output(model).shape)[1:]
    goal = choose_goal(find_ending(model).kind, output, Labels(labels.shape[1:], labels.dtype.kind != "f"))
    check_labels(labels, goal, output[-1] if output else None)
    loss = goal.loss()
    return lambda outputs: loss(labels, outputs[0])


def _hessian(
    model: Any, layers: Mapping[str, Any], groups: Sequence[ChannelGroup], data: Any
) -> dict[str, NDArray[np.float64]]:
    import tensorflow as tf

    members = {group.name: [one for one in group.members if one.producing] for group in groups}
    gradients_of = _Gradients(model, layers, [one for found in members.values() for one in found])
    random = np.random.default_rng(0)

    def projected(outputs: Sequence[Any]) -> Any:
        # Each sample has a vector of its own, so the mixed terms of a batch's samples vanish in the mean.
        signs = [_signs(random, tuple(one.shape)) for one in outputs]
        parts = [tf.reduce_sum(tf.cast(one, tf.float32) * sign) for one, sign in zip(outputs, signs, strict=True)]
        return tf.add_n(parts)

    diagonal: dict[tuple[str, int], Any] = {}
    count = 0
    for inputs in sample_batches(model, data, _HESSIAN_SAMPLES, _HESSIAN_BATCH):
        count += len(inputs[0])
        for _ in range(_RANDOM_VECTORS):
            for key, gradient in gradients_of(inputs, projected).items():
                diagonal[key] = diagonal.get(key, 0.0) + gradient**2
    scores = {group.name: np.zeros(group.size) for group in groups}
    for group in groups:
        for member in members[group.name]:
            curvature = diagonal[_key(member)] / (count * _RANDOM_VECTORS)
            scores[group.name] += _by_channel(curvature * _array(layers, member) ** 2 / 2, member, group.size)
    return scores


def _signs(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return random.choice(np.array([-1, 1], dtype=np.float32), size=shape)


def _key(member: Member) -> tuple[str, int]:
    return member.layer, member.weight


class _Gradients:
    """Gradients of a function of a model's outputs, for a choice of weights."""

    def __init__(self, model: Any, layers: Mapping[str, Any], members: Sequence[Member]) -> None:
        self._model = model
        self._keys = list(dict.fromkeys(_key(member) for member in members))
        self._variables = [layers[layer].weights[number].value for layer, number in self._keys]

    def __call__(
        self, inputs: list[Any], function: Callable[[Sequence[Any]], Any]
    ) -> Mapping[tuple[str, int], NDArray[np.float64]]:
        """Return gradients of `function(outputs)` by layer and weight number: float64, shaped like the weight."""
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._variables)
            value = function(model_outputs(self._model, inputs))
        if not np.isfinite(float(value)):
            raise TrainingError(
                "The model's outputs are no finite numbers on this data.",
                received=str(float(value)),
                next_step="Check the data's normalization and the model's weights.",
            )
        gradients = tape.gradient(value, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        dense = [tf.convert_to_tensor(gradient).numpy().astype(np.float64) for gradient in gradients]
        return dict(zip(self._keys, dense, strict=True))
