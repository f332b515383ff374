"""Read image files as upright 8-bit arrays; needs only numpy and Pillow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from segdistill.utils.errors import UserError, first_line

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
SINGLE_CHANNEL_MODES = ("L", "P", "1", "I;16", "I;16B", "I")
DEPTHS = (8, 10, 12, 14, 16)
"""Bit depths per channel that cameras use.

If a file does not state its own, the first that holds its largest value is taken.
"""

LOW_BYTES = {"RGB;16B": ("RGB;16L", [0, 1, 2]), "RGBA;16B": ("RGBA;16L", [0, 1, 2]), "LA;16B": ("RGBA", [1, 1, 1])}
"""Raw mode of 16-bit colour, of which Pillow keeps the high byte -> raw mode whose given channels are the low bytes."""

EXIF_ORIENTATION = 0x0112
EXIF_TURNED = (5, 6, 7, 8)
"""Orientations by a quarter turn, which swap height and width."""

JPEG_SCALES = (8, 4, 2)
PNG_SIGNATURE_BYTES = 8
TIFF_BITS_PER_SAMPLE = 258


class ImageError(UserError):
    """A file that cannot be decoded, or whose values do not fit into 8 bits."""


def read_rgb(path: Path, mask: Path | None = None, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read an image of any mode (grey, palette, transparent, CMYK, 16 bits) as RGB, uint8 [H, W, 3].

    The EXIF orientation is applied, unless the image has the size of its mask only without that: some masks were drawn
    over the pixels as they are stored. Values of more than 8 bits lose their low bits: a 12-bit image is divided by 16,
    whatever its largest value, so that dark images stay dark. The depth is the one stated in the file (PNG's sBIT,
    TIFF's BitsPerSample), or else the first of `DEPTHS` that holds the largest value.

    Args:
        path: File of the image.
        mask: File of its mask, of which the size alone is read.
        at_least: [H, W] that suffices: a larger JPEG file is decoded at the smallest of 1/2, 1/4 and 1/8 of its size
            that is not below it and a whole number of pixels, which is faster. None decodes every pixel.

    Raises:
        ImageError: If a file cannot be decoded, or the image holds floating-point or negative values or more than 16
            bits.
    """
    with _opened(path) as image:
        raw_mode = image.tile[0].args if image.tile else None
        upright = mask is None or not _fits_as_stored(image, mask)
        _reduce(image, at_least, upright=upright)
        if upright:
            _turn_upright(image)
        else:
            image.load()
        if image.mode == "F":
            raise ImageError(f"{path}: holds floating-point values; save it with 8 or 16 bits a channel")
        if image.mode.startswith("I"):
            return np.repeat(_eight_bits(_grey_levels(path, image), path, image)[..., None], 3, axis=2)
        if isinstance(raw_mode, str) and raw_mode in LOW_BYTES:
            return _eight_bits(_colour_levels(path, image, raw_mode, upright), path, image)
        return np.asarray(image.convert("RGB"))


