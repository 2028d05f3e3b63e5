"""The library's name, and what it says of itself; the library is the stand-in, the calls are real."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
from edgetpu_standin import build

from edgeinfer.errors import InputError
from edgeinfer.runtime.edgetpu.address import parse_address
from edgeinfer.runtime.edgetpu.library import (
    ListedDevice,
    ask_devices,
    ask_version,
    is_listed,
    library_name,
    runtime_version,
)


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEINFER_EDGETPU_LIBRARY", raising=False)


@pytest.mark.device
@pytest.mark.parametrize(
    ("platform", "name"),
    [("linux", "libedgetpu.so.1"), ("darwin", "libedgetpu.1.dylib"), ("win32", "edgetpu.dll")],
)
def test_the_name_is_the_platforms(platform: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert library_name() == name


@pytest.mark.device
def test_the_variable_names_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_EDGETPU_LIBRARY", "libedgetpu-max.so.1")
    assert library_name() == "libedgetpu-max.so.1"
    assert library_name("mine.so") == "mine.so"


@pytest.mark.device
def test_a_path_is_absolute_and_a_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert library_name("lib/libedgetpu.so.1") == str(tmp_path / "lib/libedgetpu.so.1")


@pytest.mark.device
def test_a_name_that_no_file_can_have_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no name of a library"):
        library_name("libedgetpu\0.so.1")


# The second is what a Coral board printed: google-coral/edgetpu issue 589.
@pytest.mark.device
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("BuildLabel(COMPILER=6.3.0 20170516,DATE=redacted,TIME=redacted,CL_NUMBER=1), RuntimeVersion(13)", 13),
        ("BuildLabel(COMPILER=6.3.0 20170516,DATE=redacted,TIME=redacted), RuntimeVersion(14)", 14),
        ("", None),
        ("RuntimeVersion()", None),
        ("2.16.1", None),
    ],
)
def test_the_runtimes_number_is_read_from_its_text(text: str, number: int | None) -> None:
    assert runtime_version(text) == number


USB, PCI = ListedDevice("usb", "/sys/bus/usb/devices/2-1"), ListedDevice("pci", "/dev/apex_0")


@pytest.mark.device
@pytest.mark.parametrize(
    ("address", "listed"),
    [
        ("edgetpu", True),
        ("edgetpu:1", True),
        ("edgetpu:2", False),
        ("edgetpu:usb", True),
        ("edgetpu:usb:0", True),
        ("edgetpu:usb:1", False),
        ("edgetpu:pci:0", True),
        ("edgetpu:pci:1", False),
    ],
)
def test_numbers_count_the_devices_of_their_bus(address: str, listed: bool) -> None:
    assert is_listed(parse_address(address), (USB, PCI)) is listed


@pytest.mark.device
def test_no_address_names_one_of_no_devices() -> None:
    assert not is_listed(parse_address("edgetpu"), ())


def test_the_library_says_its_version_and_its_devices(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "usb:/sys/bus/usb/devices/2-1,pci:/dev/apex_0")
    monkeypatch.setenv("STANDIN_VERSION", "BuildLabel(x), RuntimeVersion(13)")
    library = ctypes.CDLL(str(standin))
    assert ask_version(library) == "BuildLabel(x), RuntimeVersion(13)"
    assert ask_devices(library) == (USB, PCI)


def test_a_library_without_devices_lists_none(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_DEVICES", "")
    assert ask_devices(ctypes.CDLL(str(standin))) == ()


def test_another_makers_library_says_nothing_of_itself(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(build(tmp_path, "NOT_EDGETPU", name="other.so")))
    assert (ask_version(library), ask_devices(library)) == ("", None)
