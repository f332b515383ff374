"""Projection of points to pixels, from local axes at a place on the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence

from roadscenes.camera import Camera

Point = tuple[float, float, float]
_NEAR = 0.5  # metres; anything closer to the camera is clipped


class Projection:
    """Projection of polygons in local coordinates to pixels; x points right, y up and z ahead of an object."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._axes: list[list[float]] = camera.rotation.tolist()
        self.place(0.0, 1.0)

    def place(self, x: float, z: float, heading: float = 0.0) -> None:
        """Move the local axes to a point on the ground, turned to the right by `heading` radians."""
        sin, cos = math.sin(heading), math.cos(heading)
        self._rows = [
            (a * cos - c * sin, b, a * sin + c * cos, a * x - b * self.camera.height + c * z) for a, b, c in self._axes
        ]
        self.eye = (-x * cos + z * sin, self.camera.height, -x * sin - z * cos)  # the camera in local coordinates

    def outline(self, points: Sequence[Point]) -> list[tuple[float, float]]:
        """Return a polygon in pixels, clipped at the near plane; empty if no part of it is ahead of the camera."""
        (a, b, c, d), (e, f, g, h), (i, j, k, m) = self._rows
        seen = [(a * x + b * y + c * z + d, e * x + f * y + g * z + h, i * x + j * y + k * z + m) for x, y, z in points]
        if min([z for _, _, z in seen]) < _NEAR:
            seen = _clip(seen)
        focal, (height, width) = self.camera.focal, self.camera.size
        middle, centre = width / 2 - 0.5, height / 2 - 0.5
        return [(middle + focal * x / z, centre - focal * y / z) for x, y, z in seen]


def _clip(points: list[Point]) -> list[Point]:
    """Remove the part of a polygon in camera space that is closer than the near plane."""
    kept: list[Point] = []
    for p, q in zip(points, points[1:] + points[:1], strict=True):
        if p[2] >= _NEAR:
            kept.append(p)
        if (p[2] >= _NEAR) != (q[2] >= _NEAR):
            t = (_NEAR - p[2]) / (q[2] - p[2])
            kept.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1]), _NEAR))
    return kept
