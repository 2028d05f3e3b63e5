"""Which Edge TPUs the system shows, in copies of what `/sys` and `/dev` look like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from edgetpu_standin.system import FRESH, USED, add_pci, add_usb

from edgeinfer.runtime.edgetpu import devices
from edgeinfer.runtime.edgetpu.devices import FoundEdgeTpu, find_edgetpus, find_obstacle, say_edgetpus

pytestmark = pytest.mark.device


def test_a_machine_without_edge_tpus_has_none_and_says_what_was_looked_for(tmp_path: Path) -> None:
    assert find_edgetpus(tmp_path) == ()
    assert say_edgetpus(()) == "no USB device 1a6e:089a or 18d1:9302, no PCI device 1ac1:089a, no /dev/apex_0"


@pytest.mark.parametrize(("ids", "is_used"), [(FRESH, False), (USED, True)])
def test_an_accelerator_on_usb_is_found_before_and_after_its_first_use(
    ids: tuple[str, str], is_used: bool, tmp_path: Path
) -> None:
    add_usb(tmp_path, ids=ids)
    assert find_edgetpus(tmp_path) == (
        FoundEdgeTpu("usb", "/sys/bus/usb/devices/2-1", "/dev/bus/usb/002/003", is_used=is_used, mbit_s=5000),
    )


def test_other_usb_devices_are_none(tmp_path: Path) -> None:
    add_usb(tmp_path, ids=("1d6b", "0003"))
    add_usb(tmp_path, ids=("18d1", "4ee7"), port="2-2", number=4)
    assert find_edgetpus(tmp_path) == ()


def test_a_usb_2_port_is_named(tmp_path: Path) -> None:
    add_usb(tmp_path, speed="480")
    assert say_edgetpus(find_edgetpus(tmp_path)) == "usb /dev/bus/usb/002/003 (on a USB 2 port, 480 Mbit/s)"


@pytest.mark.parametrize("damage", ["busnum", "devnum", "speed"])
def test_an_entry_that_is_not_whole_is_found_all_the_same(damage: str, tmp_path: Path) -> None:
    add_usb(tmp_path)
    (tmp_path / "sys/bus/usb/devices/2-1" / damage).write_text("?\n")
    (found,) = find_edgetpus(tmp_path)
    assert found.place == "/sys/bus/usb/devices/2-1"


def test_cards_are_found_by_their_nodes_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2):
        add_pci(tmp_path, slot=f"0000:{number:02}:00.0", number=number)
    assert [one.node for one in find_edgetpus(tmp_path)] == ["/dev/apex_2", "/dev/apex_10"]


def test_a_node_without_sys_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/apex_0").touch()
    assert find_edgetpus(tmp_path) == (FoundEdgeTpu("pci", "/dev/apex_0", "/dev/apex_0"),)


def test_usb_comes_before_pcie(tmp_path: Path) -> None:
    add_pci(tmp_path)
    add_usb(tmp_path)
    assert say_edgetpus(find_edgetpus(tmp_path)) == "usb /dev/bus/usb/002/003, pci /dev/apex_0"


def test_nothing_keeps_one_from_a_device_that_may_be_opened(tmp_path: Path) -> None:
    add_usb(tmp_path)
    add_pci(tmp_path)
    assert [find_obstacle(one, tmp_path) for one in find_edgetpus(tmp_path)] == [None, None]


def test_a_card_without_a_driver_has_the_drivers_package_as_its_cure(tmp_path: Path) -> None:
    add_pci(tmp_path, number=None)
    (found,) = find_edgetpus(tmp_path)
    assert (found.node, found.place) == ("", "/sys/bus/pci/devices/0000:01:00.0")
    obstacle = find_obstacle(found, tmp_path)
    assert obstacle is not None
    assert obstacle.what == "The kernel has no driver for the Edge TPU at /sys/bus/pci/devices/0000:01:00.0."
    assert obstacle.cure == "sudo apt install gasket-dkms && sudo modprobe apex"


def test_a_driver_that_made_no_node_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    add_pci(tmp_path, number=None)
    (tmp_path / "sys/module/apex").mkdir(parents=True)
    obstacle = find_obstacle(find_edgetpus(tmp_path)[0], tmp_path)
    assert obstacle is not None
    assert obstacle.what.endswith("has no device node here.")
    assert obstacle.cure.startswith("sudo dmesg")


def test_an_accelerator_whose_node_was_not_let_into_a_container_is_told(tmp_path: Path) -> None:
    add_usb(tmp_path, has_node=False)
    obstacle = find_obstacle(find_edgetpus(tmp_path)[0], tmp_path)
    assert obstacle is not None
    assert obstacle.what == "The Edge TPU at /sys/bus/usb/devices/2-1 has no device node here."
    assert "docker run -v /dev/bus/usb" in obstacle.cure


def test_one_of_two_cards_without_a_driver_is_found_by_its_slot(tmp_path: Path) -> None:
    add_pci(tmp_path, slot="0000:01:00.0")
    add_pci(tmp_path, slot="0000:02:00.0", number=None)
    assert [one.place for one in find_edgetpus(tmp_path)] == ["/dev/apex_0", "/sys/bus/pci/devices/0000:02:00.0"]


def closed(root: Path, found: FoundEdgeTpu, group: str, monkeypatch: pytest.MonkeyPatch, mine: list[str]) -> str:
    """The cure for a node that belongs to a group and may not be opened by this user, who has other groups."""
    monkeypatch.setattr(devices, "_group_name", lambda _node: group)
    monkeypatch.setattr(devices, "_groups_of_user", lambda: mine)
    obstacle = find_obstacle(devices.FoundEdgeTpu(found.bus, found.place, found.node, allowed=False), root)
    assert obstacle is not None
    assert obstacle.what == f"This user may not open {found.node}."
    return obstacle.cure


def test_a_user_outside_the_devices_group_is_put_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_usb(tmp_path)
    cure = closed(tmp_path, find_edgetpus(tmp_path)[0], "plugdev", monkeypatch, ["users"])
    assert cure == "sudo usermod -aG plugdev $USER  # then log in again"


def test_a_user_who_is_new_in_the_group_logs_in_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_usb(tmp_path)
    cure = closed(tmp_path, find_edgetpus(tmp_path)[0], "plugdev", monkeypatch, ["users", "plugdev"])
    assert cure.startswith("Log in again")


def test_a_usb_device_without_a_rule_gets_one_for_both_of_its_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_usb(tmp_path)
    cure = closed(tmp_path, find_edgetpus(tmp_path)[0], "", monkeypatch, [])
    assert all(part in cure for part in ('"1a6e"', '"18d1"', "udevadm trigger", "usermod -aG plugdev"))


def test_a_card_without_a_rule_gets_one_and_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_pci(tmp_path)
    cure = closed(tmp_path, find_edgetpus(tmp_path)[0], "", monkeypatch, [])
    assert cure.startswith('sudo groupadd -f apex && printf \'SUBSYSTEM=="apex", MODE="0660", GROUP="apex"')


def test_the_line_for_a_rule_writes_what_the_librarys_package_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_usb(tmp_path)
    cure = closed(tmp_path, find_edgetpus(tmp_path)[0], "", monkeypatch, [])
    # Up to the pipe the line runs as it stands: what would be written is what `printf` prints.
    printed = subprocess.run(["sh", "-c", cure.split(" | ")[0]], capture_output=True, text=True, check=True).stdout
    # debian/edgetpu-accelerator.rules of google-coral/libedgetpu, without its spaces.
    assert printed.replace(" ", "") == (
        'SUBSYSTEM=="usb",ATTRS{idVendor}=="1a6e",ATTRS{idProduct}=="089a",GROUP="plugdev"\n'
        'SUBSYSTEM=="usb",ATTRS{idVendor}=="18d1",ATTRS{idProduct}=="9302",GROUP="plugdev"\n'
    )


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can be somebody else")
def test_a_node_of_root_may_not_be_opened_by_another_user(tmp_path: Path) -> None:
    node = add_usb(tmp_path)
    node.chmod(0o600)
    for folder in (*node.parents, *(tmp_path / "sys").rglob("*")):
        if folder.is_relative_to(tmp_path) and folder.is_dir():
            folder.chmod(0o755)
    code = (
        "import os, sys; from edgeinfer.runtime.edgetpu.devices import find_edgetpus; os.chdir(sys.argv[1]);"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); print(find_edgetpus('.')[0].allowed)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
