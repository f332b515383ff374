"""Human figures: pedestrians, and the shapes of statues and posters."""

from __future__ import annotations

import random
from typing import NamedTuple

from roadscenes.canvas import CIRCLE, Canvas
from roadscenes.item import Item
from roadscenes.vocabulary import PEDESTRIAN, RGB

_SKINS: tuple[RGB, ...] = ((236, 196, 168), (214, 164, 130), (160, 110, 78), (98, 66, 48))
_HAIR: tuple[RGB, ...] = ((28, 24, 22), (60, 42, 30), (110, 80, 48), (150, 146, 140))
_CLOTHES: tuple[RGB, ...] = (
    (32, 34, 42), (58, 62, 74), (220, 220, 216), (150, 36, 40), (40, 70, 130), (96, 120, 84), (190, 160, 110),
    (120, 120, 124), (70, 46, 40), (214, 120, 50), (90, 60, 110), (230, 210, 80),
)  # fmt: skip


class Look(NamedTuple):
    """Colours of a figure; `hair` may be that of a hat, `extra` is that of a bag or an umbrella."""

    top: RGB
    trousers: RGB
    hair: RGB
    extra: RGB
    skin: RGB


def make_look(rng: random.Random) -> Look:
    """Sample the colours of a person."""
    hair = rng.choice(_CLOTHES if rng.random() < 0.15 else _HAIR)
    return Look(
        top=rng.choice(_CLOTHES),
        trousers=rng.choice(_CLOTHES),
        hair=hair,
        extra=rng.choice(_CLOTHES),
        skin=rng.choice(_SKINS),
    )


def draw_pedestrian(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a standing or walking person; bag and umbrella have the label of the person."""
    canvas.place(item.x, item.z, item.heading, PEDESTRIAN)
    draw_figure(canvas, rng, item.size[1], 0.0, make_look(rng))


def draw_figure(canvas: Canvas, rng: random.Random, tall: float, base: float, look: Look) -> None:
    """Draw a human figure `tall` metres high in the local x-y plane, its feet at height `base`."""
    turned = rng.random() < 0.5  # seen from the side: narrow body, long stride
    stride = rng.uniform(0.06, 0.17) if turned else rng.uniform(0.03, 0.06)
    broad = (0.075 if turned else 0.115) * rng.uniform(0.9, 1.2)

    def limb(x0: float, y0: float, x1: float, y1: float, thick: float, tint: RGB, shade: float = 1.0) -> None:
        """Draw a tapering limb between two points that are given as shares of the height."""
        points = ((x0 - thick, y0), (x0 + thick, y0), (x1 + thick * 0.8, y1), (x1 - thick * 0.8, y1))
        canvas.face([(tall * x, base + tall * y, 0.0) for x, y in points], tint, shade)

    for side, shade in ((-1.0, 0.8), (1.0, 1.0)):
        limb(side * 0.035, 0.5, side * stride, 0.03, 0.042, look.trousers, shade)
        limb(side * stride, 0.035, side * stride + 0.02 * turned, 0.0, 0.045, (30, 28, 28))
        limb(side * broad * (not turned), 0.8, side * (broad + 0.4 * stride), 0.46, 0.026, look.top, shade * 0.85)
    hem = rng.choice((0.46, 0.46, 0.3))
    limb(0.0, 0.83, 0.0, hem, broad, look.top)
    limb(0.0, 0.87, 0.0, 0.81, 0.03, look.skin, 0.85)
    canvas.disc((0.0, base + 0.925 * tall, 0.0), 0.062 * tall, look.skin, squash=1.2)
    canvas.disc((0.0, base + 0.955 * tall, 0.0), 0.063 * tall, look.hair, 0.7, squash=0.8)
    if rng.random() < 0.3:
        limb(-broad, 0.62, -broad, 0.42, 0.06, look.extra)
    if rng.random() < (0.6 if canvas.conditions.wet else 0.04):
        _draw_umbrella(canvas, base + 0.6 * tall, base + tall * 1.02, look.extra)


def _draw_umbrella(canvas: Canvas, grip: float, rim: float, colour: RGB) -> None:
    """Draw an open umbrella between the heights of its grip and its rim."""
    canvas.face([(-0.01, grip, 0), (0.01, grip, 0), (0.01, rim, 0)], (40, 40, 40))
    upper_half = CIRCLE[:7]
    canvas.face([(0.52 * cos, rim + 0.3 * sin, 0.0) for cos, sin in upper_half], colour)
