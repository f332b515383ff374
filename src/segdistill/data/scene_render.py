"""Procedural dashcam scenes with exact labels for car, signal, pedestrian and lane.

What is labelled: `car` is every motor vehicle with its wheels but not its shadow, `signal` the housings of
traffic lights but not their posts, `pedestrian` a person with what they carry, and `lane` the lines painted
along the road.  Crosswalks, stop lines, arrows, speed numbers and kerbs are look-alike background, as are
posters, statues, shop signs and the own bonnet.  Paint that has worn off entirely is no lane.
"""

from __future__ import annotations

import itertools
import math
import random
import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from segdistill.data.scene_effects import (
    HORIZON_DISTANCE,
    RGB,
    Camera,
    Conditions,
    FloatArray,
    add_glare,
    add_glow,
    add_rain,
    develop,
    make_camera,
    make_conditions,
    paint_sky,
    sample_noise,
)
from segdistill.data.scene_objects import BACKGROUND, BODIES, DRAW, LANE, Canvas, Item, draw_bonnet

RENDERER_VERSION: int = 1  # raised whenever the pixels of any scene change

_SUPERSAMPLING = 2
_MIN_PIXELS = 8.0  # things smaller than this many pixels of the mask are not drawn
_MIN_LINE = 0.45  # lane lines thinner than this many pixels are not drawn
_MIN_PAINT = 0.15  # lane lines of which the traffic has left less are not labelled
_MIN_CLARITY = 0.07  # nothing is drawn where the air leaves less contrast
_FIELD = 0.62  # half the width of the frame, with a margin for the yaw of the camera
_BONNET_SHARE = 0.35
_EMPTY_ROAD_SHARE = 0.07
_UNMARKED_SHARE = 0.05
_EDGE_LINE_SHARE = 0.78
_JUNCTION_SHARE = {"town": 0.75, "suburb": 0.55, "country": 0.1}
_BARE_GROUND = 5  # mask value of uncovered ground while a scene is painted; it ends as background
_CONTACT_SHADOW = 170  # of 255, below vehicles in any light
_LABELLED = ("vehicle", "pedestrian", "signal")


@dataclass(frozen=True)
class Line:
    """A line painted along the road at lateral position `s`; `dash` is (painted length, period)."""

    s: float
    width: float
    colour: RGB
    dash: tuple[float, float] | None
    wear: float


@dataclass(frozen=True)
class Road:
    """A road in lateral coordinates `s` around the camera, bent to x = s + bend * z^2 / 2."""

    setting: str
    left: float
    right: float
    oncoming: tuple[float, ...]  # lane centres
    same: tuple[float, ...]
    lane_width: float
    bend: float
    pavement: float
    junction: float | None  # distance of the crossing road
    crossing: float  # width of the crossing road
    lines: tuple[Line, ...]

    def place(self, s: float, z: float) -> tuple[float, float]:
        """Return the world x of a road position and the heading of the road there."""
        return s + self.bend * z * z / 2, math.atan(self.bend * z)

    def blocked(self, z: float, margin: float = 0.0) -> bool:
        """Whether a position along the road lies in the junction."""
        return self.junction is not None and -margin < z - self.junction < self.crossing + margin


def make_road(rng: random.Random) -> Road:
    """Draw the course of the road, its lanes and its painted lines."""
    setting = rng.choices(("town", "suburb", "country"), (0.5, 0.32, 0.18))[0]
    lane = rng.uniform(2.9, 3.6)
    ahead, against = rng.choice(((1, 1), (1, 1), (2, 2), (2, 1), (2, 0), (3, 0), (3, 3), (1, 2)))
    drive = rng.choice((-1, 1))  # the side of the road the traffic keeps to
    ego = rng.randrange(ahead)
    centre = -drive * (ego + 0.5) * lane + rng.gauss(0.0, 0.25)  # of the road, seen from the camera
    same = tuple(centre + drive * (k + 0.5) * lane for k in range(ahead))
    oncoming = tuple(centre - drive * (k + 0.5) * lane for k in range(against))
    inner = centre - drive * against * lane
    outer = centre + drive * ahead * lane
    shoulder = rng.uniform(0.3, 1.0) if setting == "town" else rng.uniform(0.3, 2.2)
    bend = rng.choice((0.0, rng.uniform(-1, 1))) / rng.uniform(110, 400)
    junction = rng.uniform(11, 42) if rng.random() < _JUNCTION_SHARE[setting] else None
    left, right = sorted((inner - drive * shoulder, outer + drive * shoulder))
    pavement = {"town": rng.uniform(2.4, 4.5), "suburb": rng.uniform(1.4, 2.5), "country": 0.0}[setting]
    return Road(
        setting=setting,
        left=left,
        right=right,
        oncoming=oncoming,
        same=same,
        lane_width=lane,
        bend=bend,
        pavement=pavement,
        junction=junction,
        crossing=rng.uniform(7, 13),
        lines=_road_lines(rng, [*oncoming[::-1], *same], centre, lane, both_ways=against > 0),
    )


