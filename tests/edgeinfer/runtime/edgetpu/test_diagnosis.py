"""From what a child told to an error; `test_probe.py` has the same with real children."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgetpu_standin.system import FRESH, add_pci, add_usb

from edgeinfer.errors import DeviceError, EdgeInferError, MissingDependencyError
from edgeinfer.runtime.edgetpu.address import parse_address
from edgeinfer.runtime.edgetpu.asked import Told
from edgeinfer.runtime.edgetpu.devices import FoundEdgeTpu, Obstacle
from edgeinfer.runtime.edgetpu.diagnosis import Asked, diagnose
from edgeinfer.runtime.edgetpu.library import ListedDevice
from edgeinfer.runtime.engines import Engine

LIBRARY = "libedgetpu.so.1"
ENGINE = Engine("tflite-runtime", "2.14.0", verifies=False)
USB, PCI = ListedDevice("usb", "/sys/bus/usb/devices/2-1"), ListedDevice("pci", "/dev/apex_0")


def parts(kind: str, received: str = "") -> dict[str, str]:
    return {
        "type": kind,
        "message": "What the child's own error says.",
        "received": received,
        "expected": "",
        "next": "",
    }


def of(told: Told, *, address: str = "edgetpu", library: str = LIBRARY, root: Path | None = None) -> EdgeInferError:
    asked = Asked(library, parse_address(address), ENGINE)
    error = diagnose(told, asked, "/nowhere" if root is None else root)
    assert error is not None
    assert error.next_step
    return error


def not_opened(*devices: ListedDevice) -> Told:
    return Told("delegate", parts("DeviceError"), version="RuntimeVersion(14)", devices=devices)


def test_a_child_that_is_done_has_no_error() -> None:
    assert diagnose(Told("done", version="RuntimeVersion(14)"), Asked(LIBRARY, parse_address("edgetpu"))) is None


# What loaders say: that of glibc 2.36 word for word, those of macOS and Windows shortened, and not seen on one.
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "libedgetpu.so.1: cannot open shared object file: No such file or directory",
            "The Edge TPU's library is not installed.",
        ),
        (
            "libusb-1.0.so.0: cannot open shared object file: No such file or directory",
            "The Edge TPU's library needs libusb, which is not installed.",
        ),
        (
            "libabsl_base.so.20220623: cannot open shared object file: No such file or directory",
            "The Edge TPU's library needs `libabsl_base.so.20220623`, which is not installed.",
        ),
        (
            "dlopen(libedgetpu.1.dylib, 0x0006): tried: '/usr/lib/libedgetpu.1.dylib' (no such file)",
            "The Edge TPU's library is not installed.",
        ),
        (
            "Could not find module 'edgetpu.dll' (or one of its dependencies). Try using the full path.",
            "The Edge TPU's library is not installed.",
        ),
        (
            "/lib/libedgetpu.so.1: wrong ELF class: ELFCLASS32",
            "`libedgetpu.so.1` cannot be loaded on this system: it was built for another one, or may not be read.",
        ),
        (
            "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by libedgetpu.so.1)",
            "`libedgetpu.so.1` cannot be loaded on this system: it was built for another one, or may not be read.",
        ),
    ],
)
def test_each_reason_of_the_loader_has_its_own_message(text: str, message: str) -> None:
    error = of(Told("library", parts("MissingDependencyError", text)))
    assert isinstance(error, MissingDependencyError)
    assert (error.message, error.received) == (message, text)


def test_what_a_library_of_ones_own_needs_is_listed_by_ldd() -> None:
    text = "libabsl_base.so: cannot open shared object file: No such file or directory"
    error = of(Told("library", parts("MissingDependencyError", text)), library="/opt/libedgetpu.so.1")
    assert error.next_step == "ldd /opt/libedgetpu.so.1 | grep 'not found'"


def test_an_engine_that_the_child_cannot_import_is_passed_on() -> None:
    error = of(Told("delegate", {**parts("MissingDependencyError"), "next": "pip install it"}))
    assert isinstance(error, MissingDependencyError)
    assert error.message == "What the child's own error says."


@pytest.mark.parametrize("ended", ["SIGSEGV", "SIGABRT", "SIGKILL", "exit code 3", "signal 40", "no answer"])
@pytest.mark.parametrize("step", ["start", "library", "version", "devices", "delegate", "model"])
def test_every_end_at_every_step_is_a_device_error(ended: str, step: str) -> None:
    error = of(Told(step, ended=ended))  # type: ignore[arg-type]
    assert type(error) is DeviceError


def test_a_process_that_the_system_ended_points_to_memory() -> None:
    error = of(Told("model", ended="SIGKILL"))
    assert "ended by the system while it loaded the model" in error.message
    assert "memory" in error.next_step


def test_a_crash_names_the_other_engine_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeinfer.runtime.edgetpu import diagnosis

    monkeypatch.setattr(diagnosis, "installed_engines", lambda: (Engine("litert", "2.3.0", verifies=True), ENGINE))
    assert "try EDGEINFER_ENGINE=litert, or" in of(Told("delegate", ended="SIGSEGV")).next_step


def test_nothing_anywhere_is_no_edge_tpu(tmp_path: Path) -> None:
    assert of(not_opened(), root=tmp_path).message == "No Edge TPU is attached."


def test_a_card_is_no_accelerator_on_usb(tmp_path: Path) -> None:
    add_pci(tmp_path)
    error = of(not_opened(PCI), address="edgetpu:usb", root=tmp_path)
    assert error.message == "There is no Edge TPU `edgetpu:usb` here."
    assert error.expected == "one of edgetpu:0"


def test_the_systems_devices_are_named_where_the_library_lists_none(tmp_path: Path) -> None:
    add_pci(tmp_path)
    error = of(not_opened(), address="edgetpu:usb", root=tmp_path)
    assert (error.message, error.received) == ("There is no Edge TPU `edgetpu:usb` here.", "pci /dev/apex_0")


def test_a_library_that_lists_what_the_system_does_not_show_is_believed(tmp_path: Path) -> None:
    error = of(not_opened(USB), root=tmp_path)
    assert error.message == "The Edge TPU `edgetpu` does not open, and the library does not say why."
    assert error.received == "usb /sys/bus/usb/devices/2-1"


def test_a_device_that_nothing_has_used_yet_may_change_its_id_out_of_a_container(tmp_path: Path) -> None:
    add_usb(tmp_path, ids=FRESH)
    assert "In a container" in of(not_opened(USB), root=tmp_path).next_step


def test_one_closed_device_of_two_does_not_hide_what_is_wrong_with_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeinfer.runtime.edgetpu import diagnosis

    def blocks(found: FoundEdgeTpu, _root: object) -> Obstacle | None:
        return Obstacle(f"This user may not open {found.node}.", "a line") if found.bus == "pci" else None

    monkeypatch.setattr(diagnosis, "find_obstacle", blocks)
    add_usb(tmp_path)
    add_pci(tmp_path)
    assert "does not open" in of(not_opened(USB, PCI), root=tmp_path).message
    assert of(not_opened(USB, PCI), address="edgetpu:pci", root=tmp_path).message == (
        "This user may not open /dev/apex_0."
    )


def test_a_delegate_that_leaves_the_compiled_op_alone_is_not_the_librarys() -> None:
    said = "Encountered unresolved custom op: edgetpu-custom-op."
    error = of(Told("model", parts("UnsupportedOpError", said)), library="/opt/other.so")
    assert error.message == "`/opt/other.so` is a delegate that does not take what was compiled for an Edge TPU."
