"""Cross-entropy weighted by class, plus Dice, so that rare classes count as much as frequent ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.config.ranges import require
from segdistill.losses.cross_entropy import pixel_cross_entropy
from segdistill.losses.masking import full_precision


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Compute cross-entropy as a weighted mean over valid pixels: sum w_t * -log p_t / sum w_t.

    Args:
        logits: Class logits [B, C, H, W].
        target: Labels int64 [B, H, W].
        weight: Weight of each class, [C].
        ignore_index: Label of void pixels.

    Returns:
        Scalar, in nats; 0 if there is no valid pixel.
    """
    valid = target != ignore_index
    weights = weight[target.where(valid, 0)] * valid
    nats = pixel_cross_entropy(logits, target, ignore_index)
    return (weights * nats).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


def dice_loss(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Compute 1 - mean over the classes present of 2 sum(p t) / (sum p + sum t).

    Soft Dice of Milletari et al., 2016 (arXiv:1606.04797) with plain sums in the denominator, over all valid pixels of
    the batch. Classes without a labelled pixel are not counted: their Dice would be 0 for any prediction.

    Args:
        logits: Class logits [B, C, H, W].
        target: Labels int64 [B, H, W].
        ignore_index: Label of void pixels.

    Returns:
        Scalar, from 0 to 1; 0 if there is no valid pixel.
    """
    valid = (target != ignore_index)[:, None]
    predicted = torch.where(valid, full_precision(logits).softmax(dim=1), 0)
    labels = F.one_hot(target.where(valid[:, 0], 0), logits.shape[1]).movedim(-1, 1) * valid
    pixels = labels.sum(dim=(0, 2, 3))
    overlap, total = (predicted * labels).sum(dim=(0, 2, 3)), predicted.sum(dim=(0, 2, 3)) + pixels
    present = pixels > 0
    missed = torch.where(present, 1 - 2 * overlap / total.clamp_min(1), 0)
    return missed.sum() / present.sum().clamp_min(1)


def class_weights(pixels: Tensor, *, power: float, max_weight: float) -> Tensor:
    """Compute weights (n_max / n_c)^power, at most `max_weight`, for classes with n_c pixels.

    Args:
        pixels: Number of pixels of each class, int64 [C].
        power: Exponent; 0 weights all classes equally, 1 by inverse frequency.
        max_weight: Upper limit of the weights, also for classes without pixels.

    Returns:
        float32 [C], 1 for the most frequent class.

    Example:
        >>> class_weights(torch.tensor([900, 100, 1]), power=0.5, max_weight=10.0).tolist()
        [1.0, 3.0, 10.0]
    """
    counts = pixels.double()
    return ((counts.max() / counts.clamp_min(1)) ** power).clamp_max(max_weight).float()


class BalancedLoss(nn.Module):
    """Weighted cross-entropy plus Dice over the classes present.

    Args:
        class_weights: Weight of each class; None measures them on the training split with the function `class_weights`.
        power: Exponent of the measured weights.
        max_weight: Upper limit of the measured weights.
        dice_weight: Weight of the Dice loss, relative to the cross-entropy.

    Raises:
        ConfigError: If a value is out of range.
    """

    weight: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        *,
        power: float = 0.25,
        max_weight: float = 10.0,
        dice_weight: float = 0.5,
    ) -> None:
        super().__init__()
        positive = class_weights is None or all(weight > 0 for weight in class_weights)
        require(positive, "class_weights", class_weights, "must be above 0, or null to measure them")
        for name, value, least in (("power", power, 0), ("max_weight", max_weight, 1), ("dice_weight", dice_weight, 0)):
            require(value >= least, name, value, f"must be at least {least}")
        self.power, self.max_weight, self.dice_weight = power, max_weight, dice_weight
        given = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)
        self.register_buffer("weight", given, persistent=False)

    def set_class_pixels(self, pixels: Tensor) -> None:
        """Compute the weights from the number of training pixels of each class, int64 [C], unless they were given.

        Raises:
            ConfigError: If there is not one given weight for each class.
        """
        if self.weight is None:
            self.weight = class_weights(pixels, power=self.power, max_weight=self.max_weight)
        count, given = len(pixels), self.weight.tolist()
        require(len(given) == count, "class_weights", given, f"must be {count}, one for each class")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits [B, C, H, W] for labels int64 [B, H, W].

        Raises:
            RuntimeError: If the weights are neither given nor measured.
        """
        if self.weight is None:
            raise RuntimeError("BalancedLoss needs class_weights, or set_class_pixels before its first batch")
        weighted = weighted_cross_entropy(logits, target, self.weight)
        return weighted + self.dice_weight * dice_loss(logits, target)
