from __future__ import annotations

from pathlib import Path

import pytest

from tools.pi_lab.luggage import pack


def test_the_machines_get_the_installed_wheel_the_tests_and_something_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEINFER_TEST_DATA", raising=False)
    pack(tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"site/edgeinfer/cli.py", "guest/main.py", "models/classifier.tflite", "pyproject.toml"} <= found
    assert {"tests/conftest.py", "tests/tiny_models.py", "tests/edgeinfer/test_cli.py"} <= found
    shared = {path.parent.name for path in Path(__file__).parents[2].glob("*/__init__.py")}
    assert all(f"tests/{name}/__init__.py" in found for name in shared)
    header, pixels = (tmp_path / "models" / "red.ppm").read_bytes().split(b"\n", 1)
    assert header == b"P6 96 96 255"
    assert pixels == bytes((255, 0, 0)) * 96 * 96
    assert not [name for name in found if name.endswith((".whl", ".pyc")) or name.startswith(("data/", "source/"))]