def _road_lines(
    rng: random.Random, lanes: list[float], centre: float, lane_width: float, *, both_ways: bool
) -> tuple[Line, ...]:
    """Draw the lines between and beside lanes; the one at `centre` parts the directions."""
    if rng.random() < _UNMARKED_SHARE:
        return ()
    white, yellow = (rng.uniform(205, 240),) * 3, (232.0, 176.0, 48.0)
    wear, width = rng.uniform(0.1, 0.95), rng.uniform(0.12, 0.2)
    dash = rng.choice(((5.0, 10.0), (6.0, 15.0), (3.0, 9.0), (4.0, 8.0)))
    between = [(a + b) / 2 for a, b in itertools.pairwise(lanes)]
    lines = [Line(s, width, white, dash, wear) for s in between if not both_ways or abs(s - centre) > 1]
    if both_ways:
        tint, middle = rng.choice((white, yellow)), rng.choice(("solid", "double", "dashed"))
        for shift in (-0.14, 0.14) if middle == "double" else (0.0,):
            lines.append(Line(centre + shift, width, tint, dash if middle == "dashed" else None, wear))
    for edge in (min(lanes) - lane_width / 2, max(lanes) + lane_width / 2):
        if rng.random() < _EDGE_LINE_SHARE:
            lines.append(Line(edge, width, white, None, wear * rng.uniform(0.6, 1.2)))
    return tuple(lines)


def _cover(distance: FloatArray, footprint: FloatArray) -> FloatArray:
    """Return how much of a pixel lies on the positive side of an edge at a signed distance."""
    return np.asarray(np.clip(distance / footprint + 0.5, 0.0, 1.0), dtype=np.float32)


def _phase(axis: FloatArray, period: float) -> FloatArray:
    """Return the place within a period, from 0 to 1."""
    turns = axis * np.float32(1 / period)
    return np.asarray(turns - np.floor(turns), dtype=np.float32)


_VERGES: dict[str, RGB] = {"town": (128, 124, 118), "suburb": (104, 112, 72), "country": (92, 106, 58)}


