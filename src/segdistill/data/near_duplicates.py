"""Images of different splits that look much alike: copies that were resized, recompressed or brightened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

MAX_DISTANCE = 6
"""Number of differing bits, of 64, up to which two images look alike; the nearest frames of CamVid's splits have 8."""

MAX_PAIRS = 2_000_000_000
"""Pairs of images that are compared, in about ten seconds; of more, none are."""

BLOCK = 1 << 22


def nearest(hashes: Sequence[int], others: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (index in `hashes`, index in `others`) of each hash that has one among the others within MAX_DISTANCE.

    Args:
        hashes: 64-bit hashes.
        others: 64-bit hashes, of which the nearest one is yielded.

    Example:
        >>> list(nearest([0b1111, 0b1 << 40], [0, 0b111, (1 << 64) - 1]))
        [(0, 1), (1, 0)]
    """
    if not hashes or not others:
        return
    left, right = (np.array(values, np.uint64) for values in (hashes, others))
    step = max(1, BLOCK // len(right))
    for start in range(0, len(left), step):
        distances: NDArray[np.uint8] = np.bitwise_count(left[start : start + step, None] ^ right)
        closest = distances.argmin(axis=1)
        near = np.take_along_axis(distances, closest[:, None], axis=1)[:, 0] <= MAX_DISTANCE
        yield from ((start + int(row), int(closest[row])) for row in np.flatnonzero(near))
