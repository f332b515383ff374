"""Image, mask and lamp layers, painted together polygon by polygon."""

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
_GLOW_SCALE = 4  # canvas pixels per pixel of the glow layers, along each side
_REFLECTED_HEIGHT = 7.0  # metres; lamps above this height leave no streak on a wet road


class Canvas:
    """Image and mask of a scene, painted from far to near.

    Attributes:
        conditions: Time of day and weather.
        image: Image that the camera sees, RGB.
        mask: Class ids.
        glow: Lamps in view, on black, at a lower resolution.
        streaks: Reflections of lamps on a wet road, on black, at a lower resolution.
        label: Class id of the faces that are drawn next.
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
        """Position of the camera in local coordinates."""
        return self._projection.eye

    def place(self, x: float, z: float, heading: float = 0.0, label: int = BACKGROUND) -> None:
        """Move the local axes to a point on the ground, turned to the right by `heading` radians.

        The faces that are drawn next are labelled `label`, in the light and haze of this point.
        """
        self.label = label
        self._projection.place(x, z, heading)
        air, near = self.conditions, 0.0
        if air.beam:
            near = float(air.headlight(np.array([x]), np.array([z]))[0])
        self._clear = air.clarity_at(math.hypot(x, z))
        self._light = [self._clear * (channel + near) for channel in air.light]
        self._veil = [(1 - self._clear) * channel for channel in air.haze]

    def _colour(self, colour: RGB, shade: float, lamp: bool) -> tuple[int, int, int]:
        """Light a colour, unless it is that of a lamp, and dim it by the air in front of it."""
        light = [self._clear] * 3 if lamp else [shade * channel for channel in self._light]
        red, green, blue = [int(c * g + v) for c, g, v in zip(colour, light, self._veil, strict=True)]
        return min(red, 255), min(green, 255), min(blue, 255)

    def face(
        self, points: Sequence[Point], colour: RGB, shade: float = 1.0, *, lamp: bool = False, inside: bool = False
    ) -> None:
        """Fill a polygon.

        Args:
            points: Corners in local coordinates.
            colour: Colour under white light.
            shade: Factor on the light that falls on the face.
            lamp: Whether the face emits light.
            inside: Whether the face lies on another one of the same label, so that the mask needs no change.
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
        """Smear a lamp along the wet ground below it."""
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
        """Fill an ellipse in the local x-y plane, or in the y-z plane if `side`; `squash` is height over width."""
        x, y, z = centre
        ring = [(radius * cos, radius * squash * sin) for cos, sin in CIRCLE]
        points = [(x, y + v, z + u) for u, v in ring] if side else [(x + u, y + v, z) for u, v in ring]
        self.face(points, colour, shade, lamp=lamp)

    def box(self, low: Point, high: Point, colour: RGB) -> None:
        """Draw the visible faces of a box between two corners, except its underside, which is never seen."""
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
        """Fill an upright rectangle parallel to the local x-y plane."""
        self.face([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], colour, lamp=lamp)

    def cover(self, ellipse: tuple[float, float, float, float], colour: tuple[int, int, int]) -> None:
        """Fill an ellipse, given by its bounding box in pixels, as background; lamps behind it no longer glow."""
        self._draw.ellipse(ellipse, colour)
        self._mask.ellipse(ellipse, BACKGROUND)
        self._glow.ellipse([edge / _GLOW_SCALE for edge in ellipse], (0, 0, 0))
