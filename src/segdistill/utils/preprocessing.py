"""What is done to every image before a network sees it, and undone in its mask: in training and in exported files.

Needs only numpy and Pillow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segdistill.utils.image import resized_ids, resized_rgb

IGNORE_INDEX = 255
"""Class id of void pixels, which no loss and no score counts, and of rows that are cut off."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize, then gamma, then a cut at the bottom.

    Attributes:
        resize: [H, W] that an image is resized to, bilinearly with antialiasing.
        cut_bottom: Number of rows cut from the bottom of the resized image.
        gamma: Exponent of the image's values in [0, 1], which are rounded to 8 bits; 1 leaves them.
    """

    resize: tuple[int, int]
    cut_bottom: int = 0
    gamma: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """The [H, W] that a network sees."""
        return self.resize[0] - self.cut_bottom, self.resize[1]

    def at(self, resize: tuple[int, int]) -> Preprocessing:
        """Return the same for images resized to another [H, W], of which the same share is cut."""
        return Preprocessing(resize, round(resize[0] * self.cut_bottom / self.resize[0]), self.gamma)

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Prepare an image of any size, uint8 [H, W, 3] RGB, for a network: uint8 [*size, 3]."""
        return self.corrected(resized_rgb(image, self.resize)[: self.size[0]])

    def mask(self, ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and cut class ids, uint8 [H, W], as the image: uint8 [*size]."""
        return resized_ids(ids, self.resize)[: self.size[0]]

    def corrected(self, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Apply gamma to values from 0 to 255 of any shape."""
        if self.gamma == 1:
            return levels
        table = (255 * (np.arange(256) / 255) ** self.gamma).round().astype(np.uint8)
        return table[levels]

    def restored(self, mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """Bring a network's mask, uint8 [*self.size], to an image's [H, W]; rows that were cut are IGNORE_INDEX."""
        whole = np.full(self.resize, IGNORE_INDEX, np.uint8)
        whole[: self.size[0]] = mask
        return resized_ids(whole, size)