class Ground:
    """The ground seen by the camera: colour, light and lane mask per pixel."""

    def __init__(self, camera: Camera, road: Road, conditions: Conditions, offset: float) -> None:
        """Intersect the rays of all pixels with the ground plane; `offset` picks the texture."""
        self.road, self.conditions, self.offset = road, conditions, offset
        level = camera.rays()[1]
        self.top = int(np.argmax((level < -camera.height / HORIZON_DISTANCE).any(axis=1)))
        ray_x, ray_y, ray_z = camera.rays(slice(self.top, None))
        self.seen = ray_y < -camera.height / HORIZON_DISTANCE
        reach = camera.height / np.maximum(-ray_y, camera.height / HORIZON_DISTANCE)
        self.x, self.z = ray_x * reach, ray_z * reach
        self.s = self.x - np.float32(road.bend / 2) * self.z * self.z
        self.pixel_s, self.pixel_z = (np.hypot(*np.gradient(axis)) + 1e-4 for axis in (self.s, self.z))
        self.worn = sample_noise(self.s + offset, self.z * 0.5, 0.05)
        self.lane = np.zeros(self.z.shape, dtype=bool)
        self.colour = np.zeros((3, *self.z.shape), dtype=np.float32)

    def blend(self, colour: RGB, amount: FloatArray, texture: FloatArray | float = 1.0) -> None:
        """Mix a colour, multiplied by a texture, into the ground."""
        for plane, tint in zip(self.colour, colour, strict=True):
            plane += (tint * texture - plane) * amount

    def band(self, axis: FloatArray, pixel: FloatArray, low: float, high: float) -> FloatArray:
        """Return the pixel coverage of a strip between two values of a ground coordinate."""
        return _cover(axis - low, pixel) * _cover(high - axis, pixel)

    def paint_surfaces(self, rng: random.Random) -> None:
        """Paint verge, pavement, kerb and asphalt."""
        road, s, z = self.road, self.s, self.z
        coarse = sample_noise(self.x + self.offset, z + self.offset, 0.06)
        self.blend(_VERGES[road.setting], np.ones_like(z), 0.75 + 0.5 * coarse)
        if road.pavement:
            low, high = road.left - road.pavement, road.right + road.pavement
            seams = ((_phase(s, 0.9) < 0.06) | (_phase(z, 0.9) < 0.06)) * np.clip(0.06 / self.pixel_z, 0, 1)
            slab = rng.uniform(120, 165) * (0.9 + 0.2 * coarse - 0.2 * seams)
            self.blend((1.0, 0.98, 0.94), self.band(s, self.pixel_s, low, high), slab)
            kerb = self.band(s, self.pixel_s, road.left - 0.2, road.right + 0.2)
            self.blend((1.0, 1.0, 0.97), kerb, rng.uniform(150, 200))
        area = self.band(s, self.pixel_s, road.left, road.right)
        if road.junction is not None:
            across = self.band(z, self.pixel_z, road.junction, road.junction + road.crossing)
            area = np.maximum(area, across)
        self.blend((1.0, 1.0, 1.02), area, self._asphalt(rng, coarse))

    def _asphalt(self, rng: random.Random, coarse: FloatArray) -> FloatArray:
        """Return the grey level of asphalt with wheel tracks, patches, seams, tyre marks and cracks."""
        road, s, z = self.road, self.s, self.z
        grain = sample_noise(self.x + self.offset, z, 0.011) - 0.5
        grain *= np.clip(0.03 / self.pixel_s, 0.1, 1.0)  # fades where a pixel covers many grains
        grey = rng.uniform(62, 112) * (0.86 + 0.28 * coarse + 0.5 * grain)
        tracks = np.cos((s - road.same[0]) * np.float32(4 * math.pi / road.lane_width))
        grey *= 1 - rng.uniform(0, 0.1) * tracks
        for _ in range(rng.randint(0, 4)):  # repaired patches
            s0, z0 = rng.uniform(road.left, road.right), rng.uniform(4, 30)
            patch = self.band(s, self.pixel_s, s0, s0 + rng.uniform(0.6, 2.5))
            patch *= self.band(z, self.pixel_z, z0, z0 + rng.uniform(1, 8))
            grey *= 1 + rng.uniform(-0.3, 0.15) * patch
        for _ in range(rng.randint(0, 3)):  # tar seams and tyre marks along the road
            s0, wide = rng.uniform(road.left, road.right), rng.choice((0.04, 0.06, 0.22))
            off = np.abs(s - s0 - 0.25 * np.sin(z * rng.uniform(0.05, 0.4)))
            grey *= 1 - rng.uniform(0.2, 0.5) * _cover(wide / 2 - off, np.maximum(self.pixel_s, wide))
        if rng.random() < 0.6:  # cracks follow the level lines of the noise, some filled with pale grit
            level = np.abs(sample_noise(s + self.offset, z - self.offset, 0.035) - 0.5)
            cracks = np.clip(1 - level / 0.012, 0, 1) * np.clip(0.04 / self.pixel_s, 0, 1) * (coarse > 0.5)
            grey *= 1 + rng.choice((-0.45, -0.45, 0.6)) * cracks
        return grey

    def paint_lines(self, rng: random.Random) -> None:
        """Paint the lane lines and mark in the mask where paint is left."""
        for line in self.road.lines:
            start = rng.uniform(0, line.dash[1]) if line.dash else 0.0
            near = np.abs(self.s - np.float32(line.s)) < line.width / 2 + self.pixel_s
            spots = np.nonzero(near & self.seen)
            s, z, pixel_s, pixel_z = (axis[spots] for axis in (self.s, self.z, self.pixel_s, self.pixel_z))
            off = np.abs(s - np.float32(line.s))
            amount = np.minimum(_cover(line.width / 2 - off, pixel_s), line.width / pixel_s)
            label = (off <= np.maximum(line.width, pixel_s) / 2) & (line.width / pixel_s > _MIN_LINE)
            if line.dash:
                painted, period = line.dash
                phase, distinct = np.abs((z + start) % period - period / 2), pixel_z < period / 2
                amount *= _cover(painted / 2 - phase, pixel_z) * distinct
                label &= (phase <= painted / 2) & distinct
            if self.road.junction is not None:
                end = self.road.junction + self.road.crossing + 4
                gap = self.band(z, pixel_z, self.road.junction - 5.8, end)
                amount *= 1 - gap
                label &= gap < 0.5
            left = np.clip(1.3 - line.wear * (0.55 + 1.1 * self.worn[spots]), 0.0, 0.9)
            for plane, tint in zip(self.colour, line.colour, strict=True):
                plane[spots] += (tint - plane[spots]) * amount * left
            self.lane[spots] |= label & (left > _MIN_PAINT) & (self.conditions.clarity(z) > _MIN_CLARITY)

    def paint_marks(self, rng: random.Random) -> None:
        """Paint crosswalk, stop line, arrow and speed number, which are not lanes."""
        road, white, wear = self.road, (222.0, 222.0, 218.0), rng.uniform(0.5, 1.0)
        left = np.clip(1.5 * wear - 0.9 * (1 - wear) * self.worn - 0.3, 0.1, 0.9)
        across = self.band(self.s, self.pixel_s, road.left + 0.3, road.right - 0.3)
        if road.junction is not None and rng.random() < 0.85:
            phase = 0.95 * np.abs(_phase(self.s, 0.95) - 0.5)
            for near in (road.junction - 3.6, road.junction + road.crossing + 0.6):
                zone = self.band(self.z, self.pixel_z, near, near + 3.0)
                self.blend(white, _cover(0.24 - phase, self.pixel_s) * zone * across * left)
            low, high = min(road.same) - road.lane_width / 2, max(road.same) + road.lane_width / 2
            stop = self.band(self.s, self.pixel_s, low, high)
            stop *= self.band(self.z, self.pixel_z, road.junction - 5.6, road.junction - 5.15)
            self.blend(white, stop * left)
        if rng.random() < 0.5:
            symbol = np.asarray(_symbol(rng), dtype=np.float32) / 255
            centre = rng.choice(road.same)
            start = (road.junction or rng.uniform(22, 34)) - rng.uniform(10, 14)
            column = ((self.s - centre) / 1.1 + 0.5) * symbol.shape[1]
            row = (1 - (self.z - start) / 4.5) * symbol.shape[0]
            inside = (column >= 0) & (column < symbol.shape[1]) & (row >= 0) & (row < symbol.shape[0])
            amount = np.zeros_like(self.z)
            amount[inside] = symbol[row[inside].astype(np.intp), column[inside].astype(np.intp)]
            self.blend(white, amount * left)

    def finished(self, shadows: FloatArray, lamps: list[tuple[float, float]]) -> FloatArray:
        """Return the lit, wet and hazy ground."""
        air = self.conditions
        direct, beam, pool = 1 - shadows[self.top :], air.headlight(self.x, self.z), np.zeros_like(self.z)
        for x, z in lamps:
            pool += np.exp(-((self.x - x) ** 2 + (self.z - z) ** 2) / 45.0)
        clear = air.clarity(self.z)
        shine = np.zeros_like(self.z)
        if air.wet:
            shine = np.clip(self.z / (self.z + 25) + 0.5 * (self.worn - 0.55), 0.0, 0.7)
            self.colour *= 0.72 * (1 - shine)
        lit = np.empty_like(self.colour)
        for channel, warmth in enumerate((0.42, 0.36, 0.24)):
            haze = air.haze[channel]
            lit[channel] = self.colour[channel] * (air.light[channel] * direct + beam + warmth * pool)
            lit[channel] = (lit[channel] + 0.85 * haze * shine - haze) * clear + haze
        return lit


