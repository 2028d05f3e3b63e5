"""The patterns of a `Prune` step and the layers of a model: which stay whole, which have a share of their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from converters.errors import RecipeError
from converters.settings import close_name
from converters.steps import Prune

__all__ = ["check_patterns", "own_share", "skip_pattern"]

_SHOWN = 8


def check_patterns(step: Prune, layers: Sequence[str]) -> None:
    """Refuse a pattern of `skip` or `layers` that no layer of the model has.

    Args:
        step: The step.
        layers: Names of all layers of the model.

    Raises:
        RecipeError: A pattern matches nothing: most likely it is misspelt, and the layer would not be spared.
    """
    given = [("skip", pattern) for pattern in step.skip] + [("layers", pattern) for pattern, _ in step.layers]
    for setting, pattern in given:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            shown = ", ".join(f"`{layer}`" for layer in layers[:_SHOWN])
            raise RecipeError(
                f"A pattern of `{setting}` matches no layer of the model.",
                received=repr(pattern),
                expected=f"a layer's name, or a pattern: {shown}{', ...' if len(layers) > _SHOWN else ''}",
                next_step=close_name(pattern, layers) or close_name(pattern.replace("*", ""), layers),
            )


def skip_pattern(step: Prune, layers: Collection[str]) -> str:
    """Return the first pattern of `skip` that one of these layers matches, or an empty text."""
    return next((one for one in step.skip if any(fnmatchcase(layer, one) for layer in layers)), "")


def own_share(step: Prune, layers: Collection[str]) -> float | None:
    """Return the share that `layers` gives to one of these layers, 0..1; None where it names none of them.

    Where several patterns match, coupled layers with different shares among them, the smallest share counts: a layer
    that its user wanted to keep must not lose more than was said.
    """
    shares = [share for pattern, share in step.layers if any(fnmatchcase(layer, pattern) for layer in layers)]
    return min(shares, default=None)
