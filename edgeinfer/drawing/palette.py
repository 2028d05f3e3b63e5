"""One colour a class: apart from each other for colour-blind people too, and text on them that can be read."""

from __future__ import annotations

from typing import TypeAlias

Colour: TypeAlias = tuple[int, int, int]  # RGB, 0..255

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)

# The first seven are Okabe and Ito's. The others were added one by one, each time the colour of the sRGB cube (in
# steps of 15, CIELAB lightness 38..92, chroma above 25) that lies farthest from all before it, as seen with normal
# sight and with protanopia, deuteranopia and tritanopia (that distance times 1.5, since it is rare).
# The least distance of any two in CIELAB: 18.0 with normal sight, 17.5, 17.0 and 12.0 with the three.
# Source: M. Okabe, K. Ito, "Color Universal Design" (2008), without its black; the simulation is that of Machado,
# Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (120, 0, 255),
    (105, 255, 165),
    (135, 105, 255),
    (210, 0, 60),
    (165, 240, 225),
    (210, 165, 90),
    (120, 75, 120),
    (210, 240, 120),
    (0, 105, 45),
    (60, 210, 150),
    (135, 150, 255),
    (135, 225, 255),
    (105, 60, 195),
)


def class_colour(class_id: int) -> Colour:
    """Return the colour of a class; after twenty they come again."""
    return PALETTE[class_id % len(PALETTE)]


def text_colour(background: Colour) -> Colour:
    """Return black or white, whichever has more contrast to the background.

    Source: WCAG 2.1, "relative luminance" L and "contrast ratio" (L1 + 0.05) / (L2 + 0.05): black wins where
    (L + 0.05)^2 > 1.05 * 0.05.
    """
    parts = [value / 255 for value in background]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return BLACK if (luminance + 0.05) ** 2 > 1.05 * 0.05 else WHITE
