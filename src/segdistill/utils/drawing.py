"""Masks as colours over images, and the first panel of a sheet; needs only numpy and Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdistill.utils.errors import UserError
from segdistill.utils.image import read_rgb

SHEET_GAP, SHEET_BAR = 4, 22
"""Pixels between the columns of a sheet of panels, and of the line with the name above each panel."""


def spread_colour(index: int) -> list[int]:
    """Return a colour of the VOC colour map: the id's bits, distributed over the channels from the top bit down."""
    value, colour = index + 1, [0, 0, 0]
    for bit in range(7, -1, -1):
        for channel in range(3):
            colour[channel] |= (value & 1) << bit
            value >>= 1
    return colour


def colour_table(palette: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Return the colours of all ids, uint8 [256, 3], of a palette of the first ones; the others are black."""
    table = np.zeros((256, 3), np.uint8)
    if palette:
        table[: len(palette)] = palette
    return table


def blend(
    image: NDArray[np.uint8], colours: NDArray[np.uint8], opacity: float | NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Blend colours over an image, both uint8 [H, W, 3].

    Args:
        image: Image.
        colours: Colour of each pixel.
        opacity: Weight of the colours, from 0 to 1; one, or one a pixel, [H, W, 1].
    """
    mixed: NDArray[np.float64] = (1 - opacity) * image + opacity * colours
    return mixed.round().astype(np.uint8)


def first_panel(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read the first panel of a sheet, uint8 [*size, 3], bit for bit as it was drawn.

    Raises:
        UserError: If the file is no sheet of panels of that size, [H, W].
    """
    (height, width), sheet = size, read_rgb(path)
    if sheet.shape[0] < SHEET_BAR + height or (sheet.shape[1] + SHEET_GAP) % (width + SHEET_GAP):
        raise UserError(f"{path}: does not show images of {height} x {width} side by side")
    return sheet[SHEET_BAR : SHEET_BAR + height, :width]
