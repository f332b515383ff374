"""Cars, vans, trucks and buses: a side outline that is extruded to the width."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

from roadscenes.canvas import Canvas
from roadscenes.item import Item
from roadscenes.palette import CAR_PAINTS, GLASS, TYRE
from roadscenes.projection import Point
from roadscenes.vocabulary import CAR, RGB

_BUMPER: RGB = (34, 34, 36)
_FLEET_PAINTS: tuple[RGB, ...] = ((236, 236, 232), (222, 214, 190), (60, 110, 80), (40, 90, 160))


@dataclass(frozen=True)
class Body:
    """Shape of a vehicle in metres; places along it are shares of its length, 0 at the rear.

    Attributes:
        width: Width of the body below the windows.
        length: Length from bumper to bumper.
        outline: Place, height and material of the strip that follows: "d" dark bumper, "b" body, "g" glass.
        windows: Windows of a flank: two places on the lower and two on the upper edge, then the heights of the edges.
        lamp_height: Height of the middle of the tail lamps.
        taper: Share of the width that is lost towards the roof.
        wheel: Radius of a wheel.
        fleet: Whether it may have the paint of a company.
    """

    width: float
    length: float
    outline: tuple[tuple[float, float, str], ...]
    windows: tuple[tuple[float, float, float, float, float, float], ...]
    lamp_height: float = 0.72
    taper: float = 0.17
    wheel: float = 0.32
    fleet: bool = False

    @property
    def height(self) -> float:
        """Height of the roof."""
        return max(height for _, height, _ in self.outline)

    def at(self, side: float, share: float, y: float) -> Point:
        """Return a point of the hull in local coordinates; `side` is -1 on the left and 1 on the right flank."""
        narrow = 1 - self.taper * min(1.0, max(0.0, (y - 0.95) / 0.5))
        return side * (self.width / 2) * narrow, y, (share - 0.5) * self.length


BODIES: dict[str, Body] = {
    "sedan": Body(1.78, 4.5, ((0, .3, "d"), (0, .52, "b"), (.01, .95, "b"), (.14, 1.0, "g"), (.3, 1.42, "b"),
                  (.56, 1.44, "g"), (.73, .98, "b"), (.97, .8, "b"), (1, .5, "d"), (1, .28, "d")),
                  ((.2, .45, .3, .45, .98, 1.36), (.47, .7, .47, .57, .98, 1.36))),
    "hatch": Body(1.72, 3.8, ((0, .3, "d"), (0, .52, "b"), (.02, .98, "g"), (.09, 1.46, "b"),
                  (.52, 1.53, "g"), (.76, 1.02, "b"), (.96, .85, "b"), (1, .5, "d"), (1, .28, "d")),
                  ((.06, .4, .12, .4, 1.0, 1.43), (.43, .71, .43, .54, 1.0, 1.43))),
    "suv": Body(1.9, 4.6, ((0, .38, "d"), (0, .62, "b"), (.02, 1.1, "g"), (.07, 1.68, "b"), (.58, 1.75, "g"),
                (.74, 1.15, "b"), (.97, 1.0, "b"), (1, .6, "d"), (1, .35, "d")),
                ((.06, .4, .1, .4, 1.12, 1.64), (.43, .7, .43, .59, 1.12, 1.64)), .85, .14, .37),
    "van": Body(1.85, 4.7, ((0, .35, "d"), (0, .55, "b"), (0, 1.15, "g"), (.03, 1.9, "b"), (.72, 1.98, "g"),
                (.92, 1.15, "b"), (.99, .9, "b"), (1, .5, "d"), (1, .3, "d")),
                ((.05, .32, .06, .32, 1.15, 1.8), (.35, .6, .35, .6, 1.15, 1.8),
                 (.63, .86, .63, .73, 1.15, 1.8)), .9, .1, .33),
    "truck": Body(2.3, 7.5, ((0, .6, "d"), (0, .85, "b"), (0, 3.2, "b"), (.74, 3.2, "b"), (.74, 2.4, "b"),
                  (.96, 2.45, "g"), (1, 1.45, "b"), (1, .6, "d"), (1, .4, "d")),
                  ((.8, .95, .8, .93, 1.5, 2.2),), .75, .0, .45, fleet=True),
    "bus": Body(2.45, 10.5, ((0, .4, "d"), (0, .7, "b"), (0, 1.7, "g"), (0, 2.6, "b"), (.01, 3.0, "b"),
                (.99, 3.0, "b"), (1, 2.7, "g"), (1, 1.1, "b"), (1, .5, "d"), (1, .35, "d")),
                ((.03, .3, .03, .3, 1.45, 2.5), (.32, .62, .32, .62, 1.45, 2.5),
                 (.64, .97, .64, .97, 1.3, 2.5)), .95, .02, .48, fleet=True),
}  # fmt: skip


def draw_vehicle(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a vehicle, its middle at local z = 0."""
    body = BODIES[item.variant]
    canvas.place(item.x, item.z, item.heading, CAR)
    colour = rng.choice(CAR_PAINTS)
    if body.fleet and rng.random() < 0.6:
        colour = rng.choice(_FLEET_PAINTS)
    sky = 0.75 + 0.5 * rng.random()  # brightness of the surroundings mirrored in the glass
    _draw_underbody(canvas, body)
    _draw_strips(canvas, body, colour, sky)
    if abs(canvas.eye[0]) > body.width / 2:
        _draw_flank(canvas, body, math.copysign(1.0, canvas.eye[0]), colour, sky)
    if canvas.eye[2] < -body.length / 2:
        _draw_rear(canvas, rng, body)
    elif canvas.eye[2] > body.length / 2:
        _draw_front(canvas, rng, body)


