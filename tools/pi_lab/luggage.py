"""What every machine gets to read: the project's wheel, installed; its tests; a few models and pictures."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tools.pi_lab.host import LabError, run

PROJECT = Path(__file__).resolve().parents[2]
_GUEST = Path(__file__).parent / "guest"
# All that a wheel is made of.
_SOURCES = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "edgeinfer", "converters")
# Of the real data (EDGEINFER_TEST_DATA) only what the tests there and the measurements open: how many of each.
_DATA = {
    "coral/mobilenet_v[12]_*_quant.tflite": 2,
    "coral/deeplabv3_mnv2_dm05_pascal_quant.tflite": 1,
    "coral/movenet_single_pose_lightning_ptq.tflite": 1,
    "coral/movenet_single_pose_lightning_ptq_reference.csv": 1,
    "coral/*_labels.txt": 3,
    "coral/*.bmp": 7,
    "coral/parrot.jpg": 1,
    "detection/*": 2,
    "coco128/images/*/*.jpg": 4,
    "imagenet_sample/*.[jJ]*": 2,
}
_TINY_MODEL = """
import pathlib, sys, tiny_models
names = ("red", "green", "blue", "dark")
model = tiny_models.classifier(dtype="uint8", size=(96, 96), labels=names, normalization=(0.0, 255.0))
pathlib.Path(sys.argv[1]).write_bytes(model)
"""
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc", "build", "*.egg-info")


def pack(folder: Path) -> None:
    """Fill a folder for the machines.

    Args:
        folder: An empty one; it becomes /luggage: site/, tests/, guest/ and, where there is real data, data/.

    Raises:
        LabError: The project's wheel could not be built.
    """
    _install_project(folder)
    shutil.copytree(_GUEST, folder / "guest", ignore=_NOT_COPIED)
    (folder / "tests").mkdir()
    shutil.copy2(PROJECT / "pyproject.toml", folder / "pyproject.toml")
    for path in (PROJECT / "tests").glob("*.py"):
        shutil.copy2(path, folder / "tests" / path.name)
    shutil.copytree(PROJECT / "tests" / "edgeinfer", folder / "tests" / "edgeinfer", ignore=_NOT_COPIED)
    _make_model(folder / "models" / "classifier.tflite")
    real = os.environ.get("EDGEINFER_TEST_DATA", "")
    if real and Path(real).is_dir():
        _copy_data(Path(real), folder / "data")


def _install_project(folder: Path) -> None:
    """Build the wheel, from a copy because a build leaves files behind, and install it as pip does."""
    source = folder / "source"
    source.mkdir()
    for name in _SOURCES:
        path = PROJECT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=_NOT_COPIED)
        else:
            shutil.copy2(path, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", source])
    shutil.rmtree(source)
    wheels = list(folder.glob("*.whl"))
    if [wheel.name.endswith("-py3-none-any.whl") for wheel in wheels] != [True]:
        raise LabError(f"The project is one wheel for every processor, and not {[wheel.name for wheel in wheels]}.")
    run([*pip, "install", "--no-deps", "--no-index", "--no-compile", f"--target={folder / 'site'}", wheels[0]])
    wheels[0].unlink()


def _make_model(target: Path) -> None:
    """Make the model of the parts that run where no real data is: one of the tests' own."""
    target.parent.mkdir()
    run([sys.executable, "-c", _TINY_MODEL, target], cwd=PROJECT / "tests")


def _copy_data(source: Path, target: Path) -> None:
    for pattern, count in _DATA.items():
        for path in sorted(source.glob(pattern))[:count]:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
