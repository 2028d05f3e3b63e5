"""A window where there is a screen, and a refusal with its cure where there is none: Qt would end the process.

The window itself needs an OpenCV that was built with windows (`pip install opencv-python`) and Xvfb, Debian's virtual
screen; keys are pressed by xdotool. Without them those tests are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeinfer.errors import DeviceError, InputError, MissingDependencyError
from edgeinfer.outputs import window
from edgeinfer.outputs.window import Window, show
from edgeinfer.preprocess.libraries import opencv

PICTURE = np.zeros((20, 30, 3), np.uint8)
CV2: Any = opencv()
HAS_WINDOWS = CV2 is not None and re.search(r"GUI: +NONE", CV2.getBuildInformation()) is None

headless = pytest.mark.skipif(HAS_WINDOWS or CV2 is None, reason="this OpenCV has windows, or there is none")
needs_windows = pytest.mark.skipif(not HAS_WINDOWS, reason="this OpenCV was built without windows")
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a screen")


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """Forget what an earlier test found out about the screen."""
    window._screen.cache_clear()
    yield
    window._screen.cache_clear()


@headless
def test_an_opencv_without_windows_says_what_to_install() -> None:
    with pytest.raises(MissingDependencyError, match="built without windows") as caught:
        show(PICTURE)
    assert "--bind" in caught.value.next_step
    # With NumPy 1 only versions before 4.12 go together.
    package = "'opencv-python<4.12'" if np.__version__.startswith("1.") else "opencv-python"
    assert f"pip uninstall -y opencv-python-headless && pip install {package}`" in caught.value.next_step
    assert "apt-get install libgl1" in caught.value.next_step


@headless
def test_a_window_is_refused_when_it_is_made_and_not_at_the_first_frame() -> None:
    with pytest.raises(MissingDependencyError):
        Window()


def test_a_missing_libgl_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands in for a bare Debian with opencv-python 4; the words are those of the loader there.
    def require() -> Any:
        raise MissingDependencyError(
            "OpenCV cannot be imported.",
            received="ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        )

    monkeypatch.setattr(window, "require_opencv", require)
    with pytest.raises(MissingDependencyError, match=r"libGL\.so\.1") as caught:
        Window()
    assert "sudo apt-get install libgl1" in caught.value.next_step


@pytest.fixture
def with_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let OpenCV say of itself that it has windows; it stands in for a build that may not be here."""
    if not HAS_WINDOWS:
        pretended = SimpleNamespace(imshow=None, getBuildInformation=lambda: "\n  GUI:                 QT5\n")
        monkeypatch.setattr(window, "require_opencv", lambda: pretended)


@linux
@pytest.mark.usefixtures("with_windows")
@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_without_a_screen_it_is_refused_before_qt_is_asked(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(DeviceError, match="no screen") as caught:
        Window()
    assert "--bind" in caught.value.next_step


@linux
@pytest.mark.usefixtures("with_windows")
def test_a_screen_that_is_named_and_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # The child process is a real one, with the OpenCV that is here: it does not get its window either way.
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(DeviceError, match="No window can be opened") as caught:
        Window()
    assert caught.value.received.startswith("DISPLAY=:987, ")
    assert "--bind" in caught.value.next_step


@pytest.mark.parametrize("given", [PICTURE.astype(np.float32), PICTURE[:0], 3], ids=["floats", "empty", "number"])
def test_what_is_no_picture_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="not a picture"):
        show(given)


def test_a_window_without_a_title_is_refused() -> None:
    with pytest.raises(InputError, match="title"):
        show(PICTURE, "")


# --- A real window on a virtual screen ------------------------------------------------------------

SCRIPT = """
import sys
import numpy as np
from edgeinfer.outputs import window
from edgeinfer.outputs.window import Window, show
from edgeinfer.sources.frame import Frame
picture = np.zeros((200, 300, 3), np.uint8)
picture[:, :150], picture[:, 150:] = (255, 0, 0), (0, 0, 255)
frame = Frame(picture, 0, 0)
"""