def _draw_underbody(canvas: Canvas, body: Body) -> None:
    """Draw the tyres at the near end and the dark floor between the axles."""
    half, length = body.width / 2, body.length
    for low, high in ((0.03, 0.1), (0.78, 0.88)):
        for side in (-1.0, 0.68):
            z = (low - 0.5) * length if canvas.eye[2] < 0 else (high - 0.5) * length
            canvas.panel(side * half, (side + 0.32) * half, 0.0, 0.5, z, TYRE)
    canvas.box((-0.9 * half, 0.18, -0.46 * length), (0.9 * half, 0.5, 0.46 * length), (16, 16, 18))


def _draw_strips(canvas: Canvas, body: Body, colour: RGB, sky: float) -> None:
    """Draw the strips across the vehicle that face the camera: bumpers, boot, screens, roof and bonnet."""
    _, eye_y, eye_z = canvas.eye
    strips = []
    for (s0, y0, part), (s1, y1, _) in itertools.pairwise(body.outline):
        dz, dy = (s1 - s0) * body.length, y1 - y0
        away = eye_z - (s0 - 0.5) * body.length
        if (eye_y - y0) * dz > away * dy:
            strips.append((abs(away), s0, y0, s1, y1, part, 0.86 + 0.24 * (dz / math.hypot(dz, dy))))
    for _, s0, y0, s1, y1, part, shade in sorted(strips, reverse=True):
        panes = [(1.0, _BUMPER if part == "d" else colour, shade)]
        if part == "g":
            panes.append((0.88, GLASS, shade * sky * 1.3))
        for inset, tint, light in panes:
            corners = [body.at(-inset, s0, y0), body.at(inset, s0, y0), body.at(inset, s1, y1), body.at(-inset, s1, y1)]
            canvas.face(corners, tint, light)


def _draw_flank(canvas: Canvas, body: Body, side: float, colour: RGB, sky: float) -> None:
    """Draw one side of a vehicle with its windows and wheels."""
    canvas.face([body.at(side, s, y) for s, y, _ in body.outline], colour, 0.8)
    sill = ((0.02, 0.36), (0.98, 0.36), (0.98, 0.5), (0.02, 0.5))
    canvas.face([body.at(side, s, y) for s, y in sill], colour, 0.55)
    for corners in window_corners(body):
        canvas.face([body.at(side, s, y) for s, y in corners], GLASS, sky)
    for share in (0.19, 0.81):
        x, y, z = body.at(side, share, body.wheel)
        for radius, tint in ((1.25, (18, 18, 20)), (1.0, (30, 30, 32)), (0.6, (150, 152, 156))):
            canvas.disc((x, y, z), radius * body.wheel, tint, 0.9, side=True)


def window_corners(body: Body) -> list[list[tuple[float, float]]]:
    """Return the corners of each side window as (place along the vehicle, height)."""
    return [[(foot, low), (toe, low), (brow, high), (head, high)] for foot, toe, head, brow, low, high in body.windows]


def _draw_rear(canvas: Canvas, rng: random.Random, body: Body) -> None:
    """Draw tail lamps and the number plate."""
    z, half, y = -body.length / 2, body.width / 2, body.lamp_height
    braking = rng.random() < 0.35
    lit = braking or canvas.conditions.dark
    red: RGB = (255, 50, 40) if braking else ((225, 30, 25) if lit else (150, 18, 20))
    tall, wide = rng.choice(((0.09, 0.22), (0.07, 0.34), (0.16, 0.14)))
    for side in (-1, 1):
        inner, outer = sorted((side * half * 0.97, side * (half * 0.97 - wide)))
        canvas.panel(inner, outer, y - tall, y + tall, z, red, lamp=lit)
    plate: RGB = rng.choice(((232, 232, 226), (236, 208, 70)))
    canvas.panel(-0.19, 0.19, y - 0.2, y - 0.04, z, plate)


def _draw_front(canvas: Canvas, rng: random.Random, body: Body) -> None:
    """Draw headlamps, grille and number plate."""
    z, half, y = body.length / 2, body.width / 2, body.lamp_height - 0.06
    canvas.panel(-0.55 * half, 0.55 * half, y - 0.16, y + 0.04, z, (30, 30, 33))
    canvas.panel(-0.19, 0.19, y - 0.3, y - 0.17, z, (230, 230, 224))
    lit = canvas.conditions.dark and rng.random() < 0.93
    for side in (-1, 1):
        inner, outer = sorted((side * half * 0.95, side * half * 0.6))
        canvas.panel(inner, outer, y - 0.07, y + 0.09, z, (255, 250, 232), lamp=lit)
