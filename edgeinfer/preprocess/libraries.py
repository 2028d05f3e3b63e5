"""The only file that imports OpenCV and Pillow: when first asked for, and only once."""

from __future__ import annotations

import functools
from types import ModuleType

from edgeinfer.errors import MissingDependencyError


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
    try:
        return require_opencv()
    except MissingDependencyError as error:
        import logging  # only a machine without OpenCV needs it

        logging.getLogger(__name__).debug("Pillow stands in for OpenCV: %s", error.received)
        return None


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
