"""Texture of the world: one fractal noise that tiles the plane."""

from __future__ import annotations

from functools import cache

import numpy as np

from roadscenes.vocabulary import FloatArray

_SIZE = 512  # texels along a side of the tile; a power of two, so that a bit mask wraps a coordinate


@cache
def _tile() -> FloatArray:
    """Return the texels of the tile, float32 in [0, 1], flattened row by row; they are the same in every process."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.fftfreq(_SIZE, 1 / _SIZE)
    radius = np.hypot(spectrum[:, None], spectrum[None, :])
    radius[0, 0] = np.inf
    wave = np.fft.fft2(rng.standard_normal((_SIZE, _SIZE))) / np.maximum(radius, 4.0) ** 1.3
    field = np.real(np.fft.ifft2(wave))
    texels = np.clip(0.5 + field / (5.0 * field.std()), 0.0, 1.0)
    return np.asarray(texels, dtype=np.float32).ravel()


def sample_noise(x: FloatArray, y: FloatArray, texel: float) -> FloatArray:
    """Sample the noise at world positions, with `texel` metres per texel."""
    columns = (x / texel).astype(np.int32) & (_SIZE - 1)
    rows = (y / texel).astype(np.int32) & (_SIZE - 1)
    return np.asarray(_tile().take(rows * _SIZE + columns))
