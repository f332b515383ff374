"""The images for timing, of which only one round is decoded at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdistill.utils.preprocessing import Preprocessing


@dataclass(frozen=True)
class Images:
    """Images for timing, read on demand.

    Attributes:
        files: Image files of any size and format, for backends that decode.
        read: Function that maps an index to a decoded image, uint8 [H, W, 3] RGB, and its true class ids, uint8
            [H, W], all prepared alike.
        preprocessing: What `read` has done to the images, which backends that decode do themselves.
    """

    files: Sequence[Path]
    read: Callable[[int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.files)


class RoundBuffer:
    """The decoded images of one round, in a `.npy` file that every process memory-maps.

    Args:
        path: File to write.
        images: Source of the images.
        capacity: Number of images in the largest round.
    """

    def __init__(self, path: Path, images: Images, capacity: int) -> None:
        self.path, self.images = path, images
        # written in full: with a sparse file, a full disk would kill the process instead of raising an error
        np.save(path, np.zeros((capacity, *images.read(0)[0].shape), np.uint8))
        self._decoded = np.load(path, mmap_mode="r+")

    def load(self, indices: range) -> NDArray[np.uint8]:
        """Replace the contents of the file by these images; return their true class ids, uint8 [n, H, W]."""
        truth = np.empty((len(indices), *self._decoded.shape[1:3]), np.uint8)
        for slot, index in enumerate(indices):
            self._decoded[slot], truth[slot] = self.images.read(index)
        return truth
