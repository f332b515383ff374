"""Shadows on the ground."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from roadscenes.camera import Camera
from roadscenes.conditions import Conditions
from roadscenes.item import Item
from roadscenes.projection import Projection
from roadscenes.vocabulary import FloatArray

_CONTACT_SHADOW = 170  # of 255; shadow below vehicles in any light


def draw_shadows(camera: Camera, conditions: Conditions, items: list[Item]) -> FloatArray:
    """Draw cast shadows and the dark below vehicles.

    Returns:
        Share of light, from 0 to 1, that the ground lacks at each pixel, float32 [H, W].
    """
    height, width = camera.size
    layer = Image.new("L", (width, height))
    draw, projection = ImageDraw.Draw(layer), Projection(camera)

    def fill(footprint: list[tuple[float, float]], depth: int) -> None:
        outline = projection.outline([(x, 0.0, z) for x, z in footprint])
        if len(outline) >= 3:
            draw.polygon(outline, depth)

    cast = int(255 * conditions.shadow_depth)
    for item in items:
        projection.place(item.x, item.z, item.heading)
        wide, tall, deep = item.extent
        corners = [(-wide, -deep), (wide, -deep), (wide, deep), (-wide, deep)]
        if cast and item.kind != "signal":
            sin, cos = math.sin(item.heading), math.cos(item.heading)
            dx, dz = conditions.shadow
            across, along = tall * (dx * cos - dz * sin), tall * (dx * sin + dz * cos)
            fill(_hull([*corners, *((x + across, z + along) for x, z in corners)]), cast)
        if item.kind == "vehicle":
            fill([(1.05 * x, 1.03 * z) for x, z in corners], _CONTACT_SHADOW)
    soft = layer.filter(ImageFilter.GaussianBlur(width / 400))
    return np.asarray(soft, dtype=np.float32) / 255


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the convex hull of points, in order around it."""
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
