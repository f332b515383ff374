"""Flicker: classes that change where the image does not."""

from __future__ import annotations

import numpy as np
import pytest

from segdistill.inference.flicker import Flicker

HEIGHT, WIDTH = 20, 30


def image(level: int = 100) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def mask(value: int = 0) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), value, np.uint8)


def test_nothing_is_known_of_a_single_frame() -> None:
    flicker = Flicker()
    flicker.update(image(), mask())
    assert flicker.share is None


def test_still_pixels_whose_class_changes_are_counted_over_all_pairs() -> None:
    flicker, second = Flicker(), mask()
    second[:2, :15] = 1  # 30 of 600 pixels, there and back
    for each in (mask(), second, mask(), mask()):
        flicker.update(image(), each)
    assert (flicker.pixels, flicker.still, flicker.changed) == (3 * 600, 3 * 600, 60)
    assert flicker.share == pytest.approx(60 / 1800)


def test_what_moves_and_void_are_left_out() -> None:
    flicker, moved, second = Flicker(), image(), mask(1)
    moved[:, :10] = 180
    second[0] = 255
    flicker.update(image(), mask())
    flicker.update(moved, second)
    assert flicker.still == (HEIGHT - 1) * (WIDTH - 11)  # the mean over 3 x 3 pixels reaches one column further
    assert flicker.share == 1


@pytest.mark.parametrize(("change", "still"), [(8, True), (-8, True), (9, False), (-100, False)])
def test_a_pixel_is_still_up_to_eight_levels_in_every_channel(change: int, still: bool) -> None:
    flicker, changed = Flicker(), image()
    changed[..., 1] = 100 + change
    flicker.update(image(), mask())
    flicker.update(changed, mask(1))
    assert flicker.still == (HEIGHT * WIDTH if still else 0)


def test_noise_of_single_pixels_is_no_movement() -> None:
    rng, flicker = np.random.default_rng(0), Flicker()
    for _ in range(2):
        flicker.update((100 + rng.normal(0, 4, (HEIGHT, WIDTH, 3))).round().astype(np.uint8), mask())
    assert flicker.still > 0.95 * HEIGHT * WIDTH


def test_frames_of_another_size_are_not_compared() -> None:
    flicker = Flicker()
    flicker.update(image(), mask())
    flicker.update(image()[:10], mask(1)[:10])
    assert flicker.share is None
