"""Which Edge TPU an address means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinfer.errors import InputError
from edgeinfer.runtime.edgetpu.address import EdgeTpuAddress, parse_address


# The right column is what the recognized options of the delegate are, as its source lists them.
@pytest.mark.parametrize(
    ("text", "address", "option"),
    [
        ("edgetpu", EdgeTpuAddress(), ""),
        ("edgetpu:0", EdgeTpuAddress(None, 0), ":0"),
        ("edgetpu:12", EdgeTpuAddress(None, 12), ":12"),
        ("edgetpu:usb", EdgeTpuAddress("usb"), "usb"),
        ("edgetpu:usb:1", EdgeTpuAddress("usb", 1), "usb:1"),
        ("edgetpu:pci", EdgeTpuAddress("pci"), "pci"),
        ("edgetpu:pci:0", EdgeTpuAddress("pci", 0), "pci:0"),
    ],
)
def test_every_form_has_its_device_string(text: str, address: EdgeTpuAddress, option: str) -> None:
    assert parse_address(text) == address
    assert address.option == option
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "edgetpu:",
        "edgetpu::1",
        "edgetpu:usb:",
        "edgetpu:banana",
        "edgetpu:-1",
        "edgetpu:01",
        "edgetpu:1000",
        "edgetpu:usb:0:0",
        "edgetpu:0:usb",
        "EDGETPU",
        " edgetpu",
        "edgetpu\n",
        "edgetpu:\u0661",
        "usb:0",
    ],
)
def test_anything_else_is_an_input_error_that_lists_the_forms(text: str) -> None:
    with pytest.raises(InputError, match="no address of an Edge TPU") as caught:
        parse_address(text)
    assert caught.value.exit_code == 2
    assert caught.value.received == f'device="{text}"'
    assert '"edgetpu:usb"' in caught.value.expected


@pytest.mark.parametrize(
    ("text", "meant"), [("edgtpu", "edgetpu"), ("edgetpu:pcie", "edgetpu:pci"), ("edgetpu:USB:0", "edgetpu:usb:0")]
)
def test_a_slip_of_the_pen_is_answered_with_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_address(text)
    assert caught.value.next_step == f"Did you mean `{meant}`?"


def test_an_address_from_elsewhere_is_shown_as_it_was_given() -> None:
    with pytest.raises(InputError) as caught:
        parse_address("edgetpu:x", received='EDGEINFER_DEVICE="edgetpu:x"')
    assert caught.value.received == 'EDGEINFER_DEVICE="edgetpu:x"'


@given(st.text() | st.from_regex(r"edgetpu(:[a-z0-9]{0,3}){0,3}", fullmatch=True))
def test_any_text_is_read_back_as_it_was_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except InputError:
        return
    assert str(address) == text
