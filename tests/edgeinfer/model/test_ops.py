from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import tiny_models
from tiny_flatbuffer import Scalar, Table

from edgeinfer.model.ops import BUILTINS, CUSTOM_CODE, MEASURED, builtin_name, ceilings


def op_code_only(code: int, op_version: int) -> bytes:
    """A file that declares an op and has no operator: the engine's resolver alone accepts or refuses it."""
    entry = Table({0: Scalar("b", min(code, 127)), 2: Scalar("i", op_version), 3: Scalar("i", code)})
    return tiny_models.model([], [], inputs=[], outputs=[], changes={1: [entry]})


@pytest.fixture(scope="module")
def installed() -> tuple[str, Callable[..., Any]]:
    """The engine of this environment in the version that was measured."""
    for engine, distribution, module in (
        ("litert", "ai-edge-litert", "ai_edge_litert.interpreter"),
        ("tflite-runtime", "tflite-runtime", "tflite_runtime.interpreter"),
    ):
        try:
            interpreter = importlib.import_module(module).Interpreter
        except ImportError:
            continue
        if version(distribution) == MEASURED[engine]:
            return engine, interpreter
    pytest.skip("no engine in a measured version is installed here")


def test_the_codes_are_those_of_the_schema() -> None:
    # Read off `schema.fbs` by hand.
    known = {0: "ADD", 3: "CONV_2D", 9: "FULLY_CONNECTED", 25: "SOFTMAX", 32: "CUSTOM", 114: "QUANTIZE", 150: "GELU"}
    assert {code: builtin_name(code) for code in known} == known
    assert BUILTINS[CUSTOM_CODE][0] == "CUSTOM"


def test_the_names_are_those_of_the_generated_schema() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    assert {code: row[0] for code, row in enumerate(BUILTINS)} == names


def test_the_installed_engine_accepts_every_ceiling_and_nothing_above(
    installed: tuple[str, Callable[..., Any]],
) -> None:
    engine, interpreter = installed
    versions = ceilings(engine).versions  # type: ignore[arg-type]
    for code, row in enumerate(BUILTINS):
        highest = versions.get(row[0], 0)
        if code == CUSTOM_CODE:
            continue
        if highest:
            interpreter(model_content=op_code_only(code, highest))
        with pytest.raises((ValueError, RuntimeError)):
            interpreter(model_content=op_code_only(code, highest + 1))


def test_the_ceilings_that_were_measured_by_rewriting_versions_agree() -> None:
    # Another method, another day: OperatorCode.version of real files was raised until the engine refused.
    tflite, litert = ceilings("tflite-runtime").versions, ceilings("litert").versions
    ops = ("CONV_2D", "FULLY_CONNECTED", "MUL", "MEAN", "SOFTMAX")
    assert [litert[op] for op in ops] == [8, 14, 8, 3, 4]
    assert [tflite[op] for op in ops] == [7, 10, 7, 3, 3]


@pytest.mark.parametrize(
    ("given", "exact"),
    [("2.14.0", True), ("2.13.1", True), ("2.14.1", False), ("2.15.0", False), ("3.0", False), ("unknown", False)],
)
def test_the_table_speaks_for_measured_and_older_versions(given: str, exact: bool) -> None:
    assert ceilings("tflite-runtime", given).exact is exact


def test_without_a_version_the_measured_one_is_meant() -> None:
    found = ceilings("litert")
    assert (found.version, found.exact) == (MEASURED["litert"], True)