_SEGMENTS = (  # boxes of a seven-segment digit: three bars, then the uprights from top left to bottom right
    *((0, 0, 18, 10), (0, 43, 18, 53), (0, 85, 18, 95)),
    *((0, 0, 5, 50), (13, 0, 18, 50), (0, 46, 5, 95), (13, 46, 18, 95)),
)


def _symbol(rng: random.Random) -> Image.Image:
    """Return the bitmap of a painted arrow or speed number."""
    bitmap = Image.new("L", (48, 96))
    draw = ImageDraw.Draw(bitmap)
    if rng.random() < 0.6:
        draw.rectangle((20, 34, 28, 95), 255)
        draw.polygon(rng.choice(((24, 0, 42, 36, 6, 36), (0, 30, 24, 8, 24, 52), (47, 30, 24, 8, 24, 52))), 255)
        return bitmap
    for shift, digit in ((2, rng.choice((0b1010111, 0b1011010, 0b1001111, 0b1101111))), (27, 0b1111101)):
        for bit, (x0, y0, x1, y1) in enumerate(_SEGMENTS):
            if digit >> bit & 1:
                draw.rectangle((x0 + shift, y0, x1 + shift, y1), 255)
    return bitmap


_BOXES = (
    ("bin", (0.6, 1.1, 0.6)),
    ("column", (1.1, 3.0, 1.1)),
    ("container", (2.2, 1.6, 3.5)),
    ("container", (1.6, 1.3, 2.0)),
)


