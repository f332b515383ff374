"""Things that stand on or beside the road, drawn face by face into picture and mask."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from segdistill.data.scene_effects import RGB, Camera, Conditions

BACKGROUND, CAR, SIGNAL, PEDESTRIAN, LANE = range(5)
Point = tuple[float, float, float]
_NEAR = 0.5  # metres; what is closer to the camera is clipped
_GLOW_SCALE = 4  # canvas pixels to one pixel of the glow layers
_REFLECTED_HEIGHT = 7.0  # metres; lamps above leave no streak on a wet road


@dataclass(frozen=True)
class Item:
    """One thing of the scene; `depth` orders the painting and `size` is width, height, length."""

    kind: str
    x: float
    z: float
    heading: float
    size: tuple[float, float, float]
    seed: int
    depth: float
    variant: str = ""


class Canvas:
    """Picture, mask and lamp layers that are painted together, from far to near."""

    def __init__(self, camera: Camera, conditions: Conditions, image: Image.Image, mask: Image.Image) -> None:
        """Start from a painted backdrop of the camera's size."""
        self.camera, self.conditions, self.image, self.mask = camera, conditions, image, mask
        small = (max(1, image.width // _GLOW_SCALE), max(1, image.height // _GLOW_SCALE))
        self.glow, self.streaks = Image.new("RGB", small), Image.new("RGB", small)
        layers = (image, mask, self.glow, self.streaks)
        self._draw, self._mask, self._glow, self._streaks = (ImageDraw.Draw(layer) for layer in layers)
        self._axes: list[list[float]] = camera.rotation.tolist()
        self.place(0.0, 1.0)

    def place(self, x: float, z: float, heading: float = 0.0, label: int = BACKGROUND) -> None:
        """Move the local axes to a place on the ground, turned to the right by `heading`."""
        self.label = label
        sin, cos = math.sin(heading), math.cos(heading)
        self._rows = [
            (a * cos - c * sin, b, a * sin + c * cos, a * x - b * self.camera.height + c * z) for a, b, c in self._axes
        ]
        self.eye = (-x * cos + z * sin, self.camera.height, -x * sin - z * cos)
        air, near = self.conditions, 0.0
        if air.beam:
            near = float(air.headlight(np.array([x]), np.array([z]))[0])
        self._clear = math.exp(-math.hypot(x, z) / air.visibility)
        self._light = [self._clear * (channel + near) for channel in air.light]
        self._veil = [(1 - self._clear) * channel for channel in air.haze]

    def _colour(self, colour: RGB, shade: float, lamp: bool) -> tuple[int, int, int]:
        """Light a colour and dim it by the air in front of it."""
        light = [self._clear] * 3 if lamp else [shade * channel for channel in self._light]
        red, green, blue = (int(c * g + v) for c, g, v in zip(colour, light, self._veil, strict=True))
        return min(red, 255), min(green, 255), min(blue, 255)

    def _outline(self, points: Sequence[Point]) -> list[tuple[float, float]]:
        """Project a polygon, cut off in front of the camera."""
        (a, b, c, d), (e, f, g, h), (i, j, k, m) = self._rows
        seen = [(a * x + b * y + c * z + d, e * x + f * y + g * z + h, i * x + j * y + k * z + m) for x, y, z in points]
        if min([z for _, _, z in seen]) < _NEAR:
            seen = _clip(seen)
        focal, (height, width) = self.camera.focal, self.camera.size
        middle, centre = width / 2 - 0.5, height / 2 - 0.5
        return [(middle + focal * x / z, centre - focal * y / z) for x, y, z in seen]

    def face(self, points: Sequence[Point], colour: RGB, shade: float = 1.0, *, lamp: bool = False,
             inside: bool = False) -> None:  # fmt: skip
        """Fill a polygon given in local coordinates.

        Args:
            points: Corners in local coordinates.
            colour: Colour under white light.
            shade: Factor on the light that falls on the face.
            lamp: Whether the face shines by itself.
            inside: Whether it lies on a face of the same label, so that the mask is already right.
        """
        outline = self._outline(points)
        if len(outline) < 3:
            return
        fill = self._colour(colour, shade, lamp)
        self._draw.polygon(outline, fill)
        if not inside:
            self._mask.polygon(outline, self.label)
        if self.conditions.dark and (lamp or not inside):
            small = [(u / _GLOW_SCALE, v / _GLOW_SCALE) for u, v in outline]
            self._glow.polygon(small, fill if lamp else (0, 0, 0))
            if lamp and self.conditions.wet and max(y for _, y, _ in points) < _REFLECTED_HEIGHT:
                self._reflect(points, fill)

    def _reflect(self, points: Sequence[Point], fill: tuple[int, int, int]) -> None:
        """Smear a lamp along the wet ground below it."""
        mirrored = self._outline([(x, stretch * y, z) for x, y, z in points for stretch in (-0.3, -1.2)])
        if mirrored:
            us, vs = zip(*mirrored, strict=True)
            low, high, left = min(vs) / _GLOW_SCALE, max(vs) / _GLOW_SCALE, min(us) / _GLOW_SCALE
            red, green, blue = fill
            self._streaks.rectangle((left, low, max(us) / _GLOW_SCALE, high), (red // 2, green // 2, blue // 2))

    def disc(self, centre: Point, radius: float, colour: RGB, shade: float = 1.0, *, squash: float = 1.0,
             lamp: bool = False, side: bool = False) -> None:  # fmt: skip
        """Fill an ellipse in the local x-y plane, or in the y-z plane if `side`."""
        x, y, z = centre
        ring = [(radius * cos, radius * squash * sin) for cos, sin in _CIRCLE]
        points = [(x, y + v, z + u) for u, v in ring] if side else [(x + u, y + v, z) for u, v in ring]
        self.face(points, colour, shade, lamp=lamp)

    def box(self, low: Point, high: Point, colour: RGB) -> None:
        """Draw the visible faces of a box between two corners."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        if self.eye[1] > y1:
            self.face([(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)], colour, 1.12)
        for x, seen in ((x0, self.eye[0] < x0), (x1, self.eye[0] > x1)):
            if seen:
                self.face([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], colour, 0.78)
        for z, seen in ((z0, self.eye[2] < z0), (z1, self.eye[2] > z1)):
            if seen:
                self.panel(x0, x1, y0, y1, z, colour)

    def panel(self, x0: float, x1: float, y0: float, y1: float, z: float, colour: RGB,
              *, lamp: bool = False) -> None:  # fmt: skip
        """Fill an upright rectangle in the local x-y plane."""
        self.face([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], colour, lamp=lamp)


_CIRCLE = [(math.cos(t * math.pi / 6), math.sin(t * math.pi / 6)) for t in range(12)]


def _clip(points: list[Point]) -> list[Point]:
    """Cut the part of a camera-space polygon away that lies before the near plane."""
    kept: list[Point] = []
    for p, q in zip(points, points[1:] + points[:1], strict=True):
        if p[2] >= _NEAR:
            kept.append(p)
        if (p[2] >= _NEAR) != (q[2] >= _NEAR):
            t = (_NEAR - p[2]) / (q[2] - p[2])
            kept.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1]), _NEAR))
    return kept


@dataclass(frozen=True)
class Body:
    """Vehicle shape: side outline (share of length, height, part of the strip that follows) and windows."""

    width: float
    length: float
    outline: tuple[tuple[float, float, str], ...]
    windows: tuple[tuple[float, float, float, float, float, float], ...]  # foot, foot, head, head, low, high
    lamp_height: float = 0.72
    taper: float = 0.17
    wheel: float = 0.32


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
                  ((.8, .95, .8, .93, 1.5, 2.2),), .75, .0, .45),
    "bus": Body(2.45, 10.5, ((0, .4, "d"), (0, .7, "b"), (0, 1.7, "g"), (0, 2.6, "b"), (.01, 3.0, "b"),
                (.99, 3.0, "b"), (1, 2.7, "g"), (1, 1.1, "b"), (1, .5, "d"), (1, .35, "d")),
                ((.03, .3, .03, .3, 1.45, 2.5), (.32, .62, .32, .62, 1.45, 2.5),
                 (.64, .97, .64, .97, 1.3, 2.5)), .95, .02, .48),
}  # fmt: skip
CAR_PAINTS: tuple[RGB, ...] = (
    (232, 233, 235), (205, 207, 210), (150, 153, 158), (92, 95, 100), (38, 39, 43), (24, 26, 34),
    (158, 26, 30), (34, 62, 128), (70, 96, 140), (122, 98, 72), (36, 74, 52), (205, 160, 40),
    (214, 208, 190), (196, 92, 30),
)  # fmt: skip
_GLASS: RGB = (46, 56, 66)
_BUMPER: RGB = (34, 34, 36)
_TYRE: RGB = (20, 20, 22)


def draw_vehicle(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a car, van, truck or bus as an extruded side outline; local z = 0 is its middle."""
    body = BODIES[item.variant]
    canvas.place(item.x, item.z, item.heading, CAR)
    half, length, eye = body.width / 2, body.length, canvas.eye
    colour = rng.choice(CAR_PAINTS)
    bus_like = body.taper < 0.05
    if bus_like and rng.random() < 0.6:
        colour = rng.choice(((236, 236, 232), (222, 214, 190), (60, 110, 80), (40, 90, 160)))
    sky = 0.75 + 0.5 * rng.random()  # how bright the mirrored surroundings in the glass are

    def at(side: float, share: float, y: float) -> Point:
        narrow = 1 - body.taper * min(1.0, max(0.0, (y - 0.95) / 0.5))
        return side * half * narrow, y, (share - 0.5) * length

    for low, high in ((0.03, 0.1), (0.78, 0.88)):  # tyres and the dark floor between them
        for side in (-1.0, 0.68):
            z = (low - 0.5) * length if eye[2] < 0 else (high - 0.5) * length
            canvas.panel(side * half, (side + 0.32) * half, 0.0, 0.5, z, _TYRE)
    canvas.box((-0.9 * half, 0.18, -0.46 * length), (0.9 * half, 0.5, 0.46 * length), (16, 16, 18))
    strips = []
    for (s0, y0, part), (s1, y1, _) in zip(body.outline, body.outline[1:], strict=False):
        dz, dy = (s1 - s0) * length, y1 - y0
        outward = (eye[1] - y0) * dz - (eye[2] - (s0 - 0.5) * length) * dy
        if outward > 0:
            rise = dz / math.hypot(dz, dy)
            strips.append((abs(eye[2] - (s0 - 0.5) * length), s0, y0, s1, y1, part, 0.86 + 0.24 * rise))
    for _, s0, y0, s1, y1, part, shade in sorted(strips, reverse=True):
        panes = [(1.0, _BUMPER if part == "d" else colour, shade)]
        if part == "g":
            panes.append((0.88, _GLASS, shade * sky * 1.3))
        for inset, tint, light in panes:
            corners = [at(-inset, s0, y0), at(inset, s0, y0), at(inset, s1, y1), at(-inset, s1, y1)]
            canvas.face(corners, tint, light)
    if abs(eye[0]) > half:
        side = math.copysign(1.0, eye[0])
        _draw_flank(canvas, body, at, side, colour, sky)
    if eye[2] < -length / 2:
        _draw_rear(canvas, rng, body)
    elif eye[2] > length / 2:
        _draw_front(canvas, rng, body)


def _draw_flank(canvas: Canvas, body: Body, at: Callable[[float, float, float], Point], side: float,
                colour: RGB, sky: float) -> None:  # fmt: skip
    """Draw one side of a vehicle with windows and wheels."""
    canvas.face([at(side, s, y) for s, y, _ in body.outline], colour, 0.8)
    sill = [at(side, s, y) for s, y in ((0.02, 0.36), (0.98, 0.36), (0.98, 0.5), (0.02, 0.5))]
    canvas.face(sill, colour, 0.55)
    for foot, toe, head, brow, low, high in body.windows:
        pane = [at(side, foot, low), at(side, toe, low), at(side, brow, high), at(side, head, high)]
        canvas.face(pane, _GLASS, sky)
    for share in (0.19, 0.81):
        x, _, z = at(side, share, body.wheel)
        for radius, tint in ((1.25, (18, 18, 20)), (1.0, (30, 30, 32)), (0.6, (150, 152, 156))):
            canvas.disc((x, body.wheel, z), radius * body.wheel, tint, 0.9, side=True)


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


_SKINS: tuple[RGB, ...] = ((236, 196, 168), (214, 164, 130), (160, 110, 78), (98, 66, 48))
_HAIR: tuple[RGB, ...] = ((28, 24, 22), (60, 42, 30), (110, 80, 48), (150, 146, 140))
_CLOTHES: tuple[RGB, ...] = (
    (32, 34, 42), (58, 62, 74), (220, 220, 216), (150, 36, 40), (40, 70, 130), (96, 120, 84), (190, 160, 110),
    (120, 120, 124), (70, 46, 40), (214, 120, 50), (90, 60, 110), (230, 210, 80),
)  # fmt: skip


def draw_pedestrian(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a standing or walking person; bag and umbrella belong to the person."""
    canvas.place(item.x, item.z, item.heading, PEDESTRIAN)
    draw_figure(canvas, rng, item.size[1], 0.0, _dressed(rng), rng.choice(_SKINS))


def _dressed(rng: random.Random) -> list[RGB]:
    """Return the colours of top, trousers, hair or hat, and bag or umbrella."""
    hair = rng.choice(_CLOTHES if rng.random() < 0.15 else _HAIR)
    return [rng.choice(_CLOTHES), rng.choice(_CLOTHES), hair, rng.choice(_CLOTHES)]


def draw_figure(canvas: Canvas, rng: random.Random, tall: float, base: float, tints: list[RGB], skin: RGB) -> None:
    """Draw a human shape `tall` metres high in the local x-y plane, its feet at height `base`."""
    top, trousers, hair, extra = tints
    turned = rng.random() < 0.5  # seen from the side: narrow body, long stride
    stride = rng.uniform(0.06, 0.17) if turned else rng.uniform(0.03, 0.06)
    broad = (0.075 if turned else 0.115) * rng.uniform(0.9, 1.2)

    def limb(x0: float, y0: float, x1: float, y1: float, thick: float, tint: RGB, shade: float = 1.0) -> None:
        points = ((x0 - thick, y0), (x0 + thick, y0), (x1 + thick * 0.8, y1), (x1 - thick * 0.8, y1))
        canvas.face([(tall * x, base + tall * y, 0.0) for x, y in points], tint, shade)

    for side, shade in ((-1.0, 0.8), (1.0, 1.0)):
        limb(side * 0.035, 0.5, side * stride, 0.03, 0.042, trousers, shade)
        limb(side * stride, 0.035, side * stride + 0.02 * turned, 0.0, 0.045, (30, 28, 28))
        limb(side * broad * (not turned), 0.8, side * (broad + 0.4 * stride), 0.46, 0.026, top, shade * 0.85)
    hem = rng.choice((0.46, 0.46, 0.3))
    limb(0.0, 0.83, 0.0, hem, broad, top)
    limb(0.0, 0.87, 0.0, 0.81, 0.03, skin, 0.85)
    canvas.disc((0.0, base + 0.925 * tall, 0.0), 0.062 * tall, skin, squash=1.2)
    canvas.disc((0.0, base + 0.955 * tall, 0.0), 0.063 * tall, hair, 0.7, squash=0.8)
    if rng.random() < 0.3:
        limb(-broad, 0.62, -broad, 0.42, 0.06, extra)
    if rng.random() < (0.6 if canvas.conditions.wet else 0.04):
        shade_y = base + tall * 1.02
        canvas.face([(-0.01, base + 0.6 * tall, 0), (0.01, base + 0.6 * tall, 0), (0.01, shade_y, 0)], (40, 40, 40))
        dome = [(0.52 * cos, shade_y + 0.3 * sin, 0.0) for cos, sin in _CIRCLE[:7]]
        canvas.face(dome, extra)


_LAMPS: tuple[RGB, ...] = ((255, 40, 32), (255, 176, 30), (40, 240, 170))


def draw_signal(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw traffic lights on a post or on an arm over the road; only their housings are labelled."""
    wide, height, arm = item.size
    canvas.place(item.x, item.z, item.heading)
    tint: RGB = rng.choice(((96, 98, 100), (150, 150, 146), (52, 56, 54)))
    canvas.box((-0.09, 0.0, -0.09), (0.09, height + 0.3, 0.09), tint)
    if arm:
        canvas.box((min(0.0, arm), height + 0.15, -0.05), (max(0.0, arm), height + 0.27, 0.05), tint)
    housing: RGB = rng.choice(((34, 38, 36), (150, 152, 150), (44, 66, 52), (200, 170, 40)))
    lit = rng.choice((0, 0, 1, 2, 2))
    for share in (1.0, 0.45)[: 1 + (abs(arm) > 5)]:
        _draw_head(canvas, (share * arm, height, -0.16), wide, item.variant == "horizontal", housing, lit)


def _draw_head(canvas: Canvas, centre: Point, unit: float, level: bool, housing: RGB, lit: int) -> None:
    """Draw one signal housing with three lamps of `unit` metres."""
    x, y, z = centre
    half_x, half_y = (1.65 * unit, 0.6 * unit) if level else (0.6 * unit, 1.65 * unit)
    canvas.label = SIGNAL
    canvas.box((x - half_x, y - half_y, z - 0.12), (x + half_x, y + half_y, z + 0.12), housing)
    if canvas.eye[2] < z:
        for place, tint in enumerate(_LAMPS):
            shift = (place - 1) * 1.05 * unit
            spot = (x + shift * level, y - shift * (not level), z - 0.13)
            canvas.disc(spot, 0.46 * unit, (14, 14, 14))
            canvas.disc(spot, 0.4 * unit, tint, 0.22, lamp=place == lit)
    canvas.label = BACKGROUND


_LEAF_MASSES = 15  # to a tree
_WALLS: tuple[RGB, ...] = (
    (176, 168, 156), (150, 140, 130), (196, 190, 180), (132, 92, 76), (160, 120, 96), (110, 114, 120),
    (208, 200, 178), (92, 88, 86), (150, 160, 168),
)  # fmt: skip
_WINDOW_LIGHTS: tuple[RGB, ...] = ((196, 160, 100), (140, 118, 80), (150, 164, 170), (214, 190, 140))
_BRIGHT: tuple[RGB, ...] = (
    (196, 40, 40),
    (36, 90, 170),
    (240, 196, 40),
    (36, 130, 80),
    (238, 238, 232),
    (220, 110, 30),
    (120, 50, 120),
)


def draw_building(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a block with rows of windows and, in towns, shops with coloured signs."""
    canvas.place(item.x, item.z, item.heading)
    wide, tall, deep = (size / 2 for size in item.size)
    tall *= 2
    wall = rng.choice(_WALLS)
    canvas.box((-wide, 0.0, -deep), (wide, tall, deep), wall)
    if item.variant == "house":
        _draw_roof(canvas, rng, wide, tall, deep, wall)
    side = math.copysign(wide + 0.02, canvas.eye[0])
    storey, lit = rng.uniform(2.8, 3.6), rng.uniform(0.03, 0.35) * canvas.conditions.dark

    def flank(u: float, v: float) -> Point:
        return side, v, u

    def front(u: float, v: float) -> Point:
        return u, v, -deep - 0.02

    pane, glow = rng.choice((0.5, 0.62, 0.85)), rng.choice(_WINDOW_LIGHTS)
    walls = ((flank, deep), (front, wide)) if canvas.eye[2] < -deep else ((flank, deep),)
    for wall_at, reach in walls:
        columns = max(1, min(6, int(reach / 1.6)))
        for row, column in itertools.product(range(min(7, int(tall / storey))), range(columns)):
            u0 = -reach + 2 * reach * (column + 0.5 - pane / 2) / columns
            u1, v0, lamp = u0 + 2 * reach * pane / columns, row * storey + 0.9, rng.random() < lit
            corners = [wall_at(u0, v0), wall_at(u1, v0), wall_at(u1, v0 + 1.5), wall_at(u0, v0 + 1.5)]
            canvas.face(corners, glow if lamp else (70, 84, 98), rng.uniform(0.6, 1.3), lamp=lamp, inside=True)
    if item.variant == "shop":
        for start in range(int(-deep), int(deep) - 3, 5):
            sign, lamp = rng.choice(_BRIGHT), canvas.conditions.dark and rng.random() < 0.6
            u0, u1 = start + 0.3, start + 3.9
            canvas.face([flank(u0, 2.7), flank(u1, 2.7), flank(u1, 3.5), flank(u0, 3.5)], sign, lamp=lamp, inside=True)
            if rng.random() < 0.3:
                canvas.disc((side, 3.1, u0 + 0.6), 0.3, (230, 40, 40), side=True, lamp=canvas.conditions.dark)


def _draw_roof(canvas: Canvas, rng: random.Random, wide: float, tall: float, deep: float, wall: RGB) -> None:
    """Draw a gabled roof whose ridge runs along the road."""
    tint = rng.choice(((110, 54, 44), (70, 70, 76), (96, 80, 66)))
    ridge = tall + 0.7 * wide
    canvas.face([(-wide, tall, -deep), (wide, tall, -deep), (0, ridge, -deep)], wall, 0.95)
    eaves, y, front = math.copysign(1.1 * wide, canvas.eye[0]), tall - 0.1, -deep - 0.3
    canvas.face([(eaves, y, front), (0, ridge, front), (0, ridge, deep), (eaves, y, deep)], tint)


def draw_tree(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a trunk and a crown of overlapping leaf masses."""
    canvas.place(item.x, item.z)
    wide, tall, _ = item.size
    canvas.panel(-0.02 * tall, 0.02 * tall, 0.0, 0.5 * tall, 0.0, (78, 62, 50))
    leaf: RGB = rng.choice(((62, 92, 44), (48, 76, 40), (86, 104, 52), (120, 96, 46), (70, 84, 60)))
    for step in range(_LEAF_MASSES):
        lift, reach = 0.42 + 0.56 * step / _LEAF_MASSES, 1 - abs(2 * step / _LEAF_MASSES - 0.8)
        spot = (rng.uniform(-0.42, 0.42) * wide * max(0.2, reach), lift * tall, 0.0)
        canvas.disc(spot, rng.uniform(0.14, 0.28) * wide, leaf, rng.uniform(0.5, 0.75) + 0.4 * step / _LEAF_MASSES)


def draw_post(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a street lamp, a utility pole, a traffic sign or a shop sign on a post."""
    canvas.place(item.x, item.z, item.heading)
    reach, tall, _ = item.size
    thick = 0.14 if item.variant == "utility" else 0.06
    canvas.box((-thick, 0.0, -thick), (thick, tall, thick), rng.choice(((120, 122, 124), (90, 86, 82), (70, 74, 72))))
    if item.variant == "lamp":
        canvas.box((min(0.0, reach), tall - 0.1, -0.05), (max(0.0, reach), tall, 0.05), (110, 112, 114))
        lit = canvas.conditions.time != "day"
        canvas.box((reach - 0.35, tall - 0.18, -0.12), (reach + 0.35, tall - 0.1, 0.12), (150, 150, 150))
        canvas.panel(reach - 0.3, reach + 0.3, tall - 0.26, tall - 0.16, -0.12, (255, 226, 170), lamp=lit)
    elif item.variant == "utility":
        for drop in (0.3, 1.0):
            canvas.box((-0.9, tall - drop, -0.06), (0.9, tall - drop + 0.12, 0.06), (96, 96, 98))
        canvas.box((0.15, tall - 2.6, -0.2), (0.6, tall - 1.7, 0.2), (140, 142, 146))
        for x in (-0.8, 0.8):
            sag = [(x, tall - 0.2 - 4 * 0.5 * t * (1 - t), item.size[2] * t) for t in (0.0, 0.2, 0.5, 0.8, 1.0)]
            canvas.face([*sag, *((x, y + 0.03, z) for x, y, z in reversed(sag))], (40, 40, 44))
    elif item.variant == "sign":
        tints = rng.choice(
            (((200, 30, 36), (236, 236, 236)), ((30, 80, 170), (30, 80, 170)), ((200, 30, 36), (44, 80, 160)))
        )
        for radius, tint in zip((0.32, 0.24), tints, strict=True):
            canvas.disc((0.0, tall - 0.3, -0.08), radius, tint)
        canvas.panel(-0.14, 0.14, tall - 0.34, tall - 0.26, -0.09, rng.choice(((240, 240, 240), (40, 40, 44))))
    else:  # a shop board with a round lamp and a stripe of lettering
        canvas.panel(-0.4, 0.4, tall - 1.2, tall, -0.1, rng.choice(_BRIGHT))
        canvas.disc((0.0, tall - 0.4, -0.11), 0.26, rng.choice(_LAMPS), lamp=canvas.conditions.dark)
        canvas.panel(-0.28, 0.28, tall - 1.05, tall - 0.8, -0.11, rng.choice(((30, 30, 34), (240, 240, 236))))


def draw_billboard(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a poster that shows a painted car or a painted person, all of it background."""
    canvas.place(item.x, item.z, item.heading)
    wide, tall, foot = item.size
    canvas.box((-0.1, 0.0, 0.02), (0.1, foot, 0.2), (96, 96, 98))
    canvas.panel(-wide / 2, wide / 2, foot, foot + tall, 0.0, rng.choice((*_BRIGHT, *_WALLS)))
    if item.variant == "person":
        draw_figure(canvas, rng, 0.9 * tall, foot + 0.03 * tall, _dressed(rng), rng.choice(_SKINS))
        return
    body, paint = BODIES[rng.choice(("sedan", "hatch", "suv"))], rng.choice(CAR_PAINTS)
    scale = 0.85 * wide
    lift = foot + 0.15 * tall
    canvas.face([((s - 0.5) * scale, lift + y * scale / body.length, 0.0) for s, y, _ in body.outline], paint)
    for a, b, c, d, low, high in body.windows:
        corners = ((a, low), (b, low), (d, high), (c, high))
        canvas.face([((s - 0.5) * scale, lift + y * scale / body.length, 0.0) for s, y in corners], _GLASS)
    for share in (-0.31, 0.31):
        canvas.disc((share * scale, lift + 0.07 * scale, 0.0), 0.075 * scale, _TYRE)


def draw_statue(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a stone or painted figure on a plinth, which is background."""
    canvas.place(item.x, item.z, item.heading)
    stone: RGB = rng.choice(((150, 150, 146), (92, 104, 92), (190, 150, 60), (60, 60, 64)))
    plinth = 0.25 * item.size[1]
    canvas.box((-0.3, 0.0, -0.3), (0.3, plinth, 0.3), (140, 138, 132))
    draw_figure(canvas, rng, item.size[1] - plinth, plinth, [stone] * 4, stone)


def draw_bonnet(canvas: Canvas, rng: random.Random) -> None:
    """Cover the bottom of the frame with the bonnet of the own car, which is background."""
    height, width = canvas.camera.size
    rise, side = rng.uniform(0.03, 0.13) * height, rng.uniform(0.02, 0.2) * width
    paint, light = rng.choice(CAR_PAINTS), canvas.conditions.light
    for drop, shade in ((0.0, 0.5), (0.012, 0.75)):
        top = height * (1 + drop) - rise
        box = (-side, top, width + side, top + 6 * rise)
        red, green, blue = (int(shade * c * g) for c, g in zip(paint, light, strict=True))
        ImageDraw.Draw(canvas.image).ellipse(box, (red, green, blue))
        ImageDraw.Draw(canvas.mask).ellipse(box, BACKGROUND)
        ImageDraw.Draw(canvas.glow).ellipse([edge / _GLOW_SCALE for edge in box], (0, 0, 0))


_RAILINGS: dict[str, tuple[RGB, tuple[tuple[float, float], ...], int]] = {  # colour, heights of bars, posts
    "rail": ((184, 186, 188), ((0.55, 1.0),), 2),
    "fence": ((120, 92, 66), ((0.3, 0.38), (0.8, 0.88)), 6),
    "railing": ((214, 214, 210), ((0.45, 0.5), (0.93, 1.0)), 3),
}


def draw_box(canvas: Canvas, item: Item, rng: random.Random) -> None:
    """Draw a bin, container, hedge, fence segment, guard rail or advertising column."""
    canvas.place(item.x, item.z, item.heading)
    wide, tall, deep = item.size[0] / 2, item.size[1], item.size[2] / 2
    if item.variant in _RAILINGS:
        tint, bars, posts = _RAILINGS[item.variant]
        for low, high in bars:
            canvas.box((-wide, low * tall, -deep), (wide, high * tall, deep), tint)
        for step in range(posts):
            z = -deep + 2 * deep * step / posts
            canvas.box((-wide, 0.0, z), (wide, tall, z + 0.1), tint)
        return
    tint = (58, 82, 44) if item.variant == "hedge" else rng.choice(CAR_PAINTS + _BRIGHT)
    canvas.box((-wide, 0.0, -deep), (wide, tall, deep), tint)
    if item.variant == "column":
        canvas.panel(-0.8 * wide, 0.8 * wide, 0.4 * tall, 0.85 * tall, -deep - 0.01, rng.choice(_BRIGHT))
        canvas.box((-1.15 * wide, tall, -1.15 * deep), (1.15 * wide, 1.06 * tall, 1.15 * deep), (60, 64, 62))
    elif item.variant == "bin":
        canvas.panel(-wide, wide, 0.75 * tall, 0.82 * tall, -deep - 0.01, (30, 30, 32))


DRAW: dict[str, Callable[[Canvas, Item, random.Random], None]] = {
    "vehicle": draw_vehicle, "pedestrian": draw_pedestrian, "signal": draw_signal, "building": draw_building,
    "tree": draw_tree, "post": draw_post, "billboard": draw_billboard, "statue": draw_statue, "box": draw_box,
}  # fmt: skip
