"""The public names are loaded late, and say the same to a type checker as to Python."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import edgeinfer


def test_a_type_checker_sees_the_names_that_python_loads() -> None:
    tree = ast.parse(Path(edgeinfer.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {node.module: tuple(alias.name for alias in node.names) for node in block.body}
    assert seen == edgeinfer._HOMES


def test_every_public_name_has_a_home() -> None:
    assert sorted(name for names in edgeinfer._HOMES.values() for name in names) == edgeinfer.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="detectr"):
        edgeinfer.detectr  # noqa: B018


def test_dir_lists_names_that_are_not_loaded_yet() -> None:
    assert set(edgeinfer.__all__) <= set(dir(edgeinfer))