class Layout:
    """Places the things of a scene along a road."""

    def __init__(self, road: Road, rng: random.Random) -> None:
        """Start with an empty road."""
        self.road, self.rng = road, rng
        self.items: list[Item] = []

    def add(self, kind: str, s: float, z: float, size: tuple[float, float, float], variant: str = "",
            turn: float = 0.0, near: float | None = None) -> None:  # fmt: skip
        """Put a thing at a road position, turned against the course of the road."""
        x, heading = self.road.place(s, z)
        depth = z if near is None else z + near
        self.items.append(Item(kind, x, z, heading + turn, size, self.rng.getrandbits(32), depth, variant))

    def fill(self) -> list[Item]:
        """Return all things of the scene."""
        for side in (-1, 1):
            edge = self.road.left if side < 0 else self.road.right
            self._add_backdrop(side, edge + side * self.road.pavement)
            self._add_furniture(side, edge + side * 0.5)
            self._add_people(side, edge)
            self._add_parked(side, edge)
        if self.rng.random() > _EMPTY_ROAD_SHARE:
            self._add_traffic()
        self._add_signals()
        return self.items

    def _add_vehicle(self, s: float, z: float, turn: float) -> float:
        """Put a vehicle whose rear end is at `z` and return its length."""
        variant = self.rng.choices(tuple(BODIES), (34, 26, 18, 12, 5, 3))[0]
        body = BODIES[variant]
        spread = abs(body.length * math.cos(turn)) / 2 + abs(body.width * math.sin(turn)) / 2
        size = (body.width, max(height for _, height, _ in body.outline), body.length)
        self.add("vehicle", s, z + spread, size, variant, turn, -spread)
        return body.length

    def _add_traffic(self) -> None:
        """Fill the lanes with vehicles and let some cross the junction."""
        rng = self.rng
        for lanes, turn in ((self.road.same, 0.0), (self.road.oncoming, math.pi)):
            for s in lanes:
                z = rng.uniform(6, 38) if abs(s) < self.road.lane_width / 2 else rng.uniform(-2, 36)
                while z < 130:
                    if not self.road.blocked(z + 3, 6.0):
                        z += self._add_vehicle(s + rng.gauss(0, 0.2), z, turn + rng.gauss(0, 0.015))
                    z += rng.uniform(3, 12) if rng.random() < 0.3 else rng.expovariate(1 / 30) + 4
        if self.road.junction is not None and rng.random() < 0.4:
            for part, turn in ((0.25, math.pi / 2), (0.7, -math.pi / 2)):
                if rng.random() < 0.6:
                    z = self.road.junction + part * self.road.crossing
                    self._add_vehicle(rng.uniform(-14, 14), z, turn)

    def _add_parked(self, side: int, edge: float) -> None:
        """Park vehicles along the kerb, or at an angle behind the pavement."""
        rng, z = self.rng, self.rng.uniform(6, 40)
        rows = rng.random()
        if rows < 0.3 and self.road.setting != "country":
            while z < 75 and not self.road.blocked(z + 2, 9.0):
                turn = rng.choice((0.0, math.pi)) + rng.gauss(0, 0.03)
                z += self._add_vehicle(edge + side * rng.uniform(0.1, 0.5), z, turn) + rng.uniform(0.8, 9)
        elif rows < 0.5:
            turn = rng.choice((-1, 1)) * rng.uniform(0.6, 1.57)
            for step in range(rng.randint(1, 5)):
                if not self.road.blocked(z + 3 * step, 5.0):
                    self._add_vehicle(edge + side * (self.road.pavement + 3.2), z + 3.0 * step, turn)

    def _person(self, s: float, z: float) -> None:
        """Put one person."""
        tall = self.rng.choices((self.rng.gauss(1.7, 0.08), self.rng.uniform(1.05, 1.4)), (9, 1))[0]
        self.add("pedestrian", s, z, (0.55, tall, 0.4))

    def _add_people(self, side: int, edge: float) -> None:
        """Put single people and groups on one pavement, and some on the crosswalk."""
        rng = self.rng
        groups = {"town": rng.randint(1, 6), "suburb": rng.randint(0, 4), "country": rng.randint(0, 1)}
        for _ in range(groups[self.road.setting]):
            z = 4.5 + 42 * rng.random() ** 1.5
            s = edge + side * rng.uniform(0.3, max(0.8, self.road.pavement - 0.3))
            for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
                self._person(s + rng.gauss(0, 0.45), z + rng.gauss(0, 0.6))
        if self.road.junction is not None and rng.random() < 0.4:
            for _ in range(rng.randint(1, 4)):
                z = self.road.junction - rng.uniform(1, 3)
                self._person(rng.uniform(self.road.left, self.road.right), z)

    def _add_signals(self) -> None:
        """Put traffic lights at the junction, or over the road."""
        rng, road = self.rng, self.road
        if road.junction is None:
            if rng.random() < 0.35:
                side = rng.choice((-1, 1))
                edge = road.left if side < 0 else road.right
                self._signal(edge + side * 0.6, rng.uniform(14, 60), -side * rng.uniform(3, 8), 0.0)
            return
        if rng.random() < 0.9:
            level = rng.random() < 0.5
            for side, edge in ((-1, road.left - 0.6), (1, road.right + 0.6)):
                for z in (road.junction - 4.2, road.junction + road.crossing + 4.2):
                    if rng.random() < 0.75:
                        arm = -side * rng.choice((0.0, rng.uniform(2.5, 7.5)))
                        turn = rng.choice((0.0, 0.0, 0.0, math.pi, 1.4, -1.4)) + rng.gauss(0, 0.06)
                        self._signal(edge, z, arm, turn, level)

    def _signal(self, s: float, z: float, arm: float, turn: float, level: bool = True) -> None:
        """Put one post with traffic lights."""
        high = self.rng.uniform(4.6, 5.8) if arm else self.rng.uniform(2.7, 4.0)
        arm = arm if abs(turn) < 1 else 0.0
        unit = self.rng.uniform(0.33, 0.46)
        self.add("signal", s, z, (unit, high, arm), "horizontal" if level and arm else "vertical", turn)

    def _add_furniture(self, side: int, s: float) -> None:
        """Put posts, trees, bins and look-alikes along one kerb."""
        rng, setting = self.rng, self.road.setting
        post, z, spacing = rng.choice(("lamp", "utility")), rng.uniform(5, 25), rng.uniform(22, 34)
        while z < 110:
            if not self.road.blocked(z, 1.0):
                self.add("post", s, z, (-side * 1.8, rng.uniform(6.5, 9), spacing), post)
            z += spacing
        for _ in range(rng.randint(3, 9)):
            z, kind = rng.uniform(6, 60), rng.random()
            if self.road.blocked(z, 1.5):
                continue
            if kind < 0.22:
                self.add("post", s, z, (0.0, rng.uniform(2.4, 3.6), 0.2), rng.choice(("sign", "board")))
            elif kind < 0.36:
                variant = rng.choice(("car", "person"))
                size = (rng.uniform(2.5, 5), rng.uniform(1.6, 2.6), rng.uniform(0.3, 3))
                self.add("billboard", s + side * 3.2, z, size, variant, rng.gauss(0, 0.2))
            elif kind < 0.5:
                self.add("statue", s + side * rng.uniform(0, 2), z, (0.6, rng.uniform(1.2, 2.2), 0.6))
            elif kind < 0.78:
                variant, size = rng.choice(_BOXES)
                self.add("box", s + side * rng.uniform(0.3, 2.5), z, size, variant)
            elif setting != "town" or kind > 0.88:
                size = (rng.uniform(2.5, 5), rng.uniform(4, 8), 1.0)
                self.add("tree", s + side * rng.uniform(0.5, 6), z, size)
        if setting == "country" or rng.random() < 0.3:
            variant = "rail" if setting == "country" else "railing"
            for step in range(2, 18):
                if not self.road.blocked(4.0 * step, 4.0):
                    self.add("box", s, 4.0 * step, (0.1, 0.8, 4.05), variant, near=2.0)

    def _add_backdrop(self, side: int, s: float) -> None:
        """Line one side of the road with buildings, hedges and trees."""
        rng, setting, z = self.rng, self.road.setting, self.rng.uniform(-12, 4)
        while z < 120:
            deep, wide = rng.uniform(8, 20), rng.uniform(8, 16)
            if self.road.blocked(z, deep + 2):
                z = (self.road.junction or 0.0) + self.road.crossing + 2.5
            house = setting != "town"
            tall = rng.uniform(3.2, 6) if house else rng.uniform(6, 26)
            gap = 5 + rng.uniform(0, 4) if house else rng.uniform(0.1, 0.8)
            if rng.random() < {"town": 0.93, "suburb": 0.7, "country": 0.12}[setting]:
                variant = "house" if house else rng.choice(("shop", "shop", "block"))
                middle, size = s + side * (gap + wide / 2), (wide, tall, deep)
                self.add("building", middle, z + deep / 2, size, variant, near=deep / 2)
            else:
                for _ in range(2):
                    size = (rng.uniform(3.5, 7), rng.uniform(4, 11), 1.0)
                    self.add("tree", s + side * rng.uniform(2.5, 12), z + rng.uniform(0, deep), size)
            if house and rng.random() < 0.5:
                border, thick = rng.choice((("hedge", 0.5), ("fence", 0.06)))
                size = (thick, rng.uniform(0.8, 1.5), deep)
                self.add("box", s + side * 0.6, z + deep / 2, size, border, near=deep / 2)
            z += deep + rng.uniform(0.3, 6)


