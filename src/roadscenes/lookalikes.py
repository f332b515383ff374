"""Background that resembles a class: posters, statues and the bonnet of the ego vehicle."""

from __future__ import annotations

import random

from roadscenes.canvas import Canvas
from roadscenes.item import Item
from roadscenes.palette import CAR_PAINTS, GLASS, SIGN_PAINTS, TYRE, WALL_PAINTS
from roadscenes.people import Look, draw_figure, make_look
from roadscenes.vehicles import BODIES, window_corners
from roadscenes.vocabulary import RGB

_STONES: tuple[RGB, ...] = ((150, 150, 146), (92, 104, 92), (190, 150, 60), (60, 60, 64))


def draw_billboard(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a poster of a person or a car."""
    canvas.place(item.x, item.z, item.heading)
    wide, tall, foot = item.size
    canvas.box((-0.1, 0.0, 0.02), (0.1, foot, 0.2), (96, 96, 98))
    canvas.panel(-wide / 2, wide / 2, foot, foot + tall, 0.0, rng.choice((*SIGN_PAINTS, *WALL_PAINTS)))
    if item.variant == "person":
        draw_figure(canvas, rng, 0.9 * tall, foot + 0.03 * tall, make_look(rng))
    else:
        _draw_painted_car(canvas, rng, 0.85 * wide, foot + 0.15 * tall)


def _draw_painted_car(canvas: Canvas, rng: random.Random, long: float, lift: float) -> None:
    """Draw the side view of a car, `long` metres in length and `lift` metres above ground, in the local x-y plane."""
    body, paint = BODIES[rng.choice(("sedan", "hatch", "suv"))], rng.choice(CAR_PAINTS)
    panes = [([(s, y) for s, y, _ in body.outline], paint), *((corners, GLASS) for corners in window_corners(body))]
    for corners, tint in panes:
        canvas.face([((s - 0.5) * long, lift + y * long / body.length, 0.0) for s, y in corners], tint)
    for share in (-0.31, 0.31):
        canvas.disc((share * long, lift + 0.07 * long, 0.0), 0.075 * long, TYRE)


def draw_statue(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a stone or gilded figure on a plinth."""
    canvas.place(item.x, item.z, item.heading)
    stone = rng.choice(_STONES)
    plinth = 0.25 * item.size[1]
    canvas.box((-0.3, 0.0, -0.3), (0.3, plinth, 0.3), (140, 138, 132))
    look = Look(top=stone, trousers=stone, hair=stone, extra=stone, skin=stone)
    draw_figure(canvas, rng, item.size[1] - plinth, plinth, look)


def draw_bonnet(canvas: Canvas, rng: random.Random) -> None:
    """Cover the bottom of the frame with the bonnet of the ego vehicle."""
    width, height = canvas.image.size
    rise, side = rng.uniform(0.03, 0.13) * height, rng.uniform(0.02, 0.2) * width
    paint, light = rng.choice(CAR_PAINTS), canvas.conditions.light
    for drop, shade in ((0.0, 0.5), (0.012, 0.75)):  # a dark edge, then the sheet metal
        top = height * (1 + drop) - rise
        red, green, blue = (int(shade * c * g) for c, g in zip(paint, light, strict=True))
        canvas.cover((-side, top, width + side, top + 6 * rise), (red, green, blue))
