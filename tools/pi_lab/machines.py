"""The machines: which Debian, which Python packages, which processor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Files of tests/edgeinfer; of them those run that have tests of devices.
_ALL_TESTS = ("**/test_*.py",)
# What a picture passes on its way to a class.
_CLASSIFICATION_TESTS = (
    "preprocess/test_*.py",
    "runtime/test_*.py",
    "postprocess/test_classify.py",
    "postprocess/test_scores.py",
    "test_cli.py",
    "test_health.py",
    "test_machine.py",
    "test_pipeline.py",
    "test_quantization.py",
    "test_tasks.py",
)
# What a frame passes from a camera to a model.
_CAMERA_TESTS = ("preprocess/test_*.py", "sources/test_*.py", "live/test_*.py")
_NO_KERNEL = "it has no kernel of its own"
_NOT_WITHOUT_KERNEL = {
    "camera": f"{_NO_KERNEL}, and so no camera",
    "frames": f"{_NO_KERNEL}, and so no clock that counts instructions",
    "starts": f"{_NO_KERNEL}, and so no clock that counts instructions",
}

# What runs the tests in the guest. Not part of any claim, so never pinned.
TEST_WHEELS = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100")


@dataclass(frozen=True, slots=True)
class Machine:
    """One emulated machine.

    Attributes:
        name: What people call it.
        suite: Debian's name of the release.
        python: Of that release, e.g. "3.11".
        processor: As qemu calls it: "cortex-a7" is a Raspberry Pi 2's, "cortex-a72" a Raspberry Pi 4's, "cortex-a76" a
            Raspberry Pi 5's.
        wheels: What pip installs.
        debian: What apt installs, beside Python itself.
        held: Of the wheels' requirements, what Debian's packages already are: "name==version", never unpacked.
        memory_mib: Of the machine, where it has a kernel.
        architecture: As Debian calls it: "arm64" or "armhf".
        kernel: True where it boots; False where its programs run under qemu's user mode, on this machine's kernel.
        tests: Patterns of the test files that belong to it, below tests/edgeinfer.
    """

    name: str
    suite: str
    python: str
    processor: str
    wheels: tuple[str, ...]
    debian: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    memory_mib: int = 1024
    architecture: str = "arm64"
    kernel: bool = True
    tests: tuple[str, ...] = _ALL_TESTS

    @property
    def left_out(self) -> Mapping[str, str]:
        """The parts of a run that are not part of this machine, each with the reason."""
        return {} if self.kernel else _NOT_WITHOUT_KERNEL


MACHINES = (
    # The README's line for a slim device.
    Machine(
        "bookworm-tflite",
        suite="bookworm",
        python="3.11",
        processor="cortex-a72",
        wheels=("tflite-runtime==2.14.0", "numpy<2", "pillow", "opencv-python-headless<4.12"),
    ),
    # What a CSI camera leaves room for: picamera2 is Debian's, so NumPy must be Debian's, too.
    Machine(
        "bookworm-system",
        suite="bookworm",
        python="3.11",
        processor="cortex-a72",
        wheels=("ai-edge-litert",),
        debian=("python3-numpy", "python3-opencv", "python3-pil"),
        held=("numpy==1.24.2",),
    ),
    # The same, and OpenCV from its wheel: Debian's loads what GTK and GDAL need, and takes twice the memory.
    Machine(
        "bookworm-numpy1",
        suite="bookworm",
        python="3.11",
        processor="cortex-a72",
        wheels=("ai-edge-litert", "opencv-python-headless<4.12"),
        debian=("python3-numpy", "python3-pil"),
        held=("numpy==1.24.2",),
        tests=_CAMERA_TESTS,
    ),
    # The newest of everything.
    Machine(
        "trixie-litert",
        suite="trixie",
        python="3.13",
        processor="cortex-a76",
        wheels=("ai-edge-litert", "numpy", "pillow", "opencv-python-headless"),
    ),
    # The 32-bit Raspberry Pi OS: there tflite-runtime is the only engine with a wheel, and NumPy and Pillow are
    # Debian's, because neither has one for armv7l. Without OpenCV, so that Pillow does its work.
    Machine(
        "raspberrypi32",
        suite="bookworm",
        python="3.11",
        processor="cortex-a7",
        wheels=("tflite-runtime==2.14.0",),
        debian=("python3-numpy", "python3-pil"),
        held=("numpy==1.24.2",),
        architecture="armhf",
        kernel=False,
        tests=_CLASSIFICATION_TESTS,
    ),
)


def find_machines(names: tuple[str, ...]) -> tuple[Machine, ...]:
    """Return the machines of these names, in the table's order; all of them where no name is given.

    Raises:
        ValueError: There is no machine of such a name.
    """
    unknown = sorted(set(names) - {machine.name for machine in MACHINES})
    if unknown:
        raise ValueError(
            f"No machine is called {', '.join(unknown)}. There are: {', '.join(one.name for one in MACHINES)}."
        )
    return tuple(machine for machine in MACHINES if machine.name in names or not names)
