"""The output of an embedding model -> `Embedding`: one row of floats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeinfer.errors import ModelError, WrongTaskError
from edgeinfer.model.metadata import ModelMetadata, OutputSpec
from edgeinfer.preprocess.geometry import View
from edgeinfer.quantization import dequantize
from edgeinfer.results import Embedding
from edgeinfer.runtime.runtime import Tensors


def embedding_post(metadata: ModelMetadata) -> Callable[[Tensors, View], Embedding]:
    """Return what makes an embedding out of a model's output.

    The output is the only one of shape (1, d) or (1, 1, 1, d) with d above 1, whatever its type; it is dequantized and
    not normalized.

    Args:
        metadata: What the file says of itself.

    Returns:
        A function of the outputs and the view. It raises ModelError where the model answers with what is no number.

    Raises:
        WrongTaskError: No output, or more than one, is a row.
    """
    rows = [index for index, spec in enumerate(metadata.outputs) if _is_row(spec)]
    if len(rows) != 1:
        raise WrongTaskError(
            "The model has no output that is one row of features."
            if not rows
            else "Several outputs could be the embedding.",
            received=", ".join(f"output `{spec.name}` {spec.shape} {spec.dtype}" for spec in metadata.outputs),
            expected="one output of shape (1, d) or (1, 1, 1, d), d above 1",
            next_step="Use `Pipeline(Runtime(...), pre=..., post=...)` with a post-processing of your own that returns "
            "`Embedding(outputs[name].reshape(-1))`.",
        )
    index = rows[0]
    spec = metadata.outputs[index]

    def embed(outputs: Tensors, view: View) -> Embedding:  # noqa: ARG001 - features have no place in the picture
        vector = dequantize(outputs.view(index).reshape(-1), scale=spec.scale, zero_point=spec.zero_point)
        if not np.isfinite(vector).all():
            raise ModelError(
                f"The model answers with what is not a number in `{spec.name}`.",
                received=f"{int((~np.isfinite(vector)).sum())} of {vector.size} values are not finite",
                next_step="Its weights are damaged, or its input lies far outside what it was trained on.",
            )
        return Embedding(vector)

    return embed


def _is_row(spec: OutputSpec) -> bool:
    return len(spec.shape) >= 2 and spec.shape[-1] > 1 and all(length == 1 for length in spec.shape[:-1])