def _shadows(camera: Camera, conditions: Conditions, items: list[Item]) -> FloatArray:
    """Return how much light things take away from the ground: cast shadows and the dark below vehicles."""
    height, width = camera.size
    layer = Image.new("L", (width, height))
    plain = replace(conditions, time="day", weather="clear", beam=0.0)  # no lamps to paint
    canvas = Canvas(camera, plain, layer.convert("RGB"), layer)  # the mask holds the depth of the shadow
    cast = int(255 * conditions.shadow_depth)
    for item in items:
        canvas.place(item.x, item.z, item.heading)
        wide, tall, deep = item.size[0] / 2, item.size[1], item.size[2] / 2
        corners = [(-wide, -deep), (wide, -deep), (wide, deep), (-wide, deep)]
        if cast and item.kind != "signal":
            sin, cos = math.sin(item.heading), math.cos(item.heading)
            dx, dz = conditions.shadow
            across, along = tall * (dx * cos - dz * sin), tall * (dx * sin + dz * cos)
            canvas.label = cast
            base = [*corners, *((x + across, z + along) for x, z in corners)]
            canvas.face([(x, 0.0, z) for x, z in _hull(base)], (0, 0, 0))
        if item.kind == "vehicle":
            canvas.label = _CONTACT_SHADOW
            canvas.face([(1.05 * x, 0.0, 1.03 * z) for x, z in corners], (0, 0, 0))
    soft = layer.filter(ImageFilter.GaussianBlur(width / 400))
    return np.asarray(soft, dtype=np.float32) / 255


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the convex hull of points in order around it."""
    ordered = sorted(points)
    return _half_hull(ordered) + _half_hull(ordered[::-1])


def _half_hull(ordered: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the lower hull of points sorted from left to right, without its last point."""
    chain: list[tuple[float, float]] = []
    for x, y in ordered:
        while len(chain) > 1:
            (x0, y0), (x1, y1) = chain[-2:]
            if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                break
            chain.pop()
        chain.append((x, y))
    return chain[:-1]


