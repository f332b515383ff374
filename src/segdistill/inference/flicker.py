"""Temporal flicker: how much masks change where the image does not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from segdistill.utils.preprocessing import IGNORE_INDEX

STILL = 8
"""Largest change of a still pixel, in levels of 256."""

RADIUS = 1  # of the mean that keeps the noise of camera and compression out


class Flicker:
    """Share of the still pixels whose class changes from one frame to the next.

    Between two consecutive frames of one size, a pixel is still if in none of its three channels the mean over the
    3 x 3 pixels around it changes by more than STILL levels of 256, and if its class is void (255) in neither mask. The
    flicker is the number of still pixels whose class changes, divided by the number of still pixels; both are summed
    over all pairs of consecutive frames. What moves is left out, which is most of a frame where the camera moves.

    Attributes:
        pixels: Number of pixels that were compared.
        still: Number of those that were still.
        changed: Number of still pixels whose class changed.
    """

    def __init__(self) -> None:
        self.pixels = self.still = self.changed = 0
        self._before: tuple[NDArray[np.int16], NDArray[np.uint8]] | None = None

    def update(self, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Add the next frame, uint8 [H, W, 3], and its class ids, uint8 [H, W]."""
        smooth = np.asarray(Image.fromarray(image).filter(ImageFilter.BoxBlur(RADIUS)), np.int16)
        before, self._before = self._before, (smooth, mask)
        if before is None or before[1].shape != mask.shape:
            return
        still = (np.abs(smooth - before[0]) <= STILL).all(axis=2) & (mask != IGNORE_INDEX) & (before[1] != IGNORE_INDEX)
        self.pixels += mask.size
        self.still += int(still.sum())
        self.changed += int((still & (mask != before[1])).sum())

    @property
    def share(self) -> float | None:
        """The flicker, from 0 to 1; None if no pixel was still."""
        return self.changed / self.still if self.still else None
