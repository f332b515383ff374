"""Sky: gradient, clouds, sun and hills."""

from __future__ import annotations

import numpy as np

from roadscenes.camera import Camera
from roadscenes.conditions import Conditions
from roadscenes.noise import sample_noise
from roadscenes.vocabulary import FloatArray

_HILL_DISTANCE = 150.0  # metres of air in front of the hills, short enough to see them on clear days


def paint_sky(camera: Camera, conditions: Conditions, rows: slice, offset: float, ridge: float) -> FloatArray:
    """Return some rows of the sky, float32 [3, rows, W]: gradient, clouds, sun and a chain of hills `ridge` high."""
    x, y, z = camera.rays(rows)
    plane = np.maximum(y, 0.0) + 0.12  # clouds lie on a plane high above
    clouds = sample_noise(x / plane + offset, z / plane + offset, 0.012)
    cover = np.clip((clouds - (0.5 if conditions.weather == "clear" else 0.35)) * 3, 0.0, 0.8)
    cover *= np.clip(y * 8, 0.0, 1.0)
    blend = np.clip(y * 2.2, 0.0, 1.0) ** 0.7
    skyline = ridge * sample_noise(x / z + offset, np.zeros_like(z), 0.004)
    hills = np.clip((skyline - y) * camera.focal, 0.0, 1.0)
    hills *= conditions.clarity_at(_HILL_DISTANCE)
    shine = np.zeros_like(y)
    if conditions.glare:
        near = towards_sun(camera, conditions, rows)
        shine = 260 * near**900 + 110 * near**40
    sky = np.empty((3, *y.shape), dtype=np.float32)
    for channel, warmth in enumerate((1.0, 0.92, 0.75)):
        haze, light = conditions.haze[channel], conditions.light[channel]
        tone = haze + (conditions.zenith[channel] - haze) * blend
        tone += (0.6 * haze + 90 * light - tone) * cover
        sky[channel] = tone + ((62 + 12 * channel) * light + 0.2 * haze - tone) * hills + warmth * shine
    return sky


def towards_sun(camera: Camera, conditions: Conditions, rows: slice = slice(None)) -> FloatArray:
    """Return the cosine of the angle between each viewing ray and the sun, float32 [rows, W], at least 0."""
    x, y, z = camera.rays(rows)
    east, up, ahead = conditions.sun
    cosine = (x * east + y * up + z * ahead) / np.sqrt(x * x + y * y + z * z)
    return np.asarray(np.maximum(cosine, 0.0), dtype=np.float32)
