"""What keeps a model from an Edge TPU, each with its own message, exit code and cure, and this process living on.

The library is the stand-in, loaded by the engine's real `load_delegate` in the probe's real child. What the system
shows is a folder tree, except where a test says otherwise.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
from edgetpu_standin import Pair, build, edgetpu_pair
from edgetpu_standin.system import FRESH, add_pci, add_usb

from edgeinfer.errors import DeviceError, EdgeInferError, MissingDependencyError, UnsupportedOpError
from edgeinfer.runtime.edgetpu import probe as probe_module
from edgeinfer.runtime.edgetpu.address import parse_address
from edgeinfer.runtime.edgetpu.library import ListedDevice
from edgeinfer.runtime.edgetpu.probe import Probed, look, probe
from edgeinfer.runtime.engines import find_engine

USB = ListedDevice("usb", "/sys/bus/usb/devices/2-1")


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEINFER_EDGETPU_LIBRARY", raising=False)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in writes what happens to it."""
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return edgetpu_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A system with an accelerator on USB."""
    add_usb(tmp_path / "system")
    return tmp_path / "system"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A system without any."""
    (tmp_path / "bare").mkdir()
    return tmp_path / "bare"


def attempt(
    library: Path | str | None,
    model: Path | bytes | None = None,
    *,
    address: str = "edgetpu",
    root: Path | str = "/",
    timeout_s: float = 60.0,
) -> Probed:
    return probe(
        parse_address(address),
        model,
        engine=find_engine(),
        library=None if library is None else str(library),
        timeout_s=timeout_s,
        root=root,
    )


def refused(kind: type[EdgeInferError], library: Path | str | None, model: Path | bytes | None = None, **how: object):
    """The error of an attempt, which is of just this kind."""
    with pytest.raises(kind) as caught:
        attempt(library, model, **how)  # type: ignore[arg-type]
    assert type(caught.value) is kind
    assert caught.value.next_step
    return caught.value


# --- where all is well ----------------------------------------------------------------------------


def test_a_device_that_works_is_told_with_its_runtime(standin: Path, pair: Pair, machine: Path, log: Path) -> None:
    found = attempt(standin, pair.compiled, address="edgetpu:usb:0", root=machine)
    assert found == Probed(
        library=str(standin),
        version="BuildLabel(COMPILER=stand-in,DATE=redacted,TIME=redacted), RuntimeVersion(14)",
        runtime=14,
        devices=(USB,),
        min_runtime=13,
    )
    assert log.read_text().splitlines() == [
        "version",
        "list 1",
        "option device=usb:0",
        "create /sys/bus/usb/devices/2-1",
        "claim 0 peak",
        "destroy",
    ]


def test_bytes_are_tried_like_a_path(standin: Path, pair: Pair) -> None:
    assert attempt(standin, pair.compiled.read_bytes()).min_runtime == 13


def test_without_a_model_the_device_is_opened_and_let_go(standin: Path, log: Path) -> None:
    assert attempt(standin).min_runtime is None
    assert log.read_text().splitlines()[-2:] == ["create /sys/bus/usb/devices/2-1", "destroy"]


def test_a_look_opens_no_device(standin: Path, log: Path) -> None:
    assert look(str(standin)).devices == (USB,)
    assert log.read_text().splitlines() == ["version", "list 1"]