def decoded_size(path: Path, at_least: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the size (height, width) of an upright image as `read_rgb` decodes it, from its header alone.

    Raises:
        ImageError: If the header cannot be read.
    """
    with _opened(path) as image:
        _reduce(image, at_least, upright=True)
        width, height = image.size
        return (width, height) if _is_turned(image) else (height, width)


def read_ids(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read the values of a mask as they are stored, uint8 or uint16 [H, W], with the EXIF orientation applied.

    Raises:
        ImageError: If the file cannot be decoded, or has more than one channel or more than 16 bits.
    """
    with _opened(path) as image:
        if image.mode not in SINGLE_CHANNEL_MODES:
            mend = "save one channel, or give its colours a class by data.class_table"
            raise ImageError(f"{path}: a mask needs one channel of ids, this one is {image.mode}; {mend}")
        return _stored_ids(path, image)


def read_colours(path: Path) -> NDArray[np.uint8]:
    """Read the colours of a mask, uint8 [H, W, 3], with the EXIF orientation applied; a palette is looked up.

    Raises:
        ImageError: If the file cannot be decoded, has more than 8 bits a channel, or is transparent somewhere.
    """
    with _opened(path) as image:
        return _stored_colours(path, image)


def read_mask(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a mask of one channel as `read_ids` does, and any other as `read_colours` does."""
    with _opened(path) as image:
        single = image.mode in SINGLE_CHANNEL_MODES
        return _stored_ids(path, image) if single else _stored_colours(path, image)


def _stored_ids(path: Path, image: ImageFile.ImageFile) -> NDArray[np.uint8] | NDArray[np.uint16]:
    _turn_upright(image)
    return _grey_levels(path, image) if image.mode.startswith("I") else np.asarray(image, np.uint8)


def _stored_colours(path: Path, image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    raw_mode = image.tile[0].args if image.tile else None
    if image.mode[:1] in "IF" or (isinstance(raw_mode, str) and raw_mode in LOW_BYTES):
        raise ImageError(f"{path}: the colours of a mask need 8 bits a channel; save it with 8 bits")
    _turn_upright(image)
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise ImageError(f"{path}: a mask of colours must not be transparent; save it without an alpha channel")
    return np.asarray(image.convert("RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Yield an image whose header has been read; errors that Pillow raises within the block name the file."""
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a camera's JPEG, whose further frames are previews
                raise ImageError(f"{path}: holds {frames} images, as an animation does; save the one that is meant")
            yield image
    except ImageError:
        raise
    except Exception as error:  # for damaged files, Pillow also raises struct.error, IndexError and others
        raise ImageError(f"{path}: cannot be read as an image ({first_line(error)}); replace the file") from error


def _fits_as_stored(image: ImageFile.ImageFile, mask: Path) -> bool:
    """Return whether an image has the size of its mask without its EXIF orientation, and not with it."""
    if image.width == image.height or not _is_turned(image):
        return False
    with _opened(mask) as drawn:
        return image.size == (drawn.size[::-1] if _is_turned(drawn) else drawn.size)


def _is_turned(image: ImageFile.ImageFile) -> bool:
    with suppress(Exception):  # as in _turn_upright
        return image.getexif().get(EXIF_ORIENTATION) in EXIF_TURNED
    return False


def _reduce(image: ImageFile.ImageFile, at_least: tuple[int, int] | None, *, upright: bool) -> None:
    """Have a JPEG file decoded at a reduced size, of at least [H, W] when it is upright, or else as it is stored.

    A size that is no whole number of pixels is passed over: its last column or row would hang over the image's edge.
    """
    if at_least is not None:
        width, height = at_least if upright and _is_turned(image) else at_least[::-1]
        for scale in JPEG_SCALES:
            across, down = image.width / scale, image.height / scale
            if across.is_integer() and down.is_integer() and across >= width and down >= height:
                image.draft(None, (int(across), int(down)))
                return


def _turn_upright(image: ImageFile.ImageFile) -> None:
    """Decode an image and apply its EXIF orientation."""
    image.load()
    with suppress(Exception):  # image viewers ignore unreadable EXIF data as well, and the pixels are intact
        ImageOps.exif_transpose(image, in_place=True)


def _grey_levels(path: Path, image: ImageFile.ImageFile) -> NDArray[np.uint16]:
    levels = np.asarray(image)
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high >= 1 << 16:
        raise ImageError(f"{path}: holds values from {low} to {high}; save it with 8 or 16 bits a channel")
    return levels.astype(np.uint16)


def _colour_levels(path: Path, high: ImageFile.ImageFile, raw_mode: str, upright: bool) -> NDArray[np.uint16]:
    """Return all 16 bits, uint16 [H, W, 3], of an image of which Pillow keeps only the high bytes."""
    low_mode, channels = LOW_BYTES[raw_mode]
    with Image.open(path) as image:
        image.tile = [tile._replace(args=low_mode) for tile in image.tile]
        if upright:
            _turn_upright(image)
        low = np.asarray(image)[..., channels]
    levels: NDArray[np.uint16] = (np.asarray(high)[..., :3].astype(np.uint16) << 8) | low
    return levels


def _eight_bits(levels: NDArray[np.uint16], path: Path, image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    return (levels >> (_depth(levels, path, image) - 8)).astype(np.uint8)


def _depth(levels: NDArray[np.uint16], path: Path, image: ImageFile.ImageFile) -> int:
    """Return the bit depth of an image's values."""
    largest = int(levels.max())
    if image.format == "TIFF" and (bits := getattr(image, "tag_v2", {}).get(TIFF_BITS_PER_SAMPLE, (16,))[0]) < 16:
        return max(8, int(bits))
    significant = _png_significant_bits(path) if image.format == "PNG" else None
    if significant is None:
        return next(depth for depth in DEPTHS if largest < 1 << depth)
    # PNG requires fewer bits to be scaled to all 16, so that dark values have zeros as low bits; not every writer does.
    unscaled = largest < 1 << significant and bool(np.any(levels & ((1 << (16 - significant)) - 1)))
    return significant if unscaled else 16


def _png_significant_bits(path: Path) -> int | None:
    """Return the bit depth in a PNG's sBIT chunk, which Pillow skips; None if it is missing or not from 8 to 16."""
    with path.open("rb") as file:
        file.seek(PNG_SIGNATURE_BYTES)
        while header := file.read(8):
            length, kind = struct.unpack(">I4s", header)
            if kind == b"sBIT":
                bits = file.read(length)
                most = max(bits[:3] if length >= 3 else bits[:1])  # one byte per channel, alpha last
                return most if 8 <= most <= 16 else None
            if kind == b"IDAT":
                break
            file.seek(length + 4, 1)  # skips the checksum as well
    return None


def resized_rgb(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize uint8 [H, W, 3] to [*size, 3], bilinearly with antialiasing."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def resized_ids(ids: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize class ids uint8 [H, W] to `size` by nearest neighbour."""
    if ids.shape == size:
        return ids
    return np.asarray(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))
