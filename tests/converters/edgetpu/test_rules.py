from __future__ import annotations

import pytest

from converters.edgetpu.rules import CURES, FATAL_VERSIONS, NOT_SUPPORTED, RULES, SHAPE_INPUTS
from edgeinfer.model.ops import BUILTINS

NAMES = {row[0] for row in BUILTINS}


@pytest.mark.parametrize("table", [RULES, NOT_SUPPORTED, FATAL_VERSIONS, SHAPE_INPUTS, CURES], ids=range(5))
def test_every_op_has_a_name_that_files_use(table: dict[str, object]) -> None:
    assert set(table) <= NAMES


def test_no_op_is_both_mapped_and_never_mapped() -> None:
    assert not set(RULES) & set(NOT_SUPPORTED)


def test_what_is_called_seen_comes_from_pairs() -> None:
    assert all((rule.seen > 0) == (rule.source == "pair") for rule in RULES.values())
    assert all(rule.seen <= rule.highest for rule in RULES.values())


def test_what_stops_the_compiler_lies_above_what_it_knows() -> None:
    assert all(version > RULES[op].highest for op, version in FATAL_VERSIONS.items())
