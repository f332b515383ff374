"""Focal loss: cross-entropy with less weight on pixels that are already classified well."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segdistill.config.ranges import require
from segdistill.losses.cross_entropy import pixel_cross_entropy
from segdistill.losses.masking import mean_over_valid

MIN_RESIDUE = 1e-12  # keeps the focal weight's gradient finite where a pixel is already certain


def focal_loss(logits: Tensor, target: Tensor, *, gamma: float, ignore_index: int = 255) -> Tensor:
    """Compute the focal loss, (1 - p_t)^gamma * -log p_t, averaged over valid pixels.

    Lin et al., 2017 (arXiv:1708.02002), equation 4. A gamma of 0 gives plain cross-entropy.

    Args:
        logits: Class logits [B, C, H, W].
        target: Labels int64 [B, H, W].
        gamma: Focusing exponent, at least 0.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats.
    """
    nats = pixel_cross_entropy(logits, target, ignore_index)
    residue = (-torch.expm1(-nats)).clamp_min(MIN_RESIDUE)
    return mean_over_valid(residue**gamma * nats, target, ignore_index)


class FocalLoss(nn.Module):
    """`focal_loss` as a supervised loss.

    Args:
        gamma: Focusing exponent, from 0 to 10; 0 gives cross-entropy.

    Raises:
        ConfigError: If gamma is out of range.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        require(0 <= gamma <= 10, "gamma", gamma, "must be a number from 0 to 10")
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits [B, C, H, W] for labels int64 [B, H, W]."""
        return focal_loss(logits, target, gamma=self.gamma)
