"""What the doctor finds, and the line that cures it."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from edgeinfer import doctor
from edgeinfer.doctor import Check, examine
from edgeinfer.errors import DeviceError, EdgeInferError, MissingDependencyError
from edgeinfer.preprocess.golden import GoldenResult
from edgeinfer.runtime.edgetpu.devices import FoundEdgeTpu
from edgeinfer.runtime.edgetpu.library import ListedDevice
from edgeinfer.runtime.edgetpu.probe import Probed
from edgeinfer.runtime.engines import Engine
from edgeinfer.sources.devices import FoundCamera

pytestmark = pytest.mark.device

LITERT = Engine("litert", "2.3.0", verifies=True)
TFLITE_RUNTIME = Engine("tflite-runtime", "2.14.0", verifies=False)


def finding(name: str) -> Check:
    (found,) = [check for check in examine() if check.name == name]
    return found


def pretend_engines(monkeypatch: pytest.MonkeyPatch, *engines: Engine) -> None:
    def find() -> Engine:
        if not engines:
            raise MissingDependencyError("No engine.", next_step="pip install ai-edge-litert")
        return engines[0]

    monkeypatch.setattr(doctor, "installed_engines", lambda: engines)
    monkeypatch.setattr(doctor, "find_engine", find)
    monkeypatch.setattr(doctor, "import_engine", lambda _engine: None)


def pretend_packages(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    monkeypatch.setattr(doctor, "package_version", lambda name: versions.get(name.replace("-", "_")))


def test_everything_is_looked_at_once() -> None:
    names = [check.name for check in examine()]
    assert names == ["python", "engine", "numpy", "pillow", "opencv", "preprocessing", "camera", "edgetpu", "governor"]


def test_this_machine_is_well() -> None:
    assert [check for check in examine() if not check.ok] == []


def test_the_versions_are_those_of_the_installed_packages() -> None:
    assert finding("pillow").found == f"pillow {version('pillow')}"
    assert finding("numpy").found == f"numpy {version('numpy')}"


def test_no_engine_is_not_well_and_has_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_engines(monkeypatch)
    assert finding("engine") == Check("engine", False, "none", "pip install ai-edge-litert")


def test_the_engine_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_engines(monkeypatch, LITERT, TFLITE_RUNTIME)
    assert finding("engine") == Check("engine", True, "litert 2.3.0, tflite-runtime 2.14.0 (in use: litert)")


def test_an_engine_that_cannot_be_imported_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_engines(monkeypatch, LITERT)

    def fail(_engine: Engine) -> None:
        raise MissingDependencyError("It cannot be imported.", received="no GLIBC_2.34", next_step="pip install it")

    monkeypatch.setattr(doctor, "import_engine", fail)
    assert finding("engine") == Check("engine", False, "litert 2.3.0: no GLIBC_2.34", "pip install it")


def test_numpy_2_beside_tflite_runtime_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_engines(monkeypatch, TFLITE_RUNTIME)
    monkeypatch.setattr(np, "__version__", "2.1.0")
    found = finding("numpy")
    assert not found.ok
    assert "'numpy<2'" in found.cure


def test_numpy_2_is_well_where_another_engine_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_engines(monkeypatch, LITERT, TFLITE_RUNTIME)
    monkeypatch.setattr(np, "__version__", "2.1.0")
    assert finding("numpy").ok


def test_the_engine_that_the_environment_chose_counts_for_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_engines(monkeypatch, LITERT, TFLITE_RUNTIME)
    monkeypatch.setattr(doctor, "find_engine", lambda: TFLITE_RUNTIME)
    monkeypatch.setattr(np, "__version__", "2.1.0")
    assert not finding("numpy").ok


def test_no_pillow_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_packages(monkeypatch)
    assert finding("pillow") == Check("pillow", False, "not installed", "pip install pillow")


def test_no_opencv_is_well_and_says_what_it_would_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_packages(monkeypatch, pillow="11.0")
    monkeypatch.setattr(doctor, "opencv", lambda: None)
    monkeypatch.setattr(np, "__version__", "2.1.0")
    found = finding("opencv")
    assert found.ok
    assert found.cure == "pip install opencv-python-headless"


def test_an_opencv_that_cannot_be_imported_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_packages(monkeypatch, pillow="11.0", opencv_python="4.11.0")
    monkeypatch.setattr(doctor, "opencv", lambda: None)
    found = finding("opencv")
    assert not found.ok
    assert found.found == "opencv-python 4.11.0, but it cannot be imported"
    assert "opencv-python-headless" in found.cure


@pytest.mark.parametrize("check", ["opencv", "preprocessing"])
def test_a_cure_beside_numpy_1_does_not_bring_numpy_2(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # OpenCV 4.12 and later require NumPy 2, which tflite-runtime does not run beside.
    monkeypatch.setattr(np, "__version__", "1.26.4")
    monkeypatch.setattr(doctor, "opencv", lambda: None)
    monkeypatch.setattr(doctor, "check_golden", lambda: (GoldenResult("resize", 9.0, 1.0, ""),))
    assert "'opencv-python-headless<4.12'" in finding(check).cure


def test_preprocessing_that_differs_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    results = (GoldenResult("decode", 0.0, 0.0, ""), GoldenResult("resize", 3.0, 1.0, ""))
    monkeypatch.setattr(doctor, "check_golden", lambda: results)
    found = finding("preprocessing")
    assert not found.ok
    assert found.found == "resize off by 3"
    assert found.cure.startswith("pip install --upgrade pillow")


def test_preprocessing_that_cannot_run_is_a_finding_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise MissingDependencyError("Pillow cannot be imported.", received="gone", next_step="pip install pillow")

    monkeypatch.setattr(doctor, "check_golden", fail)
    assert finding("preprocessing") == Check(
        "preprocessing", False, "Pillow cannot be imported. gone", "pip install pillow"
    )


@pytest.mark.parametrize("governor", ["performance", None])
def test_a_steady_clock_needs_no_cure(governor: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "machine", lambda: {"governor": governor, "architecture": "aarch64"})
    assert finding("governor").cure == ""


def test_a_clock_that_follows_the_load_is_well_but_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "machine", lambda: {"governor": "ondemand", "architecture": "aarch64"})
    found = finding("governor")
    assert found.ok
    assert found.found.startswith("ondemand")
    assert "scaling_governor" in found.cure


def test_a_32_bit_python_under_a_64_bit_kernel_gets_the_slim_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.struct, "calcsize", lambda _format: 4)
    monkeypatch.setattr(doctor, "machine", lambda: {"governor": None, "architecture": "aarch64"})
    found = finding("python")
    assert "32 bit on aarch64" in found.found
    assert "tflite-runtime==2.14.0" in found.cure


def pretend_cameras(monkeypatch: pytest.MonkeyPatch, *cameras: FoundCamera) -> None:
    monkeypatch.setattr(doctor, "find_cameras", lambda: cameras)


WEBCAM = FoundCamera("HD Webcam C525", "/dev/video0", (0,))
RIBBON = FoundCamera("imx708", "csi:0", (2,))


def test_no_camera_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_cameras(monkeypatch)
    assert finding("camera") == Check("camera", True, "none found")


def test_cameras_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_cameras(monkeypatch, WEBCAM, FoundCamera("", "/dev/video2", (2,)))
    assert finding("camera") == Check("camera", True, "HD Webcam C525 (/dev/video0), /dev/video2")


def test_a_camera_that_this_user_may_not_open_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_cameras(monkeypatch, FoundCamera("HD Webcam C525", "/dev/video0", (0,), allowed=False))
    assert finding("camera") == Check(
        "camera",
        False,
        "HD Webcam C525 (/dev/video0): this user may not open /dev/video0",
        "sudo usermod -aG video $USER",
    )


def test_a_camera_on_a_ribbon_cable_without_picamera2_has_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)  # an import of it fails, as in a venv of its own
    pretend_cameras(monkeypatch, RIBBON)
    found = finding("camera")
    assert not found.ok
    assert found.found.startswith("imx708 (csi:0): Picamera2 cannot be imported")
    assert found.cure.startswith("sudo apt install python3-picamera2 && python3 -m venv --system-site-packages .venv")


def test_a_webcam_without_opencv_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_cameras(monkeypatch, WEBCAM)
    monkeypatch.setattr(doctor, "opencv", lambda: None)
    found = finding("camera")
    assert (found.ok, found.found) == (False, "HD Webcam C525 (/dev/video0): read by OpenCV alone")
    assert found.cure.startswith("pip install ")


def pretend_edgetpus(monkeypatch: pytest.MonkeyPatch, *found: FoundEdgeTpu, library: Probed | EdgeInferError) -> None:
    def ask() -> Probed:
        if isinstance(library, EdgeInferError):
            raise library
        return library

    monkeypatch.setattr(doctor, "find_edgetpus", lambda: found)
    monkeypatch.setattr(doctor, "look", ask)


STICK = FoundEdgeTpu("usb", "/sys/bus/usb/devices/2-1", "/dev/bus/usb/002/003", mbit_s=5000)
LIBRARY = Probed("libedgetpu.so.1", "RuntimeVersion(14)", 14, (ListedDevice("usb", "/sys/bus/usb/devices/2-1"),))


def test_neither_an_edge_tpu_nor_its_library_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_edgetpus(monkeypatch, library=MissingDependencyError("The library is missing."))
    assert finding("edgetpu") == Check("edgetpu", True, "none attached")


@pytest.mark.parametrize(("runtime", "words"), [(14, "with runtime 14"), (None, "of an unknown version")])
def test_a_library_without_an_edge_tpu_says_its_runtime(
    monkeypatch: pytest.MonkeyPatch, runtime: int | None, words: str
) -> None:
    pretend_edgetpus(monkeypatch, library=replace(LIBRARY, runtime=runtime, devices=()))
    assert finding("edgetpu") == Check("edgetpu", True, f"none attached, libedgetpu.so.1 {words}")


def test_a_library_that_crashes_is_well_while_no_edge_tpu_is_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_edgetpus(monkeypatch, library=DeviceError("It crashed.", received="SIGSEGV", next_step="Install another."))
    assert finding("edgetpu") == Check("edgetpu", True, "none attached; its library: It crashed. SIGSEGV")


def test_a_library_is_really_asked(monkeypatch: pytest.MonkeyPatch, standin: Path) -> None:
    monkeypatch.setattr(doctor, "find_edgetpus", lambda: ())
    monkeypatch.setenv("EDGEINFER_EDGETPU_LIBRARY", str(standin))
    monkeypatch.setenv("STANDIN_VERSION", "BuildLabel(x), RuntimeVersion(12)")
    assert finding("edgetpu").found == f"none attached, {standin} with runtime 12"


def test_an_edge_tpu_is_found_with_its_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_edgetpus(monkeypatch, STICK, library=LIBRARY)
    assert finding("edgetpu") == Check("edgetpu", True, "usb /dev/bus/usb/002/003, libedgetpu.so.1 with runtime 14")


def test_an_edge_tpu_on_a_usb_2_port_is_well_and_has_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_edgetpus(monkeypatch, replace(STICK, mbit_s=480), library=LIBRARY)
    found = finding("edgetpu")
    assert (found.ok, found.cure) == (True, "Use a USB 3 port")
    assert "on a USB 2 port, 480 Mbit/s" in found.found


def test_an_edge_tpu_without_its_library_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = MissingDependencyError("The library is missing.", received="no file", next_step="sudo apt install it")
    pretend_edgetpus(monkeypatch, STICK, library=missing)
    assert finding("edgetpu") == Check(
        "edgetpu", False, "usb /dev/bus/usb/002/003: The library is missing. no file", "sudo apt install it"
    )


def test_an_edge_tpu_that_this_user_may_not_open_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_edgetpus(monkeypatch, replace(STICK, allowed=False), library=LIBRARY)
    found = finding("edgetpu")
    assert not found.ok
    assert "may not open /dev/bus/usb/002/003" in found.found
    assert "usermod -aG plugdev" in found.cure


def test_a_card_without_a_driver_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_edgetpus(monkeypatch, FoundEdgeTpu("pci", "/sys/bus/pci/devices/0000:01:00.0", ""), library=LIBRARY)
    found = finding("edgetpu")
    assert (found.ok, found.cure) == (False, "sudo apt install gasket-dkms && sudo modprobe apex")


def test_an_edge_tpu_that_the_library_does_not_see_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_edgetpus(monkeypatch, STICK, library=replace(LIBRARY, devices=()))
    found = finding("edgetpu")
    assert not found.ok
    assert found.found == "usb /dev/bus/usb/002/003: libedgetpu.so.1 does not see it"
