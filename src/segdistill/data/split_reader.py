"""SplitReader: the images of one split as a loader takes them, and what shapes their pixels."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segdistill.data.sources.base import DatasetIndex
from segdistill.utils.image import decoded_size
from segdistill.utils.preprocessing import Preprocessing

VERSION = 2  # increment when the decoding or resizing of images changes
RGB = 3
SAMPLED = 64
"""Number of images whose headers tell how large a split is when it is decoded."""

MARGIN = 1.1
"""Factor on an estimate from some images alone."""


@dataclass(frozen=True)
class SplitReader:
    """Reads decoded images and class ids of one split.

    Attributes:
        source: Checked dataset.
        split: Name of the split.
        preprocessing: What is done to images, and as far as it applies to masks; None leaves them as they are.
        at_least: [H, W] that suffices for an image, so that larger JPEG files are decoded at a reduced size, which is
            then not that of their mask; None decodes every pixel.
    """

    source: DatasetIndex
    split: str
    preprocessing: Preprocessing | None = None
    at_least: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.source.splits[self.split])

    def __call__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return an image, uint8 [H, W, 3], and its class ids, uint8 [h, w]."""
        image, ids = self.source.read(self.split, index, self.at_least)
        if self.preprocessing is None:
            return image, ids
        return self.preprocessing.image(image), self.preprocessing.mask(ids)

    @cached_property
    def estimated_bytes(self) -> int:
        """Bytes of all decoded images and masks, estimated from the headers of some."""
        samples = self.source.splits[self.split]
        if self.preprocessing is not None:
            return len(samples) * math.prod(self.preprocessing.size) * (RGB + 1)
        some = min(len(samples), SAMPLED)
        paths = [samples[index * len(samples) // some].image for index in range(some)]
        pixels = sum(
            RGB * math.prod(decoded_size(path, self.at_least)) + math.prod(decoded_size(path)) for path in paths
        )
        return int(pixels / some * len(samples) * (MARGIN if some < len(samples) else 1))

    def identity(self, index: int) -> str:
        """Return everything that shapes the pixels of an image and its mask, as JSON."""
        sample = self.source.splits[self.split][index]
        files = [path.resolve() for path in (sample.image, sample.mask) if path is not None]
        described = [[str(path), status.st_size, status.st_mtime_ns] for path in files for status in [path.stat()]]
        return json.dumps(described) + self._settings

    @cached_property
    def _settings(self) -> str:
        steps = None if self.preprocessing is None else asdict(self.preprocessing)
        return json.dumps([VERSION, self.source.coding.key, steps, self.at_least])
