"""Picture files as arrays. Needs numpy and Pillow alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises where a file is no picture, or a damaged one."""


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Returns uint8 [H, W, 3] RGB of a picture in any mode: grey, with a palette, transparent, CMYK, 16 bits.

    Raises:
        OSError, ValueError, SyntaxError, DecompressionBombError: Where the file cannot be decoded: `UNREADABLE`.
    """
    with Image.open(path) as picture:
        if picture.mode.startswith("I"):  # 16 bits; Pillow would cut them off at 255
            levels = (np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)
            return np.repeat(levels[..., None], 3, axis=2)
        return np.asarray(picture.convert("RGB"))


def resized_rgb(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resizes uint8 [H, W, 3] to [*size, 3], bilinearly and antialiased."""
    if picture.shape[:2] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))


def resized_ids(ids: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resizes class ids uint8 [H, W] to `size`, each pixel to the one at its place."""
    if ids.shape == size:
        return ids
    return np.asarray(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))
