"""The only file that imports OpenCV and Pillow: when first asked for, and only once."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from edgeinfer.errors import MissingDependencyError

_left_out = False


def require_opencv() -> ModuleType:
    """Import OpenCV.

    Raises:
        MissingDependencyError: It is not installed, or it is and cannot be loaded (the desktop build without
            libGL, a build for another NumPy).
    """
    try:
        import cv2
    except Exception as error:  # a broken build fails in many ways: ImportError, AttributeError, SystemError
        raise MissingDependencyError(
            "OpenCV cannot be imported.",
            received=f"{type(error).__name__}: {error}",
            next_step="pip install opencv-python-headless",
        ) from error
    module: ModuleType = cv2
    return module


@functools.cache
def opencv() -> ModuleType | None:
    """Return OpenCV, or None where it cannot be imported; the answer is kept, since a frame asks for it."""
    if _left_out:
        return None
    try:
        return require_opencv()
    except MissingDependencyError as error:
        import logging  # only a machine without OpenCV needs it

        logging.getLogger(__name__).debug("Pillow stands in for OpenCV: %s", error.received)
        return None


@contextmanager
def opencv_left_out() -> Iterator[None]:
    """Let Pillow and NumPy do all, unless OpenCV is loaded already: for who answers a picture or two and ends.

    Loading OpenCV takes 56 million instructions (5.0, from the wheel) to 1,400 million (4.6, Debian's) on an emulated
    arm64 processor.
    """
    global _left_out
    if "cv2" in sys.modules:
        yield
        return
    opencv.cache_clear()
    _left_out = True
    try:
        yield
    finally:
        _left_out = False
        opencv.cache_clear()


def image_font() -> ModuleType:
    """Return the module `PIL.ImageFont`.

    Raises:
        MissingDependencyError: Pillow cannot be imported.
    """
    pillow()  # says what to install
    from PIL import ImageFont

    module: ModuleType = ImageFont
    return module


@functools.cache
def pillow() -> ModuleType:
    """Return the module `PIL.Image`.

    Raises:
        MissingDependencyError: It cannot be imported.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            "Pillow cannot be imported.", received=str(error), next_step="pip install pillow"
        ) from error
    module: ModuleType = Image
    return module


def pillow_plugin(name: str) -> ModuleType:
    """Return a module of Pillow that reads one kind of file, e.g. "BmpImagePlugin".

    Raises:
        MissingDependencyError: Pillow cannot be imported.
    """
    pillow()  # says what to install
    return import_module(f"PIL.{name}")
