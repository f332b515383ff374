"""Effects of lamps, a low sun and rain on the finished frame."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from roadscenes.camera import Camera
from roadscenes.conditions import Conditions
from roadscenes.sky import towards_sun
from roadscenes.vocabulary import REFERENCE_WIDTH, FloatArray


def _resized(layer: Image.Image, image: FloatArray) -> FloatArray:
    """Return a layer as float32 at the size of the image."""
    height, width = image.shape[:2]
    return np.asarray(layer.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def add_glow(image: FloatArray, glow: Image.Image, streaks: Image.Image, ground: NDArray[np.bool_]) -> None:
    """Add the bloom of lamps and, on wet ground, their reflections, in place."""
    unit = glow.width / REFERENCE_WIDTH
    halo = glow.reduce(4).filter(ImageFilter.GaussianBlur(3.0 * unit)).resize(glow.size, Image.Resampling.BILINEAR)
    core = glow.filter(ImageFilter.GaussianBlur(2.5 * unit))
    image += 1.2 * _resized(ImageChops.add(core, halo), image)
    smear = _resized(streaks.filter(ImageFilter.GaussianBlur((1.2 * unit, 7 * unit))), image)
    image += 0.9 * smear * ground[..., None]


def add_glare(image: FloatArray, camera: Camera, conditions: Conditions) -> None:
    """Wash the frame out around a low sun, in place."""
    veil = 0.62 * conditions.glare * towards_sun(camera, conditions) ** 9
    image += (np.array((255, 238, 205), dtype=np.float32) - image) * veil[..., None]


def add_rain(image: FloatArray, rng: random.Random) -> None:
    """Add falling streaks, and refracting drops on the windscreen, in place."""
    height, width = image.shape[:2]
    unit = width / REFERENCE_WIDTH
    layer = Image.new("L", (width, height))
    draw = ImageDraw.Draw(layer)
    slant = rng.uniform(-0.35, 0.35)
    for _ in range(rng.randint(60, 260)):
        x, y, length = rng.random() * width, rng.random() * height, rng.uniform(8, 30) * unit
        draw.line((x, y, x + slant * length, y + length), fill=rng.randint(50, 150))
    image += 0.3 * np.asarray(layer.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32)[..., None]
    for _ in range(rng.randint(6, 45)):
        _add_drop(image, rng.random(), rng.random(), max(2, round(rng.uniform(2.0, 8.0) * unit)))


def _add_drop(image: FloatArray, across: float, down: float, radius: int) -> None:
    """Replace a disc by its surroundings turned upside down, as a water drop shows them, in place."""
    height, width = image.shape[:2]
    x, y = round(across * (width - 4 * radius)), round(down * (height - 4 * radius))
    wide = image[y : y + 4 * radius, x : x + 4 * radius]
    seen = wide[::-2, ::-2] * np.float32(0.85) + 10
    patch = wide[radius : 3 * radius, radius : 3 * radius]
    axis = (np.arange(2 * radius, dtype=np.float32) + 0.5) / radius - 1
    distance = np.hypot(axis[:, None], axis[None, :])
    patch += (seen - patch) * np.clip((1 - distance) * 2.2, 0.0, 0.85)[..., None]
