"""How many weights of a model are zero: what weight pruning has to show for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.prune.kernels import prunable_kernels

__all__ = ["LayerSparsity", "Sparsity", "sparsity_of"]


@dataclass(frozen=True, slots=True)
class LayerSparsity:
    """One kernel.

    Attributes:
        name: Of the layer.
        kind: Class of the layer.
        zeros: Weights of its kernel that are exactly zero.
        weights: All weights of its kernel; not its biases.
    """

    name: str
    kind: str
    zeros: int
    weights: int

    @property
    def share(self) -> float:
        """Zeros among the kernel's weights, 0..1; 0 where there are none."""
        return self.zeros / self.weights if self.weights else 0.0


@dataclass(frozen=True, slots=True)
class Sparsity:
    """Zeros of a model. Prints as a table.

    Attributes:
        layers: One for each kernel that can be pruned, in the order of the model's layers.
        parameters: All numbers of the model, with biases and statistics: weight pruning leaves all of them there.
    """

    layers: tuple[LayerSparsity, ...]
    parameters: int

    @property
    def zeros(self) -> int:
        """Zeros in all kernels."""
        return sum(layer.zeros for layer in self.layers)

    @property
    def weights(self) -> int:
        """Weights of all kernels."""
        return sum(layer.weights for layer in self.layers)

    @property
    def total(self) -> float:
        """Zeros among the weights of all kernels, 0..1; 0 for a model without such kernels."""
        return self.zeros / self.weights if self.weights else 0.0

    def __str__(self) -> str:
        rows = (*self.layers, LayerSparsity("all kernels", "", self.zeros, self.weights))
        cells = [("layer", "kind", "zeros", "weights", "share")]
        cells += [(one.name, one.kind, f"{one.zeros:,}", f"{one.weights:,}", f"{one.share:.1%}") for one in rows]
        widths = [max(len(row[column]) for row in cells) for column in range(5)]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        return "\n".join([*lines, f"The model has {self.parameters:,} parameters, zeros among them."])


def sparsity_of(model: Any) -> Sparsity:
    """Count the zeros in the kernels of a model.

    Args:
        model: A built Keras model.
    """
    layers = []
    for kernel in prunable_kernels(model):
        values = kernel.values()
        layers.append(LayerSparsity(kernel.layer, kernel.kind, int(np.count_nonzero(values == 0)), values.size))
    return Sparsity(tuple(layers), int(model.count_params()))
