"""Logits and labels at another size.

A cell of a map covers as many pixels as the network's stride, from the image's top left corner on. Where the image is
no whole number of cells, the last ones hang over its edge: the map has to be enlarged by the stride and cut. Stretched
to the image instead, it would be shifted, by up to a stride at the right and lower edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def whole_cells(size: Sequence[int], multiple: int) -> list[int]:
    """Return the smallest multiples that are not below a size [H, W]."""
    return [side + -side % multiple for side in size]


def padding_to_cells(maps: Tensor, multiple: int) -> tuple[int, int, int, int]:
    """Return what `F.pad` adds to the right and lower edges of maps [..., H, W] up to whole multiples."""
    height, width = maps.shape[-2:]
    return 0, -width % multiple, 0, -height % multiple


def pad_to_cells(image: Tensor, multiple: int) -> Tensor:
    """Continue the right and lower edges of images [B, C, H, W] to whole multiples."""
    padding = padding_to_cells(image, multiple)
    return F.pad(image, padding, mode="replicate") if any(padding) else image


def pad_mask(mask: Tensor, multiple: int, ignore_index: int = 255) -> Tensor:
    """Add void to the right and lower edges of labels [B, H, W] up to whole multiples."""
    return F.pad(mask, padding_to_cells(mask, multiple), value=ignore_index)


def enlarged(maps: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """Enlarge maps [B, C, h, w] bilinearly, and cut what hangs over the edge: [B, C, *size].

    Args:
        maps: Of cells that are `factor` pixels wide; the last ones may hang over.
        factor: At least 1.
        size: [H, W], at most `factor` times that of the maps.
    """
    if factor > 1:
        maps = F.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)
    return maps[..., : size[0], : size[1]]


def interpolate_logits(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes maps [B, C, h, w] bilinearly to [B, C, *size]; where they shrink, every pixel of them counts."""
    shrinks = size[0] < maps.shape[-2] or size[1] < maps.shape[-1]
    return resized(maps.float(), size, antialias=shrinks)


def resized(logits: Tensor, size: Sequence[int], *, antialias: bool = False) -> Tensor:
    """Resizes logits [B, C, h, w] bilinearly to [B, C, *size], corners not aligned."""
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False, antialias=antialias)


def interpolate_labels(target: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes labels int64 [B, H, W] to [B, *size]: each takes the label at its centre."""
    grid: Tensor = F.interpolate(target[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].to(target.dtype)
    return grid
