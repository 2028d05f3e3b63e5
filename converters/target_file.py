"""A target as a word of a command line: a name, or a JSON file that says one."""

from __future__ import annotations

import json
from pathlib import Path

from converters.errors import RecipeError
from converters.targets import Target, target
from edgeinfer.files import read_bytes

__all__ = ["target_of_word"]


def target_of_word(word: str) -> Target:
    """Return what stands behind `--target`.

    Args:
        word: The name of a target, or the path of a file that ends with `.json` and holds `Target.to_json()`.

    Raises:
        RecipeError: It is no target.
        InputFileError: The file is not there or cannot be read.
    """
    if not word.casefold().endswith(".json"):
        return target(word)
    content = read_bytes(Path(word))
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"`{word}` is no JSON.", received=str(error)) from error
    if not isinstance(data, dict):
        raise RecipeError(f"`{word}` is no target.", received=type(data).__name__, expected="a JSON object")
    return target(Target.from_json(data))
