from __future__ import annotations

import csv
from pathlib import Path

import pytest

from converters.edgetpu.rules import CURES, FATAL_VERSIONS, NOT_SUPPORTED, RULES, SHAPE_INPUTS
from edgeinfer.model.ops import BUILTINS

NAMES = {row[0] for row in BUILTINS}
# What `benchmarks/edgetpu_pairs.py` found the compiler to map, in files that others compiled.
SEEN = Path(__file__).parents[3] / "benchmarks" / "results" / "edgetpu-rules-public-repositories.csv"


@pytest.mark.parametrize("table", [RULES, NOT_SUPPORTED, FATAL_VERSIONS, SHAPE_INPUTS, CURES], ids=range(5))
def test_every_op_has_a_name_that_files_use(table: dict[str, object]) -> None:
    assert set(table) <= NAMES


def test_no_op_is_both_mapped_and_never_mapped() -> None:
    assert not set(RULES) & set(NOT_SUPPORTED)


def test_what_is_called_seen_was_mapped_in_a_pair() -> None:
    with SEEN.open(newline="") as file:
        mapped = {
            row["rule"].removeprefix("op "): int(row["highest_mapped"])
            for row in csv.DictReader(file)
            if row["highest_mapped"]
        }
    assert {op: rule.seen for op, rule in RULES.items()} == mapped
    by_pairs = {op for op, rule in RULES.items() if rule.source == "pair"}
    assert by_pairs == {op for op, highest in mapped.items() if highest}


def test_no_version_that_was_seen_is_left_on_the_processor() -> None:
    assert all(rule.seen <= rule.highest for rule in RULES.values())


def test_what_stops_the_compiler_lies_above_what_it_knows() -> None:
    assert all(version > RULES[op].highest for op, version in FATAL_VERSIONS.items())
