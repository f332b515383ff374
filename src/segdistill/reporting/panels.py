"""Images and masks side by side on one sheet, and what can be taken off such a sheet again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segdistill.data.labels import LabelSet
from segdistill.utils.errors import UserError
from segdistill.utils.image import read_rgb

GAP, BAR, FONT_SIZE, SWATCH = 4, 22, 14, 12
PAPER, INK = (255, 255, 255), (0, 0, 0)


def side_by_side(panels: Mapping[str, NDArray[np.uint8]], labels: LabelSet) -> Image.Image:
    """Return the panels, uint8 [H, W, 3] each, in a row, with their names above and a legend of the classes below."""
    height, width, _ = next(iter(panels.values())).shape
    total = len(panels) * (width + GAP) - GAP
    font = ImageFont.load_default(FONT_SIZE)
    legend = [(name, colour, int(font.getlength(name)) + SWATCH + 16) for name, colour in _legend(labels)]
    lines: list[list[tuple[str, tuple[int, int, int], int]]] = [[]]
    for entry in legend:
        if lines[-1] and sum(used for *_, used in lines[-1]) + entry[2] > total:
            lines.append([])
        lines[-1].append(entry)
    sheet = Image.new("RGB", (total, BAR + height + BAR * len(lines)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (name, pixels) in enumerate(panels.items()):
        left = column * (width + GAP)
        draw.text((left + 2, 2), name, INK, font)
        sheet.paste(Image.fromarray(pixels), (left, BAR))
    for row, line in enumerate(lines):
        left, top = 2, BAR + height + BAR * row + (BAR - SWATCH) // 2
        for name, colour, used in line:
            draw.rectangle((left, top, left + SWATCH, top + SWATCH), colour, INK)
            draw.text((left + SWATCH + 4, top - 3), name, INK, font)
            left += used
    return sheet


def first_panel(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read the first panel of a sheet, uint8 [*size, 3], bit for bit as it was drawn.

    Raises:
        UserError: If the file is no sheet of panels of that size, [H, W].
    """
    (height, width), sheet = size, read_rgb(path)
    if sheet.shape[0] < BAR + height or (sheet.shape[1] + GAP) % (width + GAP):
        raise UserError(f"{path}: does not show images of {height} x {width} side by side")
    return sheet[BAR : BAR + height, :width]


def _legend(labels: LabelSet) -> list[tuple[str, tuple[int, int, int]]]:
    return list(zip(labels.names, labels.palette, strict=True))
