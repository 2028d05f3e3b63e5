"""Run samples through a model and look at the tensors between its layers, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import CalibrationError
from converters.graph.network import Network, computable_order, functional_graph

__all__ = ["BATCH", "Samples", "checked_samples", "tensor_batches", "tensor_model"]

# One array (n, *input shape without batch), or one for each input of the model, as the model takes it.
Samples = NDArray[Any] | Sequence[NDArray[Any]]

# Sums up all tensors of MobileNetV2 at 224x224 to 0.8 GB; larger batches are no faster on a processor.
BATCH = 32


def checked_samples(network: Network, samples: Samples) -> tuple[NDArray[Any], ...]:
    """Return the samples as one array per input, in the inputs' own types.

    Args:
        network: The model.
        samples: What the model itself takes, not pixels that somebody still has to normalize.

    Returns:
        Arrays (n, *input shape), in the order of the model's inputs. An array that fits is not copied.

    Raises:
        CalibrationError: Too few or too many arrays, none or different numbers of samples, another shape than the
            input's, or a value that is not finite.
    """
    arrays = [samples] if isinstance(samples, np.ndarray) else list(samples)
    inputs = functional_graph(network.model).inputs
    if len(arrays) != len(inputs):
        raise CalibrationError(
            "Every input of the model needs its own array of samples.",
            received=f"{len(arrays)} arrays",
            expected=f"{len(inputs)}: " + ", ".join(f"`{one.name}` {tuple(one.shape)}" for one in inputs),
        )
    made = []
    for array, tensor in zip(arrays, inputs, strict=True):
        shape = tuple(tensor.shape)[1:]
        fits = array.ndim == len(shape) + 1 and all(
            wanted in (None, size) for wanted, size in zip(shape, array.shape[1:], strict=True)
        )
        if not fits or not len(array):
            raise CalibrationError(
                f"The samples do not fit the input `{tensor.name}`.",
                received=f"shape {array.shape}",
                expected=f"(n, {', '.join(map(str, shape))}) with n above 0",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CalibrationError(
                f"The samples of input `{tensor.name}` are not all finite.",
                received=f"{np.count_nonzero(~np.isfinite(array))} of {array.size} numbers are not",
                expected="finite numbers",
            )
        made.append(array)
    if len({len(array) for array in made}) != 1:
        raise CalibrationError(
            "The inputs have different numbers of samples.",
            received=", ".join(str(len(array)) for array in made),
            expected="the same number for every input",
        )
    return tuple(made)


def tensor_model(network: Network, numbers: Sequence[int]) -> Any:
    """Return a Keras model from the network's inputs to some of its tensors. It shares the layers and their weights.

    Args:
        network: The model.
        numbers: Of tensors of `network`, at least one.
    """
    import keras

    graph = functional_graph(network.model)
    tensors = dict(zip(network.inputs, graph.inputs, strict=True))
    for node, one in zip(network.nodes, computable_order(graph), strict=True):
        tensors.update(zip(node.outputs, one.outputs, strict=True))
    return keras.Model(list(graph.inputs), [tensors[number] for number in numbers])


def tensor_batches(
    network: Network, numbers: Sequence[int], samples: tuple[NDArray[Any], ...], *, batch_size: int = BATCH
) -> Iterator[list[NDArray[Any]]]:
    """Compute some tensors of a model for all samples, at inference.

    Args:
        network: The model.
        numbers: Of its tensors; () gives nothing.
        samples: From `checked_samples`.
        batch_size: Samples that are in memory at once.

    Yields:
        For each batch, the tensors in the order of `numbers`: (at most batch_size, *shape).
    """
    if not numbers:
        return
    model = tensor_model(network, numbers)
    for start in range(0, len(samples[0]), batch_size):
        made = model(
            [_cast(one[start : start + batch_size], to) for one, to in zip(samples, model.inputs, strict=True)]
        )
        yield [np.asarray(one) for one in (made if isinstance(made, list | tuple) else [made])]


def _cast(array: NDArray[Any], tensor: Any) -> NDArray[Any]:
    return array.astype(tensor.dtype, copy=False)
