"""Dashcam: its orientation, and the viewing ray of each pixel."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from roadscenes.vocabulary import FloatArray


@dataclass(frozen=True)
class Camera:
    """Pinhole camera above the ground plane; x points right, y up and z ahead, in metres.

    Attributes:
        size: Height and width of the image in pixels.
        focal: Focal length in pixels.
        height: Height above the ground in metres.
        rotation: Right, up and forward axes of the camera as rows, in world axes, [3, 3].
    """

    size: tuple[int, int]
    focal: float
    height: float
    rotation: FloatArray

    def scaled(self, factor: int) -> Camera:
        """Return the same camera with `factor` times as many pixels along each side."""
        height, width = self.size
        return Camera((height * factor, width * factor), self.focal * factor, self.height, self.rotation)

    def rays(self, rows: slice = slice(None)) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the viewing directions through the pixel centres of some rows, in world axes.

        Returns:
            x, y and z of the directions, float32 [rows, W] each; not normalised.
        """
        height, width = self.size
        right = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / self.focal)[None, :]
        up = ((height / 2 - 0.5 - np.arange(height, dtype=np.float32)[rows]) / self.focal)[:, None]
        r = self.rotation
        x, y, z = (right * r[0, axis] + up * r[1, axis] + r[2, axis] for axis in range(3))
        return x, y, z


def make_camera(rng: random.Random, size: tuple[int, int]) -> Camera:
    """Sample a camera behind a windscreen, with small errors of yaw, pitch and roll."""
    yaw, pitch, roll = rng.gauss(0.0, 0.035), rng.uniform(-0.075, 0.015), rng.gauss(0.0, 0.012)
    sy, cy, sp, cp, sr, cr = (f(a) for a in (yaw, pitch, roll) for f in (math.sin, math.cos))
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    bank = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    rotation = (bank @ tilt @ turn).astype(np.float32)
    return Camera(size, rng.uniform(0.74, 1.08) * size[1], rng.uniform(1.2, 1.9), rotation)
