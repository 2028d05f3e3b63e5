"""What is on this machine, what is missing, and the exact line that cures it."""

from __future__ import annotations

import struct
import sys

import numpy as np

from edgeinfer.errors import EdgeInferError, MissingDependencyError
from edgeinfer.frozen import dataclass
from edgeinfer.machine import machine, package_version
from edgeinfer.preprocess.golden import check_golden
from edgeinfer.preprocess.libraries import opencv
from edgeinfer.runtime.edgetpu.devices import find_edgetpus, find_obstacle, say_edgetpus
from edgeinfer.runtime.edgetpu.probe import Probed, look
from edgeinfer.runtime.engines import find_engine, import_engine, install_line, installed_engines
from edgeinfer.sources.devices import GROUP_LINE, find_cameras, say_cameras

SLIM_LINE = (
    "pip install 'tflite-runtime==2.14.0' 'numpy<2' pillow 'opencv-python-headless<4.12' "
    "&& pip install --no-deps edgeinfer"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        ok: False where something must be mended before models run well.
        found: What was found.
        cure: The line to type, or "" where nothing is needed.
    """

    name: str
    ok: bool
    found: str
    cure: str = ""


def examine() -> tuple[Check, ...]:
    """Look at Python, engines, NumPy, Pillow, OpenCV, the preprocessing, cameras, Edge TPUs and the processor."""
    return (_python(), _engine(), _numpy(), _pillow(), _opencv(), _golden(), _camera(), _edgetpu(), _governor())


def _python() -> Check:
    bits = struct.calcsize("P") * 8
    found = f"Python {sys.version.split()[0]}, {bits} bit on {machine()['architecture']}"
    narrow_on_wide = bits == 32 and machine()["architecture"] in ("aarch64", "x86_64")
    if narrow_on_wide:
        # pip's markers see the 64-bit kernel and would choose wheels that this Python cannot load.
        return Check("python", True, f"{found} (a 32-bit system under a 64-bit kernel)", SLIM_LINE)
    return Check("python", True, found)


def _engine() -> Check:
    found = ", ".join(f"{engine.name} {engine.version}" for engine in installed_engines()) or "none"
    try:
        chosen = find_engine()
        import_engine(chosen)
    except EdgeInferError as error:
        found += f": {error.received}" if error.received else ""
        return Check("engine", False, found, error.next_step or install_line())
    return Check("engine", True, f"{found} (in use: {chosen.name})")


def _numpy() -> Check:
    found = f"numpy {np.__version__}"
    try:
        in_use = find_engine().name
    except EdgeInferError:
        in_use = None  # the engine's own check says so
    if not _is_numpy_1() and in_use == "tflite-runtime":
        return Check("numpy", False, f"{found}: tflite-runtime needs NumPy 1", "pip install 'numpy<2'")
    return Check("numpy", True, found)


def _is_numpy_1() -> bool:
    return int(np.__version__.split(".")[0]) < 2


def _opencv_package() -> str:
    # OpenCV 4.12 and later bring NumPy 2 along.
    return "'opencv-python-headless<4.12'" if _is_numpy_1() else "opencv-python-headless"


def _pillow() -> Check:
    version = package_version("pillow")
    if version is None:
        return Check("pillow", False, "not installed", "pip install pillow")
    return Check("pillow", True, f"pillow {version}")


def _opencv() -> Check:
    versions = [
        f"{name} {version}"
        for name in ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
        if (version := package_version(name)) is not None
    ]
    line = f"pip install {_opencv_package()}"
    if opencv() is not None:
        return Check("opencv", True, ", ".join(versions) or "the system's own")
    if versions:
        return Check("opencv", False, f"{', '.join(versions)}, but it cannot be imported", line)
    return Check("opencv", True, "not installed: pictures are read and resized by Pillow, slower", line)


def _golden() -> Check:
    try:
        results = check_golden()
    except EdgeInferError as error:
        return Check("preprocessing", False, f"{error.message} {error.received}".strip(), error.next_step)
    wrong = [result for result in results if not result.ok]
    if wrong:
        names = ", ".join(f"{result.name} off by {result.difference:g}" for result in wrong)
        return Check("preprocessing", False, names, f"pip install --upgrade pillow {_opencv_package()}")
    return Check("preprocessing", True, f"{len(results)} golden vectors agree")


def _camera() -> Check:
    cameras = find_cameras()
    found = say_cameras(cameras)
    if forbidden := [camera.source for camera in cameras if not camera.allowed]:
        return Check("camera", False, f"{found}: this user may not open {', '.join(forbidden)}", GROUP_LINE)
    if any(camera.is_csi for camera in cameras):
        from edgeinfer.sources.picamera import import_picamera2  # only a Raspberry Pi needs it

        try:
            import_picamera2()
        except MissingDependencyError as error:
            return Check("camera", False, f"{found}: Picamera2 cannot be imported: {error.received}", error.next_step)
    if opencv() is None and not all(camera.is_csi for camera in cameras):
        return Check("camera", False, f"{found}: read by OpenCV alone", f"pip install {_opencv_package()}")
    return Check("camera", True, found)


def _edgetpu() -> Check:
    found = find_edgetpus()
    if not found:
        return Check("edgetpu", True, f"none attached{_library_alone()}")
    said = say_edgetpus(found)
    for one in found:
        if obstacle := find_obstacle(one):
            return Check("edgetpu", False, f"{said}: {obstacle.what}", obstacle.cure)
    try:
        library = look()  # in a child process; no device is opened, so that one in use is left alone
    except EdgeInferError as error:
        return Check("edgetpu", False, f"{said}: {error.message} {error.received}".strip(), error.next_step)
    if library.devices == ():
        cure = "Take the Edge TPU out and put it back in; in a container let 1a6e:089a and 18d1:9302 through"
        return Check("edgetpu", False, f"{said}: {library.library} does not see it", cure)
    slow = any(one.is_slow for one in found)
    return Check("edgetpu", True, f"{said}, {_library_words(library)}", "Use a USB 3 port" if slow else "")


def _library_alone() -> str:
    """Say what there is of the library where no Edge TPU is attached: one may come later. "" where there is none."""
    try:
        return f", {_library_words(look())}"
    except MissingDependencyError:
        return ""
    except EdgeInferError as error:
        return f"; its library: {error.message} {error.received}".rstrip()


def _library_words(library: Probed) -> str:
    runtime = "of an unknown version" if library.runtime is None else f"with runtime {library.runtime}"
    return f"{library.library} {runtime}"


def _governor() -> Check:
    governor = machine()["governor"]
    if governor in (None, "performance"):
        return Check("governor", True, str(governor or "not reported by this system"))
    return Check(
        "governor",
        True,
        f"{governor}: latencies vary with the load",
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )
