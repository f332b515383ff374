"""Cut large images into overlapping tiles, and join what was computed of each; needs only numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

CELL = 32
"""Tiles begin at multiples of it in pixels, so that the cells of a network of any usual stride lie as in the whole."""

OVERLAP = 128
"""Usual overlap of neighbouring tiles, in pixels."""

Predict = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Tile:
    """One tile of an image, as slices of rows and columns.

    Attributes:
        seen: The part of the image that is processed.
        kept: The part of the result that comes from this tile; the parts of all tiles cover the image once.
        inner: `kept`, counted from the corner of `seen`.
    """

    seen: tuple[slice, slice]
    kept: tuple[slice, slice]
    inner: tuple[slice, slice]


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Attributes:
        size: [H, W] of a tile; the last one of a row or column may be less than `CELL` smaller.
        overlap: Pixels that neighbours share at least; they are cut in the middle of what they share.
    """

    size: Sequence[int]
    overlap: int = OVERLAP

    @property
    def fault(self) -> str | None:
        """What is wrong with these tiles; None if nothing is."""
        if len(self.size) != 2 or min(self.size) < 2 * CELL:
            return f"must be [height, width], each at least {2 * CELL}"
        if not 0 <= self.overlap <= min(self.size) - CELL:
            return f"must be at least {CELL} larger than the overlap, {self.overlap}, which must be 0 or more"
        return None

    def tiles(self, shape: Sequence[int]) -> Iterator[Tile]:
        """Yield the tiles of an image of [H, W], row by row; a side that is not larger than a tile's is not cut.

        Example:
            >>> [(tile.kept[1].start, tile.kept[1].stop) for tile in Tiling((64, 128), 64).tiles((64, 200))]
            [(0, 96), (96, 144), (144, 200)]
        """
        rows, columns = (_spans(*axis, self.overlap) for axis in zip(shape, self.size, strict=True))
        for parts in product(rows, columns):
            seen, kept = ((parts[0][place], parts[1][place]) for place in range(2))
            top, left = (
                slice(own.start - whole.start, own.stop - whole.start) for own, whole in zip(kept, seen, strict=True)
            )
            yield Tile(seen, kept, (top, left))

    def segment(self, predict: Predict, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Segment images tile by tile, so that memory grows with a tile instead of an image.

        Args:
            predict: Function from images, uint8 [N, h, w, 3], to masks, uint8 [N, h, w].
            images: Images, uint8 [N, H, W, 3].

        Returns:
            Masks, uint8 [N, H, W]: farther from a cut than the network's reach, those of the whole images.
        """
        masks = np.empty(images.shape[:3], np.uint8)
        for tile in self.tiles(images.shape[1:3]):
            masks[:, *tile.kept] = predict(np.ascontiguousarray(images[:, *tile.seen]))[:, *tile.inner]
        return masks


def _spans(side: int, length: int, overlap: int) -> list[tuple[slice, slice]]:
    """Return what each tile along one axis sees, and what is kept of it."""
    if side <= length:
        return [(slice(0, side), slice(0, side))]
    last = -(-(side - length) // CELL) * CELL
    step = (length - overlap) // CELL * CELL
    seen = [slice(start, min(start + length, side)) for start in [*range(0, last, step), last]]
    cuts = [0, *((after.start + before.stop) // 2 for before, after in pairwise(seen)), side]
    return [(span, slice(*kept)) for span, kept in zip(seen, pairwise(cuts), strict=True)]
