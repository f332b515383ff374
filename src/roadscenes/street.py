"""Objects at the kerb: trees, posts, bins and railings."""

from __future__ import annotations

import random

from roadscenes.canvas import Canvas
from roadscenes.item import Item
from roadscenes.palette import CAR_PAINTS, SIGN_PAINTS, SIGNAL_LIGHTS
from roadscenes.vocabulary import RGB

_LEAF_MASSES = 15  # per tree
_LEAVES: tuple[RGB, ...] = ((62, 92, 44), (48, 76, 40), (86, 104, 52), (120, 96, 46), (70, 84, 60))
_POSTS: tuple[RGB, ...] = ((120, 122, 124), (90, 86, 82), (70, 74, 72))
_TRAFFIC_SIGNS: tuple[tuple[RGB, RGB], ...] = (  # rim and face
    ((200, 30, 36), (236, 236, 236)),
    ((30, 80, 170), (30, 80, 170)),
    ((200, 30, 36), (44, 80, 160)),
)
_RAILINGS: dict[str, tuple[RGB, tuple[tuple[float, float], ...], int]] = {  # colour, heights of bars, posts
    "rail": ((184, 186, 188), ((0.55, 1.0),), 2),
    "fence": ((120, 92, 66), ((0.3, 0.38), (0.8, 0.88)), 6),
    "railing": ((214, 214, 210), ((0.45, 0.5), (0.93, 1.0)), 3),
}


def draw_tree(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a trunk and a crown of overlapping leaf masses."""
    canvas.place(item.x, item.z)
    wide, tall, _ = item.size
    canvas.panel(-0.02 * tall, 0.02 * tall, 0.0, 0.5 * tall, 0.0, (78, 62, 50))
    leaf = rng.choice(_LEAVES)
    for step in range(_LEAF_MASSES):
        lift, reach = 0.42 + 0.56 * step / _LEAF_MASSES, 1 - abs(2 * step / _LEAF_MASSES - 0.8)
        spot = (rng.uniform(-0.42, 0.42) * wide * max(0.2, reach), lift * tall, 0.0)
        radius = rng.uniform(0.14, 0.28) * wide
        canvas.disc(spot, radius, leaf, rng.uniform(0.5, 0.75) + 0.4 * step / _LEAF_MASSES)


def draw_post(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a street lamp, a utility pole, a traffic sign or a shop board on a post."""
    canvas.place(item.x, item.z, item.heading)
    overhang, tall, spacing = item.size
    thick = 0.14 if item.variant == "utility" else 0.06
    canvas.box((-thick, 0.0, -thick), (thick, tall, thick), rng.choice(_POSTS))
    if item.variant == "lamp":
        _draw_street_lamp(canvas, overhang, tall)
    elif item.variant == "utility":
        _draw_wires(canvas, tall, spacing)
    elif item.variant == "sign":
        _draw_traffic_sign(canvas, tall, rng)
    else:
        _draw_shop_board(canvas, tall, rng)


def _draw_street_lamp(canvas: Canvas, overhang: float, tall: float) -> None:
    canvas.box((min(0.0, overhang), tall - 0.1, -0.05), (max(0.0, overhang), tall, 0.05), (110, 112, 114))
    lit = canvas.conditions.time != "day"
    canvas.box((overhang - 0.35, tall - 0.18, -0.12), (overhang + 0.35, tall - 0.1, 0.12), (150, 150, 150))
    canvas.panel(overhang - 0.3, overhang + 0.3, tall - 0.26, tall - 0.16, -0.12, (255, 226, 170), lamp=lit)


def _draw_wires(canvas: Canvas, tall: float, spacing: float) -> None:
    """Draw the cross-arms and transformer of a pole, and the wires that sag to the next pole."""
    for drop in (0.3, 1.0):
        canvas.box((-0.9, tall - drop, -0.06), (0.9, tall - drop + 0.12, 0.06), (96, 96, 98))
    canvas.box((0.15, tall - 2.6, -0.2), (0.6, tall - 1.7, 0.2), (140, 142, 146))
    for x in (-0.8, 0.8):
        sag = [(x, tall - 0.2 - 2.0 * t * (1 - t), spacing * t) for t in (0.0, 0.2, 0.5, 0.8, 1.0)]
        canvas.face([*sag, *((x, y + 0.03, z) for x, y, z in reversed(sag))], (40, 40, 44))


def _draw_traffic_sign(canvas: Canvas, tall: float, rng: random.Random) -> None:
    for radius, tint in zip((0.32, 0.24), rng.choice(_TRAFFIC_SIGNS), strict=True):
        canvas.disc((0.0, tall - 0.3, -0.08), radius, tint)
    canvas.panel(-0.14, 0.14, tall - 0.34, tall - 0.26, -0.09, rng.choice(((240, 240, 240), (40, 40, 44))))


def _draw_shop_board(canvas: Canvas, tall: float, rng: random.Random) -> None:
    """Draw a board with a round lamp, in a colour of traffic lights, and a stripe of lettering."""
    canvas.panel(-0.4, 0.4, tall - 1.2, tall, -0.1, rng.choice(SIGN_PAINTS))
    canvas.disc((0.0, tall - 0.4, -0.11), 0.26, rng.choice(SIGNAL_LIGHTS), lamp=canvas.conditions.dark)
    canvas.panel(-0.28, 0.28, tall - 1.05, tall - 0.8, -0.11, rng.choice(((30, 30, 34), (240, 240, 236))))


def draw_box(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a bin, a container, a hedge, an advertising column, or a piece of fence or railing."""
    canvas.place(item.x, item.z, item.heading)
    if item.variant in _RAILINGS:
        _draw_railing(canvas, item)
        return
    wide, tall, deep = item.extent
    tint = (58, 82, 44) if item.variant == "hedge" else rng.choice(CAR_PAINTS + SIGN_PAINTS)
    canvas.box((-wide, 0.0, -deep), (wide, tall, deep), tint)
    if item.variant == "column":
        canvas.panel(-0.8 * wide, 0.8 * wide, 0.4 * tall, 0.85 * tall, -deep - 0.01, rng.choice(SIGN_PAINTS))
        canvas.box((-1.15 * wide, tall, -1.15 * deep), (1.15 * wide, 1.06 * tall, 1.15 * deep), (60, 64, 62))
    elif item.variant == "bin":
        canvas.panel(-wide, wide, 0.75 * tall, 0.82 * tall, -deep - 0.01, (30, 30, 32))


def _draw_railing(canvas: Canvas, item: Item) -> None:
    """Draw a piece of guard rail, fence or railing."""
    wide, tall, deep = item.extent
    tint, bars, posts = _RAILINGS[item.variant]
    for low, high in bars:
        canvas.box((-wide, low * tall, -deep), (wide, high * tall, deep), tint)
    for step in range(posts):
        z = -deep + 2 * deep * step / posts
        canvas.box((-wide, 0.0, z), (wide, tall, z + 0.1), tint)
