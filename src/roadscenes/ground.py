"""Visible ground: verge, pavement and asphalt, and the light on them."""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray

from roadscenes.camera import Camera
from roadscenes.conditions import Conditions
from roadscenes.noise import sample_noise
from roadscenes.road import Road
from roadscenes.vocabulary import RGB, FloatArray

_HORIZON_DISTANCE = 600.0  # metres; ground beyond this distance is not drawn
_VERGES: dict[str, RGB] = {"town": (128, 124, 118), "suburb": (104, 112, 72), "country": (92, 106, 58)}
_SLAB = 0.9  # length of a side in metres
_JOINT = 0.06  # width of the joint between two slabs, both as a share of a slab and in metres
_LAMP_WARMTH = (0.42, 0.36, 0.24)  # light directly below a street lamp


def coverage(distance: FloatArray, pixel: FloatArray) -> FloatArray:
    """Return the share of each pixel that lies on the positive side of an edge.

    Args:
        distance: Signed distance of the pixel centre from the edge.
        pixel: Size of the pixel in the same unit.
    """
    return np.asarray(np.clip(distance / pixel + 0.5, 0.0, 1.0), dtype=np.float32)


def band(axis: FloatArray, pixel: FloatArray, low: float, high: float) -> FloatArray:
    """Return the share of each pixel that lies between two values of a ground coordinate."""
    return coverage(axis - low, pixel) * coverage(high - axis, pixel)


def phase(axis: FloatArray, period: float) -> FloatArray:
    """Return the position within a period, from 0 to 1."""
    turns = axis * np.float32(1 / period)
    return np.asarray(turns - np.floor(turns), dtype=np.float32)


