"""What `device=` and its variable mean."""

from __future__ import annotations

import pytest

from edgeinfer.errors import DeviceError, InputError
from edgeinfer.runtime.placement import chosen_device

pytestmark = pytest.mark.device


def test_nothing_said_is_the_cpu() -> None:
    assert chosen_device(None) is None


@pytest.mark.parametrize("text", ["edgetpu", "edgetpu:usb", "edgetpu:pci:1", "edgetpu:0"])
def test_an_edge_tpu_keeps_its_spelling(text: str) -> None:
    assert str(chosen_device(text)) == text


def test_the_environment_chooses_and_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_DEVICE", "edgetpu:usb:0")
    assert str(chosen_device(None)) == "edgetpu:usb:0"
    assert chosen_device("cpu") is None


def test_a_wrong_address_in_the_environment_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINFER_DEVICE", "edgetpu:usb:one")
    with pytest.raises(InputError, match="no address") as caught:
        chosen_device(None)
    assert caught.value.received == 'EDGEINFER_DEVICE="edgetpu:usb:one"'


@pytest.mark.parametrize(
    ("text", "meant"), [("edgetup", "edgetpu"), ("tpu", "edgetpu"), ("coral:0", "edgetpu"), ("cup", "cpu")]
)
def test_a_slip_is_answered_with_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(InputError, match="not known") as caught:
        chosen_device(text)
    assert caught.value.next_step == f"Did you mean `{meant}`?"


@pytest.mark.parametrize("text", ["gpu", "npu:0"])
def test_other_hardware_is_a_device_error(text: str) -> None:
    with pytest.raises(DeviceError):
        chosen_device(text)
