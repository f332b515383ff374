"""Cheap camera that turns scene light into a photo."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from roadscenes.conditions import Conditions
from roadscenes.noise import sample_noise
from roadscenes.vocabulary import REFERENCE_WIDTH, FloatArray

_STEADY_SHARE = 0.7  # share of scenes without motion blur
_NIGHT_NOISE = {"day": 0.0, "dusk": 2.0, "night": 4.0}


def develop(image: FloatArray, conditions: Conditions, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn scene light into the photo of a cheap camera: lens, exposure, noise and compression.

    Args:
        image: Scene light, float32 [H, W, 3]; changed in place.
        conditions: Time of day and weather.
        rng: Source of randomness.

    Returns:
        Photo, uint8 RGB [H, W, 3].
    """
    height, width = image.shape[:2]
    unit = width / REFERENCE_WIDTH
    exposure, gamma, grain, blur, smear, quality = rng.random(6).tolist()
    _soil(image, conditions, rng)
    _expose(image, exposure, rng)
    curve = [round(255 * (level / 255) ** (0.8 + 0.4 * gamma)) for level in range(256)]
    photo = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).point(curve * 3)
    if smear > _STEADY_SHARE:  # motion blur of a shaking or turning camera
        reach = (0.6 + 1.2 * (smear - _STEADY_SHARE) / (1 - _STEADY_SHARE)) * unit
        photo = photo.filter(ImageFilter.BoxBlur((reach, 0.3 * unit)))
    photo = photo.filter(ImageFilter.GaussianBlur((0.25 + 0.9 * blur**3) * unit))
    sigma = np.float32(1.5 + 5.0 * grain + _NIGHT_NOISE[conditions.time])
    coarse = rng.standard_normal((-(-height // 2), -(-width // 2), 3), dtype=np.float32)  # chroma noise
    noise = (0.8 * sigma * coarse).repeat(2, 0).repeat(2, 1)[:height, :width].reshape(height, -1)
    noise += (sigma * rng.standard_normal((height, width), dtype=np.float32)).repeat(3, 1)
    noise += np.asarray(photo).reshape(height, -1)
    pixels = np.clip(noise, 0, 255).astype(np.uint8).reshape(height, width, 3)
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", quality=int(32 + 60 * quality))
    return np.array(Image.open(stored), dtype=np.uint8)


def _frame(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Return the rows [H, 1] and columns [1, W] of a frame as coordinates from -1 to 1."""
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return rows, np.linspace(-1, 1, width, dtype=np.float32)[None, :]


def _soil(image: FloatArray, conditions: Conditions, rng: np.random.Generator) -> None:
    """Add dirt to some lenses, and the mirrored dashboard to some windscreens, in place."""
    rows, columns = _frame(*image.shape[:2])
    kind, size = rng.random(2).tolist()
    if kind > 0.65:
        x, y = np.broadcast_arrays(columns + 2, rows + 2)
        spots = sample_noise(x, y, 0.004 + 0.02 * size)
        amount = np.clip(spots - 0.62, 0.0, 1.0)[..., None]
        image += amount * (0.6 * np.array(conditions.haze, dtype=np.float32) - 0.5 * image)
    elif kind < 0.25:
        image += np.clip(rows - 0.1, 0, 1)[..., None] * np.float32((10 + 160 * kind) * conditions.light[0])


def _expose(image: FloatArray, exposure: float, rng: np.random.Generator) -> None:
    """Apply vignetting, exposure and white balance, in place."""
    height, width = image.shape[:2]
    rows, columns = _frame(height, width)
    lens = 1 - np.float32(0.05 + 0.3 * rng.random()) * (rows * rows + columns * columns) / 2
    balance = (0.72 + 0.55 * exposure) * (1 + 0.05 * rng.standard_normal(3, dtype=np.float32))
    image.reshape(height, -1)[:] *= lens.repeat(3, 1) * np.tile(balance.astype(np.float32), width)
