"""FitNets: match the teacher's features through a learned projector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segdistill.losses.base import FeatureLoss
from segdistill.losses.masking import checked_pair, mean_over_valid, valid_mask


def hint_loss(
    student_features: Tensor, teacher_features: Tensor, target: Tensor | None = None, *, ignore_index: int = 255
) -> Tensor:
    """Compute half the mean squared difference of two feature maps.

    1 / (2 |V| C) * sum_{i in V} ||t_i - s_i||^2: the hint loss of FitNets, Romero et al., 2015 (arXiv:1412.6550),
    as a mean. The student's features have already been projected.

    Args:
        student_features: Student features [B, C, H, W].
        teacher_features: Teacher features [B, C, H, W]; they get no gradient.
        target: Labels int64 [B, H, W], used only to exclude void pixels; None counts every pixel.
        ignore_index: Label of void pixels.

    Returns:
        Scalar.

    Raises:
        ValueError: If the shapes do not match.
    """
    student_features, teacher_features = checked_pair(student_features, teacher_features, target)
    valid = valid_mask(student_features, target, ignore_index)[:, None]
    # Masked before squaring: at void pixels a square may overflow, and then has no gradient.
    difference = torch.where(valid, student_features - teacher_features, 0)
    return 0.5 * mean_over_valid(difference.square().mean(dim=1), target, ignore_index)


class HintLoss(FeatureLoss):
    """`hint_loss` as a distillation loss, with a 1 x 1 convolution from the student's channels to the teacher's.

    Args:
        student_layer: Name of the student's module whose output is compared, as in `named_modules()`.
        teacher_layer: Name of the teacher's module whose output is compared.
        weight: Weight of this loss in the total.
    """

    def build_projector(self, student_channels: int, teacher_channels: int) -> None:
        """Build a 1 x 1 convolution from the student's channels to the teacher's; it is never exported."""
        self.projector = nn.Conv2d(student_channels, teacher_channels, 1, bias=False)

    def compare(self, student_features: Tensor, teacher_features: Tensor, target: Tensor) -> Tensor:
        """Compute the loss on one grid; see `hint_loss` for the shapes."""
        return hint_loss(student_features, teacher_features, target)
