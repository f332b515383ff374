"""Cross-entropy, averaged over valid pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.losses.masking import full_precision, mean_over_valid


def cross_entropy(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Compute -log p_t, averaged over valid pixels.

    Args:
        logits: Class logits [B, C, H, W].
        target: Labels int64 [B, H, W].
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats.
    """
    return mean_over_valid(pixel_cross_entropy(logits, target, ignore_index), target, ignore_index)


def pixel_cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Compute -log p_t at every pixel, float32 [B, H, W]; 0 where the label is ignored."""
    return F.cross_entropy(full_precision(logits), target, ignore_index=ignore_index, reduction="none")


class CrossEntropyLoss(nn.Module):
    """`cross_entropy` as a supervised loss."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits [B, C, H, W] for labels int64 [B, H, W]."""
        return cross_entropy(logits, target)
