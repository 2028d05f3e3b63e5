"""`show` and `Window`: pictures in a window, where there is a screen and an OpenCV that can open one."""

from __future__ import annotations

import functools
import os
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from edgeinfer.errors import DeviceError, InputError, MissingDependencyError
from edgeinfer.live.shown import Shown
from edgeinfer.preprocess.image import Source, read_image
from edgeinfer.preprocess.libraries import require_opencv

if TYPE_CHECKING:
    from subprocess import Popen

_END_KEYS = (ord("q"), ord("Q"), 27)  # 27 is Esc
_TRIAL_S = 20.0
_TRIAL = (
    "import cv2, os; cv2.namedWindow('edgeinfer'); cv2.destroyWindow('edgeinfer'); "
    "print('opened', flush=True); sys.stdin.read(); os._exit(0)"
)
_PAGE = "Use the page instead: `edgeinfer camera MODEL --bind 127.0.0.1:8080`."
# By title. What was opened here and is not there any more was closed by the user.
_open: set[str] = set()
_children: list[Popen[bytes]] = []


def show(image: Source, title: str = "edgeinfer") -> bool:
    """Show a picture in a window; the next call with the same title replaces it.

    Meant for a loop: the window lives while calls come, and ends with the script. Call it from the main thread.

    Args:
        image: (height, width, 3) uint8 RGB, a `Frame`, or whatever else `read_image` takes. It is not changed.
        title: Of the window; each title has its own.

    Returns:
        False when the user has closed the window or pressed q or Esc in it; it is gone then, and another call opens it
        again. Else True.

    Raises:
        InputError: No picture, or no title.
        MissingDependencyError: There is no OpenCV, or one that was built without windows.
        DeviceError: There is no screen.
    """
    if not title:
        raise InputError("A window needs a title.", received='title=""')
    pixels = read_image(image)
    cv2 = _screen()
    # The one conversion to OpenCV's order of colours.
    picture = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    try:
        if title not in _open:
            # Of a size that can be changed, since a picture may be larger than a small screen.
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(title, picture.shape[1], picture.shape[0])
            _open.add(title)
            _end_trial()
        elif not _visible(cv2, title):
            return _gone(cv2, title)
        cv2.imshow(title, picture)
        key = cv2.waitKey(1)
    except cv2.error as error:
        said = " ".join(str(error).split())
        if "not implemented" in said:  # a build without windows that does not say so of itself
            raise _no_windows(cv2, said) from error
        raise DeviceError("The window cannot be shown.", received=said, next_step=_PAGE) from error
    if key & 0xFF in _END_KEYS or not _visible(cv2, title):
        return _gone(cv2, title)
    return True


class Window:
    """A window for answered frames.

    Args:
        title: Of the window.

    Raises:
        MissingDependencyError: There is no OpenCV, or one that was built without windows.
        DeviceError: There is no screen.
    """

    def __init__(self, title: str = "edgeinfer") -> None:
        self._title = title
        self._closed = False
        _screen()

    def write(self, shown: Shown) -> bool:
        """Show one frame; False when the user has closed the window or pressed q or Esc in it.

        Raises:
            DeviceError: The screen has gone.
        """
        if self._closed or not show(shown.picture(), self._title):
            self._closed = True
        return not self._closed

    def close(self) -> None:
        """Take the window away."""
        self._closed = True
        _end_trial()
        if self._title in _open:
            _gone(require_opencv(), self._title)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _visible(cv2: ModuleType, title: str) -> bool:
    try:
        return bool(cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1)
    except cv2.error:  # Qt's answer for a window that is not there any more
        return False


def _gone(cv2: ModuleType, title: str) -> bool:
    """Forget a window, and take it away where it is still there; returns False, what `show` says of it."""
    _open.discard(title)
    try:
        cv2.destroyWindow(title)
        cv2.waitKey(1)  # it goes when its events are seen to
    except cv2.error:
        pass  # it was closed by its own button
    return False


@functools.cache
def _screen() -> ModuleType:
    """Return OpenCV if a window can be opened here; asked once, since a frame asks for it.

    All of this comes before the first window: without a screen Qt does not raise but ends the process.
    """
    try:
        cv2 = require_opencv()
    except MissingDependencyError as error:
        if "libGL" not in error.received:
            raise
        raise MissingDependencyError(
            "OpenCV cannot be imported: it was built for windows, and the system's libGL is missing.",
            received=error.received,
            next_step="sudo apt-get install libgl1; or `pip install opencv-python-headless`, without windows",
        ) from error
    toolkit = re.search(r"^\s*GUI:[ \t]*(\w*)", cv2.getBuildInformation(), re.MULTILINE)
    if not hasattr(cv2, "imshow") or (toolkit and toolkit[1] == "NONE"):
        raise _no_windows(cv2, "whose build information says `GUI: NONE`")
    if sys.platform == "linux":
        if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
            raise DeviceError(
                "There is no screen to open a window on.",
                received="neither DISPLAY nor WAYLAND_DISPLAY is set",
                expected="a session on a desktop",
                next_step=f"{_PAGE} Where a desktop runs on this machine: `export DISPLAY=:0`.",
            )
        _try_window()
    return cv2


def _no_windows(cv2: ModuleType, received: str) -> MissingDependencyError:
    # OpenCV 4.12 and later bring NumPy 2 along, which tflite-runtime cannot use.
    import numpy as np

    package = "'opencv-python<4.12'" if np.__version__.startswith("1.") else "opencv-python"
    return MissingDependencyError(
        "This OpenCV was built without windows.",
        received=f"OpenCV {cv2.__version__}, {received}",
        next_step=f"{_PAGE} For a window: `pip uninstall -y opencv-python-headless && pip install {package}`, and "
        "`sudo apt-get install libgl1` where libGL is missing.",
    )


def _try_window() -> None:
    """Open a window in a child process: a screen that is named may still not be there, or not for this user.

    It takes as long as importing OpenCV does, once; and there is no other way to ask, since a refused connection ends
    the process. The child keeps its connection until this process has its own, because an X server that loses its only
    client starts anew, and meanwhile refuses others.

    Raises:
        DeviceError: The child did not get its window.
    """
    import subprocess
    from threading import Timer

    if not sys.executable:  # Python within another program
        return
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", f"import sys; sys.path[:] = {sys.path!r}; {_TRIAL}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise DeviceError("The screen cannot be tried in a child process.", received=str(error)) from error
    timer = Timer(_TRIAL_S, child.kill)
    timer.start()
    opened = child.stdout is not None and child.stdout.readline() == b"opened\n"
    timer.cancel()
    if opened:
        _children.append(child)
        return
    said = child.communicate()[1].decode(errors="replace")
    # The first line says why; what follows is Qt's advice to install it anew.
    why = next((line.strip() for line in said.split("\n") if line.strip()), f"ended with {child.returncode}")
    names = ("DISPLAY", "WAYLAND_DISPLAY")
    raise DeviceError(
        "No window can be opened on this screen.",
        received=", ".join([*(f"{name}={os.environ[name]}" for name in names if os.environ.get(name)), why[:300]]),
        expected="a session on a desktop, of this user",
        next_step=f"{_PAGE} With `sudo`, leave it away; with `ssh`, log in by `ssh -X`.",
    )


def _end_trial() -> None:
    """Let the child of `_try_window` go; its standard input is what it waits for."""
    while _children:
        _children.pop().communicate()