@pytest.fixture
def screen() -> Iterator[str]:
    """A virtual screen of 800 x 600; its name."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed (apt-get install xvfb)")
    reader, writer = os.pipe()
    with subprocess.Popen(
        ["Xvfb", "-screen", "0", "800x600x24", "-displayfd", str(writer)], pass_fds=[writer], stderr=subprocess.DEVNULL
    ) as server:
        os.close(writer)
        with os.fdopen(reader) as said:
            number = said.readline().strip()
        yield f":{number}"
        server.terminate()


def run(code: str, display: str) -> str:
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT + code],
        env={**os.environ, "DISPLAY": display},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert out.returncode == 0, out.stderr
    return out.stdout.strip()


@needs_windows
@linux
def test_red_is_red_and_blue_is_blue_on_the_screen(screen: str, tmp_path: Path) -> None:
    run(
        f"""
from PIL import ImageGrab
# Without a window manager one window in ten stays black, with OpenCV's own `imshow` as well: then another is opened.
for attempt in range(20):
    with Window(f"attempt {{attempt}}"):
        for _ in range(10):
            assert show(frame, f"attempt {{attempt}}")
            seen = np.asarray(ImageGrab.grab(xdisplay="").convert("RGB"))
            if seen.any():
                np.save({str(tmp_path / "seen.npy")!r}, seen)
                sys.exit(int(picture[0, 0, 0] != 255))  # the caller's own picture is as it was
""",
        screen,
    )
    seen = np.load(tmp_path / "seen.npy")
    rows, columns = np.nonzero(seen.any(axis=2))
    left, right = columns.min(), columns.max()
    middle = (rows.min() + rows.max()) // 2
    assert (right - left + 1, rows.max() - rows.min() + 1) == (300, 200)
    assert seen[middle, left + 50].tolist() == [255, 0, 0]
    assert seen[middle, right - 50].tolist() == [0, 0, 255]


@needs_windows
@linux
@pytest.mark.skipif(shutil.which("xdotool") is None, reason="xdotool is not installed")
@pytest.mark.parametrize("key", ["q", "Q", "Escape"])
def test_a_key_ends_it(key: str, screen: str) -> None:
    said = run(
        f"""
import subprocess, threading
from time import monotonic
from edgeinfer.live.shown import Shown, Status
output = Window("my title")
shown = Shown(frame, {{}}, Status())
assert all(output.write(shown) for _ in range(20))
ended = threading.Event()
def press():  # again and again: a window that has just got the focus may miss the first
    while not ended.is_set():
        subprocess.run("xdotool search --name 'my title' windowfocus key {key}", shell=True, stderr=subprocess.DEVNULL)
threading.Thread(target=press).start()
ends = monotonic() + 60
while output.write(shown):
    assert monotonic() < ends
ended.set()
print(output.write(shown), window._open)
output.close()
""",
        screen,
    )
    assert said == "False set()"


@needs_windows
@linux
def test_a_window_that_is_closed_ends_it_and_the_next_call_opens_it_again(screen: str) -> None:
    # Taken away through OpenCV: without a window manager there is no button to press.
    said = run(
        """
import cv2
print(show(frame), show(frame))
cv2.destroyWindow("edgeinfer")
print(show(frame), show(frame))
""",
        screen,
    )
    assert said.split() == ["True", "True", "False", "True"]


@needs_windows
@linux
def test_a_window_that_never_had_a_frame_leaves_no_process(screen: str) -> None:
    said = run(
        """
output = Window()
child, = window._children
output.close()
print(child.returncode, window._children)
""",
        screen,
    )
    assert said == "0 []"


@needs_windows
@linux
def test_each_title_has_its_own_window(screen: str) -> None:
    said = run(
        """
show(frame, "one"), show(picture[:, :, 0], "two"), show(np.zeros((2000, 3000, 3), np.uint8), "one")
print(sorted(window._open))
Window("one").close()
print(sorted(window._open))
""",
        screen,
    )
    assert said.splitlines() == ["['one', 'two']", "['two']"]