def test_a_relative_path_of_the_library_is_found(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(standin.parent)
    assert look(f"./{standin.name}").runtime == 14


def test_a_library_that_prints_disturbs_nothing(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_SAYS", '{"step": "done", "version": "RuntimeVersion(99)"}')
    assert attempt(standin).runtime == 14


def test_another_makers_delegate_that_takes_the_op_is_no_hindrance(tmp_path: Path, pair: Pair) -> None:
    found = attempt(build(tmp_path, "NOT_EDGETPU", name="other.so"), pair.compiled)
    assert (found.version, found.runtime, found.devices) == ("", None, None)


def test_a_payload_that_cannot_be_read_only_leaves_its_version_open(standin: Path, tmp_path: Path, pair: Pair) -> None:
    data = pair.compiled.read_bytes()
    assert b"DWN1" in data
    assert attempt(standin, data.replace(b"DWN1", b"DWN9")).min_runtime is None


def test_real_compiled_files_are_taken(standin: Path, test_data: Path) -> None:
    for file in sorted((test_data / "coral").glob("*_edgetpu.tflite")):
        assert attempt(standin, file).min_runtime == 12


# --- the library ----------------------------------------------------------------------------------


def test_a_library_that_is_not_installed_is_missing_with_its_package(bare: Path) -> None:
    if ctypes.util.find_library("edgetpu"):
        pytest.skip("a real libedgetpu is installed here")
    error = refused(MissingDependencyError, None, root=bare)
    assert error.message == "The Edge TPU's library is not installed."
    assert "libedgetpu.so.1: cannot open shared object file" in error.received
    assert error.next_step.startswith("sudo apt install libedgetpu1-std")
    assert error.exit_code == 3


def test_a_variable_that_names_no_file_is_named_itself(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_EDGETPU_LIBRARY", "/nowhere/libedgetpu.so.1")
    error = refused(MissingDependencyError, None, root=bare)
    assert error.message == "The Edge TPU's library is not there."
    assert error.next_step.startswith("unset EDGEINFER_EDGETPU_LIBRARY")


def test_a_missing_libusb_is_told_from_a_missing_library(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    # Linked against a libusb that is gone afterwards; its own name, so that an installed one does not serve.
    needed = tmp_path / "libusb-1.0.so.0.standin"
    for target, extra in ((needed, ["-Wl,-soname," + needed.name]), (tmp_path / "lib.so", [needed])):
        command = [compiler, "-shared", "-fPIC", "-Wl,--no-as-needed", "-x", "c", "/dev/null", "-x", "none"]
        subprocess.run([*command, *extra, "-o", target], check=True)
    needed.unlink()
    error = refused(MissingDependencyError, tmp_path / "lib.so")
    assert error.message == "The Edge TPU's library needs libusb, which is not installed."
    assert error.next_step == "sudo apt install libusb-1.0-0"


def test_a_file_that_is_no_library_was_built_for_another_system(tmp_path: Path) -> None:
    (tmp_path / "libedgetpu.so.1").write_bytes(b"\x7fELF but no more than that" * 10)
    error = refused(MissingDependencyError, tmp_path / "libedgetpu.so.1")
    assert "cannot be loaded on this system" in error.message


def test_a_library_that_is_no_delegate_is_named(tmp_path: Path) -> None:
    error = refused(DeviceError, build(tmp_path, "NOT_A_DELEGATE", name="libm.so"))
    assert error.message == f"`{tmp_path}/libm.so` is not the Edge TPU's library, nor any other delegate."
    assert error.exit_code == 3


# --- the device -----------------------------------------------------------------------------------


def test_no_device_says_what_was_looked_for(standin: Path, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "")
    error = refused(DeviceError, standin, root=bare)
    assert error.message == "No Edge TPU is attached."
    assert error.received == "no USB device 1a6e:089a or 18d1:9302, no PCI device 1ac1:089a, no /dev/apex_0"
    assert "lsusb" in error.next_step


@pytest.mark.parametrize("address", ["edgetpu:2", "edgetpu:usb:1", "edgetpu:pci:1"])
def test_a_number_that_is_not_there_lists_those_that_are(
    address: str, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_usb(tmp_path)
    add_pci(tmp_path)
    monkeypatch.setenv("STANDIN_DEVICES", "usb:/sys/bus/usb/devices/2-1,pci:/dev/apex_0")
    error = refused(DeviceError, standin, address=address, root=tmp_path)
    assert error.message == f"There is no Edge TPU `{address}` here."
    assert error.received == "the library lists usb /sys/bus/usb/devices/2-1, pci /dev/apex_0"
    assert error.expected == "one of edgetpu:0, edgetpu:1"


def test_a_bus_that_has_none_is_named_with_what_there_is(
    standin: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = refused(DeviceError, standin, address="edgetpu:pci", root=machine)
    assert error.message == "There is no Edge TPU `edgetpu:pci` here."


def test_a_reason_that_the_library_gives_is_passed_on(
    standin: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_CREATE", "refuse:the firmware is too old")
    error = refused(DeviceError, standin, root=machine)
    assert error.message == "The Edge TPU's library refuses to open the device."
    assert error.received == "the firmware is too old"


def test_a_card_without_a_driver_is_told_from_no_card(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_pci(tmp_path, number=None)
    monkeypatch.setenv("STANDIN_DEVICES", "")
    error = refused(DeviceError, standin, root=tmp_path)
    assert error.message.startswith("The kernel has no driver for the Edge TPU")
    assert error.next_step == "sudo apt install gasket-dkms && sudo modprobe apex"


def test_a_device_that_another_process_has_open_names_it(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_usb(tmp_path)
    monkeypatch.setenv("STANDIN_CREATE", "refuse")
    proc = tmp_path / "proc/4711/fd"
    proc.mkdir(parents=True)
    (proc / "5").symlink_to("/dev/bus/usb/002/003")
    (tmp_path / "proc/4711/comm").write_text("frigate\n")
    error = refused(DeviceError, standin, root=tmp_path)
    assert error.message == "The Edge TPU is in use by another process."
    assert error.received == "frigate (4711)"


def test_a_device_that_does_not_open_for_no_reason_has_its_usual_cure(
    standin: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_CREATE", "refuse")
    error = refused(DeviceError, standin, root=machine)
    assert error.message == "The Edge TPU `edgetpu` does not open, and the library does not say why."
    assert "put it back in" in error.next_step


def test_a_device_that_the_library_does_not_see_may_be_hidden_by_a_container(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_usb(tmp_path, ids=FRESH)
    monkeypatch.setenv("STANDIN_DEVICES", "")
    error = refused(DeviceError, standin, root=tmp_path)
    assert error.message == "The system shows an Edge TPU that the library does not see."
    assert "1a6e:089a and 18d1:9302" in error.next_step


# --- crash and hang -------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "shown"), [("abort", "SIGABRT"), ("segv", "SIGSEGV"), ("exit", "exit code 7")])
def test_a_crash_while_the_device_is_opened_is_an_answer(
    how: str, shown: str, standin: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_CREATE", how)
    monkeypatch.setenv("STANDIN_SAYS", "F driver/usb: check failed")
    error = refused(DeviceError, standin, root=machine)
    engine = find_engine()
    assert error.message == "The Edge TPU's library crashed while it opened the device."
    assert error.received == (
        f"{shown} in {standin} (runtime 14) under {engine.name} {engine.version}; it said: F driver/usb: check failed "
        "F driver/usb: check failed"
    )
    assert "built from different versions" in error.next_step


def test_a_crash_while_the_model_is_loaded_says_so(
    standin: Path, pair: Pair, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_PREPARE", "segv")
    error = refused(DeviceError, standin, pair.compiled, root=machine)
    assert error.message == "The Edge TPU's library crashed while it loaded the model."


@pytest.mark.parametrize(
    ("variable", "when"), [("STANDIN_CREATE", "opened the device"), ("STANDIN_PREPARE", "loaded the model")]
)
def test_a_hang_is_ended_and_says_when(
    variable: str, when: str, standin: Path, pair: Pair, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "hang")
    error = refused(DeviceError, standin, pair.compiled, root=machine, timeout_s=6.0)
    assert error.message == f"The Edge TPU's library gave no answer while it {when}."
    assert error.received.endswith("it was ended")


def test_a_child_that_cannot_be_started_is_no_fault_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    error = refused(DeviceError, "libedgetpu.so.1")
    assert "cannot be started" in error.message


def test_a_child_that_ends_before_it_begins_says_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no memory >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    error = refused(DeviceError, "libedgetpu.so.1")
    assert error.received == "exit code 1: no memory"


def test_a_child_whose_parent_is_gone_ends_by_itself(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_CREATE", "hang")
    done = subprocess.run(
        [sys.executable, "-m", "edgeinfer.runtime.edgetpu.asked", "3.0", str(standin), find_engine().name, "", ""],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGALRM
    assert b"done" not in done.stdout


# --- the file -------------------------------------------------------------------------------------


def test_an_uncompiled_file_is_refused_before_anything_is_loaded(standin: Path, pair: Pair, log: Path) -> None:
    error = refused(UnsupportedOpError, standin, pair.twin, address="edgetpu:usb")
    assert error.message == "The file is not compiled for an Edge TPU: all of it would run on the CPU."
    assert error.received == 'device="edgetpu:usb", and no op `edgetpu-custom-op`'
    assert error.next_step.startswith("edgetpu_compiler")
    assert error.exit_code == 5
    assert not log.exists()


def test_a_file_for_a_newer_runtime_names_both_versions(
    standin: Path, tmp_path: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = edgetpu_pair(tmp_path, min_runtime=14).compiled
    monkeypatch.setenv("STANDIN_VERSION", "BuildLabel(x), RuntimeVersion(13)")
    # The words of the original: "Failed precondition: Package requires runtime version (14), which is newer than this
    # runtime version (13).Node number 0 (EdgeTpuDelegateForCustomOp) failed to prepare."
    monkeypatch.setenv(
        "STANDIN_PREPARE",
        "refuse:Failed precondition: Package requires runtime version (14), which is newer than this runtime "
        "version (13).",
    )
    error = refused(DeviceError, standin, model, root=machine)
    assert error.message == "The file was compiled for Edge TPU runtime 14 and later, and this is runtime 13."
    assert "edgetpu_compiler -m 13" in error.next_step
    assert error.exit_code == 3


def test_a_newer_file_is_named_even_where_the_library_crashes_on_it(
    standin: Path, tmp_path: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_VERSION", "BuildLabel(x), RuntimeVersion(12)")
    monkeypatch.setenv("STANDIN_PREPARE", "segv")
    error = refused(DeviceError, standin, edgetpu_pair(tmp_path, min_runtime=13).compiled, root=machine)
    assert "runtime 13 and later, and this is runtime 12" in error.message


def test_a_file_that_the_library_refuses_says_its_words(
    standin: Path, pair: Pair, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_PREPARE", "refuse:Internal: unsupported chip.")
    error = refused(DeviceError, standin, pair.compiled, root=machine)
    assert error.message == "The Edge TPU's library refuses the file."
    assert error.received.startswith("Internal: unsupported chip.")


def test_an_op_that_the_engine_lacks_beside_the_compiled_one_is_named(standin: Path, machine: Path) -> None:
    tensors = [tiny_models.TensorSpec(name, (1, 2), "int8", 1.0, 0) for name in "abc"]
    operators = [
        tiny_models.OperatorSpec(tiny_models.CUSTOM, (0,), (1,), custom_code="edgetpu-custom-op"),
        tiny_models.OperatorSpec(tiny_models.LOGISTIC, (1,), (2,), version=99),
    ]
    data = tiny_models.model(tensors, operators, inputs=[0], outputs=[2])
    error = refused(UnsupportedOpError, standin, data, root=machine)
    assert "LOGISTIC in version 99" in error.message


# --- permission -----------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="edgeinfer-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


# A real user without permission: this process is `nobody` to the system's question who may open a file, and its child
# is `nobody` altogether as soon as it has read its modules, which lie where only root may read.
_AS_NOBODY = """
import json, os, sys
from edgeinfer.errors import EdgeInferError
from edgeinfer.runtime.edgetpu.address import parse_address
from edgeinfer.runtime.edgetpu.probe import probe
from edgeinfer.runtime.engines import find_engine
root, library = sys.argv[1:]
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 0, 0)
try:
    probe(parse_address("edgetpu"), engine=find_engine(), library=library, root=root)
except EdgeInferError as error:
    print(json.dumps(error.to_json()))
"""
_DROP = """
import os
from edgeinfer.runtime.edgetpu import asked
from edgeinfer.runtime.engines import find_engine, import_engine
if os.getuid() == 65534:
    import_engine(find_engine())
    os.setresuid(65534, 65534, 65534)
"""


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be somebody else")
def test_a_node_that_only_root_may_open_names_the_group_to_join(standin: Path, open_folder: Path) -> None:
    node = add_usb(open_folder)
    node.chmod(0o600)
    for folder in open_folder.rglob("*"):
        if folder.is_dir():
            folder.chmod(0o755)
    library = shutil.copy(standin, open_folder / "libedgetpu.so.1")
    Path(library).chmod(0o755)
    site = open_folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_DROP)
    log = open_folder / "log"
    log.touch()
    log.chmod(0o666)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(open_folder), library],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(probe_module.__file__).parents[3]), str(site)]),
            "STANDIN_NEEDS": str(node),
            "STANDIN_LOG": str(log),
            "TMPDIR": "/tmp",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    error = json.loads(done.stdout)
    assert (error["type"], error["message"]) == ("DeviceError", "This user may not open /dev/bus/usb/002/003.")
    assert "usermod -aG plugdev $USER" in error["next"]
    # Not because of the folder tree alone: the library itself could not open the node.
    assert log.read_text().splitlines() == ["version", "list 0", "refused"]
