"""Picture, mask and lamp layers, painted together polygon by polygon."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from roadscenes.camera import Camera
from roadscenes.conditions import Conditions
from roadscenes.projection import Point, Projection
from roadscenes.vocabulary import BACKGROUND, RGB

CIRCLE = [(math.cos(t * math.pi / 6), math.sin(t * math.pi / 6)) for t in range(12)]
_GLOW_SCALE = 4  # canvas pixels to one pixel of the glow layers
_REFLECTED_HEIGHT = 7.0  # metres; lamps above leave no streak on a wet road


class Canvas:
    """What the camera sees, painted from far to near.

    Attributes:
        image: The picture.
        mask: The class ids.
        glow: The lamps in view, on black and in fewer pixels.
        streaks: Their reflections on a wet road, likewise.
        label: The class id of the faces that follow.
    """

    def __init__(self, camera: Camera, conditions: Conditions, image: Image.Image, mask: Image.Image) -> None:
        self.conditions, self.image, self.mask = conditions, image, mask
        small = (max(1, image.width // _GLOW_SCALE), max(1, image.height // _GLOW_SCALE))
        self.glow, self.streaks = Image.new("RGB", small), Image.new("RGB", small)
        layers = (image, mask, self.glow, self.streaks)
        self._draw, self._mask, self._glow, self._streaks = (ImageDraw.Draw(layer) for layer in layers)
        self._projection = Projection(camera)
        self.place(0.0, 1.0)

    @property
    def eye(self) -> Point:
        """The camera in local coordinates."""
        return self._projection.eye

    def place(self, x: float, z: float, heading: float = 0.0, label: int = BACKGROUND) -> None:
        """Moves the local axes to a place on the ground, turned to the right by `heading`."""
        self.label = label
        self._projection.place(x, z, heading)
        air, near = self.conditions, 0.0
        if air.beam:
            near = float(air.headlight(np.array([x]), np.array([z]))[0])
        self._clear = air.clarity_at(math.hypot(x, z))
        self._light = [self._clear * (channel + near) for channel in air.light]
        self._veil = [(1 - self._clear) * channel for channel in air.haze]

    def _colour(self, colour: RGB, shade: float, lamp: bool) -> tuple[int, int, int]:
        """Lights a colour and dims it by the air in front of it."""
        light = [self._clear] * 3 if lamp else [shade * channel for channel in self._light]
        red, green, blue = [int(c * g + v) for c, g, v in zip(colour, light, self._veil, strict=True)]
        return min(red, 255), min(green, 255), min(blue, 255)

    def face(
        self, points: Sequence[Point], colour: RGB, shade: float = 1.0, *, lamp: bool = False, inside: bool = False
    ) -> None:
        """Fills a polygon.

        Args:
            points: Corners in local coordinates.
            colour: Colour under white light.
            shade: Factor on the light that falls on the face.
            lamp: Whether the face shines by itself.
            inside: Whether it lies on a face of the same label, so that the mask is already right.
        """
        outline = self._projection.outline(points)
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
        """Smears a lamp along the wet ground below it."""
        mirrored = self._projection.outline([(x, stretch * y, z) for x, y, z in points for stretch in (-0.3, -1.2)])
        if mirrored:
            us, vs = zip(*mirrored, strict=True)
            box = [edge / _GLOW_SCALE for edge in (min(us), min(vs), max(us), max(vs))]
            red, green, blue = fill
            self._streaks.rectangle(box, (red // 2, green // 2, blue // 2))

    def disc(
        self,
        centre: Point,
        radius: float,
        colour: RGB,
        shade: float = 1.0,
        *,
        squash: float = 1.0,
        lamp: bool = False,
        side: bool = False,
    ) -> None:
        """Fills an ellipse in the local x-y plane, or in the y-z plane if `side`."""
        x, y, z = centre
        ring = [(radius * cos, radius * squash * sin) for cos, sin in CIRCLE]
        points = [(x, y + v, z + u) for u, v in ring] if side else [(x + u, y + v, z) for u, v in ring]
        self.face(points, colour, shade, lamp=lamp)

    def box(self, low: Point, high: Point, colour: RGB) -> None:
        """Draws the visible faces of a box between two corners; the undersides of things are never seen."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        if self.eye[1] > y1:
            self.face([(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)], colour, 1.12)
        for x, seen in ((x0, self.eye[0] < x0), (x1, self.eye[0] > x1)):
            if seen:
                self.face([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], colour, 0.78)
        for z, seen in ((z0, self.eye[2] < z0), (z1, self.eye[2] > z1)):
            if seen:
                self.panel(x0, x1, y0, y1, z, colour)

    def panel(self, x0: float, x1: float, y0: float, y1: float, z: float, colour: RGB, *, lamp: bool = False) -> None:
        """Fills an upright rectangle in the local x-y plane."""
        self.face([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], colour, lamp=lamp)

    def cover(self, ellipse: tuple[float, float, float, float], colour: tuple[int, int, int]) -> None:
        """Fills an ellipse, given by its bounding box in pixels, with background."""
        self._draw.ellipse(ellipse, colour)
        self._mask.ellipse(ellipse, BACKGROUND)
        self._glow.ellipse([edge / _GLOW_SCALE for edge in ellipse], (0, 0, 0))
