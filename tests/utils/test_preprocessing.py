"""Resize, gamma and cut by numpy and Pillow, against formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segdistill.utils.preprocessing import IGNORE_INDEX, Preprocessing

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(38, 57), (31, 44), (60, 91)])
@pytest.mark.parametrize("gamma", [1.0, 1 / 3, 2.2])
def test_an_image_is_resized_corrected_and_cut(size: tuple[int, int], gamma: float) -> None:
    image = RNG.integers(0, 256, (*size, 3), np.uint8)
    steps = Preprocessing((31, 44), cut_bottom=5, gamma=gamma)
    prepared = steps.image(image)
    assert steps.size == (26, 44)
    assert prepared.shape == (26, 44, 3)
    assert prepared.dtype == np.uint8
    resized = np.asarray(Image.fromarray(image).resize((44, 31), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(prepared, 255 * (resized[:26] / 255) ** gamma, atol=0.5)


def test_by_default_an_image_of_the_right_size_is_left_alone() -> None:
    image = RNG.integers(0, 256, (24, 36, 3), np.uint8)
    np.testing.assert_array_equal(Preprocessing((24, 36)).image(image), image)


def test_gamma_keeps_black_and_white_and_the_order_between_them() -> None:
    levels = Preprocessing((1, 1), gamma=1 / 3).corrected(np.arange(256, dtype=np.uint8))
    assert (levels[0], levels[255]) == (0, 255)
    assert (np.diff(levels.astype(int)) >= 0).all()
    assert levels[[1, 8, 32, 64]].tolist() == [40, 80, 128, 161]  # 255 times the cube root of n / 255


@pytest.mark.parametrize("size", [(20, 28), (13, 19), (77, 121)])
def test_a_prepared_mask_invents_no_class(size: tuple[int, int]) -> None:
    ids = np.where(np.arange(40 * 56).reshape(40, 56) % 3 == 0, 200, 0).astype(np.uint8)
    mask = Preprocessing(size, cut_bottom=3).mask(ids)
    assert mask.shape == (size[0] - 3, size[1])
    assert np.unique(mask).tolist() == [0, 200]


@pytest.mark.parametrize("out", [12, 27, 54])
def test_a_prepared_mask_is_not_shifted_against_its_image(out: int) -> None:
    # A ramp survives any centred filter, so red tells which source column a pixel of the image lies at.
    ramp = np.broadcast_to(6 * np.arange(36, dtype=np.uint8), (36, 36))
    steps, margin = Preprocessing((out, out)), max(2, out // 9)
    mask, image = steps.mask(ramp.copy()).astype(float), steps.image(np.stack([ramp] * 3, axis=2))
    shifts = ((mask - image[..., 0]) / 6)[0, margin:-margin]
    assert np.abs(shifts).max() <= 0.5 + 1 / 6
    assert abs(shifts.mean()) <= 0.2


def test_a_mask_returns_to_the_images_size_with_void_where_it_was_cut() -> None:
    steps = Preprocessing((30, 40), cut_bottom=10)
    mask = RNG.integers(0, 5, steps.size, np.uint8)
    restored = steps.restored(mask, (120, 160))
    np.testing.assert_array_equal(restored[:80], mask.repeat(4, axis=0).repeat(4, axis=1))
    assert (restored[80:] == IGNORE_INDEX).all()
    np.testing.assert_array_equal(steps.mask(restored), mask)


def test_without_a_cut_no_pixel_of_a_restored_mask_is_void() -> None:
    mask = RNG.integers(0, 5, (31, 44), np.uint8)
    assert IGNORE_INDEX not in Preprocessing((31, 44)).restored(mask, (97, 101))
