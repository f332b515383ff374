"""Measures of one image and its mask: size, hashes and class pixels, all that a check keeps of the decoded files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

HASHED_SIDE, FREQUENCIES = 32, 8
MIN_COEFFICIENT = 4.0
"""Median magnitude of the hashed coefficients below which an image is plain; a quarter of a grey level gives 4."""


@dataclass(frozen=True)
class Measures:
    """What is kept of a sample's two files.

    Attributes:
        size: (height, width) in pixels, upright.
        image: Hash of the image's pixels, the same for copies and for other lossless formats.
        look: `perceptual_hash` of the image.
        mask: Hash of the mask's values; empty without a mask.
        pixels: Number of pixels of every class id that occurs, IGNORE_INDEX included; empty without a mask.
        jpeg_mask: Whether the mask is a JPEG file, whose values change around edges.
    """

    size: tuple[int, int]
    image: str
    look: int | None
    mask: str = ""
    pixels: Mapping[int, int] = field(default_factory=dict)
    jpeg_mask: bool = False

    def as_row(self) -> list[Any]:
        """Return the measures as a list for JSON."""
        return [*self.size, self.image, self.look, self.mask, list(self.pixels.items()), self.jpeg_mask]

    @classmethod
    def of_row(cls, row: list[Any]) -> Measures:
        """Return the measures of a list made by `as_row`."""
        height, width, image, look, mask, pixels, jpeg_mask = row
        return cls((height, width), image, look, mask, dict(pixels), jpeg_mask)


def total_pixels(measures: Iterable[Measures]) -> NDArray[np.int64]:
    """Add up the pixels of each class id, int64 [256]."""
    total = np.zeros(256, np.int64)
    for each in measures:
        for index, pixels in each.pixels.items():
            total[index] += pixels
    return total


def content_hash(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> str:
    """Return a hash of an array's shape and values."""
    digest = hashlib.sha256(json.dumps(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def perceptual_hash(image: NDArray[np.uint8]) -> int | None:
    """Return 64 bits that stay nearly the same if an image, uint8 [H, W, 3], is resized, recompressed or brightened.

    The bits say which of the lowest frequencies of a small grey copy, from its cosine transform, lie above their
    median, as in pHash. Plain images and plain gradients, in which noise alone would decide, have no hash: None.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        >>> (perceptual_hash(noise) ^ perceptual_hash(noise // 2)).bit_count() < 4
        True
        >>> perceptual_hash(np.full((50, 50, 3), 128, np.uint8)) is None
        True
    """
    small = Image.fromarray(image).convert("L").resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.BILINEAR)
    spectrum = dctn(np.asarray(small, np.float64), norm="ortho")
    lowest = spectrum[: FREQUENCIES + 1, : FREQUENCIES + 1].ravel()[1 : FREQUENCIES**2 + 1]  # without the mean grey
    if np.median(np.abs(lowest)) < MIN_COEFFICIENT:
        return None
    return int.from_bytes(np.packbits(lowest > np.median(lowest)).tobytes())
