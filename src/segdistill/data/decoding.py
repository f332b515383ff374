"""Decodes one image and its mask, measures them, or says why they cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from segdistill.data.labels import UNMAPPED, MaskCoding
from segdistill.data.measures import Measures, content_hash, perceptual_hash
from segdistill.data.sources.base import Sample
from segdistill.utils.errors import UserError

STRAY_VALUES = 8
"""Number of values or colours without a class from which a mask looks like one that was compressed or resampled."""

JPEG_START = b"\xff\xd8\xff"


def measure(sample: Sample, coding: MaskCoding) -> Measures:
    """Decode a sample, and measure it.

    Args:
        sample: Files to read.
        coding: What the pixels of the masks mean.

    Raises:
        UserError: If a file cannot be read, the sizes differ, or a mask value belongs to no class.
    """
    image = sample.read_image()
    height, width = size = image.shape[:2]
    digest, look = content_hash(image), perceptual_hash(image)
    if sample.mask is None:
        return Measures(size, digest, look)
    mask = coding.read(sample.mask)
    if mask.shape[:2] != size:
        mend = "make it anew from this very image, resized to the nearest pixel"
        if mask.shape[:2] == (width, height):
            mend = "turn it upright, as viewers show the image: EXIF orientation is applied to both"
        shape = f"{mask.shape[1]} x {mask.shape[0]}"
        raise UserError(f"{sample.mask}: {shape}, its image is {width} x {height}; {mend}")
    ids, jpeg = coding.class_ids(mask), _is_jpeg(sample.mask)
    counts = np.bincount(ids.ravel() - UNMAPPED)
    if counts[0]:
        kind = "mask value" if mask.ndim == 2 else "colour"
        raise UserError(f"{sample.mask}: {_unowned(kind, coding.unmapped(mask), ids.size, jpeg=jpeg)}")
    pixels = {int(place) + UNMAPPED: int(counts[place]) for place in np.flatnonzero(counts)}
    return Measures(size, digest, look, content_hash(mask), pixels, jpeg)


def _unowned(kind: str, found: Sequence[tuple[str, int]], size: int, *, jpeg: bool) -> str:
    """Say which values or colours belong to no class, of a mask of so many pixels, and what to do about it."""
    if len(found) < STRAY_VALUES and not jpeg:
        (value, pixels), more = found[0], f", and {len(found) - 1} more like it" if len(found) > 1 else ""
        mend = "give it one by data.classes or data.class_table, or name it in data.void"
        return f"{kind} {value} belongs to no class ({pixels} pixels{more}); {mend}"
    named = ", ".join(value for value, _ in islice(found, 3)) + (", ..." if len(found) > 3 else "")
    share = sum(pixels for _, pixels in found) / size
    cause = "for it is a JPEG file" if jpeg else "as after saving as JPEG or resizing smoothly"
    return (
        f"{len(found)} {kind}s ({named}) belong to no class, in {share:.1%} of its pixels, {cause}; make it anew as "
        "PNG, resized to the nearest pixel; if they are right, see data.classes, data.class_table and data.void"
    )


def _is_jpeg(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(JPEG_START)) == JPEG_START
