"""Images that somebody uploads: whatever the file holds, it is an image within the limits, or a one-line error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segdistill.utils.image import ImageError, read_rgb, resized_rgb

MAX_BYTES, MAX_PIXELS = 30 * 2**20, 64_000_000
"""Of a file. Phones take up to 50 million pixels; a small file may unpack to far more."""
MAX_SIDE = 1280
"""Pixels of an image's longer side on the page; the network is given the whole image."""
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
"""Pillow's names; a format is told by its content, and some others have interpreters for it started."""


def read_upload(path: Path) -> NDArray[np.uint8]:
    """Read an image upright, as `read_rgb` does, uint8 [H, W, 3].

    Raises:
        ImageError: If the file is no image, is damaged or has too many pixels; its folder is not named.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:  # beyond Pillow's own limit
        raise ImageError(f"{path.name}: {_too_large('too many')}") from error
    except Exception as error:  # for damaged files, Pillow also raises struct.error, IndexError and others
        raise ImageError(f"{path.name}: is no image, or a damaged one; take a JPEG, PNG, WebP, BMP or TIFF") from error
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path.name}: {_too_large(f'{width} x {height}')}")
    try:
        return read_rgb(path)
    except ImageError as error:
        raise ImageError(str(error).replace(str(path), path.name)) from error


def shown_size(image: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the [H, W] at which an image is shown."""
    scale = min(1.0, MAX_SIDE / max(image.shape[:2]))
    return max(1, round(scale * image.shape[0])), max(1, round(scale * image.shape[1]))


def as_shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce an image, uint8 [H, W, 3], to the size at which it is shown."""
    return resized_rgb(image, shown_size(image))


def _too_large(pixels: str) -> str:
    return f"has {pixels} pixels; at most {MAX_PIXELS // 1_000_000} million are taken, reduce it"
