"""Keras in this process: loaded without a word, on TensorFlow, and with the caller's environment left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import converters

ROOT = Path(converters.__file__).parents[1]


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        check=False,
        timeout=120,
    )


# A package that is found first, in the place of the real ones.
FAKE = """
import contextlib, importlib.abc, importlib.util, logging, os, sys, types
class Fake(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name in ("keras", "tensorflow") else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        with contextlib.suppress(OSError):
            os.write(2, b"lines of a library\\n")
        module.backend = types.SimpleNamespace(backend=lambda: BACKEND)
        module.get_logger = logging.getLogger
        module.constant = lambda value: CONSTANT()
sys.meta_path.insert(0, Fake())
from converters.backend import require_keras
from edgeinfer.errors import EdgeInferError
BACKEND, CONSTANT = "tensorflow", lambda: None
"""


@pytest.mark.tensorflow
def test_keras_loads_without_a_line_and_leaves_the_environment(tmp_path: Path) -> None:
    code = """
import os, sys
from converters.backend import require_keras
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "1"
require_keras()
require_keras()
assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "1"
assert "KERAS_BACKEND" not in os.environ
import keras
print(keras.backend.backend(), keras.ops.sum([1.0, 2.0]).numpy())
print("still heard", file=sys.stderr)
import tensorflow as tf
for _ in range(8):  # one graph for each training looks like a mistake to it
    tf.function(lambda x: x + 1)(1)
"""
    # Whatever a person has set up for scripts of their own.
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    done = python(code, KERAS_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tensorflow 3.0\n"
    assert done.stderr == "still heard\n"


def test_another_backend_that_is_running_is_refused_with_the_way_out() -> None:
    done = python(f"""{FAKE}
import keras
BACKEND = "jax"
try:
    require_keras()
except EdgeInferError as error:
    print(type(error).__name__, error.exit_code, error)
""")
    assert done.stdout.startswith("ConversionError 3 Steps that train need Keras on TensorFlow.")
    assert "Received: Keras on jax" in done.stdout
    assert "KERAS_BACKEND=tensorflow" in done.stdout


def test_what_libraries_say_while_they_load_is_kept_to_them() -> None:
    done = python(f"{FAKE}\nrequire_keras()\nprint('loaded')")
    assert (done.stdout, done.stderr) == ("loaded\n", "")


def test_a_package_that_is_not_there_is_named_with_its_cure() -> None:
    done = python("""
import sys
sys.modules["tensorflow"] = None
from converters.backend import require_keras
from edgeinfer.errors import MissingDependencyError
try:
    require_keras()
except MissingDependencyError as error:
    print(error)
""")
    assert "Steps that train need Keras and TensorFlow." in done.stdout
    assert 'pip install "edgeinfer[convert]"' in done.stdout
    assert "Traceback" not in done.stderr


def test_what_libraries_say_is_shown_where_they_fail() -> None:
    done = python(f"""{FAKE}
def fail():
    raise RuntimeError("no such device")
CONSTANT = fail
require_keras()
""")
    assert done.returncode == 1
    assert "lines of a library" in done.stderr
    assert "RuntimeError: no such device" in done.stderr


def test_without_a_standard_error_it_loads_too() -> None:
    done = python(f"""{FAKE}
os.close(2)
require_keras()
print("loaded")
""")
    assert done.stdout == "loaded\n"
