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


def tile_fault(size: Sequence[int], overlap: int) -> str | None:
    """Return what is wrong with tiles of a size [H, W] that overlap by so many pixels; None if nothing is."""
    if len(size) != 2 or min(size) < 2 * CELL:
        return f"must be [height, width], each at least {2 * CELL}"
    if not 0 <= overlap <= min(size) - CELL:
        return f"must be at least {CELL} larger than the overlap, {overlap}, which must be 0 or more"
    return None


def tiles(shape: Sequence[int], size: Sequence[int], overlap: int) -> Iterator[Tile]:
    """Yield the tiles of an image, row by row.

    Neighbours share at least `overlap` pixels, and are cut in the middle of what they share.

    Args:
        shape: [H, W] of the image; a side that is not larger than that of a tile is not cut.
        size: [H, W] of a tile; the last one of a row or column may be less than `CELL` smaller.
        overlap: Pixels that neighbours share.

    Example:
        >>> [(tile.kept[1].start, tile.kept[1].stop) for tile in tiles((64, 200), (64, 128), 64)]
        [(0, 96), (96, 144), (144, 200)]
    """
    rows, columns = (_spans(*axis, overlap) for axis in zip(shape, size, strict=True))
    for parts in product(rows, columns):
        seen, kept = ((parts[0][place], parts[1][place]) for place in range(2))
        top, left = (
            slice(own.start - whole.start, own.stop - whole.start) for own, whole in zip(kept, seen, strict=True)
        )
        yield Tile(seen, kept, (top, left))


def _spans(side: int, length: int, overlap: int) -> list[tuple[slice, slice]]:
    """Return what each tile along one axis sees, and what is kept of it."""
    if side <= length:
        return [(slice(0, side), slice(0, side))]
    last = -(-(side - length) // CELL) * CELL
    step = (length - overlap) // CELL * CELL
    seen = [slice(start, min(start + length, side)) for start in [*range(0, last, step), last]]
    cuts = [0, *((after.start + before.stop) // 2 for before, after in pairwise(seen)), side]
    return [(span, slice(*kept)) for span, kept in zip(seen, pairwise(cuts), strict=True)]


def map_tiles(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    images: NDArray[np.uint8],
    size: Sequence[int],
    overlap: int,
) -> NDArray[np.uint8]:
    """Segment images tile by tile, so that memory grows with a tile instead of an image.

    Args:
        predict: Function from images, uint8 [N, h, w, 3], to masks, uint8 [N, h, w].
        images: Images, uint8 [N, H, W, 3].
        size: [H, W] of a tile.
        overlap: Pixels that neighbouring tiles share.

    Returns:
        Masks, uint8 [N, H, W]: farther from a cut than the network's reach, those of the whole images.
    """
    masks = np.empty(images.shape[:3], np.uint8)
    for tile in tiles(images.shape[1:3], size, overlap):
        masks[:, *tile.kept] = predict(np.ascontiguousarray(images[:, *tile.seen]))[:, *tile.inner]
    return masks
