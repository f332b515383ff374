"""Blocks, shops and houses beside the road."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

from roadscenes.canvas import Canvas
from roadscenes.item import Item
from roadscenes.palette import SIGN_PAINTS, WALL_PAINTS
from roadscenes.projection import Point
from roadscenes.vocabulary import RGB

_WINDOW_LIGHTS: tuple[RGB, ...] = ((196, 160, 100), (140, 118, 80), (150, 164, 170), (214, 190, 140))
_PANE: RGB = (70, 84, 98)
_MAX_STOREYS, _MAX_COLUMNS = 7, 6  # of windows; more would be too small to see
_PROUD = 0.02  # metres by which windows and signs stand out from their wall


def draw_building(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw walls with rows of windows, a roof on houses and coloured signs on shops."""
    canvas.place(item.x, item.z, item.heading)
    wide, tall, deep = item.extent
    wall = rng.choice(WALL_PAINTS)
    canvas.box((-wide, 0.0, -deep), (wide, tall, deep), wall)
    if item.variant == "house":
        _draw_roof(canvas, rng, wide, tall, deep, wall)
    side = math.copysign(wide + _PROUD, canvas.eye[0])
    storey, lit = rng.uniform(2.8, 3.6), rng.uniform(0.03, 0.35) * canvas.conditions.dark

    def flank(u: float, v: float) -> Point:
        return side, v, u

    def front(u: float, v: float) -> Point:
        return u, v, -deep - _PROUD

    pane, glow = rng.choice((0.5, 0.62, 0.85)), rng.choice(_WINDOW_LIGHTS)
    walls = ((flank, deep), (front, wide)) if canvas.eye[2] < -deep else ((flank, deep),)
    for wall_at, reach in walls:
        columns = max(1, min(_MAX_COLUMNS, int(reach / 1.6)))
        for row, column in itertools.product(range(min(_MAX_STOREYS, int(tall / storey))), range(columns)):
            u0 = -reach + 2 * reach * (column + 0.5 - pane / 2) / columns
            u1, v0, lamp = u0 + 2 * reach * pane / columns, row * storey + 0.9, rng.random() < lit
            shade = rng.uniform(0.6, 1.3)
            canvas.face(
                _rectangle(wall_at, u0, u1, v0, v0 + 1.5), glow if lamp else _PANE, shade, lamp=lamp, inside=True
            )
    if item.variant == "shop":
        for start in range(int(-deep), int(deep) - 3, 5):
            sign, lamp = rng.choice(SIGN_PAINTS), canvas.conditions.dark and rng.random() < 0.6
            u0 = start + 0.3
            canvas.face(_rectangle(flank, u0, start + 3.9, 2.7, 3.5), sign, lamp=lamp, inside=True)
            if rng.random() < 0.3:  # a round red sign, as bright as a signal
                canvas.disc((side, 3.1, u0 + 0.6), 0.3, (230, 40, 40), side=True, lamp=canvas.conditions.dark)


def _rectangle(wall_at: Callable[[float, float], Point], u0: float, u1: float, v0: float, v1: float) -> list[Point]:
    """Return the corners of a rectangle on a wall; `wall_at` maps (along the wall, height) to local coordinates."""
    return [wall_at(u0, v0), wall_at(u1, v0), wall_at(u1, v1), wall_at(u0, v1)]


def _draw_roof(canvas: Canvas, rng: random.Random, wide: float, tall: float, deep: float, wall: RGB) -> None:
    """Draw a gabled roof with its ridge along the road."""
    tint = rng.choice(((110, 54, 44), (70, 70, 76), (96, 80, 66)))
    ridge = tall + 0.7 * wide
    canvas.face([(-wide, tall, -deep), (wide, tall, -deep), (0, ridge, -deep)], wall, 0.95)
    eaves, y, front = math.copysign(1.1 * wide, canvas.eye[0]), tall - 0.1, -deep - 0.3
    canvas.face([(eaves, y, front), (0, ridge, front), (0, ridge, deep), (eaves, y, deep)], tint)
