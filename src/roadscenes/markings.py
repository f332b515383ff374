"""Paint on the road: lane lines, which are labelled, and crosswalks, stop lines and symbols, which are not."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from roadscenes.conditions import MIN_CLARITY
from roadscenes.ground import Ground, band, coverage, phase
from roadscenes.road import Junction, Line
from roadscenes.vocabulary import RGB, FloatArray

_MIN_LINE = 0.45  # lane lines thinner than this many pixels are not labelled
_MIN_PAINT = 0.15  # lane lines with a smaller share of their paint left are not labelled
_LINE_GAP = (5.8, 4.0)  # metres before and behind a junction without lane lines
_WHITE: RGB = (222.0, 222.0, 218.0)
_ZEBRA_PERIOD, _ZEBRA_STRIPE, _ZEBRA_LENGTH = 0.95, 0.48, 3.0  # metres
_SYMBOL_SIZE = (1.1, 4.5)  # metres across and along the road
_ARROWS = ((24, 0, 42, 36, 6, 36), (0, 30, 24, 8, 24, 52), (47, 30, 24, 8, 24, 52))  # heads: ahead, left, right
_SEGMENTS = (  # boxes of a seven-segment digit: three bars, then the uprights from top left to bottom right
    *((0, 0, 18, 10), (0, 43, 18, 53), (0, 85, 18, 95)),
    *((0, 0, 5, 50), (13, 0, 18, 50), (0, 46, 5, 95), (13, 46, 18, 95)),
)
_TENS = (0b1010111, 0b1011010, 0b1001111, 0b1101111)  # segments of the digits 3 to 6, first in the lowest bit
_ZERO = 0b1111101


def paint_lane_lines(ground: Ground, rng: random.Random) -> None:
    """Paint the lane lines, and mark the pixels where paint is left in `ground.lane`."""
    for line in ground.road.lines:
        _paint_line(ground, line, rng.uniform(0, line.dash[1]) if line.dash else 0.0)


def _paint_line(ground: Ground, line: Line, start: float) -> None:
    """Paint one line, its dashes shifted by `start` metres."""
    near = np.abs(ground.s - np.float32(line.s)) < line.width / 2 + ground.pixel_s
    spots = np.nonzero(near & ground.seen)
    s, z, pixel_s, pixel_z = (axis[spots] for axis in (ground.s, ground.z, ground.pixel_s, ground.pixel_z))
    off = np.abs(s - np.float32(line.s))
    amount = np.minimum(coverage(line.width / 2 - off, pixel_s), line.width / pixel_s)
    label = (off <= np.maximum(line.width, pixel_s) / 2) & (line.width / pixel_s > _MIN_LINE)
    if line.dash:
        painted, period = line.dash
        from_middle, distinct = np.abs((z + start) % period - period / 2), pixel_z < period / 2
        amount *= coverage(painted / 2 - from_middle, pixel_z) * distinct
        label &= (from_middle <= painted / 2) & distinct
    junction = ground.road.junction
    if junction is not None:
        gap = band(z, pixel_z, junction.start - _LINE_GAP[0], junction.end + _LINE_GAP[1])
        amount *= 1 - gap
        label &= gap < 0.5
    left = np.clip(1.3 - line.wear * (0.55 + 1.1 * ground.worn[spots]), 0.0, 0.9)
    for plane, tint in zip(ground.colour, line.colour, strict=True):
        plane[spots] += (tint - plane[spots]) * amount * left
    ground.lane[spots] |= label & (left > _MIN_PAINT) & (ground.conditions.clarity(z) > MIN_CLARITY)


def paint_other_marks(ground: Ground, rng: random.Random) -> None:
    """Paint crosswalk, stop line, arrow and speed number, which are not labelled as lanes."""
    wear = rng.uniform(0.5, 1.0)
    left = np.clip(1.5 * wear - 0.9 * (1 - wear) * ground.worn - 0.3, 0.1, 0.9)
    junction = ground.road.junction
    if junction is not None and rng.random() < 0.85:
        _paint_crosswalks(ground, junction, left)
        _paint_stop_line(ground, junction, left)
    if rng.random() < 0.5:
        _paint_symbol(ground, rng, left)


def _paint_crosswalks(ground: Ground, junction: Junction, left: FloatArray) -> None:
    """Paint zebra stripes before and behind the junction; `left` is the share of paint that is not worn off."""
    across = band(ground.s, ground.pixel_s, ground.road.left + 0.3, ground.road.right - 0.3)
    from_middle = _ZEBRA_PERIOD * np.abs(phase(ground.s, _ZEBRA_PERIOD) - 0.5)
    stripes = coverage(_ZEBRA_STRIPE / 2 - from_middle, ground.pixel_s)
    for near in (junction.start - 3.6, junction.end + 0.6):
        zone = band(ground.z, ground.pixel_z, near, near + _ZEBRA_LENGTH)
        ground.blend(_WHITE, stripes * zone * across * left)


def _paint_stop_line(ground: Ground, junction: Junction, left: FloatArray) -> None:
    """Paint a bar across the lanes of the ego direction."""
    road = ground.road
    low, high = min(road.same) - road.lane_width / 2, max(road.same) + road.lane_width / 2
    bar = band(ground.s, ground.pixel_s, low, high)
    bar *= band(ground.z, ground.pixel_z, junction.start - 5.6, junction.start - 5.15)
    ground.blend(_WHITE, bar * left)


def _paint_symbol(ground: Ground, rng: random.Random, left: FloatArray) -> None:
    """Paint an arrow or a speed number into one of the lanes of the ego direction."""
    symbol = np.asarray(_symbol(rng), dtype=np.float32) / 255
    centre = rng.choice(ground.road.same)
    ahead = ground.road.junction.start if ground.road.junction else rng.uniform(22, 34)
    start = ahead - rng.uniform(10, 14)
    wide, long = _SYMBOL_SIZE
    column = ((ground.s - centre) / wide + 0.5) * symbol.shape[1]
    row = (1 - (ground.z - start) / long) * symbol.shape[0]
    inside = (column >= 0) & (column < symbol.shape[1]) & (row >= 0) & (row < symbol.shape[0])
    amount = np.zeros_like(ground.z)
    amount[inside] = symbol[row[inside].astype(np.intp), column[inside].astype(np.intp)]
    ground.blend(_WHITE, amount * left)


def _symbol(rng: random.Random) -> Image.Image:
    """Return the bitmap of a painted arrow or speed number."""
    bitmap = Image.new("L", (48, 96))
    draw = ImageDraw.Draw(bitmap)
    if rng.random() < 0.6:
        draw.rectangle((20, 34, 28, 95), 255)
        draw.polygon(rng.choice(_ARROWS), 255)
        return bitmap
    for shift, digit in ((2, rng.choice(_TENS)), (27, _ZERO)):
        for bit, (x0, y0, x1, y1) in enumerate(_SEGMENTS):
            if digit >> bit & 1:
                draw.rectangle((x0 + shift, y0, x1 + shift, y1), 255)
    return bitmap
