"""Checks of the values that settings are made of: each returns the value in its one form, or says what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from converters.errors import RecipeError

__all__ = [
    "Pairs",
    "check_above_zero",
    "check_fallback",
    "check_inside",
    "check_one_of",
    "check_share",
    "check_whole",
    "close_name",
    "is_whole",
    "parse_pattern",
    "ratios",
    "text_pairs",
    "texts",
]

# A mapping as a value: sorted pairs, so that equal settings are equal steps.
Pairs = tuple[tuple[str, float], ...]


def parse_pattern(pattern: str) -> tuple[int, int]:
    """Return (weights that stay, weights of a block) of a pattern like "2:4".

    Raises:
        RecipeError: It is no such pattern.
    """
    kept, _, block = pattern.partition(":") if isinstance(pattern, str) else ("", "", "")
    if not (kept.isdecimal() and block.isdecimal() and 0 < int(kept) < int(block) <= 64):
        raise RecipeError("This is no pattern.", received=repr(pattern), expected='"N:M", e.g. "2:4"')
    return int(kept), int(block)


def close_name(name: str, names: Sequence[str] | Mapping[str, object]) -> str:
    """Return a sentence that names what was probably meant, or nothing."""
    close = get_close_matches(name, list(names), n=1)
    return f"Did you mean `{close[0]}`?" if close else ""


def is_whole(value: object) -> bool:
    """Return whether this is a whole number. True is an int to Python, but nobody means one sample by it."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse what is no whole number within both ends."""
    if not (is_whole(value) and isinstance(value, int) and low <= value <= high):
        raise RecipeError(f"`{name}` is a whole number.", received=repr(value), expected=f"{low} to {high}")


def check_above_zero(name: str, value: object) -> None:
    """Refuse what is no finite number above 0."""
    if not (_is_number(value) and isinstance(value, int | float) and value > 0):
        raise RecipeError(f"`{name}` is above 0.", received=repr(value), expected="a number above 0")


def check_share(name: str, value: object, example: str = "") -> None:
    """Refuse what does not lie in 0..1."""
    if not (_is_number(value) and isinstance(value, int | float) and 0 <= value <= 1):
        raise RecipeError(f"`{name}` is a share.", received=repr(value), expected=f"0 to 1{example}")


def check_inside(name: str, value: object) -> None:
    """Refuse what does not lie strictly between 0 and 1."""
    if not (_is_number(value) and isinstance(value, int | float) and 0 < value < 1):
        raise RecipeError(
            f"`{name}` is a share.", received=repr(value), expected="above 0 and below 1, e.g. 0.5 for one half"
        )


def check_one_of(what: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse what is none of the allowed texts."""
    if value not in allowed:
        raise RecipeError(
            f"`{what}` has a value that is not known.",
            received=repr(value),
            expected=", ".join(f'"{one}"' for one in allowed),
            next_step=close_name(str(value), allowed),
        )


def texts(name: str, value: object) -> tuple[str, ...]:
    """Return a tuple of texts."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise RecipeError(f"`{name}` is a list of texts.", received=repr(value), expected=f'{name}=("one", "two")')
    return tuple(value)


def _items(name: str, value: object) -> list[tuple[object, object]]:
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if isinstance(pairs, str) or not isinstance(pairs, Sequence):
        raise RecipeError(f"`{name}` is a mapping.", received=repr(value), expected="a mapping, or pairs")
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[0], str):
            raise RecipeError(f"`{name}` is a mapping.", received=repr(pair), expected="a name and its value")
    keys = [pair[0] for pair in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise RecipeError(
            f"`{name}` names one key twice.", received=", ".join(twice), expected="every key once: it is a mapping"
        )
    return [(pair[0], pair[1]) for pair in pairs]


def text_pairs(name: str, value: object) -> tuple[tuple[str, str], ...]:
    """Return sorted pairs of texts, of a mapping or of pairs."""
    items = _items(name, value)
    for _, other in items:
        if not isinstance(other, str):
            raise RecipeError(f"`{name}` maps text to text.", received=repr(other), expected="a text")
    return tuple(sorted((str(key), str(other)) for key, other in items))


def ratios(name: str, value: object) -> Pairs:
    """Return sorted pairs of a pattern and a share in [0, 1)."""
    items = _items(name, value)
    for key, ratio in items:
        if not (_is_number(ratio) and isinstance(ratio, int | float) and 0 <= ratio < 1):
            raise RecipeError(
                f"`{name}` maps a pattern to a share.",
                received=f"{key}: {ratio!r}",
                expected="at least 0 and below 1; 0 keeps all",
            )
    return tuple(sorted((str(key), float(str(ratio))) for key, ratio in items))


def check_fallback(fallback: Sequence[tuple[str, str]]) -> None:
    """Refuse what no file can have, before any work is done.

    Args:
        fallback: `Quantize.fallback`: (pattern, "float32" or "int16x8").

    Raises:
        RecipeError: A layer shall be "int16x8".
    """
    wide = [pattern for pattern, kind in fallback if kind == "int16x8"]
    if wide:
        raise RecipeError(
            "TensorFlow's converter cannot make single layers int16x8.",
            received=", ".join(f"`{one}`" for one in wide) + ': "int16x8"',
            expected='"float32" for single layers',
            next_step='Take "float32" for these layers, or Quantize("int16x8") for the whole model.',
        )
