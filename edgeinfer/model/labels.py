"""Label files: one class a line."""

from __future__ import annotations

import re
from pathlib import Path

from edgeinfer.errors import InputError
from edgeinfer.files import read_bytes

MOST_LABEL_BYTES = 8 * 1024 * 1024

_NUMBERED = re.compile(r"\s*(\d+)\s+(\S.*)")


def parse_labels(text: str) -> tuple[str, ...]:
    """Return the names of the classes, index by index.

    A byte order mark, carriage returns, blanks at the ends of a line and empty lines at the end are dropped. Where
    every line begins with a number and the numbers count up from 0 ("12  name", as Google Coral's files have it), the
    numbers are dropped too; a list with gaps keeps them, because its lines are no indices.

    Args:
        text: The file's content.

    Example:
        >>> parse_labels("0  cat" + chr(10) + "1  dog" + chr(10))
        ('cat', 'dog')
    """
    lines = [line.strip() for line in text.removeprefix("\ufeff").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    names = [match.group(2) for index, match in enumerate(numbered) if match and int(match.group(1)) == index]
    return tuple(names if len(names) == len(lines) else lines)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Return the names of the classes in a label file; see `parse_labels`.

    Raises:
        InputFileError: The file is missing, empty, or cannot be read.
        InputError: It is larger than 8 MiB, not UTF-8, or has no line.
    """
    try:
        labels = parse_labels(read_bytes(path, limit_bytes=MOST_LABEL_BYTES, expected="one class a line").decode())
    except UnicodeDecodeError as error:
        raise InputError(
            "The label file is not UTF-8.",
            received=f"`{path}`, byte {error.start}",
            expected="text, one class a line",
        ) from error
    if not labels:
        raise InputError("The label file has no labels.", received=f"`{path}`", expected="one class a line")
    return labels
