"""The trial in a child process: what it takes the blow for, and what it remembers."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_flatbuffer import Scalar

from edgeinfer.errors import DamagedModelError, DeviceError, MissingDependencyError, UnsupportedOpError
from edgeinfer.runtime.engines import Engine, find_engine
from edgeinfer.runtime.trial import fill, try_first

HAS_TFLITE_RUNTIME = find_engine().name == "tflite-runtime"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that remembers nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the children, as they are started."""
    started: list[list[str]] = []
    run = subprocess.run

    def count(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        started.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", count)
    return started


def replace_python(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Let the child be a shell script."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def attempt(data: bytes, **options: Any) -> None:
    try_first(data, sha256=hashlib.sha256(data).hexdigest(), engine=find_engine(), **options)


@pytest.mark.device
def test_a_good_file_is_tried_once_and_remembered(children: list[list[str]]) -> None:
    attempt(tiny_models.classifier())
    attempt(tiny_models.classifier())
    assert len(children) == 1


def test_a_path_is_tried_like_bytes(tmp_path: Path, children: list[list[str]]) -> None:
    data = tiny_models.dense()
    (tmp_path / "m.tflite").write_bytes(data)
    try_first(tmp_path / "m.tflite", sha256=hashlib.sha256(data).hexdigest(), engine=find_engine())
    attempt(data)
    assert len(children) == 1


def test_a_relative_path_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.tflite").write_bytes(tiny_models.dense())
    try_first(Path("m.tflite"), sha256="0" * 64, engine=find_engine())


def test_another_file_is_tried_again(children: list[list[str]]) -> None:
    attempt(tiny_models.classifier())
    attempt(tiny_models.dense())
    assert len(children) == 2


def test_another_version_of_the_engine_is_tried_again(children: list[list[str]]) -> None:
    engine = find_engine()
    try_first(tiny_models.dense(), sha256="0" * 64, engine=engine)
    try_first(tiny_models.dense(), sha256="0" * 64, engine=Engine(engine.name, "0.0", engine.verifies))
    assert len(children) == 2


@pytest.mark.device
@pytest.mark.skipif(not HAS_TFLITE_RUNTIME, reason="only tflite-runtime is ended by a damaged file")
def test_a_file_that_ends_the_engine_is_damaged_and_we_live_on() -> None:
    data = bytearray(tiny_models.classifier())
    data[1] = 0xFF  # the root table lies far behind the file's end
    with pytest.raises(DamagedModelError, match="stopped the engine") as caught:
        attempt(bytes(data))
    assert re.match(r"ended by SIG(SEGV|BUS) in tflite-runtime", caught.value.received)


@pytest.mark.device
def test_a_child_that_is_ended_by_a_signal_is_a_damaged_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_python(monkeypatch, tmp_path, "kill -SEGV $$")
    with pytest.raises(DamagedModelError, match=r"`model\.tflite` stopped the engine") as caught:
        attempt(tiny_models.classifier())
    assert caught.value.received.startswith("ended by SIGSEGV in ")


def test_a_child_that_fails_otherwise_is_a_damaged_model_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, "echo MemoryError >&2; exit 1")
    with pytest.raises(DamagedModelError) as caught:
        attempt(tiny_models.classifier())
    assert caught.value.received.startswith("exit code 1: MemoryError")


def test_a_child_that_does_not_answer_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_python(monkeypatch, tmp_path, "exec sleep 60")
    with pytest.raises(DamagedModelError, match="did not finish") as caught:
        attempt(tiny_models.classifier(), timeout_s=0.2)
    assert caught.value.received.startswith("no answer after 0.2 s")


def test_a_refused_file_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[list[str]]
) -> None:
    with monkeypatch.context() as broken:
        replace_python(broken, tmp_path, "kill -SEGV $$")
        with pytest.raises(DamagedModelError):
            attempt(tiny_models.classifier())
    attempt(tiny_models.classifier())
    assert len(children) == 2


def test_a_child_that_cannot_be_started_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DeviceError, match="child process"):
        attempt(tiny_models.classifier())


@pytest.mark.device
def test_an_op_that_the_engine_lacks_is_named_by_the_trial() -> None:
    tensors = [tiny_models.TensorSpec("a", (1, 2)), tiny_models.TensorSpec("b", (1, 2))]
    operators = [tiny_models.OperatorSpec(tiny_models.LOGISTIC, (0,), (1,), version=99)]
    with pytest.raises(UnsupportedOpError, match="LOGISTIC in version 99"):
        attempt(tiny_models.model(tensors, operators, inputs=[0], outputs=[1]))


def test_an_engine_that_cannot_run_here_is_no_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(MissingDependencyError, match="NumPy 2"):
        try_first(tiny_models.dense(), sha256="0" * 64, engine=Engine("tflite-runtime", "2.14.0", verifies=False))


@pytest.mark.device
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_every_kind_of_input_is_tried(dtype: str) -> None:
    attempt(tiny_models.classifier(dtype=dtype))


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    attempt(tiny_models.dense())


def test_a_cache_that_may_not_be_looked_into_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, **_options: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    attempt(tiny_models.dense())


def test_a_user_without_a_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    attempt(tiny_models.dense())


def test_a_module_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A model is often tried in a folder of downloads; what lies there must not run.
    (tmp_path / "numpy.py").write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path)
    attempt(tiny_models.dense())


def test_what_is_searched_from_the_current_folder_is_still_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["lib", os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "sitecustomize.py").write_text("import os\nopen(os.environ['SEEN'], 'w').close()\n")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    attempt(tiny_models.dense())
    assert (tmp_path / "seen").exists()


def test_stored_numbers_are_filled_over_their_whole_range() -> None:
    tensor = np.zeros(4096, dtype=np.int8)
    fill(tensor, np.random.default_rng(0))
    assert (tensor.min(), tensor.max()) == (-128, 127)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.bool_])
def test_indices_are_filled_with_zeros(dtype: type[np.generic]) -> None:
    # A whole number is an index as a rule (of a word, of a row): any other may lie behind the table's end.
    tensor = np.ones(16, dtype=dtype)
    fill(tensor, np.random.default_rng(0))
    assert not tensor.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_floats_are_filled_between_0_and_1(dtype: type[np.generic]) -> None:
    tensor = np.full(1000, np.nan, dtype=dtype)
    fill(tensor, np.random.default_rng(0))
    assert 0.0 <= tensor.min() < 0.1
    assert 0.9 < tensor.max() <= 1.0


def gather() -> bytes:
    """A table of three words: the input is an index into it."""
    tensors = [
        tiny_models.TensorSpec("token", (1,), "int32"),
        tiny_models.TensorSpec("table", (3, 2), values=[1, 2, 3, 4, 5, 6]),
        tiny_models.TensorSpec("row", (1, 2)),
    ]
    operators = [tiny_models.OperatorSpec(36, (1, 0), (2,), 23, {0: Scalar("i", 0)})]
    return tiny_models.model(tensors, operators, inputs=[0], outputs=[2])


def test_a_model_that_looks_words_up_passes_its_trial() -> None:
    attempt(gather())