class Ground:
    """Rows of the image that show ground; arrays have the shape [rows, W], lengths are in metres.

    Attributes:
        road: Road on the ground.
        conditions: Time of day and weather.
        top: First row of the image with ground in it.
        seen: Whether each pixel is ground and not sky.
        x: World position of each pixel, to the right.
        z: World position of each pixel, ahead.
        s: Lateral road coordinate of each pixel.
        pixel_s: Extent of each pixel along s.
        pixel_z: Extent of each pixel along z.
        worn: Noise in [0, 1] that decides where paint has worn off and where water stands.
        colour: Colour of the ground under white light, float32 [3, rows, W].
        lane: Whether each pixel shows paint of a lane line.
    """

    def __init__(self, camera: Camera, road: Road, conditions: Conditions, offset: float) -> None:
        self.road, self.conditions = road, conditions
        self._offset = offset  # shift into the noise, so that no two scenes share their dirt
        lowest = -camera.height / _HORIZON_DISTANCE
        self.top = int(np.argmax((camera.rays()[1] < lowest).any(axis=1)))
        ray_x, ray_y, ray_z = camera.rays(slice(self.top, None))
        self.seen: NDArray[np.bool_] = ray_y < lowest
        reach = camera.height / np.maximum(-ray_y, -lowest)
        self.x, self.z = ray_x * reach, ray_z * reach
        self.s = self.x - np.float32(road.bend / 2) * self.z * self.z
        self.pixel_s, self.pixel_z = (np.hypot(*np.gradient(axis)) + 1e-4 for axis in (self.s, self.z))
        self.worn = sample_noise(self.s + offset, self.z * 0.5, 0.05)
        self.colour = np.zeros((3, *self.z.shape), dtype=np.float32)
        self.lane = np.zeros(self.z.shape, dtype=bool)

    def blend(self, colour: RGB, amount: FloatArray, texture: FloatArray | float = 1.0) -> None:
        """Mix a colour, multiplied by a texture, into the ground; `amount` is its share of each pixel."""
        for plane, tint in zip(self.colour, colour, strict=True):
            plane += (tint * texture - plane) * amount

    def paint_surfaces(self, rng: random.Random) -> None:
        """Paint verge, pavement, kerb and asphalt."""
        road, s, z = self.road, self.s, self.z
        coarse = sample_noise(self.x + self._offset, z + self._offset, 0.06)
        self.blend(_VERGES[road.setting], np.ones_like(z), 0.75 + 0.5 * coarse)
        if road.pavement:
            joints = (phase(s, _SLAB) < _JOINT) | (phase(z, _SLAB) < _JOINT)
            slabs = 0.9 + 0.2 * coarse - 0.2 * (joints * np.clip(_JOINT / self.pixel_z, 0, 1))
            pavement = band(s, self.pixel_s, road.left - road.pavement, road.right + road.pavement)
            self.blend((1.0, 0.98, 0.94), pavement, rng.uniform(120, 165) * slabs)
            kerb = band(s, self.pixel_s, road.left - 0.2, road.right + 0.2)
            self.blend((1.0, 1.0, 0.97), kerb, rng.uniform(150, 200))
        area = band(s, self.pixel_s, road.left, road.right)
        if road.junction is not None:
            area = np.maximum(area, band(z, self.pixel_z, road.junction.start, road.junction.end))
        self.blend((1.0, 1.0, 1.02), area, self._asphalt(rng, coarse))

    def _asphalt(self, rng: random.Random, coarse: FloatArray) -> FloatArray:
        """Return the grey level of asphalt with wheel tracks, patches, seams, tyre marks and cracks."""
        road, s, z = self.road, self.s, self.z
        grain = sample_noise(self.x + self._offset, z, 0.011) - 0.5
        grain *= np.clip(0.03 / self.pixel_s, 0.1, 1.0)  # fades where a pixel covers many grains
        grey = rng.uniform(62, 112) * (0.86 + 0.28 * coarse + 0.5 * grain)
        tracks = np.cos((s - road.same[0]) * np.float32(4 * math.pi / road.lane_width))
        grey *= 1 - rng.uniform(0, 0.1) * tracks
        for _ in range(rng.randint(0, 4)):  # repaired patches
            s0, z0 = rng.uniform(road.left, road.right), rng.uniform(4, 30)
            patch = band(s, self.pixel_s, s0, s0 + rng.uniform(0.6, 2.5))
            patch *= band(z, self.pixel_z, z0, z0 + rng.uniform(1, 8))
            grey *= 1 + rng.uniform(-0.3, 0.15) * patch
        for _ in range(rng.randint(0, 3)):  # tar seams and tyre marks along the road
            s0, wide = rng.uniform(road.left, road.right), rng.choice((0.04, 0.06, 0.22))
            off = np.abs(s - s0 - 0.25 * np.sin(z * rng.uniform(0.05, 0.4)))
            grey *= 1 - rng.uniform(0.2, 0.5) * coverage(wide / 2 - off, np.maximum(self.pixel_s, wide))
        if rng.random() < 0.6:  # cracks follow the level lines of the noise, some filled with pale grit
            level = np.abs(sample_noise(s + self._offset, z - self._offset, 0.035) - 0.5)
            cracks = np.clip(1 - level / 0.012, 0, 1) * np.clip(0.04 / self.pixel_s, 0, 1) * (coarse > 0.5)
            grey *= 1 + rng.choice((-0.45, -0.45, 0.6)) * cracks
        return grey

    def lit(self, shadows: FloatArray, lamps: list[tuple[float, float]]) -> FloatArray:
        """Return the ground as the camera sees it: lit, wet and hazy.

        Args:
            shadows: Share of light that each pixel of the image lacks, from 0 to 1, [H, W].
            lamps: World positions (x, z) of the street lamps that are on.

        Returns:
            Colour of each pixel, float32 [3, rows, W].
        """
        air, colour = self.conditions, self.colour
        direct, beam, pool = 1 - shadows[self.top :], air.headlight(self.x, self.z), np.zeros_like(self.z)
        for x, z in lamps:
            pool += np.exp(-((self.x - x) ** 2 + (self.z - z) ** 2) / 45.0)
        clear, shine = air.clarity(self.z), np.zeros_like(self.z)
        if air.wet:
            shine = np.clip(self.z / (self.z + 25) + 0.5 * (self.worn - 0.55), 0.0, 0.7)
            colour = colour * (0.72 * (1 - shine))
        lit = np.empty_like(colour)
        for channel, warmth in enumerate(_LAMP_WARMTH):
            haze = air.haze[channel]
            lit[channel] = colour[channel] * (air.light[channel] * direct + beam + warmth * pool)
            lit[channel] = (lit[channel] + 0.85 * haze * shine - haze) * clear + haze
        return lit
