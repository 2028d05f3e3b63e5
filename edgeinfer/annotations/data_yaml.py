"""The few lines of a data set's yaml that matter here; the device has no YAML library.

Understood are plain values and `names`, as a list or as a mapping from number to name, each as a block or in brackets.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgeinfer.errors import InputError
from edgeinfer.files import read_bytes
from edgeinfer.frozen import dataclass

_MOST_BYTES = 8 * 1024 * 1024

# Source: YAML 1.2.2, sections 7.3 (quoted and plain scalars) and 6.6 (a comment stands behind a blank).
_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^']|'')*'"""
_TOP = re.compile(rf"""({_QUOTED}|[^\s#:'"][^#:]*?)\s*:(?:\s+(.*))?$""")
_NUMBERED = re.compile(rf"""\s+(\d+)\s*:\s+({_QUOTED}|[^\s'"#].*?)\s*(?:\s#.*)?$""")
_ITEM = re.compile(rf"""\s*-\s+({_QUOTED}|[^\s'"#].*?)\s*(?:\s#.*)?$""")
_IN_BRACKETS = re.compile(rf"""\s*(?:(\d+)\s*:\s*)?({_QUOTED}|[^\s'",\[\]{{}}][^,\[\]{{}}]*?)\s*(?:,|(?=[\]}}]))""")
_EMPTY = re.compile(r"\s*(#.*)?$")


@dataclass(frozen=True, slots=True)
class DataYaml:
    """What a yaml says of its data.

    Attributes:
        names: Of the classes, number by number; empty where it has none.
        path: The folder that the others count from, relative to the yaml.
        train: The folder of pictures for training, or "".
        val: The folder of pictures for validation, or "".
    """

    names: tuple[str, ...] = ()
    path: str = "."
    train: str = ""
    val: str = ""


def read_data_yaml(path: Path) -> DataYaml:
    """Read the names of the classes and where the pictures lie.

    Raises:
        InputFileError: The file is missing, empty or cannot be read.
        InputError: It is not UTF-8, or its `names` are neither a list nor a mapping from 0, 1, 2 and so on.
    """
    try:
        lines = read_bytes(path, limit_bytes=_MOST_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"`{path.name}` is not UTF-8.", received=f"byte {error.start}", expected="text") from error
    names: tuple[str, ...] = ()
    values: dict[str, str] = {}
    for number, line in enumerate(lines):
        top = _TOP.match(line)
        if top is None:
            continue
        key, rest = _plain(top[1]), (top[2] or "").strip()
        if key == "names":
            names = _names(lines[number + 1 :], rest, path.name)
        elif key in ("path", "train", "val") and not _EMPTY.match(rest):
            values[key] = _plain(re.sub(r"\s+#.*$", "", rest))
    return DataYaml(names, **values)


def _names(below: list[str], rest: str, file: str) -> tuple[str, ...]:
    if rest[:1] in ("[", "{"):
        pairs = _in_brackets(rest, below, file)
    elif _EMPTY.match(rest):
        pairs = _in_block(below, file)
    else:
        raise _wrong(file, rest)
    numbers = [index if number is None else int(number) for index, (number, _) in enumerate(pairs)]
    if sorted(numbers) != list(range(len(numbers))):
        raise _wrong(file, f"the numbers {', '.join(str(number) for number in sorted(numbers)[:10])}")
    return tuple(name for _, (_, name) in sorted(zip(numbers, pairs, strict=True)))


def _in_block(lines: list[str], file: str) -> list[tuple[str | None, str]]:
    pairs: list[tuple[str | None, str]] = []
    for line in lines:
        item, numbered = _ITEM.match(line), _NUMBERED.match(line)
        if item:
            pairs.append((None, _plain(item[1])))
        elif numbered:
            pairs.append((numbered[1], _plain(numbered[2])))
        elif line[:1] not in ("", " ", "\t", "#"):
            break  # the next key
        elif not _EMPTY.match(line):
            raise _wrong(file, line.strip())
    if len({number is None for number, _ in pairs}) > 1:
        raise _wrong(file, "a list and a mapping at once")
    return pairs


def _in_brackets(rest: str, below: list[str], file: str) -> list[tuple[str | None, str]]:
    end = {"[": "]", "{": "}"}[rest[0]]
    text = "\n".join(re.sub(r"(^|\s)#.*$", "", line) for line in (rest[1:], *below))
    pairs: list[tuple[str | None, str]] = []
    place = 0
    while not text[place:].lstrip().startswith(end):
        item = _IN_BRACKETS.match(text, place)
        if item is None or (item[1] is None) is (end == "}"):
            raise _wrong(file, text[place : place + 40].strip() or f"no `{end}` at the end")
        pairs.append((item[1], _plain(item[2])))
        place = item.end()
    return pairs


def _plain(scalar: str) -> str:
    """Return what a scalar says: without its quotes, and with what they escape."""
    text = scalar.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _wrong(file: str, received: str) -> InputError:
    return InputError(
        f"The `names` of `{file}` are not understood.",
        received=received,
        expected="a list of names, or a mapping from 0, 1, 2 and so on to names",
    )
