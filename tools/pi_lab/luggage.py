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
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
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
    for path in (PROJECT / "tests").glob("*/__init__.py"):  # packages that tests share, beside its single files
        shutil.copytree(path.parent, folder / "tests" / path.parent.name, ignore=_NOT_COPIED)
    shutil.copytree(PROJECT / "tests" / "edgeinfer", folder / "tests" / "edgeinfer", ignore=_NOT_COPIED)
    _make_model(folder / "models" / "classifier.tflite")
    real = os.environ.get("EDGEINFER_TEST_DATA", "")
    if real and Path(real).is_dir():
        _copy_data(Path(real), folder / "data")


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel into a folder, from a copy because a build leaves files behind.

    Raises:
        LabError: It could not be built, or is not one for every processor.
    """
    source = folder / "source"
    source.mkdir()
    for name in _SOURCES:
        path = PROJECT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=_NOT_COPIED)
        else:
            shutil.copy2(path, source / name)
    run([*_PIP, "wheel", "--no-deps", f"--wheel-dir={folder}", source])
    shutil.rmtree(source)
    wheels = list(folder.glob("*.whl"))
    if [wheel.name.endswith("-py3-none-any.whl") for wheel in wheels] != [True]:
        raise LabError(f"The project is one wheel for every processor, and not {[wheel.name for wheel in wheels]}.")
    return wheels[0]


def _install_project(folder: Path) -> None:
    """Install the project's wheel as pip does."""
    wheel = build_wheel(folder)
    run([*_PIP, "install", "--no-deps", "--no-index", "--no-compile", f"--target={folder / 'site'}", wheel])
    wheel.unlink()


def _make_model(target: Path) -> None:
    """Make the model of the parts that run where no real data is, one of the tests' own, and a picture for it."""
    target.parent.mkdir()
    target.with_name("red.ppm").write_bytes(b"P6 96 96 255\n" + b"\xff\0\0" * 96 * 96)
    run([sys.executable, "-c", _TINY_MODEL, target], cwd=PROJECT / "tests")


def _copy_data(source: Path, target: Path) -> None:
    for pattern, count in _DATA.items():
        for path in sorted(source.glob(pattern))[:count]:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
