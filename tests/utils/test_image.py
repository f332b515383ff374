"""Image files as arrays: upright, in 8 bits, and refused by name where that cannot be."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.png_file import write_png16
from numpy.typing import NDArray
from PIL import Image

from segdistill.utils.image import ImageError, read_ids, read_rgb

ORIENTATION = 0x0112
STORED = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
UPRIGHT = {  # by EXIF orientation: what a viewer shows of STORED
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


def save(pixels: NDArray[np.generic], path: Path, orientation: int | None = None) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, exif=exif, quality=100)  # of a JPEG
    return path


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_and_masks_are_turned_as_their_exif_orientation_says(orientation: int, tmp_path: Path) -> None:
    colours = np.stack([STORED, 10 * STORED, 40 * STORED], axis=2)
    expected = np.array(UPRIGHT[orientation])
    image = read_rgb(save(colours, tmp_path / "image.png", orientation))
    np.testing.assert_array_equal(image, np.stack([expected, 10 * expected, 40 * expected], axis=2))
    np.testing.assert_array_equal(read_ids(save(STORED, tmp_path / "mask.png", orientation)), expected)
    deep = read_rgb(save(STORED.astype(np.uint16) * 10_000, tmp_path / "deep.png", orientation))
    np.testing.assert_array_equal(deep[..., 0], expected * 10_000 // 256)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_an_image_stays_as_it_is_stored_where_only_so_its_mask_fits(orientation: int, tmp_path: Path) -> None:
    image = save(np.stack([STORED] * 3, axis=2), tmp_path / "image.png", orientation)
    stored, turned = save(STORED, tmp_path / "stored.png"), save(STORED.T.copy(), tmp_path / "turned.png")
    np.testing.assert_array_equal(read_rgb(image, stored)[..., 0], STORED)
    np.testing.assert_array_equal(read_rgb(image, turned)[..., 0], UPRIGHT[orientation])
    np.testing.assert_array_equal(read_rgb(image, image)[..., 0], UPRIGHT[orientation])
    levels, exif = STORED.astype(np.uint16) * 10_001, Image.Exif()
    exif[ORIENTATION] = orientation
    tiff = exif.tobytes().removeprefix(b"Exif\0\0")
    write_png16(tmp_path / "deep.png", np.stack([levels] * 3, axis=2), exif=tiff)
    np.testing.assert_array_equal(read_rgb(tmp_path / "deep.png", stored)[..., 0], levels // 256)
    np.testing.assert_array_equal(
        read_rgb(tmp_path / "deep.png", turned)[..., 0] == 39, np.array(UPRIGHT[orientation]) == 1
    )


def test_a_jpeg_is_turned_as_its_exif_orientation_says(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 200  # bright on the left; turned clockwise it is bright on top
    turned = read_rgb(save(pixels, tmp_path / "a.jpg", 6))
    assert turned.shape == (16, 8, 3)
    assert turned[:8].min() > 190
    assert turned[8:].max() < 10


def test_exif_that_is_damaged_turns_nothing(tmp_path: Path) -> None:
    pixels = np.stack([STORED] * 3, axis=2)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=b"Exif\0\0no TIFF header at all")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1"])
def test_images_of_any_mode_are_read_as_rgb(mode: str, tmp_path: Path) -> None:
    pixels = np.kron(np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [200, 0, 0]]], np.uint8), np.ones((8, 8, 1)))
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)
    read = read_rgb(path)
    assert read.shape == (16, 16, 3)
    assert read.dtype == np.uint8
    if mode == "RGBA":
        np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        pytest.param([0, 255, 256, 40_000, 65_535], [0, 0, 1, 156, 255], id="16 bits"),
        pytest.param([0, 16, 2048, 4095], [0, 1, 128, 255], id="12 bits"),
        pytest.param([0, 16, 1100], [0, 1, 68], id="12 bits, dark"),
        pytest.param([0, 1023], [0, 255], id="10 bits"),
        pytest.param([0, 16_383], [0, 255], id="14 bits"),
        pytest.param([0, 7, 255], [0, 7, 255], id="8 bits"),
        pytest.param([0, 0], [0, 0], id="black"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_values_are_divided_by_the_depth_that_holds_the_largest(
    levels: list[int], expected: list[int], channels: int, tmp_path: Path
) -> None:
    row = np.array(levels, np.uint16)
    colours = np.stack([row, row[::-1], row], axis=1)[:, : 1 if channels < 3 else 3]
    alpha = np.full((len(row), 1), 65_535, np.uint16)  # does not count
    pixels = np.concatenate([colours, alpha], axis=1) if channels in (2, 4) else colours
    write_png16(tmp_path / "deep.png", pixels[None])
    read = read_rgb(tmp_path / "deep.png")[0]
    np.testing.assert_array_equal(read[:, 0], expected)
    np.testing.assert_array_equal(read[:, 1], expected if channels < 3 else expected[::-1])
    np.testing.assert_array_equal(read[:, 2], expected)


@pytest.mark.parametrize(
    ("levels", "bits", "expected"),
    [
        pytest.param([0, 16, 501], 12, [0, 1, 31], id="12 bits as they are, dark"),
        pytest.param([0, 16 * 500, 16 * 1000], 12, [0, 31, 62], id="12 bits scaled up to 16"),
        pytest.param([0, 16 * 50, 16 * 200], 12, [0, 3, 12], id="12 bits scaled up to 16, darker"),
        pytest.param([0, 501, 1000], 16, [0, 1, 3], id="16 bits, nearly black"),
    ],
)
def test_a_png_that_tells_its_depth_is_believed(
    levels: list[int], bits: int, expected: list[int], tmp_path: Path
) -> None:
    pixels = np.array(levels, np.uint16)[None, :, None].repeat(3, axis=2)
    write_png16(tmp_path / "grey.png", pixels[..., :1], [bits])
    write_png16(tmp_path / "rgb.png", pixels, [bits] * 3)
    for name in ("grey.png", "rgb.png"):
        np.testing.assert_array_equal(read_rgb(tmp_path / name)[0, :, 1], expected)


def test_a_tiff_of_12_bits_is_divided_by_16_however_dark(tmp_path: Path) -> None:
    first, second = 1000, 160  # two pixels are packed into three bytes
    packed = bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(packed)}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<I", 12) + packed + b"\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png")[0, :, 0], [62, 10])


def test_floating_point_and_more_than_16_bits_are_refused_by_name(tmp_path: Path) -> None:
    contents = {
        "float.png": (np.ones((2, 2), np.float32), "holds floating-point values; save it with 8 or 16 bits"),
        "deep.png": (np.array([[0, 70_000]], np.int32), "holds values from 0 to 70000; save it with 8 or 16 bits"),
        "negative.png": (np.array([[-5, 9]], np.int32), "holds values from -5 to 9; save it with 8 or 16 bits"),
    }
    for name, (pixels, reason) in contents.items():
        Image.fromarray(pixels).save(tmp_path / name, "TIFF")
        with pytest.raises(ImageError, match=reason) as raised:
            read_rgb(tmp_path / name)
        assert str(raised.value).startswith(str(tmp_path / name))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_damaged_file_is_read_or_refused_by_name(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = save(rng.integers(0, 256, (16, 16, 3), np.uint8), tmp_path / f"whole{suffix}", 6).read_bytes()
    path, refusals = tmp_path / f"damaged{suffix}", []
    for _ in range(200):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content[: rng.integers(1, len(content) + 1)])
        try:
            assert read_rgb(path).shape[2] == 3
        except ImageError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert all(refusal.startswith(f"{path}: ") and "\n" not in refusal for refusal in refusals)
