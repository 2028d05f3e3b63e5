"""The colours: apart from each other in CIELAB, for colour-blind people too; text on them has contrast.

sRGB, CIELAB and the simulation are written down here from their own sources.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgeinfer.drawing.palette import PALETTE, class_colour, text_colour

# Source: IEC 61966-2-1, sRGB to CIE XYZ (D65).
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
# Source: Machado, Oliveira, Fernandes 2009, table of severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colours: np.ndarray) -> np.ndarray:
    parts = colours / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(colours: np.ndarray, sight: str) -> np.ndarray:
    """Source: CIE 15:2004, section 8.2.1."""
    seen = np.clip(linear(colours) @ SIGHT[sight].T, 0, 1) @ XYZ.T / XYZ.sum(axis=1)
    f = np.where(seen > (6 / 29) ** 3, np.cbrt(seen), seen * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def test_there_are_at_least_twenty_colours_and_then_they_come_again() -> None:
    assert len(set(PALETTE)) == len(PALETTE) >= 20
    assert class_colour(0) == class_colour(len(PALETTE))


# The least that the page of the palette claims; 2.3 is a difference that is just noticed (Mahy et al. 1994).
@pytest.mark.parametrize(
    ("sight", "least"), [("normal", 18.0), ("protanopia", 17.5), ("deuteranopia", 17.0), ("tritanopia", 12.0)]
)
def test_every_two_colours_are_apart(sight: str, least: float) -> None:
    places = lab(np.array(PALETTE, float), sight)
    apart = np.linalg.norm(places[:, np.newaxis] - places, axis=2)
    assert apart[~np.eye(len(PALETTE), dtype=bool)].min() == pytest.approx(least, abs=0.1)


@pytest.mark.parametrize("colour", PALETTE, ids=str)
def test_text_has_the_contrast_that_wcag_asks_of_normal_text(colour: tuple[int, int, int]) -> None:
    """Source: WCAG 2.1, success criterion 1.4.3: 4.5 to 1."""
    light, dark = sorted(
        float(linear(np.array(one, float)) @ [0.2126, 0.7152, 0.0722]) for one in (colour, text_colour(colour))
    )[::-1]
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_text_is_black_on_white_and_white_on_black() -> None:
    assert text_colour((255, 255, 255)) == (0, 0, 0)
    assert text_colour((0, 0, 0)) == (255, 255, 255)
