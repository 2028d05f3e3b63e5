"""The arrows of ARCHITECTURE.md, the light import, and the limits of the style guide, held against the code."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEVICE_FILES = sorted((ROOT / "edgeinfer").rglob("*.py"))
WORKSTATION_FILES = sorted((ROOT / "converters").rglob("*.py"))
ALL_FILES = DEVICE_FILES + WORKSTATION_FILES
HEAVY = {
    "tensorflow",
    "keras",
    "cv2",
    "PIL",
    "ai_edge_litert",
    "tflite_runtime",
    "flatbuffers",
    "picamera2",
    "paho",
    "pooch",
    "requests",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def waits(node: ast.AST) -> bool:
    """True for what does not run when the module is imported: functions and blocks for type checkers."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def imported_names(tree: ast.AST, *, module_level: bool) -> set[str]:
    """The modules that a file imports; `module_level` leaves functions and TYPE_CHECKING blocks out."""
    names: set[str] = set()
    nodes = list(ast.iter_child_nodes(tree))
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif module_level and waits(node):
            continue
        nodes += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("path", DEVICE_FILES, ids=name_of)
def test_the_device_never_imports_the_workstation(path: Path) -> None:
    names = imported_names(ast.parse(path.read_text()), module_level=False)
    assert not [name for name in names if name.split(".")[0] in ("converters", "demos", "benchmarks", "tests")]


@pytest.mark.parametrize("path", DEVICE_FILES, ids=name_of)
def test_the_device_imports_only_numpy_and_the_standard_library_at_module_level(path: Path) -> None:
    names = imported_names(ast.parse(path.read_text()), module_level=True)
    foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"numpy", "edgeinfer"}
    assert not foreign


@pytest.mark.parametrize("path", DEVICE_FILES, ids=name_of)
def test_the_device_makes_its_dataclasses_the_quick_way(path: Path) -> None:
    assert "dataclasses" not in imported_names(ast.parse(path.read_text()), module_level=True)


@pytest.mark.parametrize("path", WORKSTATION_FILES, ids=name_of)
def test_the_workstation_imports_heavy_packages_inside_functions_only(path: Path) -> None:
    names = imported_names(ast.parse(path.read_text()), module_level=True)
    assert not {name.split(".")[0] for name in names} & HEAVY


@pytest.mark.parametrize(("package", "allowed"), [("edgeinfer", set()), ("converters", set())])
def test_importing_a_package_loads_no_heavy_package(package: str, allowed: set[str]) -> None:
    code = f"import {package}, json, sys; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not (set(json.loads(out.stdout)) & HEAVY) - allowed


@pytest.mark.parametrize("package", ["edgeinfer", "converters"])
def test_the_public_names_are_sorted_and_exist(package: str) -> None:
    module = __import__(package)
    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("path", ALL_FILES, ids=name_of)
def test_a_file_is_one_idea_of_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
    assert path.name not in {"utils.py", "helpers.py", "common.py", "misc.py"}


@pytest.mark.parametrize("path", ALL_FILES, ids=name_of)
def test_a_function_takes_at_most_seven_parameters_and_asserts_nothing(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            names = [one.arg for one in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
            count = len([name for name in names if name not in ("self", "cls")])
            assert count <= 7, f"line {node.lineno}: {node.name} takes {count}"


def floors(package: str) -> dict[str, int]:
    """The floor of each room, as ARCHITECTURE.md says it: rows of `| 3 | `model/` | ... |` in the package's chapter."""
    page = (ROOT / "ARCHITECTURE.md").read_text().split("## A model's way through")
    found: dict[str, int] = {}
    for floor, rooms in re.findall(r"^\| (\d+) \| (.+?) \|", page[package == "converters"], re.MULTILINE):
        found |= {Path(room).stem: int(floor) for room in re.findall(r"`([\w/.]+)`", rooms)}
    return found


@pytest.mark.parametrize("path", [path for path in ALL_FILES if path.stem not in ("__init__", "__main__")], ids=name_of)
def test_a_room_imports_only_rooms_on_lower_floors(path: Path) -> None:
    package, *rest = path.relative_to(ROOT).parts
    plan, own = floors(package), Path(rest[0]).stem
    for name in imported_names(ast.parse(path.read_text()), module_level=False):
        parts = name.split(".")
        if parts[0] == package and len(parts) > 1 and parts[1] != own:
            assert plan[parts[1]] < plan[own], f"{own} (floor {plan[own]}) imports {name} (floor {plan[parts[1]]})"


def test_every_file_has_a_room_on_the_architecture_page() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    for path in ALL_FILES:
        if path.name not in ("__init__.py", "__main__.py"):
            assert path.name in page or f"{path.parent.name}/{path.stem}" in page, f"{name_of(path)} has no room"
