"""Traffic lights."""

from __future__ import annotations

import random

from roadscenes.canvas import Canvas
from roadscenes.item import Item
from roadscenes.palette import SIGNAL_LIGHTS
from roadscenes.projection import Point
from roadscenes.vocabulary import BACKGROUND, RGB, SIGNAL

_POSTS: tuple[RGB, ...] = ((96, 98, 100), (150, 150, 146), (52, 56, 54))
_HOUSINGS: tuple[RGB, ...] = ((34, 38, 36), (150, 152, 150), (44, 66, 52), (200, 170, 40))


def draw_signal(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw traffic lights on a post or on an arm over the road; only their housings are labelled."""
    unit, height, arm = item.size
    canvas.place(item.x, item.z, item.heading)
    tint = rng.choice(_POSTS)
    canvas.box((-0.09, 0.0, -0.09), (0.09, height + 0.3, 0.09), tint)
    if arm:
        canvas.box((min(0.0, arm), height + 0.15, -0.05), (max(0.0, arm), height + 0.27, 0.05), tint)
    housing = rng.choice(_HOUSINGS)
    lit = rng.choice((0, 0, 1, 2, 2))
    shares = (1.0, 0.45) if abs(arm) > 5 else (1.0,)  # a long arm carries two heads
    for share in shares:
        _draw_head(canvas, (share * arm, height, -0.16), unit, item.variant == "horizontal", housing, lit)


def _draw_head(canvas: Canvas, centre: Point, unit: float, level: bool, housing: RGB, lit: int) -> None:
    """Draw one signal housing with three lamps of `unit` metres, side by side if `level`."""
    x, y, z = centre
    half_x, half_y = (1.65 * unit, 0.6 * unit) if level else (0.6 * unit, 1.65 * unit)
    canvas.label = SIGNAL
    canvas.box((x - half_x, y - half_y, z - 0.12), (x + half_x, y + half_y, z + 0.12), housing)
    if canvas.eye[2] < z:
        for place, tint in enumerate(SIGNAL_LIGHTS):
            shift = (place - 1) * 1.05 * unit
            spot = (x + shift, y, z - 0.13) if level else (x, y - shift, z - 0.13)
            canvas.disc(spot, 0.46 * unit, (14, 14, 14))
            canvas.disc(spot, 0.4 * unit, tint, 0.22, lamp=place == lit)
    canvas.label = BACKGROUND
