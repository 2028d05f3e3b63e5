from __future__ import annotations

import pytest

from tools.pi_lab.debian import choose_mirror, mirror
from tools.pi_lab.host import LabError


def test_the_mirror_is_that_of_the_main_archive() -> None:
    rows = [
        "https://tools.example/debian|nodistro|tools",
        "http://mirror.example/debian-security|main|bookworm-security",
        "http://mirror.example/debian|main|bookworm",
    ]
    assert choose_mirror(rows) == "http://mirror.example/debian"


def test_a_machine_without_debians_archive_is_told_how_to_name_one() -> None:
    with pytest.raises(LabError, match="export PI_LAB_MIRROR="):
        choose_mirror(["http://archive.example/ubuntu|main|noble"])


def test_a_named_mirror_beats_apts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_LAB_MIRROR", "http://near.example/debian/")
    assert mirror() == "http://near.example/debian"
