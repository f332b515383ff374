"""Resize and pad logits, labels and images.

A cell of a logit map covers as many pixels as the network's stride, starting at the image's top left corner. If the
image is not a whole number of cells, the last cells extend beyond its edge, so the map has to be enlarged by the stride
and cropped. Stretched to the image instead, it would be shifted by up to a stride at the right and lower edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def whole_cells(size: Sequence[int], multiple: int) -> list[int]:
    """Round a size [H, W] up to whole multiples of `multiple`."""
    return [side + -side % multiple for side in size]


def padding_to_cells(maps: Tensor, multiple: int) -> tuple[int, int, int, int]:
    """Return the `F.pad` argument that pads maps [..., H, W] at the right and bottom to whole multiples."""
    height, width = maps.shape[-2:]
    return 0, -width % multiple, 0, -height % multiple


def pad_to_cells(image: Tensor, multiple: int) -> Tensor:
    """Pad images [B, C, H, W] at the right and bottom to whole multiples by replicating their edges."""
    padding = padding_to_cells(image, multiple)
    return F.pad(image, padding, mode="replicate") if any(padding) else image


def pad_mask(mask: Tensor, multiple: int, ignore_index: int = 255) -> Tensor:
    """Pad labels [B, H, W] at the right and bottom to whole multiples with `ignore_index`."""
    return F.pad(mask, padding_to_cells(mask, multiple), value=ignore_index)


def enlarged(maps: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """Enlarge maps [B, C, h, w] bilinearly and crop them to [B, C, *size].

    Args:
        maps: Maps whose cells are `factor` pixels wide; the last cells may extend beyond the edge.
        factor: Scale factor, at least 1.
        size: Output size [H, W], at most `factor` times that of the maps.
    """
    if factor > 1:
        maps = F.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)
    return maps[..., : size[0], : size[1]]


def interpolate_logits(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps [B, C, h, w] bilinearly to float32 [B, C, *size], with antialiasing if they shrink."""
    shrinks = size[0] < maps.shape[-2] or size[1] < maps.shape[-1]
    return resized(maps.float(), size, antialias=shrinks)


def resized(logits: Tensor, size: Sequence[int], *, antialias: bool = False) -> Tensor:
    """Resize logits [B, C, h, w] bilinearly to [B, C, *size], with `align_corners=False`."""
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False, antialias=antialias)


def interpolate_labels(target: Tensor, size: Sequence[int]) -> Tensor:
    """Resize labels int64 [B, H, W] to [B, *size]; each output pixel takes the label at its centre."""
    grid: Tensor = F.interpolate(target[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].to(target.dtype)
    return grid
