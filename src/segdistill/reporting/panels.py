"""An image, its truth, what each network predicts, and where that is wrong, on one sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segdistill.config.data import IGNORE_INDEX, UNLABELLED
from segdistill.data.labels import LabelSet
from segdistill.reporting.palette import CONFUSED, INVENTED, MISSED
from segdistill.utils.drawing import SHEET_BAR, SHEET_GAP

FONT_SIZE, SWATCH = 14, 12
PAPER, INK = (255, 255, 255), (0, 0, 0)
BACKGROUND = "background"
"""Name of the class that stands for nothing in particular: an object that is taken for it was missed."""

DARKEST, DIM = 35, 0.35  # grey levels of the image under its errors: the darkest, and the brightness of the others
Colour = tuple[int, int, int]
Legend = Sequence[tuple[str, Colour]]


def error_map(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], background: int | None = None
) -> NDArray[np.uint8]:
    """Tell right pixels from three kinds of wrong ones.

    Args:
        truth: Class ids [H, W]; what is void or unlabelled counts as right.
        predicted: Class ids [H, W].
        background: Id of the class that stands for nothing in particular; None if there is no such class, and every
            error takes one class for another.

    Returns:
        uint8 [H, W]: 0 right, 1 missed (truth has an object, predicted is background), 2 invented (the reverse),
        3 one object taken for another.

    Example:
        >>> error_map(np.array([[0, 1, 1, 2, 255]]), np.array([[1, 0, 1, 1, 1]]), background=0)
        array([[2, 1, 0, 3, 0]], dtype=uint8)
    """
    wrong = (truth != predicted) & _labelled(truth)
    kinds = np.full(truth.shape, 3, np.uint8)
    if background is not None:
        kinds[predicted == background] = 1
        kinds[truth == background] = 2
    return np.where(wrong, kinds, 0).astype(np.uint8)


def prediction_sheet(
    image: NDArray[np.uint8], truth: NDArray[np.uint8], predicted: Mapping[str, NDArray[np.uint8]], labels: LabelSet
) -> Image.Image:
    """Draw the image above its truth, and each prediction above its errors, with legends of classes and errors.

    Errors are drawn over the image, grey and dark, with their shares of the labelled pixels.

    Args:
        image: uint8 [H, W, 3].
        truth: Class ids [H, W].
        predicted: Class ids [H, W] by the network's role.
        labels: Names and colours of the classes.
    """
    background = labels.names.index(BACKGROUND) if BACKGROUND in labels.names else None
    kinds = {1: ("missed", MISSED), 2: ("invented", INVENTED), 3: ("another class", CONFUSED)}
    if background is None:
        kinds = {3: ("wrong class", CONFUSED)}
    table = np.zeros((4, 3), np.uint8)
    table[list(kinds)] = [colour for _, colour in kinds.values()]
    dark = (
        (DARKEST + DIM * np.asarray(Image.fromarray(image).convert("L"))).astype(np.uint8)[..., None].repeat(3, axis=2)
    )
    labelled = max(1, int(_labelled(truth).sum()))
    columns = [{"image": image, "truth": labels.colourise(truth)}]
    for role, mask in predicted.items():
        errors = error_map(truth, mask, background)
        shares = [f"{name} {100 * (errors == kind).sum() / labelled:.1f} %" for kind, (name, _) in kinds.items()]
        drawn = np.where(errors[..., None] > 0, table[errors], dark)
        columns.append({role: labels.colourise(mask), f"{role}: {', '.join(shares)}": drawn})
    return _sheet(columns, [*zip(labels.names, labels.palette, strict=True), *kinds.values()])


def _labelled(truth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = (truth != IGNORE_INDEX) & (truth != UNLABELLED)
    return known


def _sheet(columns: Sequence[Mapping[str, NDArray[np.uint8]]], legend: Legend) -> Image.Image:
    """Return panels, uint8 [H, W, 3] each, with their names above them, and a legend below all."""
    font = ImageFont.load_default(FONT_SIZE)
    height, width, _ = next(iter(columns[0].values())).shape
    rows = max(map(len, columns))
    total = len(columns) * (width + SHEET_GAP) - SHEET_GAP
    lines = _lines(legend, total, font)
    sheet = Image.new("RGB", (total, rows * (SHEET_BAR + height) + SHEET_BAR * len(lines)), PAPER)
    for column, panels in enumerate(columns):
        for row, (name, pixels) in enumerate(panels.items()):
            panel = Image.new("RGB", (width, SHEET_BAR + height), PAPER)  # of its own, so that long names end with it
            ImageDraw.Draw(panel).text((2, 2), name, INK, font)
            panel.paste(Image.fromarray(pixels), (0, SHEET_BAR))
            sheet.paste(panel, (column * (width + SHEET_GAP), row * (SHEET_BAR + height)))
    draw = ImageDraw.Draw(sheet)
    for row, line in enumerate(lines):
        left, top = 2, rows * (SHEET_BAR + height) + SHEET_BAR * row + (SHEET_BAR - SWATCH) // 2
        for name, colour, used in line:
            draw.rectangle((left, top, left + SWATCH, top + SWATCH), colour, INK)
            draw.text((left + SWATCH + 4, top - 3), name, INK, font)
            left += used
    return sheet


def _lines(
    legend: Legend, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> list[list[tuple[str, Colour, int]]]:
    """Break a legend into lines of at most `width` pixels; each entry also tells its own width."""
    lines: list[list[tuple[str, Colour, int]]] = [[]]
    for name, colour in legend:
        used = int(font.getlength(name)) + SWATCH + 16
        if lines[-1] and sum(entry[2] for entry in lines[-1]) + used > width:
            lines.append([])
        lines[-1].append((name, colour, used))
    return lines
