"""Logits and labels at another size."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


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
