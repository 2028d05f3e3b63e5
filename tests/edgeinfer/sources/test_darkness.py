"""A camera that sees nothing."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from edgeinfer.sources.darkness import Darkness

from .conftest import card

BLACK = card((0, 0, 0))
NOISE = np.random.default_rng(1).integers(0, 5, (48, 64, 3), dtype=np.uint8)  # a sensor behind its cap: 2 on average


@pytest.mark.parametrize("pixels", [BLACK, NOISE], ids=["black", "noise"])
def test_thirty_black_frames_are_warned_of_once(pixels: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    darkness = Darkness()
    for _ in range(29):
        darkness.look(pixels)
    assert darkness.trouble == ""
    for _ in range(40):
        darkness.look(pixels)
    assert darkness.trouble == "The picture is black. Is the lens cap on, or is it too dark?"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_the_trouble_ends_with_the_first_frame_that_shows_something() -> None:
    darkness = Darkness()
    for _ in range(31):
        darkness.look(BLACK)
    darkness.look(card((40, 40, 40)))
    assert darkness.trouble == ""


def test_a_camera_that_has_shown_something_may_go_dark() -> None:
    darkness = Darkness()
    darkness.look(card((40, 40, 40)))
    for _ in range(60):
        darkness.look(BLACK)
    assert darkness.trouble == ""