def _drawable(item: Item, camera: Camera, conditions: Conditions) -> bool:
    """Whether a thing is in the field of view, visible through the air and large enough to be labelled."""
    reach = max(item.size)
    if item.z < -reach or abs(item.x) > reach + (item.z + reach) * _FIELD * camera.size[1] / camera.focal:
        return False
    if math.exp(-item.depth / conditions.visibility) < _MIN_CLARITY:
        return False
    if item.kind not in _LABELLED:
        return True
    wide, tall = (1.2 * item.size[0], 3.3 * item.size[0]) if item.kind == "signal" else item.size[:2]
    return wide * tall * (camera.focal / max(1.0, item.z)) ** 2 >= _MIN_PIXELS


def _backdrop(camera: Camera, conditions: Conditions, ground: Ground, items: list[Item],
              rng: random.Random) -> tuple[Image.Image, Image.Image]:  # fmt: skip
    """Return picture and mask of sky and ground, before anything stands on them."""
    lamps = [(i.x + i.size[0], i.z) for i in items if i.variant == "lamp" and i.z < 70 and conditions.time != "day"]
    ridge = rng.choice((0.0, rng.uniform(0.02, 0.16)))
    below = ground.top + int((~ground.seen).any(axis=1).sum())  # rows that show any sky
    planes = np.empty((3, *camera.size), dtype=np.float32)
    planes[:, :below] = paint_sky(camera, conditions, slice(0, below), rng.uniform(0, 6), ridge)
    lit = ground.finished(_shadows(camera, conditions, items), lamps)
    np.copyto(planes[:, ground.top :], lit, where=ground.seen)
    mask = np.zeros(camera.size, dtype=np.uint8)
    mask[ground.top :] = np.where(ground.lane, LANE, ground.seen * _BARE_GROUND)
    pixels = np.clip(planes, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels)), Image.fromarray(mask)


