"""The wheel is one for every machine: a telephone's Python imports it, with nothing beside it but NumPy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from tools.pi_lab.host import LabError
from tools.pi_lab.luggage import build_wheel

NAMES = ("red", "green", "blue", "dark")
# What may be missing on a telephone: every engine, what reads pictures, and what only Linux has.
ABSENT = (
    "ai_edge_litert",
    "tflite_runtime",
    "tensorflow",
    "cv2",
    "PIL",
    "picamera2",
    "pooch",
    "paho",
    "resource",
    "fcntl",
)
# What a compiled file begins with: ELF, Mach-O in both orders and as a bundle, Windows' programs, archives of objects.
COMPILED = (
    b"\x7fELF",
    b"\xfe\xed\xfa",
    b"\xcf\xfa\xed\xfe",
    b"\xce\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"MZ",
    b"!<arch>",
)

_SCRIPT = """
import importlib.abc, json, pathlib, sys

site, model, absent, *want = sys.argv[1:]

class Finders(importlib.abc.MetaPathFinder):
    '''All that there are, which do not find what is absent, nor this project where it is installed as editable.'''

    rest = [one for one in sys.meta_path if "editable" not in repr(one)]

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent.split(","):
            return None
        found = (one.find_spec(name, path, target) for one in self.rest)
        return next((spec for spec in found if spec is not None), None)

sys.meta_path[:] = [Finders()]
sys.path.insert(0, site)
assert pathlib.Path("/proc/self").exists() == ("proc" in want), "/proc"

import numpy as np
import edgeinfer
from edgeinfer.errors import EdgeInferError, MissingDependencyError
from edgeinfer.model.metadata import Resize, read
from edgeinfer.postprocess.classify import classify
from edgeinfer.preprocess.tensor import Preprocessor

assert pathlib.Path(edgeinfer.__file__).is_relative_to(site), edgeinfer.__file__
said = read(model)
spec = said.inputs[0]
tensor = np.zeros(spec.shape, spec.dtype)
height, width = spec.shape[1:3]
exact = np.full((height, width, 3), (255, 0, 0), np.uint8)
Preprocessor(spec)(exact, tensor)
same_size = tensor[0, 0, 0].tolist()
tensor[...] = 0
Preprocessor(spec, Resize(filter="nearest"))(np.full((480, 640, 3), (0, 0, 255), np.uint8), tensor)
scores = np.array([[10, 200, 30, 16]], said.outputs[0].dtype)
first = next(iter(classify(scores, said.outputs[0])))
try:
    edgeinfer.classifier(model)
except MissingDependencyError as error:
    missing = str(error)
print(json.dumps({
    "version": edgeinfer.__version__, "task": said.task, "labels": said.outputs[0].labels,
    "same_size": same_size, "nearest": tensor[0, -1, -1].tolist(), "first": first.label, "missing": missing,
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build_wheel(tmp_path_factory.mktemp("wheel"))
    except LabError as error:
        if "setuptools" in str(error) and ("No matching distribution" in str(error) or "onnect" in str(error)):
            pytest.skip(f"setuptools, which builds the wheel, is not to be had here: {error}")
        raise


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files where nothing else is, as an app unpacks them."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "colours.tflite"
    path.write_bytes(tiny_models.classifier(dtype="uint8", labels=NAMES, normalization=(0.0, 255.0)))
    return path


def answered(command: list[str], site: Path, model: Path, *want: str) -> dict[str, object]:
    """What the script says in a fresh interpreter, which sees neither this folder nor the user's packages."""
    line = [*command, sys.executable, "-I", "-B", "-c", _SCRIPT, str(site), str(model), ",".join(ABSENT), *want]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=site, env={"PATH": os.defpath})
    assert done.returncode == 0, done.stderr
    said: dict[str, object] = json.loads(done.stdout)
    return said


def check(said: dict[str, object]) -> None:
    assert said["task"] == "classification"
    assert said["labels"] == list(NAMES)
    assert said["same_size"] == [255, 0, 0]
    assert said["nearest"] == [0, 0, 255]
    assert said["first"] == "green"
    assert "No engine for TFLite files is installed" in str(said["missing"])


def test_the_wheel_is_for_every_python_and_machine(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        (notes,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        lines = archive.read(notes).decode().splitlines()
    assert "Root-Is-Purelib: true" in lines
    assert [line for line in lines if line.startswith("Tag: ")] == ["Tag: py3-none-any"]


def test_the_wheel_holds_no_compiled_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert not [name for name in names if name.endswith((".so", ".pyd", ".dll", ".dylib", ".a", ".o", ".pyc"))]
        assert not [name for name in names if archive.read(name).startswith(COMPILED)]
    assert "edgeinfer/py.typed" in names


def test_it_works_without_engine_opencv_and_pillow(site: Path, model: Path) -> None:
    """Reads the metadata, preprocesses, ranks; what needs an engine says that there is none."""
    check(answered([], site, model, *(("proc",) if Path("/proc/self").exists() else ())))


def test_it_works_without_proc(site: Path, model: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare (util-linux) is not installed")
    own = [unshare, "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    empty = [*own, "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    allowed = subprocess.run([*empty, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"a mount namespace is not allowed here: {allowed.stderr.strip()}")
    check(answered(empty, site, model))


def test_numpy_is_all_that_an_import_loads(site: Path) -> None:
    """What `import edgeinfer` loads is the standard library, NumPy and itself."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); import edgeinfer;"
        "from edgeinfer.model.metadata import read; from edgeinfer.preprocess.tensor import Preprocessor;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    command = [sys.executable, "-I", "-B", "-c", code, str(site)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) == {"edgeinfer", np.__name__}
