"""Tiles of large images: they cover the image, overlap as asked, and join into the mask of the whole."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from segdistill.utils.tiles import CELL, Tiling


def random_images(height: int, width: int, count: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def spreading(reach: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """A stand-in for a network: a pixel's class is the largest value up to `reach` pixels away."""

    def predict(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        side = 2 * reach + 1
        masks: NDArray[np.uint8] = maximum_filter(images[..., 0], size=(1, side, side), mode="constant")
        return masks

    return predict


@pytest.mark.parametrize(("shape", "size"), [((200, 333), (96, 128)), ((97, 640), (96, 64)), ((50, 70), (64, 64))])
def test_every_pixel_comes_from_one_tile(shape: tuple[int, int], size: tuple[int, int]) -> None:
    times = np.zeros(shape, int)
    for tile in Tiling(size, 32).tiles(shape):
        times[tile.kept] += 1
        assert all(part.stop - part.start <= side for part, side in zip(tile.seen, size, strict=True))
        assert all(part.start % CELL == 0 for part in tile.seen)
        np.testing.assert_array_equal(times[tile.seen][tile.inner], times[tile.kept])
    assert (times == 1).all()


def test_neighbours_share_the_overlap_and_are_cut_in_its_middle() -> None:
    row = list(Tiling((64, 256), 64).tiles((64, 1000)))
    for before, after in pairwise(row):
        shared = before.seen[1].stop - after.seen[1].start
        assert shared >= 64
        assert before.kept[1].stop == after.kept[1].start == after.seen[1].start + shared // 2
    assert row[-1].seen[1].stop == 1000
    assert all(256 - CELL < tile.seen[1].stop - tile.seen[1].start <= 256 for tile in row)


@pytest.mark.parametrize("shape", [(301, 517), (96, 517), (60, 61), (300, 96)])
def test_a_network_that_reaches_half_the_overlap_gives_the_mask_of_the_whole(shape: tuple[int, int]) -> None:
    images, predict = random_images(*shape), spreading(16)
    whole = predict(images)
    np.testing.assert_array_equal(Tiling((96, 128), 32).segment(predict, images), whole)
    np.testing.assert_array_equal(Tiling((96, 128), 32).segment(predict, images), whole)


def test_a_network_that_reaches_farther_differs_only_at_the_cuts() -> None:
    images, predict = random_images(64, 400, 1), spreading(20)
    differing = (Tiling((64, 128), 32).segment(predict, images) != predict(images)).any(axis=(0, 1))
    cuts = [tile.kept[1].start for tile in Tiling((64, 128), 32).tiles((64, 400))][1:]
    near = np.min([np.abs(np.arange(400) - cut + 0.5) for cut in cuts], axis=0) < 20
    assert differing.any()
    assert not differing[~near].any()


def test_the_cells_of_a_strided_network_lie_as_in_the_whole_image() -> None:
    def predict(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        firsts = images[:, ::CELL, ::CELL, 0]
        return firsts.repeat(CELL, axis=1).repeat(CELL, axis=2)[:, : images.shape[1], : images.shape[2]]

    images = random_images(205, 340)
    np.testing.assert_array_equal(Tiling((100, 130), 40).segment(predict, images), predict(images))


@pytest.mark.parametrize(
    ("size", "overlap", "fault"),
    [
        ([63, 128], 0, "each at least 64"),
        ([128], 0, "must be [height, width]"),
        ([128, 128], 97, "97"),
        ([64, 64], -1, "-1"),
    ],
)
def test_tiles_that_cannot_be_are_refused(size: list[int], overlap: int, fault: str) -> None:
    assert fault in str(Tiling(size, overlap).fault)
    assert Tiling([128, 64], 32).fault is None