def render_scene(
    seed: int, split: str, index: int, size: tuple[int, int] = (269, 484)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one scene, which depends on seed, split and index alone.

    Args:
        seed: Non-negative seed of the data set.
        split: Name of the split.
        index: Number of the scene in its split.
        size: Height and width in pixels; the same scene keeps its content at every size.

    Returns:
        The picture, uint8 RGB [H, W, 3], and the class ids, uint8 [H, W].
    """
    root = np.random.SeedSequence([seed, zlib.crc32(split.encode()), index])
    rng = random.Random(int(root.generate_state(1, np.uint64)[0]))
    camera, conditions, road = make_camera(rng, size), make_conditions(rng), make_road(rng)
    everything = Layout(road, rng).fill()
    items = sorted((i for i in everything if _drawable(i, camera, conditions)), key=lambda i: -i.depth)
    ground = Ground(camera, road, conditions, rng.uniform(0, 500))
    ground.paint_surfaces(rng)
    ground.paint_lines(rng)
    ground.paint_marks(rng)
    scene, labels = _backdrop(camera, conditions, ground, everything, rng)
    double = (size[1] * _SUPERSAMPLING, size[0] * _SUPERSAMPLING)
    backdrop, labels = (layer.resize(double, Image.Resampling.NEAREST) for layer in (scene, labels))
    canvas = Canvas(camera.scaled(_SUPERSAMPLING), conditions, backdrop, labels)
    for item in items:
        DRAW[item.kind](canvas, item, random.Random(item.seed))
    if rng.random() < _BONNET_SHARE:
        draw_bonnet(canvas, rng)
    image = np.array(canvas.image.reduce(_SUPERSAMPLING), dtype=np.float32)
    mask = np.array(canvas.mask)[1::_SUPERSAMPLING, 1::_SUPERSAMPLING]
    if conditions.dark:
        add_glow(image, canvas.glow, canvas.streaks, mask >= LANE)
    if conditions.glare:
        add_glare(image, camera, conditions)
    if conditions.wet:
        add_rain(image, rng)
    photo = develop(image, conditions, np.random.default_rng(root.spawn(1)[0]))
    return photo, np.where(mask == _BARE_GROUND, np.uint8(BACKGROUND), mask)
