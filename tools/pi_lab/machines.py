"""The machines: which Debian, which Python packages, which processor."""

from __future__ import annotations

from dataclasses import dataclass

# What runs the tests in the guest. Not part of any claim, so never pinned.
TEST_WHEELS = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100")


@dataclass(frozen=True, slots=True)
class Machine:
    """One emulated machine.

    Attributes:
        name: What people call it.
        suite: Debian's name of the release.
        python: Of that release, e.g. "3.11".
        processor: As qemu calls it: "cortex-a72" is a Raspberry Pi 4's, "cortex-a76" a Raspberry Pi 5's.
        wheels: What pip installs.
        debian: What apt installs, beside Python itself.
        held: Of the wheels' requirements, what Debian's packages already are: "name==version", never unpacked.
        memory_mib: Of the machine.
    """

    name: str
    suite: str
    python: str
    processor: str
    wheels: tuple[str, ...]
    debian: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    memory_mib: int = 1024


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
    # The newest of everything.
    Machine(
        "trixie-litert",
        suite="trixie",
        python="3.13",
        processor="cortex-a76",
        wheels=("ai-edge-litert", "numpy", "pillow", "opencv-python-headless"),
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
