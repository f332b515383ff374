"""Cross-entropy over the pixels that the network is least certain of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from segdistill.config.ranges import require
from segdistill.losses.cross_entropy import pixel_cross_entropy


def ohem_cross_entropy(
    logits: Tensor, target: Tensor, *, threshold: float, min_kept: float, ignore_index: int = 255
) -> Tensor:
    """Compute cross-entropy over hard pixels: those with p_t below `threshold`, but at least the hardest `min_kept`.

    Online hard example mining, Shrivastava et al., 2016 (arXiv:1604.03540), per pixel.

    Args:
        logits: Class logits [B, C, H, W].
        target: Labels int64 [B, H, W].
        threshold: Probability of the label, from 0 to 1, below which a pixel is hard; 1 keeps every pixel.
        min_kept: Minimum share of the batch's valid pixels that is kept.
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats; 0 if there is no valid pixel.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])[None, :, None]
        >>> round(ohem_cross_entropy(logits, torch.zeros(1, 1, 3).long(), threshold=0.4, min_kept=0.0).item(), 3)
        1.313
    """
    nats = pixel_cross_entropy(logits, target, ignore_index)[target != ignore_index]
    if not len(nats):
        return 0.0 * logits.sum()
    kept = nats > -math.log(threshold) if threshold > 0 else torch.zeros_like(nats, dtype=torch.bool)
    least = math.ceil(min_kept * len(nats))
    hard = nats[kept] if kept.sum() >= max(1, least) else nats.topk(max(1, least)).values
    return hard.mean()


class OhemCrossEntropyLoss(nn.Module):
    """`ohem_cross_entropy` as a supervised loss.

    Args:
        threshold: Probability of the label below which a pixel is hard.
        min_kept: Minimum share of the valid pixels that is kept.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(self, threshold: float = 0.7, min_kept: float = 0.0625) -> None:
        super().__init__()
        for name, value in (("threshold", threshold), ("min_kept", min_kept)):
            require(0 <= value <= 1, name, value, "must be a share from 0 to 1")
        self.threshold, self.min_kept = threshold, min_kept

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits [B, C, H, W] for labels int64 [B, H, W]."""
        return ohem_cross_entropy(logits, target, threshold=self.threshold, min_kept=self.min_kept)
