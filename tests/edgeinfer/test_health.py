"""What the machine says of its health: read from folders that look like a Raspberry Pi's `/sys`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeinfer.health import Health, read_health, throttled

pytestmark = pytest.mark.device


def put(root: Path, name: str, text: str) -> None:
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_a_machine_that_says_nothing_is_no_failure(tmp_path: Path) -> None:
    assert read_health(tmp_path) == Health()


def test_temperature_bits_and_governor_are_read(tmp_path: Path) -> None:
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "61234\n")
    put(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n")
    assert read_health(tmp_path) == Health(
        61.234, ("under-voltage", "throttled", "under-voltage has occurred", "throttling has occurred"), "ondemand"
    )


def test_the_zone_of_the_processor_is_the_one_that_counts(tmp_path: Path) -> None:
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "30000")
    put(tmp_path, "sys/class/thermal/thermal_zone0/type", "gpu-thermal")
    put(tmp_path, "sys/class/thermal/thermal_zone1/temp", "70000")
    put(tmp_path, "sys/class/thermal/thermal_zone1/type", "cpu-thermal")
    assert read_health(tmp_path).temperature_c == 70.0


def test_a_reading_that_is_no_number_is_none(tmp_path: Path) -> None:
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "hot")
    assert read_health(tmp_path).temperature_c is None


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # The bits as the documentation of `vcgencmd get_throttled` lists them.
        ("throttled=0x0", ()),
        ("throttled=0x1", ("under-voltage",)),
        ("throttled=0x80008", ("soft temperature limit", "soft temperature limit has occurred")),
        (
            "throttled=0x60006",
            ("frequency capped", "throttled", "frequency capping has occurred", "throttling has occurred"),
        ),
        (None, ()),
        ("VCHI initialization failed", ()),
    ],
)
def test_the_firmwares_bits_have_names(word: str | None, expected: tuple[str, ...]) -> None:
    assert throttled(word) == expected
