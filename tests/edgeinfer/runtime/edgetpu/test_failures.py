"""Every way to fail on its own: the program lives on, is told what it is, or has its answers from the twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edgetpu_standin import Pair, edgetpu_pair
from edgetpu_standin.failures import CASES, Case, run_case

each = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return edgetpu_pair(tmp_path_factory.mktemp("pair"))


TOLD = [case for case in CASES if not case.needs_twin]


@pytest.fixture(scope="module")
def told(standin: Path, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each case tells a program that has no twin."""
    made = tmp_path_factory.mktemp
    return {case.name: run_case(case, made("case"), twin=False, pair=pair, library=standin) for case in TOLD}


@pytest.mark.parametrize("case", TOLD, ids=[case.name for case in TOLD])
def test_the_program_is_told_what_has_happened(case: Case, told: dict[str, dict[str, Any]]) -> None:
    said = told[case.name]
    assert (said["type"], said["exit_code"]) == (case.error, case.exit_code)
    assert case.says in f"{said['message']} {said['received']}"
    assert said["next"]


def test_no_two_of_them_have_one_message(told: dict[str, dict[str, Any]]) -> None:
    messages = [said["message"] for said in told.values()]
    assert len(set(messages)) == len(messages)


@each
def test_the_twin_answers_right_where_there_is_one(case: Case, standin: Path, pair: Pair, tmp_path: Path) -> None:
    if not case.has_fallback:
        pytest.skip("what was asked for is wrong: no twin can answer")
    said = run_case(case, tmp_path, twin=True, pair=pair, library=standin)
    assert said["answers"] == [0, 1, 2]
    assert said["on_fallback"]
    assert case.says in said["latest"]
